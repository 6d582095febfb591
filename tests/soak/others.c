/* The other threads: they release, wake, send signals, read statistics, free rings, and monitor the
 * sockets for stalls. */
#include "soak.h"

#include <poll.h>
#include <signal.h>

#define QUEUE 64

struct batch {
    struct ringmsg_record records[BATCH];
    uint32_t count, ring_number;
};

static struct batch queue[QUEUE];
static uint32_t queued, in_progress;
static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;

int release_later(const struct ringmsg_record *records, uint32_t count, uint32_t number)
{
    pthread_mutex_lock(&queue_lock);
    int fits = queued < QUEUE && count <= BATCH;
    if (fits) {
        struct batch *batch = &queue[queued++];
        memcpy(batch->records, records, count * sizeof *records);
        batch->count = count;
        batch->ring_number = number;
    }
    pthread_mutex_unlock(&queue_lock);
    return fits;
}

static int next_batch(struct batch *batch)
{
    pthread_mutex_lock(&queue_lock);
    int found = queued > 0;
    if (found) {
        *batch = queue[--queued];
        in_progress++;
    }
    pthread_mutex_unlock(&queue_lock);
    return found;
}

static void batch_done(void)
{
    pthread_mutex_lock(&queue_lock);
    in_progress--;
    pthread_mutex_unlock(&queue_lock);
}

void releases_drain(void)
{
    for (int left = 1; left != 0; sleep_us(100)) {
        pthread_mutex_lock(&queue_lock);
        left = (int)(queued + in_progress);
        pthread_mutex_unlock(&queue_lock);
    }
}

/* A held record must not change. */
static void check_again(const struct ringmsg_record *record)
{
    if ((record->flags & RINGMSG_RECORD_BUFFER) == 0 || record->segment_size != 0)
        return;
    const uint8_t *base = ringmsg_pool_base(ringmsg_ring_pool(ring, record->pool));
    check_datagram(base + record->payload_offset, record->payload_length);
}

static void release_batch(const struct batch *batch, struct rng *rng)
{
    int any = 0;
    pthread_rwlock_rdlock(&ring_lock);
    if (ring != NULL && ring_number == batch->ring_number) {
        for (uint32_t i = 0; i < batch->count; i++) {
            any |= batch->records[i].flags & RINGMSG_RECORD_BUFFER;
            check_again(&batch->records[i]);
        }
        int released = ringmsg_release(ring, batch->records, batch->count);
        CHECK(released == 0, "release from another thread: %d", released);
        if (any && one_in(rng, 4)) {
            released = ringmsg_release(ring, batch->records, batch->count);
            CHECK(released == -EINVAL, "a second release of the same records: %d", released);
            atomic_fetch_add(&tally.stale, 1);
        }
    }
    pthread_rwlock_unlock(&ring_lock);
}

void *release_all(void *number)
{
    struct rng rng = {seed ^ 0x4e1ea5e ^ (uintptr_t)number};
    struct batch batch;
    while (stopping < 2) {
        if (next_batch(&batch)) {
            if (one_in(&rng, 4))
                sleep_us(rng_below(&rng, 5000));
            release_batch(&batch, &rng);
            batch_done();
        } else {
            sleep_us(50);
        }
    }
    return NULL;
}

/* --- wakes, signals, statistics, and the end of a ring by another thread
 * ----------------------- */

static _Atomic uint64_t free_after_reaps;

void free_by_other_thread(uint64_t count)
{
    free_after_reaps = count;
}

void wait_for_free(void)
{
    while (free_after_reaps != 0)
        sleep_us(100);
}

/* Frees the ring as soon as the reap that its owner announced has begun. */
static void free_during_reap(void)
{
    pthread_rwlock_wrlock(&ring_lock);
    struct ringmsg_stats stats = {.size = sizeof stats};
    do {
        int read = ringmsg_ring_stats(ring, &stats);
        CHECK(read == 0, "stats: %d", read);
    } while (stats.reaps < free_after_reaps);
    int freed = ringmsg_ring_free(ring);
    CHECK(freed == 0, "ring_free from another thread: %d", freed);
    ring = NULL;
    pthread_rwlock_unlock(&ring_lock);
    free_after_reaps = 0;
}

void *interrupt_all(void *unused)
{
    struct rng rng = {seed ^ 0x51664a1};
    (void)unused;
    while (stopping < 2) {
        if (free_after_reaps != 0)
            free_during_reap();
        sleep_us(rng_below(&rng, 4000));
        pthread_rwlock_rdlock(&ring_lock);
        if (ring != NULL && one_in(&rng, 2)) {
            int woken = ringmsg_wake(ring);
            CHECK(woken == 0, "wake: %d", woken);
            atomic_fetch_add(&tally.wakes, 1);
        }
        if (ring != NULL && one_in(&rng, 16)) {
            struct ringmsg_stats stats = {.size = sizeof stats};
            int read = ringmsg_ring_stats(ring, &stats);
            CHECK(read == 0, "stats: %d", read);
        }
        pthread_rwlock_unlock(&ring_lock);
        if (!stopping && one_in(&rng, 3)) {
            pthread_kill(receiver_thread, SIGUSR1);
            atomic_fetch_add(&tally.signals, 1);
        }
    }
    return NULL;
}

/* --- stalls
 * ------------------------------------------------------------------------------------ */

/* Since when this socket has had data without a record for it; 0: it has no data. */
static int64_t waiting_since(struct flow *flow, int64_t before)
{
    int64_t since = 0;
    if (pthread_mutex_trylock(&flow->lock) != 0)
        return before;
    struct pollfd readable = {.fd = flow->receiver, .events = POLLIN};
    if (flow->receiver >= 0 && flow->monitored && no_fault_since_ns != 0 && poll(&readable, 1, 0) == 1 &&
        (readable.revents & POLLIN)) {
        since = before != 0 ? before : now_ns();
        if (since < no_fault_since_ns)
            since = no_fault_since_ns;
        if (since < flow->last_record_ns)
            since = flow->last_record_ns;
    }
    pthread_mutex_unlock(&flow->lock);
    return since;
}

void *monitor_all(void *unused)
{
    int64_t since[SOCKETS] = {0};
    (void)unused;
    while (!stopping) {
        sleep_us(20000);
        for (uint32_t i = 0; i < SOCKETS; i++) {
            since[i] = waiting_since(&flows[i], since[i]);
            if (since[i] == 0 || now_ns() - since[i] < STALL_NS)
                continue;
            struct ringmsg_stats all = {.size = sizeof all}, one = {.size = sizeof one};
            uint64_t user_data = (uint64_t)flows[i].number << 8 | i;
            ringmsg_ring_stats(ring, &all);
            int known = ringmsg_request_stats(ring, user_data, &one);
            FAIL("socket %u flow %u (form %d, gro %d) stalled: data for %lld ms; ring: %llu held, "
                 "%llu published, %llu reaps; request (%d): %llu records, %llu rearms, "
                 "%llu starvations, %llu published",
                 i, flows[i].number, flows[i].form, flows[i].gro,
                 (long long)(now_ns() - since[i]) / 1000000, (unsigned long long)all.buffers_held,
                 (unsigned long long)all.buffers_published, (unsigned long long)all.reaps, known,
                 (unsigned long long)one.records, (unsigned long long)one.rearms,
                 (unsigned long long)one.starvations, (unsigned long long)one.buffers_published);
        }
    }
    return NULL;
}
