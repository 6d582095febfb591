/* Measures how each mode affects the thread that armed a request, for docs/modes.md. Needs two
 * processors: that thread runs on one, the senders and another thread that reaps on the other.
 *
 *   arming     200 datagrams, 2 ms apart, for each row and mode */
#include "../../examples-c/example.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

enum { DATAGRAMS = 200 };

static const struct mode {
    const char *name;
    uint32_t flags;
} modes[] = {{"plain", 0}, {"COOP", RINGMSG_SETUP_COOP_TASKRUN}, {"DEFER", RINGMSG_SETUP_DEFER_TASKRUN}};
enum { MODES = sizeof modes / sizeof *modes };

static int receiver, unrelated;
static struct ringmsg_ring *ring;
static atomic_int sending;
static int64_t late_ns; /* the sum over all datagrams */

static void *send_datagrams(void *unused)
{
    struct sockaddr_in to;
    socklen_t length = sizeof to;
    pin(1);
    check_sys("getsockname", getsockname(receiver, (struct sockaddr *)&to, &length));
    for (int i = 0; i < DATAGRAMS; i++) {
        /* Out of step with the timer tick. */
        nanosleep(&(struct timespec){0, 2000000 + i * 1009 % 400000}, NULL);
        int64_t now = clock_ns(CLOCK_MONOTONIC);
        sendto(unrelated, &now, sizeof now, 0, (struct sockaddr *)&to, sizeof to);
    }
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    atomic_store(&sending, 0);
    ringmsg_wake(ring);
    return unused;
}

/* Reaps, and adds up the delay of each datagram. */
static void *reap(void *unused)
{
    struct ringmsg_record records[DATAGRAMS];
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = -1};
    pin(1);
    for (int n = 0; atomic_load(&sending);) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, NULL, DATAGRAMS, &wait);
        n = n == -EINTR ? 0 : check("reap", n);
        for (int i = 0; i < n; i++) {
            int64_t sent;
            memcpy(&sent,
                   ringmsg_pool_base(ringmsg_ring_pool(ring, records[i].pool)) +
                       records[i].payload_offset,
                   sizeof sent);
            late_ns += clock_ns(CLOCK_MONOTONIC) - sent;
        }
    }
    return unused;
}

/* Counts how often the thread that armed is interrupted while it waits for other events. */
static int64_t in_epoll_wait(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    int64_t interrupted = 0;
    int epoll = check_sys("epoll_create1", epoll_create1(0));
    check_sys("epoll_ctl", epoll_ctl(epoll, EPOLL_CTL_ADD, unrelated, &event));
    while (atomic_load(&sending))
        interrupted += epoll_wait(epoll, &event, 1, 100) < 0 && errno == EINTR;
    close(epoll);
    return interrupted;
}

static int64_t in_recv(void)
{
    struct timeval patience = {0, 100000};
    char data[8];
    int64_t interrupted = 0;
    check_sys("SO_RCVTIMEO", setsockopt(unrelated, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience));
    while (atomic_load(&sending))
        interrupted += recv(unrelated, data, sizeof data, 0) < 0 && errno == EINTR;
    return interrupted;
}

/* Measures the delay of a datagram, in us, when another thread reaps and the thread that armed
 * computes. */
static int64_t computing(void)
{
    while (atomic_load(&sending))
        ;
    return -1;
}

/* Another thread reaps. In DEFER mode only the thread that armed may, and it does not. */
static int64_t run(const struct mode *mode, int64_t (*what)(void))
{
    struct ringmsg_ring_config config;
    pthread_t sender, reaper;
    int bound = (mode->flags & RINGMSG_SETUP_DEFER_TASKRUN) != 0;
    receiver = udp_socket("127.0.0.1", "0", bind);
    unrelated = udp_socket("127.0.0.1", "0", bind);
    ringmsg_ring_config_init(&config);
    config.flags = mode->flags;
    check("ring", ringmsg_ring_new(&config, &ring));
    check("arm", ringmsg_recvmsg_multishot(ring, pool_for(ring, receiver), receiver, 0, 0, 0));
    late_ns = 0;
    atomic_store(&sending, 1);
    if (!bound)
        pthread_create(&reaper, NULL, reap, NULL);
    pthread_create(&sender, NULL, send_datagrams, NULL);
    int64_t result = what();
    pthread_join(sender, NULL);
    if (!bound)
        pthread_join(reaper, NULL);
    check("free", ringmsg_ring_free(ring));
    close(receiver);
    close(unrelated);
    return result >= 0 ? result : late_ns / DATAGRAMS / 1000;
}

int main(void)
{
    static const struct {
        const char *name;
        int64_t (*what)(void);
        int modes; /* in DEFER mode no other thread may reap */
    } rows[] = {
        {"epoll_wait: interrupted", in_epoll_wait, 3},
        {"recv with timeout: interrupted", in_recv, 3},
        {"computes, another reaps: delay, us", computing, 2},
    };
    pin(0);
    printf("%-36s", "200 datagrams; the thread that armed");
    for (int m = 0; m < MODES; m++)
        printf(" %8s", modes[m].name);
    for (int i = 0; i < 3; i++) {
        printf("\n%-36s", rows[i].name);
        for (int m = 0; m < rows[i].modes; m++) {
            printf(" %8lld", (long long)run(&modes[m], rows[i].what));
            fflush(stdout);
        }
    }
    printf("\n");
    return 0;
}
