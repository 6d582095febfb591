/* The settings kernel.io_uring_disabled and kernel.io_uring_group refuse io_uring to some users,
 * and the library names the setting. They hold for the whole machine, so other processes that make
 * a ring meanwhile are refused. Therefore this is not part of `make test`: test-kernels runs it in
 * its virtual machines, and `make test-sysctl` on this machine.
 *
 * This process only sets the values and restores them, whatever happens in the child processes
 * that make the rings. It also restores them on every signal that can be caught. */
#include "../c/test.h"

#include <grp.h>
#include <sys/file.h>

static const char disabled[] = "/proc/sys/kernel/io_uring_disabled",
                  group[] = "/proc/sys/kernel/io_uring_group";
static char disabled_before[16], group_before[16];
enum { NOBODY = 65534, SOME_GROUP = 4711 };

static int write_setting(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    int written = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
    if (fd >= 0)
        close(fd);
    return written;
}

static void read_setting(const char *path, char *value, size_t size)
{
    int fd = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
    value[SYS(read(fd, value, size - 1))] = '\0';
    close(fd);
}

static void restore(void)
{
    write_setting(disabled, disabled_before);
    write_setting(group, group_before);
}

static void restore_and_exit(int signal)
{
    restore();
    _exit(128 + signal);
}

static void become_nobody(gid_t with)
{
    SYS(setgroups(1, &with));
    SYS(setgid(NOBODY));
    SYS(setuid(NOBODY));
}

/* The engine that AUTO selects. */
static uint32_t engine_of_auto(void)
{
    struct ringmsg_ring *ring;
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_new(NULL, &ring));
    OK(ringmsg_ring_info(ring, &info));
    OK(ringmsg_ring_free(ring));
    return info.engine;
}

static void check_refused(int value, const char *words)
{
    char why[1024], text[2048];
    struct ringmsg_ring *ring;
    struct ringmsg_ring_config config;
    struct ringmsg_support support = {.size = sizeof support};
    OK(ringmsg_query_support(&support));
    EQUAL(support.io_uring_disabled, value);
    EQUAL(support.create_error, -EPERM);
    EQUAL(support.engines, 1 << RINGMSG_ENGINE_RECVMMSG);
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_IO_URING;
    EQUAL(ringmsg_ring_new(&config, &ring), -EPERM);
    ringmsg_last_error(why, sizeof why);
    OK(ringmsg_describe_support(text, sizeof text));
    if (!strstr(why, words) || !strstr(text, words))
        FAIL("the explanation lacks \"%s\": %s", words, why);
    EQUAL(engine_of_auto(), RINGMSG_ENGINE_RECVMMSG);
}

static void io_uring_disabled_2_refuses_root(void) { check_refused(2, "kernel.io_uring_disabled = 2"); }
static void io_uring_disabled_1_allows_root(void) { EQUAL(engine_of_auto(), RINGMSG_ENGINE_IO_URING); }

static void io_uring_disabled_1_refuses_other_users(void)
{
    become_nobody(NOBODY);
    check_refused(1, "kernel.io_uring_disabled = 1");
}

static void the_refusal_names_io_uring_group(void)
{
    become_nobody(NOBODY);
    check_refused(1, "kernel.io_uring_group = 4711");
}

static void io_uring_disabled_1_allows_the_group(void)
{
    become_nobody(SOME_GROUP);
    EQUAL(engine_of_auto(), RINGMSG_ENGINE_IO_URING);
}

int main(void)
{
    static const struct {
        const char *disabled, *group;
        struct test test;
    } cases[] = {{"2", "-1", TEST(io_uring_disabled_2_refuses_root)},
                 {"1", "-1", TEST(io_uring_disabled_1_allows_root)},
                 {"1", "-1", TEST(io_uring_disabled_1_refuses_other_users)},
                 {"1", "4711", TEST(the_refusal_names_io_uring_group)},
                 {"1", "4711", TEST(io_uring_disabled_1_allows_the_group)}};
    static const struct test_mode mode = {"root", 0, 0};
    int failed = 0, count = sizeof cases / sizeof *cases;
    int lock = open("/tmp/ringmsg-test-sysctl.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (access(disabled, W_OK) != 0 || lock < 0) {
        printf("(skipped: kernel.io_uring_disabled does not exist or is not writable)\n");
        return 77;
    }
    SYS(flock(lock, LOCK_EX));
    read_setting(disabled, disabled_before, sizeof disabled_before);
    read_setting(group, group_before, sizeof group_before);
    for (int signal = 1; signal < SIGSYS; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && signal != SIGCHLD)
            sigaction(signal, &(struct sigaction){.sa_handler = restore_and_exit}, NULL);
    for (int i = 0; i < count; i++) {
        int set = write_setting(group, cases[i].group) && write_setting(disabled, cases[i].disabled);
        failed += !set || !run_test(&cases[i].test, &mode);
        restore();
    }
    printf("%d passed, %d failed\n", count - failed, failed);
    return failed != 0;
}
