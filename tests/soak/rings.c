/* The receiver's rings: each is made in some mode, with pools of random sizes, and armed. */
#include "receiver.h"

pthread_rwlock_t ring_lock = PTHREAD_RWLOCK_INITIALIZER;
struct ringmsg_ring *ring;
uint32_t ring_number;

struct rng rng;
uint32_t pool_buffers[POOLS];
int waits_by_poll;
uint64_t reaps;

static struct ringmsg_pool *pools[POOLS];
static int is_bound;

static const struct mode {
    const char *name;
    uint32_t flags, engine;
} modes[] = {
    {"plain", 0, RINGMSG_ENGINE_IO_URING},
    {"coop", RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_ENGINE_IO_URING},
    {"coop_flag", RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, RINGMSG_ENGINE_IO_URING},
    {"defer", RINGMSG_SETUP_DEFER_TASKRUN, RINGMSG_ENGINE_IO_URING},
    {"sqpoll", RINGMSG_SETUP_SQPOLL, RINGMSG_ENGINE_IO_URING},
    {"recvmmsg", 0, RINGMSG_ENGINE_RECVMMSG},
};
#define MODES (sizeof modes / sizeof *modes)

int library(int value, const char *what)
{
    char why[256];
    ringmsg_last_error(why, sizeof why);
    CHECK(value >= 0, "%s: %d: %s", what, value, why);
    return value;
}

static const struct mode *choose_mode(void)
{
    for (size_t i = 0; i < MODES; i++)
        if (only_mode != NULL && strcmp(only_mode, modes[i].name) == 0)
            return &modes[i];
    return &modes[rng_below(&rng, MODES)];
}

/* A waiting single-shot keeps a buffer. Single-shots have a pool of their own, because they would
 * take the only buffer of a small pool from its multishots. */
void choose_pool(struct flow *flow)
{
    flow->pool = flow->form == ONCE ? POOLS - 1 : rng_below(&rng, POOLS - 1);
}

static void make_pools(void)
{
    static const uint32_t payloads[] = {1024, 2048, 16384, 65536};
    for (uint32_t i = 0; i < POOLS; i++) {
        struct ringmsg_pool_config config;
        ringmsg_pool_config_init(&config);
        config.payload_capacity = i == 0 ? 65536 : payloads[rng_below(&rng, 4)];
        config.buffers = pool_buffers[i] = i == POOLS - 1 ? 16 : 1u << rng_below(&rng, 10);
        library(ringmsg_pool_new(ring, &config, &pools[i]), "pool_new");
    }
}

void make_ring(void)
{
    static const uint32_t queues[] = {0, 0, 4, 8, 64};
    struct ringmsg_ring_config config;
    const struct mode *mode = choose_mode();
    int disabled = one_in(&rng, 4);
    ringmsg_ring_config_init(&config);
    config.engine = mode->engine;
    config.flags = mode->flags | (disabled ? RINGMSG_SETUP_R_DISABLED : 0);
    config.cq_entries = queues[rng_below(&rng, 5)];
    if (config.cq_entries != 0)
        config.sq_entries = config.cq_entries;
    if (config.flags & RINGMSG_SETUP_SQPOLL)
        config.sq_thread_idle_ms = 1 + rng_below(&rng, 20);
    pthread_rwlock_wrlock(&ring_lock);
    library(ringmsg_ring_new(&config, &ring), "ring_new");
    ring_number++;
    reaps = 0;
    waits_by_poll = one_in(&rng, 3);
    is_bound = (config.flags & RINGMSG_SETUP_DEFER_TASKRUN) != 0;
    if (waits_by_poll && one_in(&rng, 2))
        library(ringmsg_ring_fd(ring), "ring_fd");
    make_pools();
    if (disabled)
        library(ringmsg_ring_enable(ring), "ring_enable");
    pthread_rwlock_unlock(&ring_lock);
    atomic_fetch_add(&tally.rings, 1);
}

uint64_t user_data_of(const struct flow *flow)
{
    return (uint64_t)flow->number << 8 | flow->index;
}

static int arm_request(struct flow *flow)
{
    uint32_t flags = (flow->split ? RINGMSG_RECV_SPLIT : 0) | (one_in(&rng, 4) ? RINGMSG_RECV_POLL_FIRST : 0);
    switch (flow->form) {
    case MULTISHOT:
        return ringmsg_recvmsg_multishot(ring, pools[flow->pool], flow->receiver, 0, flags,
                                         user_data_of(flow));
    case ONCE:
        return ringmsg_recvmsg_once(ring, pools[flow->pool], flow->receiver, 0, flags, user_data_of(flow));
    default:
        flow->part = (struct iovec){flow->space, PAYLOAD_MAX};
        flow->message = (struct msghdr){.msg_iov = &flow->part,
                                        .msg_iovlen = 1,
                                        .msg_name = flow->name,
                                        .msg_namelen = sizeof flow->name,
                                        .msg_control = flow->control,
                                        .msg_controllen = sizeof flow->control};
        return ringmsg_recvmsg(ring, flow->receiver, &flow->message, 0,
                               flags & RINGMSG_RECV_POLL_FIRST, user_data_of(flow));
    }
}

static void *arm_in_thread(void *flow)
{
    return (void *)(intptr_t)arm_request(flow);
}

/* Arms in this thread, or in one that exits at once, so that the kernel ends the request. */
static void arm(struct flow *flow)
{
    void *result = NULL;
    pthread_t thread;
    if (!is_bound && one_in(&rng, 8) && pthread_create(&thread, NULL, arm_in_thread, flow) == 0) {
        pthread_join(thread, &result);
        atomic_fetch_add(&tally.exited_armers, 1);
    } else {
        result = arm_in_thread(flow);
    }
    int armed = (int)(intptr_t)result;
    if (armed == -ENOBUFS && flow->form == ONCE)
        return; /* a busy multishot has taken every buffer; the next call tries again */
    library(armed, "arm");
    flow->armed = 1;
    flow->last_record_ns = now_ns();
    flow->monitored = 1;
}

void arm_all(void)
{
    for (uint32_t i = 0; i < SOCKETS; i++)
        if (!flows[i].armed)
            arm(&flows[i]);
}
