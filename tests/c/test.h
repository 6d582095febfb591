/* The framework of the C tests: a runner that runs every test in every task-work mode, checks that
 * print the values they compared, and sockets on loopback. A test program consists of `#include
 * "test.h"`, functions `static void name(void)`, and `TESTS(...)` at its end.
 *
 *   program                  runs every test in every mode
 *   program defer            runs them in one mode ("all": in every mode)
 *   program plain name ...   runs these tests in one mode
 *   program plain -name ...  runs all tests but these in one mode
 *
 * `make test-c T=program [MODE=mode] [ONLY=name]` compiles one program and runs it like this. The
 * exit status is 0 if every test passed, else 1. Where io_uring is unavailable the program runs the
 * recvmmsg engine only and prints a line about it. */
#ifndef RINGMSG_TEST_H
#define RINGMSG_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <ringmsg.h>

#include "checks.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

/* Time limits are multiplied by this: valgrind and an emulated processor are slow. */
#if defined TEST_UNDER_VALGRIND || defined TEST_EMULATED
#define TEST_TIME_FACTOR 10
#else
#define TEST_TIME_FACTOR 1
#endif
/* Mapped and resident memory is not compared under valgrind, because it includes valgrind's own.
 * Valgrind reports leaks itself. */
#ifdef TEST_UNDER_VALGRIND
#define COUNTS_MEMORY 0
#else
#define COUNTS_MEMORY 1
#endif

/* --- modes ------------------------------------------------------------------------------- */

static uint32_t test_mode, test_engine;
__attribute__((unused)) static int io_uring; /* multishot recvmsg works here */

static const struct test_mode {
    const char *name;
    uint32_t flags, engine;
} test_modes[] = {
    {"plain", 0, RINGMSG_ENGINE_IO_URING},
    {"coop", RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_ENGINE_IO_URING},
    {"coop_flag", RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, RINGMSG_ENGINE_IO_URING},
    {"defer", RINGMSG_SETUP_DEFER_TASKRUN, RINGMSG_ENGINE_IO_URING},
    {"recvmmsg", 0, RINGMSG_ENGINE_RECVMMSG},
    {"sqpoll", RINGMSG_SETUP_SQPOLL, RINGMSG_ENGINE_IO_URING}, /* only for tests marked TEST_SQPOLL_TOO */
};

/* The test runs on the recvmmsg engine. */
__attribute__((unused)) static int is_recvmmsg(void)
{
    return test_engine == RINGMSG_ENGINE_RECVMMSG;
}

__attribute__((unused)) static int is_bound(void)
{
    return (test_mode & RINGMSG_SETUP_DEFER_TASKRUN) != 0;
}

/* --- time -------------------------------------------------------------------------------- */

__attribute__((unused)) static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

__attribute__((unused)) static void sleep_ms(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* Busy-waits for a change by another thread, to notice it without delay: for races. Falls back to
 * WAIT_UNTIL where the other thread may have no processor. */
#define SPIN_UNTIL(condition)         \
    do {                                    \
        if (TEST_TIME_FACTOR > 1)              \
            WAIT_UNTIL(condition);            \
        while (!(condition))                \
            ;                               \
    } while (0)

/* Waits for a change by another thread. Spins at first, to notice it without delay, then sleeps,
 * because the other thread may have no processor. Does not call sched_yield(2): a thread that
 * yields in a loop keeps kernel threads from running for seconds (seen on Linux 6.18), and those
 * tear rings down. */
#define WAIT_UNTIL(condition)                    \
    do {                                       \
        for (int turn_ = 0; !(condition); turn_++) \
            if (turn_ > 2000)                  \
                sleep_briefly();                         \
    } while (0)

__attribute__((unused)) static void sleep_briefly(void)
{
    struct timespec t = {0, 20000};
    nanosleep(&t, NULL);
}

/* Makes room for `bytes` in a socket's receive buffer, as the kernel counts them: 768 for a small
 * datagram, or 896, with the kernel's version. */
__attribute__((unused)) static void make_room(int fd, int bytes)
{
    int half = bytes / 2, granted; /* the kernel doubles what is set */
    SYS(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &(socklen_t){sizeof granted}));
    if (granted >= bytes)
        return;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof half) != 0)
        SYS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof half));
    SYS(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &(socklen_t){sizeof granted}));
    if (granted < bytes) {
        static char why[128];
        snprintf(why, sizeof why, "an ordinary user gets too small a socket buffer; sysctl net.core.rmem_max=%d allows it", half);
        skip_test(why);
    }
}

/* --- rings and pools --------------------------------------------------------------------- */

/* Makes a ring in the mode under test, with more flags and this completion queue size (0: the
 * default). */
__attribute__((unused)) static struct ringmsg_ring *make_ring_with(uint32_t more_flags, uint32_t cq_entries)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.flags = test_mode | more_flags;
    config.engine = test_engine;
    config.cq_entries = cq_entries;
    if (config.flags & RINGMSG_SETUP_SQPOLL)
        config.sq_thread_idle_ms = 2; /* short, so that the kernel's thread often sleeps and must be woken */
    OK(ringmsg_ring_new(&config, &ring));
    return ring;
}

__attribute__((unused)) static struct ringmsg_ring *make_ring(void)
{
    return make_ring_with(0, 0);
}

/* Makes a pool that fits this socket's options. With payload 0 a buffer holds any datagram. */
__attribute__((unused)) static struct ringmsg_pool *
make_pool(struct ringmsg_ring *ring, int fd, uint32_t buffers, uint32_t payload)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    OK(ringmsg_pool_config_for_socket(&config, fd));
    config.buffers = buffers;
    if (payload != 0)
        config.payload_capacity = payload;
    OK(ringmsg_pool_new(ring, &config, &pool));
    return pool;
}

/* A wait with this timeout and no linger. */
__attribute__((unused)) static struct ringmsg_wait wait_ms(int ms)
{
    struct ringmsg_wait wait;
    memset(&wait, 0, sizeof wait);
    wait.size = sizeof wait;
    wait.timeout_ns = (int64_t)ms * 1000000;
    return wait;
}

__attribute__((unused)) static int
reap_ms(struct ringmsg_ring *ring, struct ringmsg_record *records, uint32_t capacity, int ms)
{
    struct ringmsg_wait wait = wait_ms(ms);
    int n = ringmsg_reap(ring, records, NULL, capacity, &wait);
    /* A ring on io_uring that this thread freed shortly before interrupts its epoll_wait. */
    while (n == -EINTR && is_recvmmsg())
        n = ringmsg_reap(ring, records, NULL, capacity, &wait);
    return OK(n);
}

/* Reaps exactly one record, within two seconds. */
__attribute__((unused)) static struct ringmsg_record reap_one(struct ringmsg_ring *ring)
{
    struct ringmsg_record record;
    EQUAL(reap_ms(ring, &record, 1, 2000), 1);
    return record;
}

/* Checks that no record arrives within this time. */
__attribute__((unused)) static void reap_nothing(struct ringmsg_ring *ring, int ms)
{
    struct ringmsg_record record;
    EQUAL(reap_ms(ring, &record, 1, ms), 0);
}

__attribute__((unused)) static const uint8_t *
payload_of(struct ringmsg_ring *ring, const struct ringmsg_record *record)
{
    return ringmsg_pool_base(ringmsg_ring_pool(ring, record->pool)) + record->payload_offset;
}

__attribute__((unused)) static struct ringmsg_stats stats_of(const struct ringmsg_ring *ring)
{
    struct ringmsg_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    OK(ringmsg_ring_stats(ring, &stats));
    return stats;
}

/* --- sockets ----------------------------------------------------------------------------- */

/* The local address of a socket. */
__attribute__((unused)) static struct sockaddr_storage address_of(int fd, socklen_t *length)
{
    struct sockaddr_storage address;
    *length = sizeof address;
    SYS(getsockname(fd, (struct sockaddr *)&address, length));
    return address;
}

/* Makes a datagram socket bound to a port of loopback. */
__attribute__((unused)) static int bound_udp(int family)
{
    int fd = (int)SYS(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (family == AF_INET6) {
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
        SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    } else {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    }
    return fd;
}

__attribute__((unused)) static void connect_to(int fd, int peer)
{
    socklen_t length;
    struct sockaddr_storage address = address_of(peer, &length);
    SYS(connect(fd, (struct sockaddr *)&address, length));
}

/* Makes the kernel refuse what others send to the port of `fd`, as if no socket were bound to it.
 * (After a close, another process could bind the port.) */
__attribute__((unused)) static void refuse_senders(int fd) { connect_to(fd, fd); }

/* Makes a socket that sends to `to`. */
__attribute__((unused)) static int sender_to(int to)
{
    socklen_t length;
    int fd = (int)SYS(socket(address_of(to, &length).ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    connect_to(fd, to);
    return fd;
}

__attribute__((unused)) static void set_int(int fd, int level, int name, int value)
{
    SYS(setsockopt(fd, level, name, &value, sizeof value));
}

/* Sends one train: `size` bytes at `data`, which the kernel cuts into segments. */
static void send_train_from(int fd, const void *data, size_t size, uint16_t segment)
{
    union {
        char space[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof control.space};
    memset(&control, 0, sizeof control);
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(cmsg), &segment, sizeof segment);
    EQUAL(SYS(sendmsg(fd, &message, 0)), (long)size);
}

/* Whether this kernel's loopback delivers a train whole (Linux 5.10 cuts it). */
static int loopback_keeps_trains_whole(void)
{
    static int known = -1;
    if (known == -1) {
        char data[300] = {0};
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        set_int(receiver, SOL_UDP, UDP_GRO, 1);
        send_train_from(sender, data, sizeof data, 100);
        known = recv(receiver, data, sizeof data, 0) == sizeof data;
        close(receiver);
        close(sender);
    }
    return known;
}

__attribute__((unused)) static void send_train(int fd, const void *data, size_t size, uint16_t segment)
{
    if (!loopback_keeps_trains_whole())
        skip_test("this kernel's loopback cuts trains");
    send_train_from(fd, data, size, segment);
}

/* Counts the open descriptors of this process. */
__attribute__((unused)) static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

/* --- the runner -------------------------------------------------------------------------- */

struct test {
    const char *name;
    void (*run)(void);
    int also_sqpoll;
};

/* The kernel counts the rings of the test before against an ordinary user's RLIMIT_MEMLOCK until it
 * has taken them apart. */
static void await_locked_memory(void)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_IO_URING;
    config.cq_entries = 32768; /* most of the usual 8 MiB, once the kernel has rounded it up */
    for (int i = 0; i < 1000 * TEST_TIME_FACTOR; i++) {
        int error = ringmsg_ring_new(&config, &ring);
        if (error == 0)
            ringmsg_ring_free(ring);
        if (error != -ENOMEM)
            return;
        sleep_ms(2);
    }
}

/* Runs one test in a child process, so that a failure does not hide later tests. */
static int run_test(const struct test *test, const struct test_mode *mode)
{
    int status;
    if (geteuid() != 0 && mode->engine == RINGMSG_ENGINE_IO_URING)
        await_locked_memory();
    int64_t start = now_ns();
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        test_name = test->name;
        test_mode_name = mode->name;
        test_mode = mode->flags;
        test_engine = mode->engine;
        alarm(120 * TEST_TIME_FACTOR);
        test->run();
        exit(0);
    }
    waitpid(child, &status, 0);
    int passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (WIFSIGNALED(status))
        fprintf(stderr, "%s [%s]: killed by %s\n", test->name, mode->name, strsignal(WTERMSIG(status)));
    int skipped = WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED;
    printf("%-6s %-56s %-10s %6.2f s\n", passed ? "ok" : skipped ? "skip" : "FAILED", test->name, mode->name,
           (double)(now_ns() - start) / 1e9);
    return passed || skipped;
}

static int is_selected(const struct test *test, int argc, char **argv)
{
    int selected = argc <= 2 || argv[2][0] == '-';
    for (int i = 2; i < argc; i++) {
        int excludes = argv[i][0] == '-';
        if (strcmp(argv[i] + excludes, test->name) == 0)
            selected = !excludes;
    }
    return selected;
}

__attribute__((unused)) static int run_tests(const struct test *tests, int argc, char **argv)
{
    int failed = 0, ran = 0;
    struct ringmsg_support support = {.size = sizeof support};
    ringmsg_query_support(&support);
    io_uring = (support.features & RINGMSG_FEATURE_MULTISHOT) != 0;
    if (!io_uring) {
        char why[1024];
        ringmsg_describe_support(why, sizeof why);
        for (char *line = why; (line = strchr(line, '\n')) != NULL;)
            *line = ' ';
        printf("(no io_uring, so only the recvmmsg engine was tested: %s)\n", why);
    }
    for (size_t m = 0; m < sizeof test_modes / sizeof *test_modes; m++) {
        if (argc > 1 && strcmp(argv[1], "all") != 0 && strcmp(argv[1], test_modes[m].name) != 0)
            continue;
        if (!io_uring && test_modes[m].engine == RINGMSG_ENGINE_IO_URING)
            continue;
        for (const struct test *test = tests; test->name != NULL; test++) {
            if ((test->also_sqpoll || test_modes[m].flags != RINGMSG_SETUP_SQPOLL) &&
                is_selected(test, argc, argv)) {
                ran++;
                failed += !run_test(test, &test_modes[m]);
            }
        }
    }
    printf("%d passed, %d failed\n", ran - failed, failed);
    return failed != 0 || ran == 0;
}

#define TESTS(...)                                        \
    int main(int argc, char **argv)                       \
    {                                                     \
        static const struct test tests[] = {__VA_ARGS__, {NULL, NULL, 0}}; \
        return run_tests(tests, argc, argv);              \
    }
#define TEST(function) {#function, function, 0}
/* Runs with SQPOLL as well, where a kernel thread submits and no task work exists. */
#define TEST_SQPOLL_TOO(function) {#function, function, 1}

#endif
