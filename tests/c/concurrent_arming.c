/* Threads arm, cancel and exit while another thread reaps and releases and a third sends. Every
 * request has exactly one FINAL record, every buffer is returned, and every descriptor is
 * closed. */
#include "test.h"

enum { ARMERS = 4, EACH = 400, SOCKETS = 3, REQUESTS = ARMERS * EACH };

struct shared {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pools[2]; /* one for multishots, one for single-shots */
    int receivers[SOCKETS], senders[SOCKETS];
    int stop_sending;   /* set when the sender must stop */
    int armers; /* threads that still arm */
    uint8_t armed[REQUESTS], finals[REQUESTS];
    struct ringmsg_record held[16];
    uint32_t held_count;
};

struct armer {
    struct shared *shared;
    unsigned number;
};

/* Arms request `n`, whose form depends on `n`. Returns 0 if no buffer was free. */
static int arm(struct shared *shared, unsigned n)
{
    int fd = shared->receivers[n % SOCKETS], result;
    if (n % 4 == 3)
        result = ringmsg_recvmsg_once(shared->ring, shared->pools[1], fd, 0, 0, n);
    else
        result = ringmsg_recvmsg_multishot(shared->ring, shared->pools[0], fd, 0,
                                           n % 4 == 2 ? RINGMSG_RECV_NO_REARM : 0, n);
    if (result == -ENOBUFS)
        return 0;
    OK(result);
    return 1;
}

/* The request may have ended already: single-shots end, and so do multishots with NO_REARM. */
static void cancel(struct shared *shared, unsigned n)
{
    int result = ringmsg_cancel(shared->ring, n);
    if (result != -ENOENT)
        OK(result);
}

static void *arm_and_cancel(void *argument)
{
    struct armer *armer = argument;
    struct shared *shared = armer->shared;
    unsigned first = armer->number * EACH, last = first + EACH;
    for (unsigned n = first; n < last; n++) {
        shared->armed[n] = (uint8_t)arm(shared, n);
        if (n % 8 == 0)
            sleep_ms(1);
        if (n >= first + 3)
            cancel(shared, n - 3);
    }
    for (unsigned n = last - 3; n < last; n++)
        cancel(shared, n);
    __atomic_fetch_sub(&shared->armers, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void *send_until_stopped(void *argument)
{
    struct shared *shared = argument;
    for (unsigned n = 0; !__atomic_load_n(&shared->stop_sending, __ATOMIC_ACQUIRE); n++) {
        SYS(send(shared->senders[n % SOCKETS], "datum", n % 6, 0));
        if (n % (TEST_TIME_FACTOR > 1 ? 16 : 256) == 0)
            sleep_briefly();
    }
    return NULL;
}

static unsigned count_finals(struct shared *shared, const struct ringmsg_record *records, int count)
{
    unsigned finals = 0;
    for (int i = 0; i < count; i++) {
        COMPARE(records[i].user_data, <, REQUESTS);
        EQUAL(shared->finals[records[i].user_data], 0); /* no record follows a FINAL one */
        if (records[i].flags & RINGMSG_RECORD_FINAL) {
            shared->finals[records[i].user_data] = 1;
            finals++;
        }
    }
    return finals;
}

/* Reaps a batch and then releases the previous one, so that the two sometimes hold every buffer. */
static unsigned reap_some(struct shared *shared, int ms)
{
    struct ringmsg_record records[16];
    struct ringmsg_wait wait = wait_ms(ms);
    int count = ringmsg_reap(shared->ring, records, NULL, 16, &wait);
    if (count == -EINTR)
        return 0;
    OK(count);
    OK(ringmsg_release(shared->ring, shared->held, shared->held_count));
    memcpy(shared->held, records, (size_t)count * sizeof *records);
    shared->held_count = (uint32_t)count;
    return count_finals(shared, records, count);
}

static void every_request_has_one_final(void)
{
    static struct shared shared;
    struct armer armers[ARMERS];
    pthread_t threads[ARMERS], sender;
    unsigned finals = 0, armed = 0;
    shared.ring = make_ring();
    shared.armers = is_bound() ? 0 : ARMERS;
    for (int i = 0; i < SOCKETS; i++) {
        shared.receivers[i] = bound_udp(i == 0 ? AF_INET6 : AF_INET);
        shared.senders[i] = sender_to(shared.receivers[i]);
    }
    for (int i = 0; i < 2; i++)
        shared.pools[i] = make_pool(shared.ring, shared.receivers[0], i == 0 ? 2 : 8, 2048);
    int before = open_descriptors();
    EQUAL(pthread_create(&sender, NULL, send_until_stopped, &shared), 0);
    for (unsigned i = 0; i < ARMERS; i++) {
        armers[i] = (struct armer){&shared, i};
        if (!is_bound())
            EQUAL(pthread_create(&threads[i], NULL, arm_and_cancel, &armers[i]), 0);
    }
    for (unsigned n = 0; is_bound() && n < REQUESTS; n++) { /* only the owner may call */
        shared.armed[n] = (uint8_t)arm(&shared, n);
        if (n % 3 == 0)
            finals += reap_some(&shared, n % 8 == 0);
        if (n >= 3)
            cancel(&shared, n - 3);
    }
    for (unsigned n = REQUESTS - 3; is_bound() && n < REQUESTS; n++)
        cancel(&shared, n);
    for (int quiet = 0; quiet < 5;) {
        unsigned more = reap_some(&shared, 20);
        finals += more;
        quiet = more || __atomic_load_n(&shared.armers, __ATOMIC_ACQUIRE) ? 0 : quiet + 1;
    }
    for (int i = 0; i < ARMERS && !is_bound(); i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&shared.stop_sending, 1, __ATOMIC_RELEASE);
    pthread_join(sender, NULL);
    for (int i = 0; i < REQUESTS; i++) {
        armed += shared.armed[i];
        if (shared.armed[i] != shared.finals[i])
            FAIL("request %d: armed %d, FINAL %d", i, shared.armed[i], shared.finals[i]);
    }
    EQUAL(finals, armed);
    COMPARE(armed, >, REQUESTS / 2);
    OK(ringmsg_release(shared.ring, shared.held, shared.held_count));
    struct ringmsg_stats stats = stats_of(shared.ring);
    if (!is_bound())
        COMPARE(stats.starvations, >, 0);
    EQUAL(stats.buffers_held, 0);
    EQUAL(stats.buffers_published, 0);
    EQUAL(open_descriptors(), before);
    for (int i = 0; i < 2; i++)
        OK(ringmsg_pool_free(shared.pools[i]));
    OK(ringmsg_ring_free(shared.ring));
}

TESTS(TEST(every_request_has_one_final))
