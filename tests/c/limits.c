/* When a limit of the process is reached, a call fails with a clear errno and sentence, and keeps
 * no resource. */
#include "test.h"

#include <grp.h>
#include <linux/io_uring.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void limit(int which, rlim_t value)
{
    struct rlimit limit = {value, value};
    SYS(setrlimit(which, &limit));
}

/* Resident pages, from /proc/self/statm. */
static long resident(void)
{
    long size, pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &size, &pages) == 2);
    fclose(file);
    return pages;
}

static int mentions(const char *word)
{
    char why[512];
    ringmsg_last_error(why, sizeof why);
    return strstr(why, word) != NULL;
}

/* Makes a ring with a pool and an armed socket, receives one datagram, and frees the ring. */
static void use_one_ring(int receiver, int sender)
{
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "x", 1, 0));
    EQUAL(reap_one(ring).result, 1);
    OK(ringmsg_ring_free(ring));
}

static void ten_thousand_rings_leak_nothing(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    for (int i = 0; i < 200; i++)
        use_one_ring(receiver, sender);
    long pages = resident();
    int descriptors = open_descriptors();
    for (int i = 0; i < 2500; i++) /* in each of four modes */
        use_one_ring(receiver, sender);
    EQUAL(open_descriptors(), descriptors);
    long after = resident();
    if (COUNTS_MEMORY && after >= pages + 256)
        FAIL("%ld pages are resident; there were %ld before", after, pages);
}

/* With each small number of descriptors left, ringmsg_ring_new or a later call fails, names the
 * limit, and leaks nothing, until the number is large enough. */
static void emfile_is_clean_with_any_number_of_descriptors_left(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), worked = 0;
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    for (rlim_t left = 0; left < 12; left++) {
        int before = open_descriptors(), lowest = (int)SYS(dup(receiver));
        close(lowest);
        struct rlimit now, then;
        SYS(getrlimit(RLIMIT_NOFILE, &then));
        now = (struct rlimit){(rlim_t)lowest + left, then.rlim_max};
        SYS(setrlimit(RLIMIT_NOFILE, &now));
        struct ringmsg_ring_config ring_config;
        struct ringmsg_ring *ring = NULL;
        struct ringmsg_pool *pool = NULL;
        ringmsg_ring_config_init(&ring_config);
        ring_config.flags = test_mode;
        ring_config.engine = test_engine;
        int made = ringmsg_ring_new(&ring_config, &ring);
        if (made != 0) {
            EQUAL(made, -EMFILE);
            CHECK(ring == NULL && mentions("too many open files") && mentions("RLIMIT_NOFILE"));
        } else {
            OK(ringmsg_pool_new(ring, &config, &pool));
            int armed = ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1);
            if (armed != 0) {
                EQUAL(armed, -EMFILE);
                CHECK(mentions("RLIMIT_NOFILE"));
                EQUAL(ringmsg_cancel(ring, 1), -ENOENT);
                OK(ringmsg_pool_free(pool));
            } else {
                int fd = ringmsg_ring_fd(ring);
                CHECK(fd >= 0 || (fd == -EMFILE && mentions("RLIMIT_NOFILE")));
                SYS(send(sender, "x", 1, 0));
                EQUAL(reap_one(ring).result, 1);
                worked++;
            }
            OK(ringmsg_ring_free(ring));
        }
        SYS(setrlimit(RLIMIT_NOFILE, &then));
        EQUAL(open_descriptors(), before);
    }
    COMPARE(worked, >, 0);
    COMPARE(worked, <, 12);
}

static void a_small_address_space_refuses_pools_and_rings_keep_receiving(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048), *none = NULL;
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    config.buffers = 16384;
    long size, pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &size, &pages) == 2);
    fclose(file);
    limit(RLIMIT_AS, (rlim_t)size * 4096 + (64 << 20));
    for (int i = 0; i < 1000; i++) {
        REFUSED(ringmsg_pool_new(ring, &config, &none), ENOMEM);
        CHECK(none == NULL && mentions("RLIMIT_AS"));
    }
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    SYS(send(sender, "x", 1, 0));
    EQUAL(reap_one(ring).result, 1);
    OK(ringmsg_ring_free(ring));
}

static void an_exhausted_address_space_refuses_rings(void)
{
#ifdef __SANITIZE_ADDRESS__
    if (is_recvmmsg()) /* this engine's rings come from malloc, and the sanitizer's malloc aborts */
        return;
#endif
    struct ringmsg_ring_config config;
    struct ringmsg_ring *rings[4096];
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = 4096;
    if (is_recvmmsg())
        config.cq_entries = 65536; /* 1 MiB: more than malloc keeps cached for other threads */
    long size, pages;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%ld %ld", &size, &pages) == 2);
    fclose(file);
    int descriptors = open_descriptors(), made = 0, answer;
    limit(RLIMIT_AS, (rlim_t)size * 4096 + (8 << 20));
    while ((answer = ringmsg_ring_new(&config, &rings[made])) == 0)
        COMPARE(++made, <, 4000);
    EQUAL(answer, -ENOMEM);
    CHECK(mentions("memory"));
    while (made > 0)
        OK(ringmsg_ring_free(rings[--made]));
    EQUAL(open_descriptors(), descriptors);
}

/* Whether this kernel charges rings to RLIMIT_MEMLOCK (before 5.12 and since 6.14), so that a ring
 * as large as the library's is refused. Root is never charged. */
static int rings_are_charged(void)
{
    struct io_uring_params params = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 8192};
    long fd = syscall(SYS_io_uring_setup, 4096, &params);
    if (fd >= 0)
        close((int)fd);
    return fd < 0 && errno == ENOMEM;
}

static void a_small_memlock_limit_is_named(void)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = 4096;
    limit(RLIMIT_MEMLOCK, 8192);
    if (getuid() == 0 && (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
        FAIL("cannot drop root: %s", strerror(errno));
    int descriptors = open_descriptors();
    int made = ringmsg_ring_new(&config, &ring);
    if (is_recvmmsg() || !rings_are_charged()) {
        EQUAL(made, 0);
        OK(ringmsg_ring_free(ring));
        return;
    }
    EQUAL(made, -ENOMEM);
    CHECK(mentions("RLIMIT_MEMLOCK") && mentions("8 KiB"));
    EQUAL(open_descriptors(), descriptors);
}

/* A sandboxed process may give up its RLIMIT_NOFILE when all is set up: then even poll(2) fails.
 * Sets it to 0, and returns what it was. */
static struct rlimit give_up_descriptors(void)
{
    struct rlimit before;
    SYS(getrlimit(RLIMIT_NOFILE, &before));
    SYS(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}));
    return before;
}

static void *free_the_ring(void *ring)
{
    OK(ringmsg_ring_free(ring));
    return NULL;
}

/* Such a process goes on receiving, with lingers, spins and timeouts; sees the end of a stream; is
 * refused with -EMFILE what needs a descriptor; and frees the ring, by its owner or by another
 * thread: the sockets are closed, and nothing spins. */
static void a_process_without_rlimit_nofile_receives_and_frees(void)
{
    for (int by_other_thread = 0; by_other_thread < 2; by_other_thread++) {
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver), ends[2];
        int unused = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
        struct ringmsg_ring *ring = make_ring(), *none = NULL;
        struct ringmsg_sender *no_sender = NULL;
        struct ringmsg_pool *pool = make_pool(ring, ends[0], 16, 2048);
        struct ringmsg_record records[4];
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        OK(ringmsg_recvmsg_multishot(ring, pool, ends[0], 0, 0, 2));
        socklen_t length;
        struct sockaddr_storage address = address_of(receiver, &length);
        close(receiver);
        int descriptors = open_descriptors();
        struct rlimit before = give_up_descriptors();

        for (int i = 0; i < 4; i++) {
            struct ringmsg_wait wait = wait_ms(2000);
            wait.linger_us = i & 1 ? 500 : 0;
            wait.spin_us = i & 2 ? 200 : 0;
            SYS(send(sender, "x", 1, 0));
            EQUAL(ringmsg_reap(ring, records, NULL, 4, &wait), 1);
            EQUAL(records[0].user_data, 1);
            OK(ringmsg_release(ring, records, 1));
            reap_nothing(ring, 5);
        }
        SYS(send(ends[1], "last", 4, 0));
        close(ends[1]);
        int bytes = 0, ended = 0;
        while (!ended) {
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.user_data, 2);
            bytes += record.result;
            ended = (record.flags & RINGMSG_RECORD_FINAL) != 0;
            OK(ringmsg_release(ring, &record, 1));
        }
        EQUAL(bytes, 4);
        REFUSED(ringmsg_recvmsg_multishot(ring, pool, unused, 0, 0, 3), EMFILE);
        REFUSED(ringmsg_ring_fd(ring), EMFILE);
        REFUSED(ringmsg_ring_new(NULL, &none), EMFILE);
        REFUSED(ringmsg_sender_new(unused, NULL, &no_sender), EMFILE);

        pthread_t other;
        if (by_other_thread) {
            EQUAL(pthread_create(&other, NULL, free_the_ring, ring), 0);
            pthread_join(other, NULL);
        } else {
            free_the_ring(ring);
        }
        SYS(setrlimit(RLIMIT_NOFILE, &before));
        COMPARE(open_descriptors(), <, descriptors);
        int again = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), bound = -1;
        for (int tries = 0; tries < 200 && bound != 0; tries++) {
            bound = bind(again, (struct sockaddr *)&address, length);
            if (bound != 0)
                sleep_ms(10); /* the kernel may let go of the port a little later */
        }
        EQUAL(bound, 0);
        close(again), close(unused), close(sender), close(ends[0]);
    }
}

TESTS(TEST(emfile_is_clean_with_any_number_of_descriptors_left),
      TEST(a_small_address_space_refuses_pools_and_rings_keep_receiving),
      TEST(an_exhausted_address_space_refuses_rings),
      TEST(a_small_memlock_limit_is_named),
      TEST(a_process_without_rlimit_nofile_receives_and_frees),
      TEST(ten_thousand_rings_leak_nothing))
