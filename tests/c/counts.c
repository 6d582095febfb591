/* A count from 2^31 on is no count: it is a negative result that was passed on. Every call that
 * takes an array refuses it before it reads the array, and does nothing. Only ringmsg_next() takes
 * such a `done_count`, as 0, so that the loop that passes its result back is right after -EINTR,
 * and ends only when it should: stopped and continued (Ctrl-Z, fg), and with signals at any rate. */
#include "test.h"

#include <sys/mman.h>
#include <sys/wait.h>

enum { SENT = 20000 };

/* A record array whose end is the end of readable memory: reading one record too many kills. */
static struct ringmsg_record *guarded(size_t count)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (count * sizeof(struct ringmsg_record) + page - 1) / page * page;
    char *memory = mmap(NULL, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    SYS(mprotect(memory + size, page, PROT_NONE));
    return (struct ringmsg_record *)(void *)(memory + size) - count;
}

static const uint32_t no_counts[] = {1u << 31, (uint32_t)-EINTR, UINT32_MAX};

static void counts_from_2_to_the_31_are_refused(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 256);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "x", 1, 0));
    struct ringmsg_record *records = guarded(4), received = reap_one(ring);
    int fds[1];
    for (size_t i = 0; i < sizeof no_counts / sizeof *no_counts; i++) {
        REFUSED(ringmsg_release(ring, records, no_counts[i]), EINVAL);
        REFUSED(ringmsg_reap(ring, records, NULL, no_counts[i], NULL), EINVAL);
        REFUSED(ringmsg_next(ring, records, 0, records, NULL, no_counts[i], NULL), EINVAL);
        REFUSED(ringmsg_take_fds(ring, &received, fds, no_counts[i]), EINVAL);
    }
    char why[256];
    ringmsg_release(ring, records, (uint32_t)-EINTR);
    ringmsg_last_error(why, sizeof why);
    CHECK(strstr(why, "-4") != NULL); /* the sentence shows the number that was passed on */
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
    for (size_t i = 0; i < sizeof no_counts / sizeof *no_counts; i++) {
        SYS(send(sender, "x", 1, 0));
        EQUAL(ringmsg_next(ring, records, no_counts[i], records, NULL, 4, &wait), 1);
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
            ended |= loop.records[i].result == 0; /* an empty datagram is the last */
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

/* Signals as fast as they can be sent, beside traffic: no record is lost or released twice. */
static void the_printed_loop_goes_on_after_signals(void)
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
        while (send(sender, "", 0, 0) == 0)
            usleep(10000);
        _exit(0);
    }
    run_loop();
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK(loop.result > 0);
    CHECK(loop.interrupted > 0);
    CHECK(loop.received + (long)stats_of(loop.ring).socket_drops >= SENT);
    OK(ringmsg_ring_free(loop.ring));
}

/* SIGSTOP and SIGCONT, with no handler at all, end the wait with -EINTR as they end epoll_wait(2). */
static void the_printed_loop_goes_on_after_stop_and_continue(void)
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

TESTS(TEST(counts_from_2_to_the_31_are_refused), TEST(next_takes_a_negative_result_as_nothing_to_release),
      TEST(the_printed_loop_goes_on_after_signals), TEST(the_printed_loop_goes_on_after_stop_and_continue))
