/* Several threads release records while their owner reaps and is sometimes starved: no buffer is
 * lost or handed out twice. */
#include "test.h"

enum { RELEASERS = 4, DATAGRAMS = 40000, QUEUE = 64, BUFFERS = 16 };

/* Records on their way from the owner to the releasing threads. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct ringmsg_record records[QUEUE];
    int first, count, closed;
    struct ringmsg_ring *ring;
};

static void *check_and_release(void *argument)
{
    struct queue *queue = argument;
    for (;;) {
        pthread_mutex_lock(&queue->lock);
        while (queue->count == 0 && !queue->closed)
            pthread_cond_wait(&queue->changed, &queue->lock);
        if (queue->count == 0)
            break;
        struct ringmsg_record record = queue->records[queue->first];
        queue->first = (queue->first + 1) % QUEUE;
        queue->count--;
        pthread_cond_broadcast(&queue->changed);
        pthread_mutex_unlock(&queue->lock);
        /* While the record is held no one else writes to its buffer, so all words are equal. */
        uint32_t words[16];
        EQUAL(record.payload_length, sizeof words);
        memcpy(words, payload_of(queue->ring, &record), sizeof words);
        for (int i = 1; i < 16; i++)
            EQUAL(words[i], words[0]);
        OK(ringmsg_release(queue->ring, &record, 1));
    }
    pthread_mutex_unlock(&queue->lock);
    return NULL;
}

static void *send_numbers(void *argument)
{
    int sender = *(int *)argument;
    uint32_t words[16];
    for (uint32_t n = 0; n < DATAGRAMS; n++) {
        for (int i = 0; i < 16; i++)
            words[i] = n;
        SYS(send(sender, words, sizeof words, 0));
    }
    return NULL;
}

static void many_threads_release_while_the_owner_reaps(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, BUFFERS, 2048);
    struct queue queue = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .ring = ring};
    pthread_t threads[RELEASERS], sends;
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    EQUAL(pthread_create(&sends, NULL, send_numbers, &sender), 0);
    uint64_t received = 0;
    int releasers = 0;
    while (received + stats_of(ring).socket_drops < DATAGRAMS) {
        struct ringmsg_record records[32];
        /* The threads start when no buffer is left. */
        for (; stats_of(ring).starvations > 0 && releasers < RELEASERS; releasers++)
            EQUAL(pthread_create(&threads[releasers], NULL, check_and_release, &queue), 0);
        int count = reap_ms(ring, records, 32, releasers > 0 ? 3000 : 10);
        if (count == 0 && releasers > 0)
            FAIL("%llu received, %llu dropped, and no more arrive", (unsigned long long)received,
                 (unsigned long long)stats_of(ring).socket_drops);
        received += (uint64_t)count;
        pthread_mutex_lock(&queue.lock);
        for (int i = 0; i < count; i++) {
            while (queue.count == QUEUE)
                pthread_cond_wait(&queue.changed, &queue.lock);
            queue.records[(queue.first + queue.count++) % QUEUE] = records[i];
        }
        pthread_cond_broadcast(&queue.changed);
        pthread_mutex_unlock(&queue.lock);
    }
    pthread_mutex_lock(&queue.lock);
    queue.closed = 1;
    pthread_cond_broadcast(&queue.changed);
    pthread_mutex_unlock(&queue.lock);
    pthread_join(sends, NULL);
    for (int i = 0; i < RELEASERS; i++)
        pthread_join(threads[i], NULL);
    struct ringmsg_stats stats = stats_of(ring);
    EQUAL(stats.datagrams + stats.socket_drops, DATAGRAMS);
    EQUAL(stats.buffers_held, 0);
    COMPARE(stats.starvations, >, 0); /* otherwise the test has tested nothing */
    OK(ringmsg_ring_free(ring));
}

/* --- several pools ------------------------------------------------------------------------ */

struct half {
    struct ringmsg_ring *ring;
    struct ringmsg_record record;
    _Atomic int released;
};

static void *release_half(void *argument)
{
    struct half *half = argument;
    OK(ringmsg_release(half->ring, &half->record, 1));
    half->released = 1;
    return NULL;
}

/* An array holds a train's first segment and ends with a record, of another pool, that occurs
 * twice, so its release is refused. Meanwhile another thread releases the second segment. The first
 * one stays held, whatever the timing. */
static void a_refused_release_across_pools_is_never_visible(void)
{
    enum { OTHERS = 200, ROUNDS = 100 };
    static struct ringmsg_record refused[1 + OTHERS + 1];
    struct ringmsg_ring *ring = make_ring();
    int trains = bound_udp(AF_INET), others = bound_udp(AF_INET);
    int to_trains = sender_to(trains), to_others = sender_to(others);
    OK(ringmsg_socket_enable(trains, RINGMSG_META_SEGMENT_SIZE));
    struct ringmsg_pool *pool = make_pool(ring, trains, 4, 2048);
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, others, 256, 64), others, 0, 0, 1));
    for (int i = 0; i < OTHERS; i++) {
        SYS(send(to_others, "x", 1, 0));
        refused[1 + i] = reap_one(ring);
    }
    refused[1 + OTHERS] = refused[1]; /* twice in one array */
    OK(ringmsg_recvmsg_multishot(ring, pool, trains, 0, RINGMSG_RECV_SPLIT, 2));
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread;
        struct half half = {.ring = ring};
        send_train(to_trains, "twice.twice.", 12, 6);
        refused[0] = reap_one(ring);
        half.record = reap_one(ring);
        EQUAL(refused[0].segments, 2);
        EQUAL(half.record.buffer, refused[0].buffer);
        EQUAL(pthread_create(&thread, NULL, release_half, &half), 0);
        while (!half.released)
            REFUSED(ringmsg_release(ring, refused, 1 + OTHERS + 1), EINVAL);
        pthread_join(thread, NULL);
        OK(ringmsg_release(ring, refused, 1));
    }
    EQUAL(stats_of(ring).buffers_held, OTHERS);
    OK(ringmsg_release(ring, refused + 1, OTHERS));
    EQUAL(stats_of(ring).buffers_held, 0);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(many_threads_release_while_the_owner_reaps),
      TEST(a_refused_release_across_pools_is_never_visible))
