/* A count from 2^31 on is a negative result that was passed on as a count. Every call that takes an
 * array refuses it before it reads the array, and has no effect. Only ringmsg_next() accepts such a
 * `done_count`, as 0, so that a loop that passes its last result continues after -EINTR: when it is
 * stopped and continued (Ctrl-Z, fg), and with any number of signals. */
#include "test.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { SENT = 20000 };

/* Makes a record array that ends where readable memory ends: reading one record more is a crash. */
static struct ringmsg_record *guarded(size_t count)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           size = (count * sizeof(struct ringmsg_record) + page - 1) / page * page;
    char *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    COMPARE(memory, !=, MAP_FAILED);
    SYS(mprotect(memory + size, page, PROT_NONE));
    return (struct ringmsg_record *)(void *)(memory + size) - count;
}

static const uint32_t bad_counts[] = {1u << 31, (uint32_t)-EINTR, UINT32_MAX};

static void counts_from_2_to_the_31_are_refused(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 256);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "x", 1, 0));
    struct ringmsg_record *records = guarded(4), received = reap_one(ring);
    int fds[1];
    for (size_t i = 0; i < sizeof bad_counts / sizeof *bad_counts; i++) {
        REFUSED(ringmsg_release(ring, records, bad_counts[i]), EINVAL);
        REFUSED(ringmsg_reap(ring, records, NULL, bad_counts[i], NULL), EINVAL);
        REFUSED(ringmsg_next(ring, records, 0, records, NULL, bad_counts[i], NULL), EINVAL);
        REFUSED(ringmsg_take_fds(ring, &received, fds, bad_counts[i]), EINVAL);
    }
    char why[256];
    ringmsg_release(ring, records, (uint32_t)-EINTR);
    ringmsg_last_error(why, sizeof why);
    CONTAINS(why, "-4"); /* the sentence shows the number as signed */
    EQUAL(stats_of(ring).buffers_held, 1);
    OK(ringmsg_release(ring, &received, 1));
    OK(ringmsg_ring_free(ring));
}

static void next_takes_a_negative_result_as_nothing_to_release(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 256);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    struct ringmsg_record *records = guarded(4);
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 5000000000};
    for (size_t i = 0; i < sizeof bad_counts / sizeof *bad_counts; i++) {
        SYS(send(sender, "x", 1, 0));
        EQUAL(ringmsg_next(ring, records, bad_counts[i], records, NULL, 4, &wait), 1);
        EQUAL(stats_of(ring).buffers_held, 1);
        OK(ringmsg_release(ring, records, 1));
    }
    OK(ringmsg_ring_free(ring));
}

static void ignore(int signal) { (void)signal; }

static struct loop {
    struct ringmsg_ring *ring;
    struct ringmsg_record *records;
    pid_t sender;
    long received, interrupted;
    int result;
} loop;

/* The loop that the documentation prints. */
static void run_loop(void)
{
    int n = 0, ended = 0;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = -1};
    do {
        n = ringmsg_next(loop.ring, loop.records, (uint32_t)n, loop.records, NULL, 4, &wait);
        for (int i = 0; i < n; i++)
            ended |= loop.records[i].result == 0; /* an empty datagram is the last one */
        loop.received += n > 0 ? n : 0;
        loop.interrupted += n == -EINTR;
    } while (!ended && (n >= 0 || n == -EINTR));
    loop.result = n;
}

static void prepare_loop(int receiver)
{
    loop.ring = make_ring();
    loop.records = guarded(4);
    struct ringmsg_pool *pool = make_pool(loop.ring, receiver, 16, 256);
    OK(ringmsg_recvmsg_multishot(loop.ring, pool, receiver, 0, 0, 1));
}

/* With signals as fast as possible during traffic no record is lost or released twice. */
static void the_printed_loop_continues_after_signals(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct sigaction action = {.sa_handler = ignore};
    SYS(sigaction(SIGUSR1, &action, NULL));
    prepare_loop(receiver);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        for (int i = 0; i < SENT; i++) {
            kill(parent, SIGUSR1);
            send(sender, "datagram", 8, 0);
            if (i % 8 == 7)
                usleep(100);
        }
        /* On a slow processor none of those may have met a sleeping reap: these do. */
        for (int i = 0; i < 20; i++) {
            usleep(5000);
            kill(parent, SIGUSR1);
        }
        while (send(sender, "", 0, 0) == 0)
            usleep(10000);
        _exit(0);
    }
    run_loop();
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    COMPARE(loop.result, >, 0);
    COMPARE(loop.interrupted, >, 0);
    COMPARE(loop.received + (long)stats_of(loop.ring).socket_drops, >=, SENT);
    OK(ringmsg_ring_free(loop.ring));
}

/* SIGSTOP and SIGCONT end the wait with -EINTR without any handler, as they end epoll_wait(2). */
static void the_printed_loop_continues_after_sigstop_and_sigcont(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), status;
    pid_t child = fork();
    if (child == 0) {
        prepare_loop(receiver);
        run_loop();
        _exit(loop.result > 0 ? 0 : 1);
    }
    for (int i = 0; i < 5; i++) {
        sleep_ms(50);
        SYS(kill(child, SIGSTOP));
        EQUAL(SYS(waitpid(child, &status, WUNTRACED)), child);
        CHECK(WIFSTOPPED(status));
        SYS(kill(child, SIGCONT));
        SYS(send(sender, "datagram", 8, 0));
    }
    while (waitpid(child, &status, WNOHANG) == 0) {
        send(sender, "", 0, 0);
        sleep_ms(10);
    }
    CHECK(WIFEXITED(status));
    EQUAL(WEXITSTATUS(status), 0);
}

TESTS(TEST(counts_from_2_to_the_31_are_refused),
      TEST(next_takes_a_negative_result_as_nothing_to_release),
      TEST(the_printed_loop_continues_after_signals),
      TEST(the_printed_loop_continues_after_sigstop_and_sigcont))
