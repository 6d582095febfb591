/* The list of the library's descriptors has one lock for the process. It makes nobody wait for
 * longer than a descriptor takes to open: no blocking call is made under it, a fork from a signal
 * handler finds it free, and a waiting thread sleeps, so that a SCHED_FIFO thread does not starve
 * the one that holds it. Opening and closing cost the same with any number of descriptors. */
#include "test.h"

#include <sched.h>
#include <sys/time.h>
#include <sys/wait.h>

/* --- fork from a signal handler ---------------------------------------------------------- */

static volatile sig_atomic_t forks, failures;

static void fork_in_handler(int signal)
{
    int status, before = errno;
    (void)signal;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
        failures++;
    forks++;
    errno = before;
}

static void arm_and_cancel(struct ringmsg_ring *ring, struct ringmsg_pool *pool, int fd)
{
    struct ringmsg_record record;
    int n;
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    OK(ringmsg_cancel(ring, 1));
    while ((n = ringmsg_reap(ring, &record, NULL, 1, NULL)) == -EINTR)
        ;
    EQUAL(n, 1);
    EQUAL(record.result, -ECANCELED);
}

/* Arming opens a descriptor and the end of a request closes it; the handler forks at any moment of
 * that. (Nothing is allocated by then: a fork in a handler waits for a lock of malloc's, too.) */
static void a_fork_in_a_signal_handler_returns(void)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    int receiver = bound_udp(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
    arm_and_cancel(ring, pool, receiver);
    SYS(sigaction(SIGALRM, &action, NULL));
    SYS(setitimer(ITIMER_REAL, &often, NULL));
    for (int64_t end = now_ns() + 1000000000; now_ns() < end;)
        arm_and_cancel(ring, pool, receiver);
    SYS(setitimer(ITIMER_REAL, &never, NULL));
    CHECK(forks > 5);
    EQUAL(failures, 0);
    OK(ringmsg_ring_free(ring));
}

/* --- a close that blocks ----------------------------------------------------------------- */

enum { LINGER_S = 2, AT_ONCE_MS = 500 };

/* A TCP socket whose close(2) waits: the peer does not read what is queued. */
static int socket_that_lingers(int *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    set_int(listener, SOL_SOCKET, SO_RCVBUF, 4096);
    SYS(bind(listener, (struct sockaddr *)&address, sizeof address));
    SYS(getsockname(listener, (struct sockaddr *)&address, &length));
    SYS(listen(listener, 1));
    int fd = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    SYS(connect(fd, (struct sockaddr *)&address, sizeof address));
    *peer = (int)SYS(accept(listener, NULL, NULL));
    close(listener);
    static const char data[65536];
    while (send(fd, data, sizeof data, MSG_DONTWAIT) > 0)
        ;
    struct linger linger = {1, LINGER_S};
    SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    return fd;
}

static struct ringmsg_ring *closing_ring;

static void *count(void *unused)
{
    struct ringmsg_stats stats = {.size = sizeof stats};
    OK(ringmsg_ring_stats(closing_ring, &stats));
    return unused;
}

static void *make_and_free(void *unused)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_ring_free(ring));
    close(receiver);
    return unused;
}

static void *fork_once(void *unused)
{
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, &status, 0);
    return unused;
}

static void *others_at_once(void *longest)
{
    static void *(*const calls[])(void *) = {count, make_and_free, fork_once};
    sleep_ms(300); /* the close is under way */
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int64_t start = now_ns();
        calls[i](NULL);
        int64_t took = now_ns() - start;
        if (took > *(int64_t *)longest)
            *(int64_t *)longest = took;
    }
    return NULL;
}

/* The reap that hands out the FINAL record closes the library's reference to a socket that the
 * program has closed already; the thread in it waits, as it would in close(2), and no other does. */
static void a_close_that_blocks_delays_nobody_else(void)
{
    int peer, fd = socket_that_lingers(&peer);
    int64_t longest = 0;
    pthread_t thread;
    closing_ring = make_ring();
    struct ringmsg_pool *pool = make_pool(closing_ring, fd, 4, 64);
    OK(ringmsg_recvmsg_multishot(closing_ring, pool, fd, 0, 0, 1));
    close(fd);
    OK(ringmsg_cancel(closing_ring, 1));
    pthread_create(&thread, NULL, others_at_once, &longest);
    int64_t start = now_ns();
    struct ringmsg_record record = reap_one(closing_ring);
    EQUAL(record.result, -ECANCELED);
    CHECK(now_ns() - start > (LINGER_S - 1) * 1000000000ll); /* else nothing was tried */
    pthread_join(thread, NULL);
    CHECK(longest / 1000000 < AT_ONCE_MS * TEST_PATIENCE);
    close(peer);
    OK(ringmsg_ring_free(closing_ring));
}

/* --- a thread of higher priority ---------------------------------------------------------- */

static volatile int stop;

static void run_on_one_processor(void)
{
    cpu_set_t set;
    SYS(sched_getaffinity(0, sizeof set, &set));
    int processor = 0;
    while (!CPU_ISSET(processor, &set))
        processor++;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    SYS(sched_setaffinity(0, sizeof set, &set));
}

static void *make_and_free_all_the_time(void *unused)
{
    run_on_one_processor();
    while (!stop)
        make_and_free(NULL);
    return unused;
}

static void a_fifo_thread_waits_no_longer_than_an_open_takes(void)
{
    struct sched_param fifo = {.sched_priority = 10}, other = {.sched_priority = 0};
    int receiver = bound_udp(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
    int64_t worst = 0;
    pthread_t thread;
    stop = 0;
    run_on_one_processor();
    pthread_create(&thread, NULL, make_and_free_all_the_time, NULL);
    if (sched_setscheduler(0, SCHED_FIFO, &fifo) != 0) {
        stop = 1;
        pthread_join(thread, NULL);
        skip_test("this process may not use SCHED_FIFO");
    }
    for (int i = 0; i < 200; i++) {
        usleep(1000 + i * 7 % 500);
        int64_t start = now_ns();
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        int64_t took = now_ns() - start;
        worst = took > worst ? took : worst;
        OK(ringmsg_cancel(ring, 1));
        EQUAL(reap_one(ring).result, -ECANCELED);
    }
    stop = 1;
    SYS(sched_setscheduler(0, SCHED_OTHER, &other));
    pthread_join(thread, NULL);
    OK(ringmsg_ring_free(ring));
    CHECK(worst < 500000000ll * TEST_PATIENCE); /* a spinning lock took seconds */
}

TESTS(TEST(a_fork_in_a_signal_handler_returns), TEST(a_close_that_blocks_delays_nobody_else),
      TEST(a_fifo_thread_waits_no_longer_than_an_open_takes))
