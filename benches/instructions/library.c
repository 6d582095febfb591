/* The library's receiver for the comparison. */
#include "drain.h"

static struct ringmsg_ring *ring;
static struct ringmsg_pool *pool;
/* No AUTO linger, with which the number of reaps would depend on timing. */
static const struct ringmsg_wait waiting = {.size = sizeof waiting, .linger_us = 0, .timeout_ns = 2000000000};

void arm(int fd, int split)
{
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config sizes;
    ringmsg_ring_config_init(&config);
    config.flags = RINGMSG_SETUP_DEFER_TASKRUN;
    OK(ringmsg_ring_new(&config, &ring));
    ringmsg_pool_config_init(&sizes);
    sizes.buffers = BUFFERS;
    sizes.name_capacity = NAME;
    sizes.control_capacity = CONTROL;
    sizes.payload_capacity = PAYLOAD;
    OK(ringmsg_pool_new(ring, &sizes, &pool));
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, split ? RINGMSG_RECV_SPLIT : 0, USER_DATA));
}

__attribute__((noinline)) int measured_reap(struct ringmsg_record *records, struct ringmsg_metadata *metadata)
{
    return ringmsg_reap(ring, records, metadata, CAPACITY, &waiting);
}

__attribute__((noinline)) void measured_release(const struct ringmsg_record *records, int count)
{
    OK(ringmsg_release(ring, records, (uint32_t)count));
}

const uint8_t *base(void)
{
    return ringmsg_pool_base(pool);
}
