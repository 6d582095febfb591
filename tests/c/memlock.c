/* Under any RLIMIT_MEMLOCK the AUTO ring of an ordinary user gets a pool and receives: on io_uring
 * if that gets memory for the ring and the pool, otherwise on recvmmsg, and the hundredth ring like
 * the first. A higher limit never selects a worse engine. ringmsg_ring_info reports the engine, and
 * ringmsg_describe_support the reason. A ring that requires io_uring is refused with -ENOMEM and
 * the limit. A ring that was freed is not held against the next. */
#include "test.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const int limits_kib[] = {0,  4,   8,   16,  24,  32,  48,  64,  80,  96,   128,  160,
                                 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 2048, 8192};
enum { LIMITS = sizeof limits_kib / sizeof *limits_kib, RINGS = 100 };

/* The kernel counts locked memory per user, so each test process gets a user of its own. */
static void become_a_user_with(int kib, unsigned user)
{
    struct rlimit limit = {(rlim_t)kib << 10, (rlim_t)kib << 10};
    SYS(setrlimit(RLIMIT_MEMLOCK, &limit));
    SYS(setgroups(0, NULL));
    SYS(setgid(60000 + user));
    SYS(setuid(60000 + user));
}

static uint32_t engine_of(struct ringmsg_ring *ring)
{
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(ring, &info));
    if (info.engine == RINGMSG_ENGINE_RECVMMSG) {
        EQUAL(info.owner_thread, 0); /* any thread may call */
        EQUAL(info.flags & ~RINGMSG_SETUP_R_DISABLED, 0);
    }
    return info.engine;
}

/* Makes a ring with AUTO and a pool, and checks that it receives a datagram. Returns its engine. */
static uint32_t make_and_test_receiver(struct ringmsg_ring **ring, uint32_t flags, uint32_t buffers)
{
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config sizes;
    struct ringmsg_pool *pool;
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 5000000000};
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    ringmsg_ring_config_init(&config);
    config.flags |= flags;
    OK(ringmsg_ring_new(&config, ring));
    ringmsg_pool_config_init(&sizes);
    OK(ringmsg_pool_config_for_socket(&sizes, receiver));
    sizes.buffers = buffers;
    sizes.payload_capacity = 64;
    OK(ringmsg_pool_new(*ring, &sizes, &pool));
    if (flags & RINGMSG_SETUP_R_DISABLED)
        OK(ringmsg_ring_enable(*ring));
    uint32_t engine = engine_of(*ring);
    OK(ringmsg_recvmsg_multishot(*ring, pool, receiver, 0, 0, 7));
    SYS(send(sender, "hello", 5, 0));
    EQUAL(OK(ringmsg_reap(*ring, &record, NULL, 1, &wait)), 1);
    EQUAL(record.user_data, 7);
    EQUAL(record.result, 5);
    OK(ringmsg_release(*ring, &record, 1));
    close(receiver);
    close(sender);
    return engine;
}

/* Runs `body` in a child process as a user of its own. Returns its exit status. */
static int run_as_user(int kib, unsigned user, int (*body)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        become_a_user_with(kib, user);
        exit(body());
    }
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        FAIL("the child failed with RLIMIT_MEMLOCK = %d KiB", kib);
    return WEXITSTATUS(status);
}

static void need_root(void)
{
    if (geteuid() != 0)
        skip_test("another user with its own limit needs root");
}

static int one_ring(void)
{
    struct ringmsg_ring *ring;
    uint32_t engine = make_and_test_receiver(&ring, 0, 256);
    OK(ringmsg_ring_free(ring));
    return engine == RINGMSG_ENGINE_IO_URING ? 10 : 20;
}

static void every_limit_gives_a_receiver_and_a_higher_one_never_a_worse_one(void)
{
    int best = 0;
    need_root();
    for (unsigned i = 0; i < LIMITS; i++) {
        int engine = run_as_user(limits_kib[i], i, one_ring);
        if (best == 10)
            EQUAL(engine, 10); /* a lower limit already gave io_uring */
        best = engine;
    }
}

/* Rings that are made and freed in a row, with room for two or three at a time: the kernel counts a
 * freed one for some milliseconds more. */
static int rings_in_a_row(void)
{
    struct ringmsg_ring *ring;
    for (int i = 0; i < RINGS; i++) {
        if (make_and_test_receiver(&ring, 0, 256) != RINGMSG_ENGINE_IO_URING)
            return i == 0 ? 20 : 30;
        OK(ringmsg_ring_free(ring));
        ring = make_ring();
        OK(ringmsg_ring_free(ring));
    }
    return 10;
}

static void a_ring_gets_the_memory_of_one_that_was_freed(void)
{
    need_root();
    EQUAL(run_as_user(512, 200, rings_in_a_row), io_uring ? 10 : 20);
}

/* The ring is disabled at first, and the pool is the largest possible. */
static int a_disabled_ring_with_a_large_pool(void)
{
    struct ringmsg_ring *ring;
    make_and_test_receiver(&ring, RINGMSG_SETUP_R_DISABLED, 32768);
    OK(ringmsg_ring_free(ring));
    return 0;
}

static void a_pool_larger_than_the_trial_changes_the_engine(void)
{
    need_root();
    for (unsigned i = 0; i < LIMITS; i++)
        run_as_user(limits_kib[i], 100 + i, a_disabled_ring_with_a_large_pool);
}

static int many_rings(void)
{
    static struct ringmsg_ring *rings[RINGS];
    int uring = 0, recvmmsg = 0;
    for (int i = 0; i < RINGS; i++) {
        uint32_t engine = make_and_test_receiver(&rings[i], 0, 256);
        uring += engine == RINGMSG_ENGINE_IO_URING;
        recvmmsg += engine == RINGMSG_ENGINE_RECVMMSG;
    }
    EQUAL(uring + recvmmsg, RINGS);
    for (int i = 0; i < RINGS; i++)
        OK(ringmsg_ring_free(rings[i]));
    return 0;
}

static void the_hundredth_ring_receives_like_the_first(void)
{
    need_root();
    for (unsigned i = 0; i < LIMITS; i += 4)
        run_as_user(limits_kib[i], 200 + i, many_rings);
    run_as_user(1024, 299, many_rings);
}

/* Pools that were made before the engine changed work with the new engine. */
static int pools_before_and_after(void)
{
    struct ringmsg_ring *ring;
    struct ringmsg_pool_config sizes;
    struct ringmsg_pool *pools[64];
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 5000000000};
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), made = 0;
    OK(ringmsg_ring_new(NULL, &ring));
    uint32_t first = engine_of(ring);
    ringmsg_pool_config_init(&sizes);
    sizes.buffers = 4096;
    sizes.payload_capacity = 64;
    for (; made < 64; made++)
        OK(ringmsg_pool_new(ring, &sizes, &pools[made]));
    for (int i = 0; i < made; i += 9) {
        OK(ringmsg_recvmsg_multishot(ring, pools[i], receiver, 0, 0, (uint64_t)i));
        SYS(send(sender, "hello", 5, 0));
        EQUAL(OK(ringmsg_reap(ring, &record, NULL, 1, &wait)), 1);
        EQUAL(record.pool, ringmsg_pool_id(pools[i]));
        OK(ringmsg_release(ring, &record, 1));
        OK(ringmsg_cancel(ring, (uint64_t)i));
        EQUAL(OK(ringmsg_reap(ring, &record, NULL, 1, &wait)), 1);
        HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
    }
    for (int i = 0; i < made; i++)
        OK(ringmsg_pool_free(pools[i]));
    uint32_t last = engine_of(ring);
    OK(ringmsg_ring_free(ring));
    return first == last ? 0 : 2;
}

static void pools_move_to_the_engine_that_the_ring_changes_to(void)
{
    int changed = 0;
    need_root();
    for (unsigned i = 0; i < LIMITS; i++)
        changed += run_as_user(limits_kib[i], 300 + i, pools_before_and_after) == 2;
    if (changed == 0)
        skip_test("this kernel does not charge rings to RLIMIT_MEMLOCK");
}

static int after_ring_fd(void)
{
    struct ringmsg_ring *ring;
    struct ringmsg_pool_config sizes;
    struct ringmsg_pool *pool;
    int made = 0;
    OK(ringmsg_ring_new(NULL, &ring));
    uint32_t engine = engine_of(ring);
    OK(ringmsg_ring_fd(ring));
    ringmsg_pool_config_init(&sizes);
    sizes.buffers = 32768;
    sizes.payload_capacity = 64;
    while (made < 100 && ringmsg_pool_new(ring, &sizes, &pool) == 0)
        made++;
    if (made < 100) {
        char why[512], limit[32];
        REFUSED(ringmsg_pool_new(ring, &sizes, &pool), ENOMEM);
        struct rlimit memlock;
        SYS(getrlimit(RLIMIT_MEMLOCK, &memlock));
        ringmsg_last_error(why, sizeof why);
        snprintf(limit, sizeof limit, "%lld KiB", (long long)memlock.rlim_cur >> 10);
        CONTAINS(why, "RLIMIT_MEMLOCK");
        CONTAINS(why, limit);
    }
    EQUAL(engine_of(ring), engine); /* the program may already poll ring_fd */
    OK(ringmsg_ring_free(ring));
    return 0;
}

static void after_ring_fd_a_pool_without_memory_is_enomem(void)
{
    need_root();
    run_as_user(2048, 400, after_ring_fd);
    run_as_user(8192, 401, after_ring_fd);
}

static int require_io_uring(void)
{
    struct ringmsg_ring *ring = NULL;
    struct ringmsg_ring_config config;
    char why[2048];
    if (!io_uring)
        return 2; /* refused without the limit, too */
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_IO_URING;
    if (ringmsg_ring_new(&config, &ring) == 0)
        return 2; /* this kernel does not charge rings */
    REFUSED(ringmsg_ring_new(&config, &ring), ENOMEM);
    ringmsg_last_error(why, sizeof why);
    CONTAINS(why, "RLIMIT_MEMLOCK");
    CONTAINS(why, "8 KiB");
    OK(ringmsg_describe_support(why, sizeof why));
    CONTAINS(why, "AUTO takes recvmmsg");
    CONTAINS(why, "RLIMIT_MEMLOCK");
    return 0;
}

static void a_ring_that_requires_io_uring_is_refused_with_the_limit(void)
{
    need_root();
    if (run_as_user(8, 500, require_io_uring) == 2)
        skip_test("this kernel does not charge rings to RLIMIT_MEMLOCK");
}

TESTS(TEST(every_limit_gives_a_receiver_and_a_higher_one_never_a_worse_one),
      TEST(a_pool_larger_than_the_trial_changes_the_engine),
      TEST(the_hundredth_ring_receives_like_the_first),
      TEST(a_ring_gets_the_memory_of_one_that_was_freed),
      TEST(pools_move_to_the_engine_that_the_ring_changes_to),
      TEST(after_ring_fd_a_pool_without_memory_is_enomem),
      TEST(a_ring_that_requires_io_uring_is_refused_with_the_limit))
