/* The receivers of this library: the loop from the top of the header, which also reads every field
 * that the other receivers read. */
#include "harness.h"

#include <ringmsg.h>

enum { BATCH = 256, FIXED_US = 100, RECVMMSG = 1 };

static int done(const char *what, int value)
{
    char why[512];
    if (value >= 0)
        return value;
    ringmsg_last_error(why, sizeof why);
    if (value == -EOPNOTSUPP || value == -ENOSYS || value == -EPERM)
        not_supported(why);
    fprintf(stderr, "%s: %s (%s)\n", what, why, ringmsg_strerror(value));
    exit(1);
}

static inline void take(struct run *run, const uint8_t *base, const struct ringmsg_record *record,
                        const struct ringmsg_metadata *meta)
{
    struct datagram datagram = {.payload = base + record->payload_offset,
                                .length = record->payload_length,
                                .port = htons(meta->source_port),
                                .traffic_class = meta->traffic_class,
                                .dropped = meta->dropped,
                                .segment = record->segment_size};
    memcpy(&datagram.source, meta->source, 4);
    memcpy(&datagram.destination, meta->destination, 4);
    run->tally.trains += record->segment == 0 && record->segment_size != 0;
    account(run, &datagram); /* trains arrive split */
}

static void by_ringmsg(struct run *run, const struct variant *self)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config shape;
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    ringmsg_ring_config_init(&config);
    config.flags = self->flags;
    config.engine = self->batch == RECVMMSG ? RINGMSG_ENGINE_RECVMMSG : RINGMSG_ENGINE_IO_URING;
    done("ring", ringmsg_ring_new(&config, &ring));
    ringmsg_pool_config_init(&shape);
    done("pool", ringmsg_pool_config_for_socket(&shape, run->fds[0]));
    done("pool", ringmsg_pool_new(ring, &shape, &pool));
    for (unsigned i = 0; i < run->regime->sockets; i++) {
        done("arm", ringmsg_recvmsg_multishot(ring, pool, run->fds[i], 0,
                                              run->regime->gro ? RINGMSG_RECV_SPLIT : 0, i));
        if (run->regime->sockets > 1) /* the ring has its own reference */
            close(run->fds[i]);
    }
    const uint8_t *base = ringmsg_pool_base(pool);
    const struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = -1, .spin_us = self->spin_us,
                                      .linger_us = self->sleep_us};
    for (int n = 0; !run->stopped;) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            n = 0;
        done("next", n);
        count_batch(run);
        for (int i = 0; i < n; i++) {
            if (records[i].result < 0)
                done("record", records[i].result);
            take(run, base, &records[i], &metadata[i]);
        }
    }
    done("free", ringmsg_ring_free(ring));
}

const struct variant variants[] = {
    {"ringmsg-plain", by_ringmsg, .flags = 0, .sleep_us = RINGMSG_LINGER_AUTO},
    {"ringmsg-coop", by_ringmsg, .flags = RINGMSG_SETUP_COOP_TASKRUN,
     .sleep_us = RINGMSG_LINGER_AUTO},
    {"ringmsg-defer-0", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN},
    {"ringmsg-auto", by_ringmsg, .flags = RINGMSG_SETUP_AUTO, .sleep_us = RINGMSG_LINGER_AUTO},
    {"ringmsg-defer-0-again", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN},
    {"ringmsg-20us", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN, .sleep_us = 20},
    {"ringmsg-50us", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN, .sleep_us = 50},
    {"ringmsg-100us", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN, .sleep_us = FIXED_US},
    {"ringmsg-spin", by_ringmsg, .flags = RINGMSG_SETUP_AUTO, .sleep_us = RINGMSG_LINGER_AUTO,
     .spin_us = 1000},
    {"ringmsg-recvmmsg-auto", by_ringmsg, .batch = RECVMMSG, .flags = RINGMSG_SETUP_AUTO,
     .sleep_us = RINGMSG_LINGER_AUTO},
    {"ringmsg-recvmmsg-100us", by_ringmsg, .batch = RECVMMSG, .flags = RINGMSG_SETUP_AUTO,
     .sleep_us = FIXED_US},
    {NULL, NULL, 0, 0, 0, 0},
};
