/* ring_fd works whenever it is first asked for: after data is queued, before ringmsg_ring_enable,
 * by another thread, while the owner sleeps in a reap, or by several threads at once. */
#include "ring_fd_loop.h"

static void ring_fd_made_after_data_is_queued_is_readable(uint32_t edge)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    send_some(50);
    sleep_ms(10);
    add_to_epoll(edge);
    loop_until(50, 20);
    send_some(50);
    loop_until(100, 20);
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(ring_fd_made_after_data_is_queued_is_readable)

static void ring_fd_made_after_a_single_shot_is_queued_is_readable(uint32_t edge)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 64, 2048);
    send_some(1);
    OK(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    add_to_epoll(edge);
    loop_until(1, 20);
    tear_down();
}
BOTH_TRIGGERS(ring_fd_made_after_a_single_shot_is_queued_is_readable)

static void *add_to_epoll_here(void *edge)
{
    add_to_epoll((uint32_t)(intptr_t)edge);
    return NULL;
}

static void ring_fd_made_by_another_thread_serves_the_owner(uint32_t edge)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    send_some(5);
    pthread_join(start(add_to_epoll_here, (intptr_t)edge), NULL);
    loop_until(5, CAPACITY);
    for (int i = 6; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(ring_fd_made_by_another_thread_serves_the_owner)

static void *add_to_epoll_and_wake(void *edge)
{
    sleep_ms(30);
    add_to_epoll((uint32_t)(intptr_t)edge);
    OK(ringmsg_wake(fixture.ring));
    return NULL;
}

static void ring_fd_made_while_the_owner_sleeps_serves_it_later(uint32_t edge)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    pthread_t thread = start(add_to_epoll_and_wake, (intptr_t)edge);
    EQUAL(OK(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, NULL)), 0);
    pthread_join(thread, NULL);
    for (int i = 1; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(ring_fd_made_while_the_owner_sleeps_serves_it_later)

static volatile int go;

static void *ask_at_once(void *unused)
{
    (void)unused;
    while (!go)
        ;
    return (void *)(intptr_t)ringmsg_ring_fd(fixture.ring);
}

/* Several threads make the first call while the owner reaps. All get the same descriptor. */
static void threads_that_ask_at_once_get_the_same_ring_fd(void)
{
    set_up_sockets();
    for (int i = 0; i < 200; i++) {
        pthread_t threads[2];
        void *answers[2];
        fixture.ring = make_ring();
        go = 0;
        for (int t = 0; t < 2; t++)
            threads[t] = start(ask_at_once, 0);
        go = 1;
        for (int reaps = 0; reaps < 20; reaps++)
            EQUAL(reap_ms(fixture.ring, records, CAPACITY, 0), 0);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], &answers[t]);
        int fd = OK(ringmsg_ring_fd(fixture.ring));
        EQUAL((intptr_t)answers[0], fd);
        EQUAL((intptr_t)answers[1], fd);
        OK(ringmsg_ring_free(fixture.ring));
    }
}

static uint32_t edge_of_owner;

static void *own_and_loop(void *unused)
{
    (void)unused;
    OK(ringmsg_ring_enable(fixture.ring));
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    for (int i = 1; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    check_no_more_records(2);
    return NULL;
}

/* The ring is made disabled, ring_fd joins an epoll set, and another thread enables the ring. */
static void ring_fd_made_before_enable_serves_the_owner(uint32_t edge)
{
    fixture.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 64, 2048);
    edge_of_owner = edge;
    add_to_epoll(edge);
    REFUSED(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, NULL), EBADFD);
    pthread_join(start(own_and_loop, 0), NULL);
    tear_down();
}
BOTH_TRIGGERS(ring_fd_made_before_enable_serves_the_owner)

TESTS(BOTH_SQPOLL_TOO(ring_fd_made_after_data_is_queued_is_readable),
      BOTH(ring_fd_made_after_a_single_shot_is_queued_is_readable),
      BOTH(ring_fd_made_by_another_thread_serves_the_owner),
      BOTH(ring_fd_made_while_the_owner_sleeps_serves_it_later),
      TEST(threads_that_ask_at_once_get_the_same_ring_fd),
      BOTH_SQPOLL_TOO(ring_fd_made_before_enable_serves_the_owner))
