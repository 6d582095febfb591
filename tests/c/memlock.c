/* More memory never gives less service. Under any RLIMIT_MEMLOCK an ordinary user's AUTO ring gets a
 * pool and receives: on io_uring while that has memory for the ring and the pool, on recvmmsg where
 * it has not; for the hundredth ring as for the first. ring_info says which engine it is,
 * describe_support why; who names io_uring gets -ENOMEM and a sentence with the limit in it. */
#include "test.h"

#include <grp.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const int limits_kib[] = {0,  4,   8,   16,  24,  32,  48,  64,  80,  96,   128,  160,
                                 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024, 2048, 8192};
enum { LIMITS = sizeof limits_kib / sizeof *limits_kib, RINGS = 100 };

/* Memory is counted for each user, so each gets a number of its own. */
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
        EQUAL(info.owner_thread, 0); /* it takes calls from any thread */
        EQUAL(info.flags & ~RINGMSG_SETUP_R_DISABLED, 0);
    }
    return info.engine;
}

/* A ring as the library chooses it, with a pool, that receives a datagram. Its engine. */
static uint32_t a_receiver(struct ringmsg_ring **ring, uint32_t flags, uint32_t buffers)
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
    SYS(send(sender, "heard", 5, 0));
    EQUAL(OK(ringmsg_reap(*ring, &record, NULL, 1, &wait)), 1);
    EQUAL(record.user_data, 7);
    EQUAL(record.result, 5);
    OK(ringmsg_release(*ring, &record, 1));
    close(receiver);
    close(sender);
    return engine;
}

/* Runs `body` as a user of its own in a child; its exit status. */
static int as_user(int kib, unsigned user, int (*body)(void))
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        become_a_user_with(kib, user);
        exit(body());
    }
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        FAIL("it does not work with %d KiB", kib);
    return WEXITSTATUS(status);
}

static void need_root(void)
{
    if (geteuid() != 0)
        skip_test("only root can become a user with a limit of its own");
}

static int one_ring(void)
{
    struct ringmsg_ring *ring;
    uint32_t engine = a_receiver(&ring, 0, 256);
    OK(ringmsg_ring_free(ring));
    return engine == RINGMSG_ENGINE_IO_URING ? 10 : 20;
}

static void every_limit_gives_a_receiver_and_more_never_gives_less(void)
{
    int best = 0;
    need_root();
    for (unsigned i = 0; i < LIMITS; i++) {
        int engine = as_user(limits_kib[i], i, one_ring);
        if (best == 10)
            EQUAL(engine, 10); /* it had io_uring with less */
        best = engine;
    }
}

/* Disabled until later, and with the largest pool that there is. */
static int a_disabled_ring_with_a_large_pool(void)
{
    struct ringmsg_ring *ring;
    a_receiver(&ring, RINGMSG_SETUP_R_DISABLED, 32768);
    OK(ringmsg_ring_free(ring));
    return 0;
}

static void a_pool_larger_than_the_trial_changes_the_engine(void)
{
    need_root();
    for (unsigned i = 0; i < LIMITS; i++)
        as_user(limits_kib[i], 100 + i, a_disabled_ring_with_a_large_pool);
}

static int many_rings(void)
{
    static struct ringmsg_ring *rings[RINGS];
    int uring = 0, recvmmsg = 0;
    for (int i = 0; i < RINGS; i++) {
        uint32_t engine = a_receiver(&rings[i], 0, 256);
        uring += engine == RINGMSG_ENGINE_IO_URING;
        recvmmsg += engine == RINGMSG_ENGINE_RECVMMSG;
    }
    EQUAL(uring + recvmmsg, RINGS);
    for (int i = 0; i < RINGS; i++)
        OK(ringmsg_ring_free(rings[i]));
    return 0;
}

static void the_hundredth_ring_receives_as_the_first_does(void)
{
    need_root();
    for (unsigned i = 0; i < LIMITS; i += 4)
        as_user(limits_kib[i], 200 + i, many_rings);
    as_user(1024, 299, many_rings);
}

/* Pools that were made before the engine changed serve the new one; so do all calls. */
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
        SYS(send(sender, "heard", 5, 0));
        EQUAL(OK(ringmsg_reap(ring, &record, NULL, 1, &wait)), 1);
        EQUAL(record.pool, ringmsg_pool_id(pools[i]));
        OK(ringmsg_release(ring, &record, 1));
        OK(ringmsg_cancel(ring, (uint64_t)i));
        EQUAL(OK(ringmsg_reap(ring, &record, NULL, 1, &wait)), 1);
        CHECK(record.flags & RINGMSG_RECORD_FINAL);
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
        changed += as_user(limits_kib[i], 300 + i, pools_before_and_after) == 2;
    if (changed == 0)
        skip_test("this kernel does not count rings against RLIMIT_MEMLOCK");
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
        CHECK(strstr(why, "RLIMIT_MEMLOCK") != NULL && strstr(why, limit) != NULL);
    }
    EQUAL(engine_of(ring), engine); /* the program may watch its descriptor */
    OK(ringmsg_ring_free(ring));
    return 0;
}

static void after_ring_fd_a_pool_without_memory_is_enomem(void)
{
    need_root();
    as_user(2048, 400, after_ring_fd);
    as_user(8192, 401, after_ring_fd);
}

static int named(void)
{
    struct ringmsg_ring *ring = NULL;
    struct ringmsg_ring_config config;
    char why[2048];
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_IO_URING;
    if (ringmsg_ring_new(&config, &ring) == 0)
        return 2; /* it is not counted here */
    REFUSED(ringmsg_ring_new(&config, &ring), ENOMEM);
    ringmsg_last_error(why, sizeof why);
    CHECK(strstr(why, "RLIMIT_MEMLOCK") != NULL && strstr(why, "8 KiB") != NULL);
    OK(ringmsg_describe_support(why, sizeof why));
    CHECK(strstr(why, "AUTO takes recvmmsg") != NULL && strstr(why, "RLIMIT_MEMLOCK") != NULL);
    return 0;
}

static void who_names_io_uring_is_told_of_the_limit(void)
{
    need_root();
    if (as_user(8, 500, named) == 2)
        skip_test("this kernel does not count rings against RLIMIT_MEMLOCK");
}

TESTS(TEST(every_limit_gives_a_receiver_and_more_never_gives_less),
      TEST(a_pool_larger_than_the_trial_changes_the_engine), TEST(the_hundredth_ring_receives_as_the_first_does),
      TEST(pools_move_to_the_engine_that_the_ring_changes_to),
      TEST(after_ring_fd_a_pool_without_memory_is_enomem), TEST(who_names_io_uring_is_told_of_the_limit))
