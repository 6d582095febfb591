/* Under a seccomp filter that answers EPERM or ENOSYS to io_uring_setup, io_uring_enter or
 * io_uring_register, AUTO receives on the recvmmsg engine, and a ring that requires io_uring is
 * refused with the reason. A filter that is installed later, and forbids what a reap calls, makes
 * every reap fail. A filter cannot be removed, so each case runs in a process of its own.
 * Each case runs twice: without an earlier call of the library, and after the library has probed
 * io_uring. */
#include "test.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>

/* Installs a filter that fails each selected call with `error`. */
static void install_filter(int setup, int enter, int registers, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, setup ? SYS_io_uring_setup : ~0u, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, enter ? SYS_io_uring_enter : ~0u, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, registers ? SYS_io_uring_register : ~0u, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static struct ringmsg_support support(void)
{
    struct ringmsg_support support = {.size = sizeof support};
    OK(ringmsg_query_support(&support));
    return support;
}

/* Makes a ring with AUTO, which must receive a datagram. Returns its engine. */
static uint32_t auto_receives(void)
{
    struct ringmsg_ring *ring;
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_new(NULL, &ring));
    OK(ringmsg_ring_info(ring, &info));
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "hello", 5, 0));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, 5);
    SAME_BYTES(payload_of(ring, &record), "hello", 5);
    OK(ringmsg_ring_free(ring));
    return info.engine;
}

/* Checks that a ring on io_uring is refused with this error, and that the sentence begins with this
 * call. */
static void check_refused(uint32_t flags, int error, const char *call)
{
    char why[1024];
    struct ringmsg_ring *ring = NULL;
    struct ringmsg_ring_config config;
    ringmsg_ring_config_init(&config);
    config.flags = flags;
    config.engine = RINGMSG_ENGINE_IO_URING;
    int descriptors = open_descriptors();
    EQUAL(ringmsg_ring_new(&config, &ring), -error);
    SAME_POINTER(ring, NULL);
    EQUAL(open_descriptors(), descriptors);
    ringmsg_last_error(why, sizeof why);
    if (strstr(why, call) != why || strstr(why, "seccomp filter") == NULL)
        FAIL("the last error does not begin with \"%s\" or does not name a seccomp filter: %s", call, why);
}

static int io_uring_available; /* multishot recvmsg works without a filter */

static void check_blocked(int setup, int enter, int registers, int error, const char *call)
{
    install_filter(setup, enter, registers, error);
    EQUAL(auto_receives(), RINGMSG_ENGINE_RECVMMSG);
    struct ringmsg_support now = support();
    HAS_FLAG(now.engines, 1u << RINGMSG_ENGINE_RECVMMSG);
    EQUAL(now.engines & 1u << RINGMSG_ENGINE_IO_URING, 0);
    EQUAL(now.features & RINGMSG_FEATURE_MULTISHOT, 0);
    if (!io_uring_available)
        return;
    EQUAL(now.create_error, -error);
    check_refused(0, error, call);
    check_refused(RINGMSG_SETUP_DEFER_TASKRUN, error, call);
    check_refused(RINGMSG_SETUP_AUTO, error, call);
    check_refused(RINGMSG_SETUP_R_DISABLED, error, call);
    check_refused(RINGMSG_SETUP_SQPOLL, error, call);

    char text[2048];
    OK(ringmsg_describe_support(text, sizeof text));
    if (!strstr(text, "AUTO takes recvmmsg") || !strstr(text, call) || !strstr(text, "seccomp filter"))
        FAIL("the description does not name the engine, %s or the filter: %s", call, text);
}

static void io_uring_setup_refused_with_eperm(void) { check_blocked(1, 0, 0, EPERM, "io_uring_setup: "); }
static void io_uring_setup_refused_with_enosys(void) { check_blocked(1, 0, 0, ENOSYS, "io_uring_setup: "); }
static void io_uring_enter_refused_with_eperm(void) { check_blocked(0, 1, 0, EPERM, "io_uring_enter: "); }
static void io_uring_enter_refused_with_enosys(void) { check_blocked(0, 1, 0, ENOSYS, "io_uring_enter: "); }
static void io_uring_register_refused_with_eperm(void)
{
    check_blocked(0, 0, 1, EPERM, "io_uring_register: ");
}
static void io_uring_register_refused_with_enosys(void)
{
    check_blocked(0, 0, 1, ENOSYS, "io_uring_register: ");
}
static void all_three_calls_refused_with_eperm(void) { check_blocked(1, 1, 1, EPERM, "io_uring_setup: "); }

static void a_filter_that_allows_all_three_calls_changes_nothing(void)
{
    install_filter(0, 0, 0, EPERM);
    EQUAL(auto_receives(), io_uring_available ? RINGMSG_ENGINE_IO_URING : RINGMSG_ENGINE_RECVMMSG);
}

/* A filter that forbids io_uring_setup does not affect a ring that exists. */
static void a_ring_made_before_the_filter_keeps_receiving(void)
{
    struct ringmsg_ring *ring;
    OK(ringmsg_ring_new(NULL, &ring));
    install_filter(1, 0, 0, EPERM);
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "hello", 5, 0));
    EQUAL(reap_one(ring).result, 5);
    OK(ringmsg_ring_free(ring));
}

/* Makes each of these calls fail with EPERM. */
static void forbid(const unsigned *calls, int count)
{
    struct sock_filter filter[16] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    int length = 1;
    for (int i = 0; i < count; i++) {
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
        filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    }
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)length, filter};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* A loop that only polls ring_fd and reaps with timeout 0 gets the error, too: it would otherwise
 * turn without end, or wait for data that never comes. The sentence names the call. */
static void expect_refusal(struct ringmsg_ring *ring, int64_t timeout_ns, const char *call)
{
    char why[256];
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = timeout_ns};
    EQUAL(ringmsg_reap(ring, &record, NULL, 1, &wait), -EPERM);
    ringmsg_last_error(why, sizeof why);
    if (strstr(why, call) == NULL || strstr(why, "seccomp filter") == NULL)
        FAIL("the last error names neither %s nor a filter: %s", call, why);
}

/* A filter that was installed after the ring was made, and forbids what a reap calls, makes each
 * reap fail, whether it waits or not, and whether the request was armed before the filter or
 * after it. */
static void a_filter_that_forbids_to_reap_is_reported_by_every_reap(void)
{
    static const unsigned calls[] = {SYS_io_uring_enter, SYS_epoll_pwait, SYS_epoll_pwait2};
    static const struct {
        uint32_t engine, flags;
        int is_armed_before;
    } choices[] = {{RINGMSG_ENGINE_RECVMMSG, 0, 0},
                   {RINGMSG_ENGINE_RECVMMSG, 0, 1},
                   {RINGMSG_ENGINE_IO_URING, 0, 0},
                   {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_COOP_TASKRUN, 0},
                   {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, 0},
                   {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_AUTO, 0},
                   {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_AUTO, 1}};
    enum { CHOICES = sizeof choices / sizeof *choices };
    int count = 0, receivers[CHOICES];
    struct ringmsg_ring *rings[CHOICES];
    struct ringmsg_pool *pools[CHOICES];
    for (; count < CHOICES && (io_uring_available || choices[count].engine == RINGMSG_ENGINE_RECVMMSG); count++) {
        struct ringmsg_ring_config config;
        ringmsg_ring_config_init(&config);
        config.engine = choices[count].engine;
        config.flags = choices[count].flags;
        OK(ringmsg_ring_new(&config, &rings[count]));
        receivers[count] = bound_udp(AF_INET);
        pools[count] = make_pool(rings[count], receivers[count], 16, 2048);
        OK(ringmsg_ring_fd(rings[count]));
        if (choices[count].is_armed_before)
            OK(ringmsg_recvmsg_multishot(rings[count], pools[count], receivers[count], 0, 0, 1));
    }
    forbid(calls, 3);
    for (int i = 0; i < count; i++) {
        const char *call = choices[i].engine == RINGMSG_ENGINE_RECVMMSG ? "epoll_pwait or ppoll: " : "io_uring_enter: ";
        if (!choices[i].is_armed_before)
            OK(ringmsg_recvmsg_multishot(rings[i], pools[i], receivers[i], 0, 0, 1));
        SYS(send(sender_to(receivers[i]), "hello", 5, 0));
        struct pollfd ready = {.fd = OK(ringmsg_ring_fd(rings[i])), .events = POLLIN};
        EQUAL(SYS(poll(&ready, 1, 2000)), 1);
        expect_refusal(rings[i], 0, call);
        expect_refusal(rings[i], 1000000000, call);
        if (!choices[i].is_armed_before)
            expect_refusal(rings[i], 0, call);
        OK(ringmsg_ring_free(rings[i]));
    }
}

/* Without /proc, as after chroot(2), the version comes from uname(2). A sender takes the longest
 * train from it. */
static void the_kernels_version_is_known_without_proc(void)
{
    static const unsigned calls[] = {SYS_openat};
    struct utsname name;
    unsigned major, minor, patch = 0;
    SYS(uname(&name));
    COMPARE(sscanf(name.release, "%u.%u.%u", &major, &minor, &patch), >=, 2);
    uint32_t version = support().kernel_version;
    EQUAL(version >> 8, major << 8 | minor);
    EQUAL(version & 255, patch < 255 ? patch : 255);
    forbid(calls, 1);
    EQUAL(support().kernel_version, version);
}

/* Probes in a child, so that this process has not called the library before the filters are
 * installed. */
static int io_uring_works(void)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit((support().features & RINGMSG_FEATURE_MULTISHOT) == 0);
    waitpid(child, &status, 0);
    return status == 0;
}

int main(void)
{
    static const struct test tests[] = {TEST(io_uring_setup_refused_with_eperm),
                                        TEST(io_uring_setup_refused_with_enosys),
                                        TEST(io_uring_enter_refused_with_eperm),
                                        TEST(io_uring_enter_refused_with_enosys),
                                        TEST(io_uring_register_refused_with_eperm),
                                        TEST(io_uring_register_refused_with_enosys),
                                        TEST(all_three_calls_refused_with_eperm),
                                        TEST(a_filter_that_allows_all_three_calls_changes_nothing),
                                        TEST(a_ring_made_before_the_filter_keeps_receiving),
                                        TEST(a_filter_that_forbids_to_reap_is_reported_by_every_reap),
                                        TEST(the_kernels_version_is_known_without_proc)};
    static const struct test_mode fresh = {"fresh", 0, 0}, asked = {"asked", 0, 0};
    int failed = 0, count = sizeof tests / sizeof *tests;
    io_uring_available = io_uring_works();
    if (!io_uring_available)
        printf("(no io_uring even without a filter: tested only that AUTO selects recvmmsg)\n");
    for (int i = 0; i < count; i++)
        failed += !run_test(&tests[i], &fresh);
    support();
    for (int i = 0; i < count; i++)
        failed += !run_test(&tests[i], &asked);
    printf("%d passed, %d failed\n", 2 * count - failed, failed);
    return failed != 0;
}
