/* When ring_fd is asked for, and by whom: late, before ring_enable, while the owner sleeps, by several at once. */
#include "polling.h"

static void late_after_data_is_queued(uint32_t edge)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
    send_some(50);
    sleep_ms(10);
    watch(edge);
    loop_until(50, 20);
    send_some(50);
    loop_until(100, 20);
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(late_after_data_is_queued)

static void late_with_a_single_shot_queued(uint32_t edge)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 64, 2048);
    send_some(1);
    OK(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 1));
    watch(edge);
    loop_until(1, 20);
    tear_down();
}
BOTH_TRIGGERS(late_with_a_single_shot_queued)

static void *watch_here(void *edge)
{
    watch((uint32_t)(intptr_t)edge);
    return NULL;
}

static void from_another_thread(uint32_t edge)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
    send_some(5);
    pthread_join(start(watch_here, (intptr_t)edge), NULL);
    loop_until(5, CAPACITY);
    for (int i = 6; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(from_another_thread)

static void *watch_while_it_sleeps(void *edge)
{
    sleep_ms(30);
    watch((uint32_t)(intptr_t)edge);
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void while_the_owner_sleeps_in_reap(uint32_t edge)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 64, 2048);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
    pthread_t thread = start(watch_while_it_sleeps, (intptr_t)edge);
    EQUAL(OK(ringmsg_reap(it.ring, records, NULL, CAPACITY, NULL)), 0);
    pthread_join(thread, NULL);
    for (int i = 1; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(while_the_owner_sleeps_in_reap)

static volatile int go;

static void *ask_at_once(void *unused)
{
    (void)unused;
    while (!go)
        ;
    return (void *)(intptr_t)ringmsg_ring_fd(it.ring);
}

/* Several threads ask for the first time while the owner reaps: all get the same answer. */
static void asked_for_by_several_threads_at_once(void)
{
    set_up_sockets();
    for (int i = 0; i < 200; i++) {
        pthread_t threads[2];
        void *answers[2];
        it.ring = make_ring();
        go = 0;
        for (int t = 0; t < 2; t++)
            threads[t] = start(ask_at_once, 0);
        go = 1;
        for (int reaps = 0; reaps < 20; reaps++)
            EQUAL(reap_ms(it.ring, records, CAPACITY, 0), 0);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], &answers[t]);
        int fd = OK(ringmsg_ring_fd(it.ring));
        EQUAL((intptr_t)answers[0], fd);
        EQUAL((intptr_t)answers[1], fd);
        OK(ringmsg_ring_free(it.ring));
    }
}

static uint32_t edge_of_owner;

static void *own_and_loop(void *unused)
{
    (void)unused;
    OK(ringmsg_ring_enable(it.ring));
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
    for (int i = 1; i <= 100; i++) {
        send_some(1);
        loop_until(i, CAPACITY);
    }
    stays_quiet(2);
    return NULL;
}

/* Made disabled, watched before it is enabled, enabled by another thread. */
static void before_enable(uint32_t edge)
{
    it.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 64, 2048);
    edge_of_owner = edge;
    watch(edge);
    REFUSED(ringmsg_reap(it.ring, records, NULL, CAPACITY, NULL), EBADFD);
    pthread_join(start(own_and_loop, 0), NULL);
    tear_down();
}
BOTH_TRIGGERS(before_enable)

TESTS(BOTH_SQPOLL_TOO(late_after_data_is_queued), BOTH(late_with_a_single_shot_queued),
      BOTH(from_another_thread), BOTH(while_the_owner_sleeps_in_reap),
      TEST(asked_for_by_several_threads_at_once), BOTH_SQPOLL_TOO(before_enable))
