/* Everything at once: threads arm, cancel and exit, others release, one reaps. Every request
 * has one FINAL, every buffer comes back, every descriptor is closed. */
#include "test.h"

enum { ARMERS = 4, EACH = 400, SOCKETS = 3, REQUESTS = ARMERS * EACH };

struct storm {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pools[2]; /* for multishots, for single-shots */
    int receivers[SOCKETS], senders[SOCKETS];
    int over;   /* set when the sender may stop */
    int armers; /* threads that still arm */
    uint8_t armed[REQUESTS], finals[REQUESTS];
    struct ringmsg_record held[16];
    uint32_t held_count;
};

struct armer {
    struct storm *storm;
    unsigned number;
};

/* Arms request `n` in one form or another. 0: it could not be had now. */
static int arm(struct storm *storm, unsigned n)
{
    int fd = storm->receivers[n % SOCKETS], result;
    if (n % 4 == 3)
        result = ringmsg_recvmsg_once(storm->ring, storm->pools[1], fd, 0, 0, n);
    else
        result = ringmsg_recvmsg_multishot(storm->ring, storm->pools[0], fd, 0,
                                           n % 4 == 2 ? RINGMSG_RECV_NO_REARM : 0, n);
    if (result == -ENOBUFS)
        return 0;
    OK(result);
    return 1;
}

/* It may have ended by itself: single-shots do, and what is not armed again. */
static void cancel(struct storm *storm, unsigned n)
{
    int result = ringmsg_cancel(storm->ring, n);
    if (result != -ENOENT)
        OK(result);
}

static void *arm_and_cancel(void *argument)
{
    struct armer *armer = argument;
    struct storm *storm = armer->storm;
    unsigned first = armer->number * EACH, last = first + EACH;
    for (unsigned n = first; n < last; n++) {
        storm->armed[n] = (uint8_t)arm(storm, n);
        if (n % 8 == 0)
            sleep_ms(1);
        if (n >= first + 3)
            cancel(storm, n - 3);
    }
    for (unsigned n = last - 3; n < last; n++)
        cancel(storm, n);
    __atomic_fetch_sub(&storm->armers, 1, __ATOMIC_RELEASE);
    return NULL;
}

static void *send_until_over(void *argument)
{
    struct storm *storm = argument;
    for (unsigned n = 0; !__atomic_load_n(&storm->over, __ATOMIC_ACQUIRE); n++) {
        SYS(send(storm->senders[n % SOCKETS], "storm", n % 6, 0));
        if (n % (TEST_PATIENCE > 1 ? 16 : 256) == 0)
            nap();
    }
    return NULL;
}

static unsigned count_finals(struct storm *storm, const struct ringmsg_record *records, int count)
{
    unsigned finals = 0;
    for (int i = 0; i < count; i++) {
        CHECK(records[i].user_data < REQUESTS);
        EQUAL(storm->finals[records[i].user_data], 0); /* nothing follows a FINAL */
        if (records[i].flags & RINGMSG_RECORD_FINAL) {
            storm->finals[records[i].user_data] = 1;
            finals++;
        }
    }
    return finals;
}

/* Reaps a batch, and only then releases the one before: now and then they hold every buffer. */
static unsigned reap_some(struct storm *storm, int ms)
{
    struct ringmsg_record records[16];
    struct ringmsg_wait wait = wait_ms(ms);
    int count = ringmsg_reap(storm->ring, records, NULL, 16, &wait);
    if (count == -EINTR)
        return 0;
    OK(count);
    OK(ringmsg_release(storm->ring, storm->held, storm->held_count));
    memcpy(storm->held, records, (size_t)count * sizeof *records);
    storm->held_count = (uint32_t)count;
    return count_finals(storm, records, count);
}

static void every_request_has_one_final(void)
{
    static struct storm storm;
    struct armer armers[ARMERS];
    pthread_t threads[ARMERS], sender;
    unsigned finals = 0, armed = 0;
    storm.ring = make_ring();
    storm.armers = is_bound() ? 0 : ARMERS;
    for (int i = 0; i < SOCKETS; i++) {
        storm.receivers[i] = bound_udp(i == 0 ? AF_INET6 : AF_INET);
        storm.senders[i] = sender_to(storm.receivers[i]);
    }
    for (int i = 0; i < 2; i++)
        storm.pools[i] = make_pool(storm.ring, storm.receivers[0], i == 0 ? 2 : 8, 2048);
    int before = open_descriptors();
    EQUAL(pthread_create(&sender, NULL, send_until_over, &storm), 0);
    for (unsigned i = 0; i < ARMERS; i++) {
        armers[i] = (struct armer){&storm, i};
        if (!is_bound())
            EQUAL(pthread_create(&threads[i], NULL, arm_and_cancel, &armers[i]), 0);
    }
    for (unsigned n = 0; is_bound() && n < REQUESTS; n++) { /* the owner does it all */
        storm.armed[n] = (uint8_t)arm(&storm, n);
        if (n % 3 == 0)
            finals += reap_some(&storm, n % 8 == 0);
        if (n >= 3)
            cancel(&storm, n - 3);
    }
    for (unsigned n = REQUESTS - 3; is_bound() && n < REQUESTS; n++)
        cancel(&storm, n);
    for (int quiet = 0; quiet < 5;) {
        unsigned more = reap_some(&storm, 20);
        finals += more;
        quiet = more || __atomic_load_n(&storm.armers, __ATOMIC_ACQUIRE) ? 0 : quiet + 1;
    }
    for (int i = 0; i < ARMERS && !is_bound(); i++)
        pthread_join(threads[i], NULL);
    __atomic_store_n(&storm.over, 1, __ATOMIC_RELEASE);
    pthread_join(sender, NULL);
    for (int i = 0; i < REQUESTS; i++) {
        armed += storm.armed[i];
        if (storm.armed[i] != storm.finals[i])
            FAIL("request %d: armed %d, FINAL %d", i, storm.armed[i], storm.finals[i]);
    }
    EQUAL(finals, armed);
    CHECK(armed > REQUESTS / 2);
    OK(ringmsg_release(storm.ring, storm.held, storm.held_count));
    struct ringmsg_stats stats = stats_of(storm.ring);
    CHECK(is_bound() || stats.starvations > 0);
    EQUAL(stats.buffers_held, 0);
    EQUAL(stats.buffers_published, 0);
    EQUAL(open_descriptors(), before);
    for (int i = 0; i < 2; i++)
        OK(ringmsg_pool_free(storm.pools[i]));
    OK(ringmsg_ring_free(storm.ring));
}

TESTS(TEST(every_request_has_one_final))
