/* Thousands of sockets on one ring cost the one that has data nothing: counters are read without a
 * lock that a reap needs, arming and cancelling all of them takes time in proportion to their number,
 * and each is heard. (make check-instructions counts instructions a call.) */
#include "test.h"

#include <sys/resource.h>

enum { SOCKETS = 2000, MANY = 10000, FEW = MANY / 10, ROUNDS = 101 };

static struct ringmsg_ring *ring;
static struct ringmsg_pool *pool;
static int receivers[MANY];

static void allow_descriptors(rlim_t wanted)
{
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted)
        limit.rlim_max = wanted; /* root may */
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        skip_test("this process may not open so many descriptors");
}

static void arm(int from, int to)
{
    for (int i = from; i < to; i++) {
        receivers[i] = bound_udp(AF_INET);
        if (pool == NULL)
            pool = make_pool(ring, receivers[i], 256, 64);
        OK(ringmsg_recvmsg_multishot(ring, pool, receivers[i], 0, 0, (uint64_t)i));
    }
}

static int by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static int64_t median(int64_t *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_size);
    return values[count / 2];
}

static volatile int stop;
static int64_t stats_take_ns;

static void *count_all_the_time(void *unused)
{
    int64_t start = now_ns(), calls = 0;
    for (; !stop; calls++)
        stats_of(ring);
    stats_take_ns = (now_ns() - start) / (calls > 0 ? calls : 1);
    return unused;
}

static void ring_stats_delays_no_reap(void)
{
    int64_t took[ROUNDS];
    pthread_t thread;
    allow_descriptors(3 * SOCKETS);
    ring = make_ring();
    arm(0, SOCKETS);
    int sender = sender_to(receivers[SOCKETS / 2]);
    struct ringmsg_record record;
    stop = 0;
    pthread_create(&thread, NULL, count_all_the_time, NULL);
    sleep_ms(20);
    for (int i = 0; i < ROUNDS; i++) {
        SYS(send(sender, "x", 1, 0));
        int64_t start = now_ns();
        record = reap_one(ring);
        took[i] = now_ns() - start;
        EQUAL(record.user_data, SOCKETS / 2);
        OK(ringmsg_release(ring, &record, 1));
        usleep(500);
    }
    stop = 1;
    pthread_join(thread, NULL);
    CHECK(median(took, ROUNDS) < stats_take_ns / 4);
    OK(ringmsg_ring_free(ring));
}

/* The time for one part of the sockets. */
static int64_t arm_and_cancel_all(int count)
{
    int64_t start = now_ns();
    struct ringmsg_record records[64];
    struct ringmsg_wait now = {.size = sizeof now};
    for (int i = 0; i < count; i++)
        OK(ringmsg_recvmsg_multishot(ring, pool, receivers[i], 0, 0, (uint64_t)i));
    for (int i = 0; i < count; i++) {
        OK(ringmsg_cancel(ring, (uint64_t)i));
        for (int n, finals = 0; finals == 0; finals += n) {
            n = ringmsg_reap(ring, records, NULL, 64, &now);
            n = n < 0 && is_recvmmsg() ? 0 : OK(n);
        }
    }
    return now_ns() - start;
}

static void arming_and_cancelling_one_by_one_is_linear(void)
{
    int64_t few = INT64_MAX, many = INT64_MAX;
    allow_descriptors(2 * MANY + 100);
    ring = make_ring();
    for (int i = 0; i < MANY; i++)
        receivers[i] = bound_udp(AF_INET);
    pool = make_pool(ring, receivers[0], 256, 64);
    for (int i = 0; i < 3; i++) {
        int64_t time = arm_and_cancel_all(FEW);
        few = time < few ? time : few;
        if (i < 2)
            time = arm_and_cancel_all(MANY);
        many = time < many && i < 2 ? time : many;
    }
    /* Ten times as many; quadratic would be a hundred times the time. */
    CHECK(many < 30 * few);
    OK(ringmsg_ring_free(ring));
}

static void every_socket_is_heard(void)
{
    allow_descriptors(3 * SOCKETS);
    ring = make_ring();
    arm(0, SOCKETS);
    static int heard[SOCKETS];
    struct ringmsg_record records[64];
    int sender = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    for (int i = 0; i < SOCKETS; i++) {
        connect_to(sender, receivers[i]);
        SYS(send(sender, "x", 1, 0));
    }
    for (int total = 0; total < SOCKETS;) {
        int n = reap_ms(ring, records, 64, 5000);
        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            EQUAL(heard[records[i].user_data]++, 0);
        OK(ringmsg_release(ring, records, (uint32_t)n));
        total += n;
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(ring_stats_delays_no_reap), TEST(arming_and_cancelling_one_by_one_is_linear),
      TEST(every_socket_is_heard))
