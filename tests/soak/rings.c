/* The receiver's rings: made in one mode or another, with pools of any size, and armed. */
#include "receiver.h"

pthread_rwlock_t ring_lock = PTHREAD_RWLOCK_INITIALIZER;
struct ringmsg_ring *ring;
uint32_t ring_number;

struct chance chance;
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

static const struct mode *draw_mode(void)
{
    for (size_t i = 0; i < MODES; i++)
        if (only_mode != NULL && strcmp(only_mode, modes[i].name) == 0)
            return &modes[i];
    return &modes[below(&chance, MODES)];
}

/* Single-shots take a buffer while they wait, so they have a pool of their own: they would keep
 * the only one of a small pool from its multishots. */
void choose_pool(struct life *life)
{
    life->pool = life->form == ONCE ? POOLS - 1 : below(&chance, POOLS - 1);
}

static void make_pools(void)
{
    static const uint32_t payloads[] = {1024, 2048, 16384, 65536};
    for (uint32_t i = 0; i < POOLS; i++) {
        struct ringmsg_pool_config config;
        ringmsg_pool_config_init(&config);
        config.payload_capacity = i == 0 ? 65536 : payloads[below(&chance, 4)];
        config.buffers = pool_buffers[i] = i == POOLS - 1 ? 16 : 1u << below(&chance, 10);
        library(ringmsg_pool_new(ring, &config, &pools[i]), "pool_new");
    }
}

void make_ring(void)
{
    static const uint32_t queues[] = {0, 0, 4, 8, 64};
    struct ringmsg_ring_config config;
    const struct mode *mode = draw_mode();
    int disabled = one_in(&chance, 4);
    ringmsg_ring_config_init(&config);
    config.engine = mode->engine;
    config.flags = mode->flags | (disabled ? RINGMSG_SETUP_R_DISABLED : 0);
    config.cq_entries = queues[below(&chance, 5)];
    if (config.cq_entries != 0)
        config.sq_entries = config.cq_entries;
    if (config.flags & RINGMSG_SETUP_SQPOLL)
        config.sq_thread_idle_ms = 1 + below(&chance, 20);
    pthread_rwlock_wrlock(&ring_lock);
    library(ringmsg_ring_new(&config, &ring), "ring_new");
    ring_number++;
    reaps = 0;
    waits_by_poll = one_in(&chance, 3);
    is_bound = (config.flags & RINGMSG_SETUP_DEFER_TASKRUN) != 0;
    if (waits_by_poll && one_in(&chance, 2))
        library(ringmsg_ring_fd(ring), "ring_fd");
    make_pools();
    if (disabled)
        library(ringmsg_ring_enable(ring), "ring_enable");
    pthread_rwlock_unlock(&ring_lock);
    atomic_fetch_add(&tally.rings, 1);
}

uint64_t name_of(const struct life *life)
{
    return (uint64_t)life->number << 8 | life->index;
}

static int arm_here(struct life *life)
{
    uint32_t flags = (life->split ? RINGMSG_RECV_SPLIT : 0) | (one_in(&chance, 4) ? RINGMSG_RECV_POLL_FIRST : 0);
    switch (life->form) {
    case MULTISHOT:
        return ringmsg_recvmsg_multishot(ring, pools[life->pool], life->receiver, 0, flags, name_of(life));
    case ONCE:
        return ringmsg_recvmsg_once(ring, pools[life->pool], life->receiver, 0, flags, name_of(life));
    default:
        life->part = (struct iovec){life->space, PAYLOAD_MAX};
        life->message = (struct msghdr){.msg_iov = &life->part,
                                        .msg_iovlen = 1,
                                        .msg_name = life->name,
                                        .msg_namelen = sizeof life->name,
                                        .msg_control = life->control,
                                        .msg_controllen = sizeof life->control};
        return ringmsg_recvmsg(ring, life->receiver, &life->message, 0, flags & RINGMSG_RECV_POLL_FIRST, name_of(life));
    }
}

static void *arm_there(void *life)
{
    return (void *)(intptr_t)arm_here(life);
}

/* Arms in this thread, or in one that exits right after: the kernel then ends the request. */
static void arm(struct life *life)
{
    void *result = NULL;
    pthread_t thread;
    if (!is_bound && one_in(&chance, 8) && pthread_create(&thread, NULL, arm_there, life) == 0) {
        pthread_join(thread, &result);
        atomic_fetch_add(&tally.kills, 1);
    } else {
        result = arm_there(life);
    }
    int armed = (int)(intptr_t)result;
    if (armed == -ENOBUFS && life->form == ONCE)
        return; /* a busy multishot has all buffers: again later */
    library(armed, "arm");
    life->armed = 1;
    life->last_record_ns = now_ns();
    life->watched = 1;
}

void arm_all(void)
{
    for (uint32_t i = 0; i < SOCKETS; i++)
        if (!lives[i].armed)
            arm(&lives[i]);
}
