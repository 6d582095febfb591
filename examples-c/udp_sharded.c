/* One ring per processor. Each thread is pinned to a processor and has its own ring, pool and
 * socket; the sockets share one address and port (SO_REUSEPORT). A datagram goes to the socket of
 * the processor on which the kernel handles it. So it stays in one processor's cache, and the
 * threads share nothing. docs/scaling.md explains how to set up the network card for this.
 *
 *   udp_sharded [-e] ADDRESS PORT     port 0 selects a free one; runs until Ctrl-C
 *
 * Uses the processors that it is allowed to use (`taskset -c 0-3 udp_sharded ...`). -e sends every
 * datagram back. Prints every second, and at the end, what each shard has received and its CPU
 * time. */
#include "example.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { BATCH = 256 };

struct shard {
    pthread_t thread;
    int fd, processor; /* -1: not pinned */
    struct ringmsg_ring *ring;
    clockid_t cpu_clock;
};

static struct shard shards[CPU_SETSIZE];
static int shard_count, echo;
static pthread_barrier_t barrier;
static atomic_int stopped;

static int bind_shared(int fd, const struct sockaddr *address, socklen_t length)
{
    int on = 1, buffer = 4 << 20;
    check_sys("SO_REUSEPORT", setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    check_sys("SO_RCVBUF", setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer));
    return bind(fd, address, length);
}

/* Without steering the kernel selects a socket by a hash of addresses and ports: all datagrams of a
 * sender go to the same socket, whichever processor handles them. With it a datagram goes to the
 * socket whose index, in the order of bind, is the processor modulo the number of sockets. A QUIC
 * server steers by RINGMSG_STEER_QUIC instead: docs/scaling.md. */
static void steer_by_processor(void)
{
    struct ringmsg_steering steering = {.size = sizeof steering, .by = RINGMSG_STEER_CPU};
    int fds[CPU_SETSIZE];
    for (int i = 0; i < shard_count; i++)
        fds[i] = shards[i].fd;
    check("steering", ringmsg_socket_steer(fds, (uint32_t)shard_count, &steering));
}

/* Makes a shard for each processor that this process may use: the shard that the steering selects
 * for that processor. */
static void assign_processors(void)
{
    cpu_set_t allowed;
    check_sys("sched_getaffinity", sched_getaffinity(0, sizeof allowed, &allowed));
    shard_count = CPU_COUNT(&allowed);
    for (int i = 0; i < shard_count; i++)
        shards[i].processor = -1; /* processors may be missing: of 0, 2 and 3, both 0 and 3 are 0 modulo 3 */
    for (int processor = CPU_SETSIZE - 1; processor >= 0; processor--)
        if (CPU_ISSET(processor, &allowed))
            shards[processor % shard_count].processor = processor;
}

/* The thread of a shard. It is pinned first, so that the ring belongs to this thread and the pool's
 * memory comes from this processor's node. */
static void *receive(void *argument)
{
    struct shard *shard = argument;
    struct ringmsg_record records[BATCH];
    struct ringmsg_wait wait = {.size = sizeof wait, .linger_us = RINGMSG_LINGER_AUTO, .timeout_ns = -1};
    if (shard->processor >= 0)
        pin(shard->processor);
    check("socket", ringmsg_socket_enable(shard->fd, RINGMSG_META_SEGMENT_SIZE));
    check("ring", ringmsg_ring_new(NULL, &shard->ring));
    struct ringmsg_pool *pool = pool_for(shard->ring, shard->fd);
    const uint8_t *base = ringmsg_pool_base(pool);
    check("arm", ringmsg_recvmsg_multishot(shard->ring, pool, shard->fd, 0, RINGMSG_RECV_SPLIT, 0));
    pthread_getcpuclockid(pthread_self(), &shard->cpu_clock);
    pthread_barrier_wait(&barrier); /* every shard receives now */

    for (int n = 0; n > 0 || wait.timeout_ns != 0;) {
        if (atomic_load(&stopped)) /* queued datagrams are still received */
            wait.timeout_ns = 0;
        n = ringmsg_next(shard->ring, records, (uint32_t)n, records, NULL, BATCH, &wait);
        n = n == -EINTR ? 0 : check("receive", n);
        for (int i = 0; i < n; i++)
            if (records[i].result < 0) /* for example an ICMP error; the request continues */
                fprintf(stderr, "receive: %s\n", ringmsg_strerror(records[i].result));
            else if (echo) /* udp_echo.c answers from the address that the datagram was sent to */
                sendto(shard->fd, base + records[i].payload_offset, records[i].payload_length, 0,
                       (const struct sockaddr *)(base + records[i].name_offset), records[i].name_length);
    }
    pthread_barrier_wait(&barrier); /* every socket is empty now */
    pthread_barrier_wait(&barrier); /* the last table is printed now */
    check("free", ringmsg_ring_free(shard->ring));
    return NULL;
}

static void print_table(int64_t start)
{
    double seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
    printf("\nafter %7.1f s %20s %9s %9s %8s %8s\n", seconds, "datagrams", "dropped", "per reap", "CPU",
           "ns each");
    for (int i = 0; i < shard_count; i++) {
        struct ringmsg_stats stats = {.size = sizeof stats};
        check("stats", ringmsg_ring_stats(shards[i].ring, &stats));
        double datagrams = (double)stats.datagrams, cpu_ns = (double)clock_ns(shards[i].cpu_clock);
        printf("shard %3d, processor %3d %10.0f %9llu %9.1f %6.1f %% %8.0f\n", i,
               shards[i].processor, datagrams, (unsigned long long)stats.socket_drops,
               stats.reaps > 0 ? datagrams / (double)stats.reaps : 0, cpu_ns / seconds / 1e7,
               datagrams > 0 ? cpu_ns / datagrams : 0);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    echo = argc == 4 && strcmp(argv[1], "-e") == 0;
    if (argc != 3 + echo)
        return fprintf(stderr, "usage: udp_sharded [-e] ADDRESS PORT\n"), 2;
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    /* The threads inherit the mask; sigtimedwait receives the signals. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    assign_processors();
    pthread_barrier_init(&barrier, NULL, (unsigned)shard_count + 1);
    char port[8];
    snprintf(port, sizeof port, "%s", argv[2 + echo]);
    for (int i = 0; i < shard_count; i++) {
        shards[i].fd = udp_socket(argv[1 + echo], port, bind_shared);
        snprintf(port, sizeof port, "%u", port_of(shards[i].fd));
    }
    /* Applies to all; earlier datagrams stay in their sockets. */
    steer_by_processor();
    for (int i = 0; i < shard_count; i++)
        pthread_create(&shards[i].thread, NULL, receive, &shards[i]);
    pthread_barrier_wait(&barrier);
    printf("port %s, %d shards\n", port, shard_count);
    fflush(stdout);

    int64_t start = clock_ns(CLOCK_MONOTONIC);
    for (struct timespec second = {1, 0}; sigtimedwait(&signals, NULL, &second) < 0;)
        print_table(start);
    atomic_store(&stopped, 1);
    for (int i = 0; i < shard_count; i++)
        ringmsg_wake(shards[i].ring);
    pthread_barrier_wait(&barrier);
    print_table(start);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < shard_count; i++)
        pthread_join(shards[i].thread, NULL);
    return 0;
}
