/* A loop that watches ring_fd edge-triggered, and reaps once with timeout 0 for each event, hears every
 * socket: with more sockets than one system call reports, with any capacity, with several rings in
 * one epoll instance, and while datagrams arrive during the loop. A reap that leaves anything behind
 * makes ring_fd readable anew. */
#include "test.h"

#include <sys/epoll.h>

enum { SOCKETS = 300, RINGS = 3, ROUNDS = 4 };

static struct watched {
    struct ringmsg_ring *ring;
    int receivers[SOCKETS];
    struct sockaddr_in addresses[SOCKETS];
    int heard[SOCKETS];
} watched[RINGS];

static int sender;

static void set_up_ring(struct watched *it, int epoll, int index)
{
    socklen_t length = sizeof *it->addresses;
    memset(it, 0, sizeof *it);
    it->ring = make_ring();
    struct ringmsg_pool *pool = NULL;
    for (int i = 0; i < SOCKETS; i++) {
        it->receivers[i] = bound_udp(AF_INET);
        SYS(getsockname(it->receivers[i], (struct sockaddr *)&it->addresses[i], &length));
        it->addresses[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (pool == NULL)
            pool = make_pool(it->ring, it->receivers[i], 1024, 64);
        OK(ringmsg_recvmsg_multishot(it->ring, pool, it->receivers[i], 0, 0, (uint64_t)i));
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)index};
    SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, OK(ringmsg_ring_fd(it->ring)), &event));
}

static void tear_down_ring(struct watched *it)
{
    OK(ringmsg_ring_free(it->ring));
    for (int i = 0; i < SOCKETS; i++)
        close(it->receivers[i]);
}

static void send_to(struct watched *it, int socket)
{
    SYS(sendto(sender, "x", 1, 0, (struct sockaddr *)&it->addresses[socket], sizeof *it->addresses));
}

/* One reap for each event until `expected` records were there, and nothing more happens. */
static int run_loop(int epoll, uint32_t capacity, int expected)
{
    static struct ringmsg_record records[SOCKETS];
    struct ringmsg_wait now = {.size = sizeof now};
    struct epoll_event event;
    int heard = 0, n;
    while ((n = epoll_wait(epoll, &event, 1, heard < expected ? 1000 * TEST_PATIENCE : 20)) != 0) {
        if (n < 0) {
            EQUAL(errno, EINTR); /* plain and COOP mode interrupt the thread that armed */
            continue;
        }
        struct watched *it = &watched[event.data.u32];
        int got = OK(ringmsg_reap(it->ring, records, NULL, capacity, &now));
        for (int i = 0; i < got; i++)
            it->heard[records[i].user_data]++;
        OK(ringmsg_release(it->ring, records, (uint32_t)got));
        heard += got;
    }
    return heard;
}

static void hears_everybody(int rings, uint32_t capacity)
{
    int epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    sender = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    for (int r = 0; r < rings; r++)
        set_up_ring(&watched[r], epoll, r);
    EQUAL(run_loop(epoll, SOCKETS, 0), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        for (int r = 0; r < rings; r++)
            for (int i = 0; i < SOCKETS; i++)
                send_to(&watched[r], i);
        EQUAL(run_loop(epoll, capacity, rings * SOCKETS), rings * SOCKETS);
        for (int r = 0; r < rings; r++)
            for (int i = 0; i < SOCKETS; i++)
                EQUAL(watched[r].heard[i], round);
    }
    for (int r = 0; r < rings; r++)
        tear_down_ring(&watched[r]);
    close(epoll);
    close(sender);
}

static void more_sockets_than_one_system_call_reports(void) { hears_everybody(1, SOCKETS); }
static void capacities_of_1_and_7_and_64(void)
{
    hears_everybody(1, 1);
    hears_everybody(1, 7);
    hears_everybody(1, 64);
}
static void several_rings_in_one_epoll_instance(void) { hears_everybody(RINGS, 64); }

static volatile int stop;

static void *send_all_the_time(void *result)
{
    long *sent = result;
    for (int i = 0; !stop; i = (i + 7) % SOCKETS) {
        send_to(&watched[0], i);
        (*sent)++;
        if (*sent % 64 == 0)
            usleep(500);
    }
    return NULL;
}

/* Events that come while the loop is in a reap, at every point of it, are not lost. */
static void datagrams_that_arrive_during_the_loop(void)
{
    int epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    long sent = 0, heard = 0;
    pthread_t thread;
    sender = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    set_up_ring(&watched[0], epoll, 0);
    stop = 0;
    pthread_create(&thread, NULL, send_all_the_time, &sent);
    struct ringmsg_record records[16];
    struct ringmsg_wait now = {.size = sizeof now};
    struct epoll_event event;
    for (int64_t end = now_ns() + 1000000000; now_ns() < end;) {
        if (epoll_wait(epoll, &event, 1, 100) <= 0)
            continue;
        int got = OK(ringmsg_reap(watched[0].ring, records, NULL, 16, &now));
        OK(ringmsg_release(watched[0].ring, records, (uint32_t)got));
        heard += got;
    }
    stop = 1;
    pthread_join(thread, NULL);
    int left = (int)(sent - heard) - (int)stats_of(watched[0].ring).socket_drops;
    EQUAL(run_loop(epoll, SOCKETS, left), left);
    tear_down_ring(&watched[0]);
    close(epoll);
    close(sender);
}

TESTS(TEST(more_sockets_than_one_system_call_reports), TEST(capacities_of_1_and_7_and_64),
      TEST(several_rings_in_one_epoll_instance), TEST(datagrams_that_arrive_during_the_loop))
