/* An edge-triggered loop on ring_fd that reaps once with timeout 0 per event receives from every
 * socket: with more sockets than one system call reports, with any capacity, with several rings in
 * one epoll instance, and while datagrams arrive during the loop. A reap that leaves records or
 * work behind makes ring_fd readable again. */
#include "test.h"

#include <sys/epoll.h>

enum { SOCKETS = 300, RINGS = 3, ROUNDS = 4 };

static struct receiver {
    struct ringmsg_ring *ring;
    int sockets[SOCKETS];
    struct sockaddr_in addresses[SOCKETS];
    int received[SOCKETS];
} receivers[RINGS];

static int sender;

static void set_up_ring(struct receiver *receiver, int epoll, int index)
{
    socklen_t length = sizeof *receiver->addresses;
    memset(receiver, 0, sizeof *receiver);
    receiver->ring = make_ring();
    struct ringmsg_pool *pool = NULL;
    for (int i = 0; i < SOCKETS; i++) {
        receiver->sockets[i] = bound_udp(AF_INET);
        SYS(getsockname(receiver->sockets[i], (struct sockaddr *)&receiver->addresses[i], &length));
        receiver->addresses[i].sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (pool == NULL)
            pool = make_pool(receiver->ring, receiver->sockets[i], 1024, 64);
        OK(ringmsg_recvmsg_multishot(receiver->ring, pool, receiver->sockets[i], 0, 0, (uint64_t)i));
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)index};
    SYS(epoll_ctl(epoll, EPOLL_CTL_ADD, OK(ringmsg_ring_fd(receiver->ring)), &event));
}

static void tear_down_ring(struct receiver *receiver)
{
    OK(ringmsg_ring_free(receiver->ring));
    for (int i = 0; i < SOCKETS; i++)
        close(receiver->sockets[i]);
}

static void send_to(struct receiver *receiver, int socket)
{
    SYS(sendto(sender, "x", 1, 0, (struct sockaddr *)&receiver->addresses[socket],
               sizeof *receiver->addresses));
}

/* One reap per event until `expected` records have arrived and no more events follow. Returns the
 * number of records. */
static int run_loop(int epoll, uint32_t capacity, int expected)
{
    static struct ringmsg_record records[SOCKETS];
    struct ringmsg_wait now = {.size = sizeof now};
    struct epoll_event event;
    int received = 0, n;
    while ((n = epoll_wait(epoll, &event, 1, received < expected ? 1000 * TEST_TIME_FACTOR : 20)) != 0) {
        if (n < 0) {
            EQUAL(errno, EINTR); /* plain and COOP mode interrupt the thread that armed the request */
            continue;
        }
        struct receiver *receiver = &receivers[event.data.u32];
        int count = OK(ringmsg_reap(receiver->ring, records, NULL, capacity, &now));
        for (int i = 0; i < count; i++)
            receiver->received[records[i].user_data]++;
        OK(ringmsg_release(receiver->ring, records, (uint32_t)count));
        received += count;
    }
    return received;
}

static void check_all_sockets(int rings, uint32_t capacity)
{
    int epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    sender = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    for (int r = 0; r < rings; r++)
        set_up_ring(&receivers[r], epoll, r);
    EQUAL(run_loop(epoll, SOCKETS, 0), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        for (int r = 0; r < rings; r++)
            for (int i = 0; i < SOCKETS; i++)
                send_to(&receivers[r], i);
        EQUAL(run_loop(epoll, capacity, rings * SOCKETS), rings * SOCKETS);
        for (int r = 0; r < rings; r++)
            for (int i = 0; i < SOCKETS; i++)
                EQUAL(receivers[r].received[i], round);
    }
    for (int r = 0; r < rings; r++)
        tear_down_ring(&receivers[r]);
    close(epoll);
    close(sender);
}

static void every_socket_is_received_with_more_than_one_epoll_wait_reports(void)
{
    check_all_sockets(1, SOCKETS);
}
static void every_socket_is_received_with_any_capacity(void)
{
    check_all_sockets(1, 1);
    check_all_sockets(1, 7);
    check_all_sockets(1, 64);
}
static void every_socket_of_several_rings_in_one_epoll_instance_is_received(void)
{
    check_all_sockets(RINGS, 64);
}

static volatile int stop;

static void *send_until_stopped(void *result)
{
    long *sent = result;
    for (int i = 0; !stop; i = (i + 7) % SOCKETS) {
        send_to(&receivers[0], i);
        (*sent)++;
        if (*sent % 64 == 0)
            usleep(500);
    }
    return NULL;
}

/* Datagrams that arrive at any moment of a reap are not lost. */
static void datagrams_that_arrive_during_the_loop_are_received(void)
{
    int epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    long sent = 0, received = 0;
    pthread_t thread;
    sender = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    set_up_ring(&receivers[0], epoll, 0);
    stop = 0;
    pthread_create(&thread, NULL, send_until_stopped, &sent);
    struct ringmsg_record records[16];
    struct ringmsg_wait now = {.size = sizeof now};
    struct epoll_event event;
    for (int64_t end = now_ns() + 1000000000; now_ns() < end;) {
        if (epoll_wait(epoll, &event, 1, 100) <= 0)
            continue;
        int count = OK(ringmsg_reap(receivers[0].ring, records, NULL, 16, &now));
        OK(ringmsg_release(receivers[0].ring, records, (uint32_t)count));
        received += count;
    }
    stop = 1;
    pthread_join(thread, NULL);
    int left = (int)(sent - received) - (int)stats_of(receivers[0].ring).socket_drops;
    EQUAL(run_loop(epoll, SOCKETS, left), left);
    tear_down_ring(&receivers[0]);
    close(epoll);
    close(sender);
}

TESTS(TEST(every_socket_is_received_with_more_than_one_epoll_wait_reports),
      TEST(every_socket_is_received_with_any_capacity),
      TEST(every_socket_of_several_rings_in_one_epoll_instance_is_received),
      TEST(datagrams_that_arrive_during_the_loop_are_received))
