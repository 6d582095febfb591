/* Invalid configurations of rings and pools are refused, and ringmsg_ring_info reports what was
 * granted. */
#include "bad_input.h"

static int new_ring_with(uint32_t flags)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    ringmsg_ring_config_init(&config);
    config.flags = flags;
    int got = ringmsg_ring_new(&config, &ring);
    EQUAL(got == 0, ring != NULL);
    if (got == 0)
        OK(ringmsg_ring_free(ring));
    return got;
}

static void the_recvmmsg_engine_refuses_task_work_flags(void)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    const uint32_t useless[] = {RINGMSG_SETUP_SQPOLL, RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_SETUP_DEFER_TASKRUN,
                                RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG};
    if (!is_recvmmsg())
        return;
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_RECVMMSG;
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        config.flags = useless[i];
        REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    }
    SAME_POINTER(ring, NULL);
    config.flags = RINGMSG_SETUP_AUTO | RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER;
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_new(&config, &ring));
    OK(ringmsg_ring_info(ring, &info));
    EQUAL(info.engine, RINGMSG_ENGINE_RECVMMSG);
    EQUAL(info.flags, RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER);
    HAS_FLAG(info.features, RINGMSG_FEATURE_MULTISHOT);
    OK(ringmsg_ring_free(ring));
}

static void bad_ring_configs_are_refused(void)
{
    const uint32_t known = RINGMSG_SETUP_SQPOLL | RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_COOP_TASKRUN |
                           RINGMSG_SETUP_TASKRUN_FLAG | RINGMSG_SETUP_SINGLE_ISSUER |
                           RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_AUTO;
    const uint32_t sqpoll = RINGMSG_SETUP_SQPOLL;
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    if (test_mode != 0 || is_recvmmsg())
        return;
    for (int bit = 0; bit < 32; bit++)
        if ((known & 1u << bit) == 0)
            REFUSED(new_ring_with(1u << bit), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_COOP_TASKRUN), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_DEFER_TASKRUN), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_TASKRUN_FLAG), EINVAL);
    REFUSED(new_ring_with(RINGMSG_SETUP_TASKRUN_FLAG), EINVAL);
    OK(new_ring_with(sqpoll));
    OK(new_ring_with(RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_DEFER_TASKRUN));
    for (int i = 0; i < 9; i++) {
        ringmsg_ring_config_init(&config);
        config.reserved[i] = 1;
        REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    }
    ringmsg_ring_config_init(&config);
    config.engine = 3;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    ringmsg_ring_config_init(&config);
    config.sq_entries = 65536;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = 0;
    config.cq_entries = 131072;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = 64;
    config.cq_entries = 32;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = config.cq_entries = 0xffffffff;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    ringmsg_ring_config_init(&config);
    config.sq_thread_idle_ms = 1;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.flags = sqpoll;
    config.sq_thread_cpu = -2;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_thread_cpu = 100000;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    SAME_POINTER(ring, NULL);
}

static struct ringmsg_ring_info info_of(uint32_t flags, uint32_t sq, uint32_t cq)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.flags = flags;
    config.sq_entries = sq;
    config.cq_entries = cq;
    OK(ringmsg_ring_new(&config, &ring));
    OK(ringmsg_ring_info(ring, &info));
    EQUAL(info.engine, RINGMSG_ENGINE_IO_URING);
    HAS_FLAG(info.features, RINGMSG_FEATURE_MULTISHOT);
    if (flags & RINGMSG_SETUP_R_DISABLED) {
        EQUAL(info.owner_thread, 0);
        OK(ringmsg_ring_enable(ring));
        REFUSED(ringmsg_ring_enable(ring), EBADFD);
        OK(ringmsg_ring_info(ring, &info));
    } else {
        REFUSED(ringmsg_ring_enable(ring), EBADFD);
    }
    int bound = (info.flags & (RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER)) != 0;
    EQUAL(info.owner_thread, bound ? gettid() : 0);
    OK(ringmsg_ring_free(ring));
    return info;
}

static void ring_info_reports_the_granted_flags_and_sizes(void)
{
    const uint32_t defer = RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER;
    const uint32_t coop = RINGMSG_SETUP_COOP_TASKRUN;
    const uint32_t disabled = RINGMSG_SETUP_R_DISABLED;
    if (test_mode != 0 || is_recvmmsg())
        return;
    EQUAL(info_of(0, 0, 0).flags, 0);
    EQUAL(info_of(coop, 0, 0).flags, coop);
    EQUAL(info_of(coop | RINGMSG_SETUP_TASKRUN_FLAG, 0, 0).flags, coop | RINGMSG_SETUP_TASKRUN_FLAG);
    EQUAL(info_of(RINGMSG_SETUP_DEFER_TASKRUN, 0, 0).flags, defer);
    EQUAL(info_of(defer, 0, 0).flags, defer);
    EQUAL(info_of(defer | coop, 0, 0).flags, defer);
    EQUAL(info_of(RINGMSG_SETUP_SINGLE_ISSUER, 0, 0).flags, RINGMSG_SETUP_SINGLE_ISSUER);
    EQUAL(info_of(RINGMSG_SETUP_SQPOLL, 0, 0).flags, RINGMSG_SETUP_SQPOLL);
    EQUAL(info_of(disabled, 0, 0).flags, disabled);
    EQUAL(info_of(disabled | defer, 0, 0).flags, disabled | defer);
    EQUAL(info_of(RINGMSG_SETUP_AUTO, 0, 0).flags, defer);
    EQUAL(info_of(RINGMSG_SETUP_AUTO | disabled, 0, 0).flags, disabled | defer);
    struct ringmsg_ring_info info = info_of(0, 5, 100);
    EQUAL(info.sq_entries, 8);
    EQUAL(info.cq_entries, 128);
    info = info_of(0, 0, 4);
    EQUAL(info.cq_entries, 4);
    COMPARE(info.sq_entries, <=, 4);
}

static void bad_pool_configs_are_refused(void)
{
    static const uint32_t bad[] = {0, 3, 300, 65536, 0x80000000};
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    set_up();
    arm();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ringmsg_pool_config_init(&config);
        config.buffers = bad[i];
        REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    }
    ringmsg_pool_config_init(&config);
    config.flags = 1;
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    for (int i = 0; i < 10; i++) {
        ringmsg_pool_config_init(&config);
        config.reserved[i] = 1;
        REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    }
    for (int field = 0; field < 3; field++) {
        ringmsg_pool_config_init(&config);
        *(field == 0 ? &config.payload_capacity : field == 1 ? &config.control_capacity
                                                             : &config.name_capacity) = 0xffffffff;
        REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    }
    ringmsg_pool_config_init(&config);
    config.buffers = 32768;
    config.payload_capacity = 1 << 17;
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    /* The kernel refuses to receive with so much space for control messages and names. */
    ringmsg_pool_config_init(&config);
    config.buffers = 1;
    config.payload_capacity = 64;
    config.name_capacity = 128;
    config.control_capacity = 0x80000000 - 16 - 128;
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EINVAL);
    SAME_POINTER(pool, NULL);
    check_ring_still_works();
    tear_down();
}

TESTS(TEST(bad_ring_configs_are_refused),
      TEST(the_recvmmsg_engine_refuses_task_work_flags),
      TEST(ring_info_reports_the_granted_flags_and_sizes),
      TEST(bad_pool_configs_are_refused))
