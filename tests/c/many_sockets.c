/* Thousands of other sockets on the ring do not slow down a socket with data: the statistics are
 * read without a lock that a reap needs, arming and cancelling each socket takes linear time in
 * total, and every socket is received. (make check-instructions counts the instructions per
 * call.) */
#include "test.h"

#include <sys/resource.h>

enum { SOCKETS = 2000, MANY = 10000, FEW = MANY / 10, ROUNDS = 101 };

static struct ringmsg_ring *ring;
static struct ringmsg_pool *pool;
static int receivers[SOCKETS];

static void allow_descriptors(rlim_t needed)
{
    struct rlimit limit;
    SYS(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < needed)
        limit.rlim_max = needed; /* only root may raise the limit */
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        skip_test("this process may not open enough descriptors");
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
static int64_t stats_call_ns;

static void *read_stats_until_stopped(void *unused)
{
    int64_t start = now_ns(), calls = 0;
    for (; !stop; calls++)
        stats_of(ring);
    stats_call_ns = (now_ns() - start) / (calls > 0 ? calls : 1);
    return unused;
}

static void ring_stats_delays_no_reap(void)
{
    int64_t elapsed_ns[ROUNDS];
    pthread_t thread;
    allow_descriptors(3 * SOCKETS);
    ring = make_ring();
    arm(0, SOCKETS);
    int sender = sender_to(receivers[SOCKETS / 2]);
    struct ringmsg_record record;
    stop = 0;
    pthread_create(&thread, NULL, read_stats_until_stopped, NULL);
    sleep_ms(20);
    for (int i = 0; i < ROUNDS; i++) {
        SYS(send(sender, "x", 1, 0));
        int64_t start = now_ns();
        record = reap_one(ring);
        elapsed_ns[i] = now_ns() - start;
        EQUAL(record.user_data, SOCKETS / 2);
        OK(ringmsg_release(ring, &record, 1));
        usleep(500);
    }
    stop = 1;
    pthread_join(thread, NULL);
    COMPARE(median(elapsed_ns, ROUNDS), <, stats_call_ns / 4);
    OK(ringmsg_ring_free(ring));
}

/* Returns the time that the calls take for `count` sockets, which only the ring holds then. */
static int64_t arm_and_cancel_all(int count)
{
    struct ringmsg_record records[64];
    struct ringmsg_wait now = {.size = sizeof now};
    int64_t start = now_ns();
    for (int i = 0; i < count; i++) {
        int fd = bound_udp(AF_INET);
        OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, (uint64_t)i));
        close(fd);
    }
    for (int i = 0; i < count; i++) {
        OK(ringmsg_cancel(ring, (uint64_t)i));
        for (int n, finals = 0; finals == 0; finals += n) {
            n = ringmsg_reap(ring, records, NULL, 64, &now);
            n = n < 0 && is_recvmmsg() ? 0 : OK(n);
        }
    }
    return now_ns() - start;
}

static void arming_and_cancelling_each_socket_takes_linear_time(void)
{
    int64_t few = INT64_MAX, many = INT64_MAX;
    allow_descriptors(MANY + 100);
    ring = make_ring();
    int any = bound_udp(AF_INET);
    pool = make_pool(ring, any, 256, 64);
    for (int i = 0; i < 3; i++) {
        int64_t time = arm_and_cancel_all(FEW);
        few = time < few ? time : few;
        if (i < 2)
            time = arm_and_cancel_all(MANY);
        many = time < many && i < 2 ? time : many;
    }
    /* The number of sockets differs by ten; quadratic time would differ by a hundred. */
    COMPARE(many, <, 50 * few);
    OK(ringmsg_ring_free(ring));
}

static void every_socket_is_received(void)
{
    allow_descriptors(3 * SOCKETS);
    ring = make_ring();
    arm(0, SOCKETS);
    static int received[SOCKETS];
    struct ringmsg_record records[64];
    int sender = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    for (int i = 0; i < SOCKETS; i++) {
        connect_to(sender, receivers[i]);
        SYS(send(sender, "x", 1, 0));
    }
    for (int total = 0; total < SOCKETS;) {
        int n = reap_ms(ring, records, 64, 5000);
        COMPARE(n, >, 0);
        for (int i = 0; i < n; i++)
            EQUAL(received[records[i].user_data]++, 0);
        OK(ringmsg_release(ring, records, (uint32_t)n));
        total += n;
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(ring_stats_delays_no_reap),
      TEST(arming_and_cancelling_each_socket_takes_linear_time),
      TEST(every_socket_is_received))
