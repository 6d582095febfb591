/* With GRO trains memory bounds the window: few buffers are published, and those of a batch are
 * published again once it is released, because they are in the cache. Others are published only
 * where no thread releases: a held batch never stalls a socket. */
#include "test.h"
#include <sys/epoll.h>

enum { BUFFERS = 256, TRAIN = 38400, SEGMENT = 1200, BURST = 16 };

static struct ringmsg_ring *ring;
static struct ringmsg_pool *pool;
static int sender[2];
static uint8_t bytes[TRAIN];
static struct ringmsg_record held[BUFFERS];

/* Sockets that share a pool of large buffers. */
static void set_up(int sockets)
{
    ring = make_ring();
    pool = NULL;
    for (int i = 0; i < sockets; i++) {
        int receiver = bound_udp(AF_INET);
        OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
        make_room(receiver, 64 << 20);
        sender[i] = sender_to(receiver);
        if (pool == NULL)
            pool = make_pool(ring, receiver, BUFFERS, 0);
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, (uint64_t)i));
    }
}

static void send_burst(int to)
{
    for (int i = 0; i < BURST; i++)
        send_train(to, bytes, TRAIN, SEGMENT);
}

/* Receives a burst and releases each batch. Marks the buffers that were used. */
static void receive_burst(uint8_t *used)
{
    struct ringmsg_record batch[BURST];
    struct ringmsg_wait wait = wait_ms(2000);
    for (int got = 0; got < BURST;) {
        int n = OK(ringmsg_reap(ring, batch, NULL, (uint32_t)(BURST - got), &wait));
        COMPARE(n, >, 0);
        for (int i = 0; i < n; i++) {
            EQUAL(batch[i].result, TRAIN);
            used[batch[i].buffer] = 1;
        }
        OK(ringmsg_release(ring, batch, (uint32_t)n));
        got += n;
    }
}

static void released_buffers_are_filled_again(void)
{
    uint8_t used[BUFFERS] = {0};
    set_up(1);
    for (int burst = 0; burst < 40; burst++) {
        if (burst == 20)
            memset(used, 0, sizeof used); /* the window has its size by now */
        send_burst(sender[0]);
        receive_burst(used);
    }
    uint32_t buffers = 0;
    for (int i = 0; i < BUFFERS; i++)
        buffers += used[i];
    uint32_t published = (uint32_t)stats_of(ring).buffers_published;
    printf("  %u buffers used, %u published\n", buffers, published);
    if (is_bound()) /* in other modes the kernel receives between the reaps */
        COMPARE(buffers, <=, published + 2);
    EQUAL(stats_of(ring).starvations, 0);
    OK(ringmsg_ring_free(ring));
}

/* Reaps without releasing until every buffer is held: sleeps in reap, or in epoll_wait(2). */
static void hold_everything(int epoll_fd)
{
    int count = 0;
    while (count < BUFFERS) {
        if (count % (2 * BURST) == 0) {
            send_burst(sender[0]);
            send_burst(sender[1]);
        }
        for (int more = 2 * BURST; more > 0;) {
            struct ringmsg_wait wait = wait_ms(epoll_fd >= 0 ? 0 : 2000);
            struct epoll_event event;
            if (epoll_fd >= 0)
                EQUAL(epoll_wait(epoll_fd, &event, 1, 20000 * TEST_TIME_FACTOR), 1);
            int n = OK(ringmsg_reap(ring, held + count, NULL, (uint32_t)more, &wait));
            if (n == 0 && epoll_fd < 0)
                FAIL("%d trains arrived, and no more", count);
            more -= n;
            count += n;
        }
    }
    EQUAL(stats_of(ring).buffers_held, BUFFERS);
}

static void held_batches_stall_no_socket(void)
{
    set_up(2);
    hold_everything(-1);
    OK(ringmsg_release(ring, held, BUFFERS));
    uint8_t used[BUFFERS] = {0};
    send_burst(sender[1]);
    receive_burst(used);
    OK(ringmsg_ring_free(ring));
}

static void held_batches_stall_no_loop_of_epoll(void)
{
    set_up(2);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll_fd = SYS(epoll_create1(EPOLL_CLOEXEC));
    SYS(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, OK(ringmsg_ring_fd(ring)), &event));
    hold_everything(epoll_fd);
    SYS(close(epoll_fd));
    OK(ringmsg_ring_free(ring));
}

/* Of a thread that releases late, one record at a time. */
static void *release_slowly(void *unused)
{
    for (int i = 0; i < BUFFERS; i++) {
        OK(ringmsg_release(ring, held + i, 1));
        if (i % 16 == 0)
            sleep_ms(1);
    }
    return unused;
}

static void a_thread_that_releases_late_stalls_no_socket(void)
{
    uint8_t used[BUFFERS] = {0};
    pthread_t thread;
    set_up(2);
    hold_everything(-1);
    SYS(-pthread_create(&thread, NULL, release_slowly, NULL));
    for (int burst = 0; burst < 20; burst++) {
        send_burst(sender[burst % 2]);
        receive_burst(used);
    }
    pthread_join(thread, NULL);
    EQUAL(stats_of(ring).buffers_held, 0);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(released_buffers_are_filled_again), TEST(held_batches_stall_no_socket),
      TEST(held_batches_stall_no_loop_of_epoll), TEST(a_thread_that_releases_late_stalls_no_socket))
