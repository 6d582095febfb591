/* Measures a flood of empty datagrams. Each one ends the multishot in the kernel, so each costs a
 * re-arm. Prints what one costs in comparison with a datagram of one byte, and checks that another
 * socket on the same ring and pool receives all of its datagrams.
 *
 *   flood [SECONDS]
 *
 * With RINGMSG_SOAK_LINK the flood crosses the link that tests/netns.sh makes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ringmsg.h>

#define CHECK(condition, ...)                                            \
    do {                                                                 \
        if (!(condition)) {                                              \
            fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);              \
            fprintf(stderr, __VA_ARGS__);                                \
            fputc('\n', stderr);                                         \
            exit(1);                                                     \
        }                                                                \
    } while (0)

static const char *near_namespace, *far_namespace;
static atomic_int stopping;
static int flood_socket, other_socket;
static size_t flood_length;
static atomic_ullong flooded, sent;

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int socket_in(const char *namespace, const char *address)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    inet_pton(AF_INET, near_namespace ? address : "127.0.0.1", &at.sin_addr);
    if (namespace != NULL) {
        int fd = open(namespace, O_RDONLY | O_CLOEXEC);
        CHECK(fd >= 0 && setns(fd, CLONE_NEWNET) == 0, "network namespace: %s", strerror(errno));
        close(fd);
    }
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&at, sizeof at) == 0, "bind: %s", strerror(errno));
    return fd;
}

static int sender_to(int receiver)
{
    struct sockaddr_in to;
    socklen_t length = sizeof to;
    getsockname(receiver, (struct sockaddr *)&to, &length);
    int fd = socket_in(far_namespace, "10.213.0.2");
    CHECK(connect(fd, (struct sockaddr *)&to, length) == 0, "connect: %s", strerror(errno));
    return fd;
}

static void *flood(void *unused)
{
    (void)unused;
    while (!stopping)
        if (send(flood_socket, "x", flood_length, MSG_DONTWAIT) >= 0)
            flooded++;
    return NULL;
}

static void *send_some(void *unused)
{
    struct timespec pause = {0, 1000000};
    (void)unused;
    while (!stopping) {
        uint64_t number = sent;
        if (send(other_socket, &number, sizeof number, 0) == sizeof number)
            sent++;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* Returns the CPU time of the receiving thread per datagram of the flood, in ns. */
static double measure(size_t length, double seconds)
{
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_pool_config config;
    struct ringmsg_record records[256];
    struct ringmsg_wait wait = {
        .size = sizeof wait, .linger_us = RINGMSG_LINGER_AUTO, .timeout_ns = 10000000};
    int receiver = socket_in(near_namespace, "10.213.0.1"),
        other = socket_in(near_namespace, "10.213.0.1"), large = 1 << 22;
    setsockopt(other, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
    flood_socket = sender_to(receiver);
    other_socket = sender_to(other);
    flood_length = length;
    flooded = sent = stopping = 0;
    ringmsg_pool_config_init(&config);
    config.payload_capacity = 2048;
    CHECK(ringmsg_ring_new(NULL, &ring) == 0 && ringmsg_pool_new(ring, &config, &pool) == 0, "ring");
    CHECK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1) == 0, "arm");
    CHECK(ringmsg_recvmsg_multishot(ring, pool, other, 0, 0, 2) == 0, "arm");
    pthread_t flooder, sender;
    pthread_create(&flooder, NULL, flood, NULL);
    pthread_create(&sender, NULL, send_some, NULL);

    uint64_t got = 0, others = 0;
    int64_t start = clock_ns(CLOCK_MONOTONIC), end = start + (int64_t)(seconds * 1e9),
            cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t deadline = end + 500000000, longest_gap = 0, last = start;
    int count = 0;
    while (clock_ns(CLOCK_MONOTONIC) < deadline) {
        count = ringmsg_next(ring, records, (uint32_t)count, records, NULL, 256, &wait);
        CHECK(count >= 0, "next: %d", count);
        for (int i = 0; i < count; i++) {
            got += records[i].user_data == 1;
            if (records[i].user_data == 2) {
                uint64_t number;
                memcpy(&number, ringmsg_pool_base(pool) + records[i].payload_offset, sizeof number);
                CHECK(number == others, "the other socket: datagram %llu, not %llu",
                      (unsigned long long)number, (unsigned long long)others);
                others++;
                int64_t now = clock_ns(CLOCK_MONOTONIC);
                longest_gap = now - last > longest_gap ? now - last : longest_gap;
                last = now;
            }
        }
        if (!stopping && clock_ns(CLOCK_MONOTONIC) > end)
            stopping = 1;
    }
    cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    pthread_join(flooder, NULL);
    pthread_join(sender, NULL);
    CHECK(others == sent && sent > 100, "the other socket received %llu of %llu datagrams",
          (unsigned long long)others, (unsigned long long)sent);
    struct ringmsg_stats stats = {.size = sizeof stats};
    ringmsg_ring_stats(ring, &stats);
    CHECK(ringmsg_ring_free(ring) == 0, "ring_free");
    printf("%zu bytes: %llu sent, %llu received, %llu dropped, %llu re-armed, %.0f ns each; "
           "the other socket received all %llu, at most %.1f ms apart\n",
           length, (unsigned long long)flooded, (unsigned long long)got,
           (unsigned long long)stats.socket_drops, (unsigned long long)stats.rearms,
           (double)cpu / (double)got, (unsigned long long)others, (double)longest_gap / 1e6);
    close(receiver);
    close(other);
    close(flood_socket);
    close(other_socket);
    return (double)cpu / (double)got;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 2;
    if (getenv("RINGMSG_SOAK_LINK") != NULL) {
        near_namespace = "/run/netns/ringmsg-near";
        far_namespace = "/run/netns/ringmsg-far";
    }
    double one = measure(1, seconds), empty = measure(0, seconds);
    printf("an empty datagram costs %.2f times as much as one of a byte\n", empty / one);
    CHECK(empty < 10 * one, "the limit is 10 times");
    return 0;
}
