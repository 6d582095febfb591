/* The list of the library's descriptors has one lock per process. No thread waits for it longer
 * than a descriptor takes to open: the library makes no blocking call under the lock, a fork in a
 * signal handler finds it free, and waiting threads sleep, so that a SCHED_FIFO thread does not
 * starve the holder. */
#include "test.h"

#include <sched.h>
#include <sys/time.h>
#include <sys/wait.h>

/* --- fork from a signal handler ---------------------------------------------------------- */

static volatile sig_atomic_t forks, failures;

/* The next signal comes 2 ms after this one's handler is done, however long fork(2) takes, so that
 * the calls between make progress under valgrind as well. */
static const struct itimerval once = {{0, 0}, {0, 2000}};
static volatile sig_atomic_t forking;

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
    if (forking)
        setitimer(ITIMER_REAL, &once, NULL);
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

/* Arming opens a descriptor, and the end of a request closes it. The handler forks at any moment of
 * that. (No memory is allocated by then, because fork in a handler would also wait for malloc's
 * lock.) */
static void a_fork_in_a_signal_handler_returns(void)
{
    struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
    int receiver = bound_udp(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
    arm_and_cancel(ring, pool, receiver);
    SYS(sigaction(SIGALRM, &action, NULL));
    forking = 1;
    SYS(setitimer(ITIMER_REAL, &once, NULL));
    for (int64_t end = now_ns() + 1000000000; now_ns() < end || forks <= 5;)
        arm_and_cancel(ring, pool, receiver);
    forking = 0;
    SYS(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL));
    COMPARE(forks, >, 5);
    EQUAL(failures, 0);
    OK(ringmsg_ring_free(ring));
}

/* --- a close that blocks ----------------------------------------------------------------- */

enum { LINGER_S = 2, LIMIT_MS = 500 };

/* Makes a TCP socket whose close(2) blocks, because the peer does not read what is queued. */
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

static void *read_stats(void *unused)
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

static void *call_during_the_close(void *longest)
{
    static void *(*const calls[])(void *) = {read_stats, make_and_free, fork_once};
    sleep_ms(300); /* the close is in progress */
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        int64_t start = now_ns();
        calls[i](NULL);
        int64_t elapsed_ns = now_ns() - start;
        if (elapsed_ns > *(int64_t *)longest)
            *(int64_t *)longest = elapsed_ns;
    }
    return NULL;
}

/* The program has closed its socket, so the reap that returns the FINAL record closes the last
 * reference to it. The thread in that reap blocks as in close(2), and no other thread does. */
static int64_t close_that_lingers(void)
{
    int peer, fd = socket_that_lingers(&peer);
    int64_t longest = 0;
    pthread_t thread;
    closing_ring = make_ring();
    struct ringmsg_pool *pool = make_pool(closing_ring, fd, 4, 64);
    OK(ringmsg_recvmsg_multishot(closing_ring, pool, fd, 0, 0, 1));
    close(fd);
    OK(ringmsg_cancel(closing_ring, 1));
    pthread_create(&thread, NULL, call_during_the_close, &longest);
    int64_t start = now_ns();
    struct ringmsg_record record = reap_one(closing_ring);
    EQUAL(record.result, -ECANCELED);
    int64_t blocked_ns = now_ns() - start;
    pthread_join(thread, NULL);
    COMPARE(longest / 1000000, <, LIMIT_MS * TEST_TIME_FACTOR);
    close(peer);
    OK(ringmsg_ring_free(closing_ring));
    return blocked_ns;
}

static void a_close_that_blocks_delays_no_other_thread(void)
{
    /* The kernel's request may hold the socket a little longer: then another thread closes it. */
    for (int i = 0; i < 5; i++)
        if (close_that_lingers() > (LINGER_S - 1) * 1000000000ll)
            return;
    skip_test("the library never closed the last reference to the socket");
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

static void *make_and_free_until_stopped(void *unused)
{
    run_on_one_processor();
    while (!stop)
        make_and_free(NULL);
    return unused;
}

/* A thread that spins uses its processor; how long one sleeps depends on what else runs. */
static int64_t own_cpu_ns(void)
{
    struct timespec time;
    SYS(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time));
    return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static void a_fifo_thread_is_not_starved_by_the_lock(void)
{
    struct sched_param fifo = {.sched_priority = 10}, other = {.sched_priority = 0};
    int receiver = bound_udp(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
    int64_t longest_ns = 0;
    pthread_t thread;
    stop = 0;
    run_on_one_processor();
    pthread_create(&thread, NULL, make_and_free_until_stopped, NULL);
    if (sched_setscheduler(0, SCHED_FIFO, &fifo) != 0) {
        stop = 1;
        pthread_join(thread, NULL);
        skip_test("this process may not use SCHED_FIFO");
    }
    for (int i = 0; i < 200; i++) {
        usleep(1000 + i * 7 % 500);
        int64_t start = own_cpu_ns();
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        int64_t elapsed_ns = own_cpu_ns() - start;
        longest_ns = elapsed_ns > longest_ns ? elapsed_ns : longest_ns;
        OK(ringmsg_cancel(ring, 1));
        EQUAL(reap_one(ring).result, -ECANCELED);
    }
    stop = 1;
    SYS(sched_setscheduler(0, SCHED_OTHER, &other));
    pthread_join(thread, NULL);
    OK(ringmsg_ring_free(ring));
    COMPARE(longest_ns, <, 500000000ll); /* with a spinning lock this took seconds */
}

TESTS(TEST(a_fork_in_a_signal_handler_returns),
      TEST(a_close_that_blocks_delays_no_other_thread),
      TEST(a_fifo_thread_is_not_starved_by_the_lock))
