/* Counts what calls cost beside many other sockets without traffic: growth io_uring|recvmmsg
 * SOCKETS. Makes each call CALLS times through a function measured_CALL, whose instructions
 * callgrind counts. Prints CALLS. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <ringmsg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CALLS = 64, CAPACITY = 64, HELD = 4, SEGMENT = 8, SEGMENTS = 64, TOGETHER = 8 };
enum { STEADY = 1, ONCE = 2, CANCELLED = 3, STARVING = 4, TRAIN = 5, OTHERS = 1000 };

static struct ringmsg_ring *ring;
static struct ringmsg_record records[CAPACITY];
static const struct ringmsg_wait now = {.size = sizeof now};

static int ok(int value)
{
    if (value < 0) {
        char why[256];
        ringmsg_last_error(why, sizeof why);
        fprintf(stderr, "growth: %s (%s)\n", ringmsg_strerror(value), why);
        exit(1);
    }
    return value;
}

struct pair {
    int receiver, sender;
};

/* Each socket is connected to the other: with thousands of ports, what other programs send to a
 * port that they think unused would arrive here. */
static struct pair open_pair(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, back;
    socklen_t length = sizeof address;
    struct pair pair = {socket(AF_INET, SOCK_DGRAM, 0), socket(AF_INET, SOCK_DGRAM, 0)};
    if (pair.receiver < 0 || pair.sender < 0 || bind(pair.receiver, (void *)&address, sizeof address) != 0 ||
        getsockname(pair.receiver, (void *)&address, &length) != 0 ||
        connect(pair.sender, (void *)&address, sizeof address) != 0 ||
        getsockname(pair.sender, (void *)&back, &length) != 0 ||
        connect(pair.receiver, (void *)&back, sizeof back) != 0) {
        perror("growth: sockets");
        exit(1);
    }
    return pair;
}

static struct ringmsg_pool *make_pool(uint32_t buffers, uint32_t payload)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    config.buffers = buffers;
    config.payload_capacity = payload;
    ok(ringmsg_pool_new(ring, &config, &pool));
    return pool;
}

#define MEASURED __attribute__((noipa)) static int

MEASURED measured_arm(struct ringmsg_pool *pool, int fd)
{
    return ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, CANCELLED);
}
MEASURED measured_cancel(void) { return ringmsg_cancel(ring, CANCELLED); }
MEASURED measured_reap_final(void) { return ringmsg_reap(ring, records, NULL, CAPACITY, &now); }
MEASURED measured_reap(void) { return ringmsg_reap(ring, records, NULL, CAPACITY, &now); }
MEASURED measured_release(int count) { return ringmsg_release(ring, records, (uint32_t)count); }
static int reap(void) { return ringmsg_reap(ring, records, NULL, CAPACITY, &now); }
MEASURED measured_reap_once(void) { return ringmsg_reap(ring, records, NULL, CAPACITY, &now); }
MEASURED measured_reap_once_after_a_peak(void) { return ringmsg_reap(ring, records, NULL, CAPACITY, &now); }
MEASURED measured_release_after_starvation(int count)
{
    return ringmsg_release(ring, records, (uint32_t)count);
}
MEASURED measured_next_of_a_train(int done)
{
    return ringmsg_next(ring, records, (uint32_t)done, records, NULL, CAPACITY / TOGETHER, &now);
}
MEASURED measured_request_stats(struct ringmsg_stats *stats)
{
    return ringmsg_request_stats(ring, STEADY, stats);
}

static void send_to(struct pair pair, int count)
{
    for (int i = 0; i < count; i++)
        if (send(pair.sender, "datagram", 8, 0) != 8)
            perror("growth: send");
}

static void expect(int count, int expected)
{
    if (count != expected) {
        fprintf(stderr, "growth: %d records, not %d\n", count, expected);
        exit(1);
    }
}

static void measure_steady_and_cancelled(struct pair pair, struct pair other, struct ringmsg_pool *others)
{
    struct ringmsg_stats stats = {.size = sizeof stats};
    for (int i = 0; i < CALLS; i++) {
        send_to(pair, 1);
        expect(ok(measured_reap()), 1);
        ok(measured_release(1));
        ok(measured_arm(others, other.receiver));
        ok(measured_cancel());
        expect(ok(measured_reap_final()), 1);
        ok(measured_request_stats(&stats));
    }
}

static void receive_once(struct pair pair, struct ringmsg_pool *pool, int calls, int (*reap)(void))
{
    for (int i = 0; i < calls; i++) {
        send_to(pair, 1);
        ok(ringmsg_recvmsg_once(ring, pool, pair.receiver, 0, 0, ONCE));
        expect(ok(reap()), 1);
        ok(ringmsg_release(ring, records, 1));
    }
}

/* Every buffer is held and more data arrives, so the request is starved until the release. */
static void measure_starvation(void)
{
    struct pair pair = open_pair();
    ok(ringmsg_recvmsg_multishot(ring, make_pool(HELD, 64), pair.receiver, 0, 0, STARVING));
    for (int i = 0; i < CALLS; i++) {
        send_to(pair, HELD + 1);
        expect(ok(ringmsg_reap(ring, records, NULL, CAPACITY, &now)), HELD);
        ringmsg_reap(ring, records + HELD, NULL, CAPACITY - HELD, &now);
        ok(measured_release_after_starvation(HELD));
        expect(ok(ringmsg_reap(ring, records, NULL, CAPACITY, &now)), 1);
        ok(ringmsg_release(ring, records, 1));
    }
    ok(ringmsg_cancel(ring, STARVING));
    expect(ok(ringmsg_reap(ring, records, NULL, CAPACITY, &now)), 1);
}

static void measure_a_train(void)
{
    struct pair pair = open_pair();
    static const char train[SEGMENTS * SEGMENT];
    int size = SEGMENT, done = 0;
    ok(ringmsg_socket_enable(pair.receiver, RINGMSG_META_SEGMENT_SIZE));
    if (setsockopt(pair.sender, SOL_UDP, UDP_SEGMENT, &size, sizeof size) != 0)
        perror("growth: UDP_SEGMENT");
    ok(ringmsg_recvmsg_multishot(ring, make_pool(HELD, 65536), pair.receiver, 0, RINGMSG_RECV_SPLIT, TRAIN));
    for (int i = 0; i < CALLS / TOGETHER; i++) {
        if (send(pair.sender, train, sizeof train, 0) != sizeof train)
            perror("growth: send");
        for (int j = 0; j < TOGETHER; j++)
            expect(done = ok(measured_next_of_a_train(done)), SEGMENTS / TOGETHER);
    }
    ok(ringmsg_release(ring, records, (uint32_t)done));
}

int main(int argc, char **argv)
{
    struct rlimit descriptors;
    struct ringmsg_ring_config config;
    if (argc != 3)
        return 2;
    int sockets = atoi(argv[2]);
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    ringmsg_ring_config_init(&config);
    config.engine = strcmp(argv[1], "io_uring") == 0 ? RINGMSG_ENGINE_IO_URING : RINGMSG_ENGINE_RECVMMSG;
    ok(ringmsg_ring_new(&config, &ring));
    struct ringmsg_pool *pool = make_pool(CAPACITY, 64), *once = make_pool(CAPACITY, 64), *others = pool;
    struct pair steady = open_pair(), other = open_pair();
    ok(ringmsg_recvmsg_multishot(ring, pool, steady.receiver, 0, 0, STEADY));
    for (int i = 0; i < sockets; i++) {
        struct pair quiet = open_pair();
        if (i % 16 == 0 && i / 16 < 500) /* more pools, up to the number that a ring allows */
            others = make_pool(1, 64);
        ok(ringmsg_recvmsg_multishot(ring, others, quiet.receiver, 0, 0, OTHERS));
        close(quiet.receiver);
        close(quiet.sender);
    }
    receive_once(other, once, 1, reap); /* finishes the work that arming the sockets has left */
    measure_steady_and_cancelled(steady, other, others);
    receive_once(other, once, CALLS, measured_reap_once);
    measure_starvation();
    measure_a_train();
    ok(ringmsg_cancel(ring, OTHERS));
    for (int left = sockets; left > 0;)
        left -= ok(ringmsg_reap(ring, records, NULL, CAPACITY, &now));
    receive_once(other, once, CALLS, measured_reap_once_after_a_peak);
    ok(ringmsg_ring_free(ring));
    printf("%d\n", CALLS);
    return 0;
}
