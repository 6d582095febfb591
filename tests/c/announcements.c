/* What ring_fd has to announce although no new datagram does. */
#include "polling.h"

static void the_rest_of_a_train_is_announced(uint32_t edge)
{
    static char train[20 * 100];
    it.ring = make_ring();
    set_up_sockets();
    OK(ringmsg_socket_enable(it.receiver, RINGMSG_META_SEGMENT_SIZE));
    it.pool = make_pool(it.ring, it.receiver, 16, 0);
    watch(edge);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(it.sender, train, sizeof train, 100);
    loop_until(20, 3);
    EQUAL(seen.wakeups, 7);
    stays_quiet(1);
    EQUAL(stats_of(it.ring).buffers_held, 0);
    tear_down();
}
BOTH_TRIGGERS(the_rest_of_a_train_is_announced)

static struct ringmsg_record held[4];

/* Takes all four buffers, with four more datagrams in the socket. */
static void starve(uint32_t edge)
{
    set_up(edge, 4);
    send_some(8);
    for (int have = 0, n; have < 4; have += n) {
        CHECK(wait_readable(HANG_MS));
        n = handle(CAPACITY);
        CHECK(have + n <= 4);
        memcpy(held + have, records, (size_t)n * sizeof *held);
    }
    stays_quiet(2);
    EQUAL(stats_of(it.ring).starvations, 1);
}

static void a_release_by_the_owner_is_followed_by_data(uint32_t edge)
{
    starve(edge);
    OK(ringmsg_release(it.ring, held, 2));
    loop_until(8, CAPACITY);
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(a_release_by_the_owner_is_followed_by_data)

static void *release_later(void *unused)
{
    (void)unused;
    sleep_ms(30);
    OK(ringmsg_release(it.ring, held, 4));
    return NULL;
}

static void a_release_by_another_thread_is_followed_by_data(uint32_t edge)
{
    starve(edge);
    pthread_t thread = start(release_later, 0);
    loop_until(8, CAPACITY);
    pthread_join(thread, NULL);
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(a_release_by_another_thread_is_followed_by_data)

static struct ringmsg_record given[CAPACITY];
static volatile int given_count;

static void *release_what_is_given(void *unused)
{
    (void)unused;
    for (int i = 0; i < RACES; i++) {
        WAIT_TURNING_FOR(given_count > i);
        OK(ringmsg_release(it.ring, &given[i % CAPACITY], 1));
    }
    return NULL;
}

/* A pool of one buffer starves with every datagram; the release comes at any time. */
static void starving_again_and_again_goes_on(uint32_t edge)
{
    set_up(edge, 1);
    int sent = 0, got = 0;
    given_count = 0;
    pthread_t thread = start(release_what_is_given, 0);
    while (got < RACES) {
        for (; sent < RACES && sent - got < 4; sent++)
            send_some(1);
        if (wait_readable(HANG_MS) == 0)
            FAIL("deaf after %d", got);
        int n = handle(1);
        if (n == 1) {
            given[got % CAPACITY] = records[0];
            given_count = ++got;
        }
    }
    pthread_join(thread, NULL);
    EQUAL(stats_of(it.ring).buffers_held, 0);
    tear_down();
}
BOTH_TRIGGERS(starving_again_and_again_goes_on)

static void a_cancel_is_announced(uint32_t edge)
{
    set_up(edge, 4);
    OK(ringmsg_cancel(it.ring, 1));
    loop_until(1, CAPACITY);
    EQUAL(seen.finals, 1);
    stays_quiet(2);
    tear_down();

    starve(edge);
    memset(&seen, 0, sizeof seen);
    OK(ringmsg_cancel(it.ring, 1));
    loop_until(1, CAPACITY);
    EQUAL(seen.finals, 1);
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(a_cancel_is_announced)

static void a_queued_single_shot_is_on_its_way(uint32_t edge)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, 4, 2048);
    watch(edge);
    send_some(1);
    OK(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 1));
    loop_until(1, CAPACITY);
    /* And one whose datagram comes later. */
    OK(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 2));
    stays_quiet(2);
    send_some(1);
    loop_until(2, CAPACITY);
    EQUAL(seen.finals, 2);
    tear_down();
}
BOTH_TRIGGERS(a_queued_single_shot_is_on_its_way)

static void *wake_later(void *unused)
{
    (void)unused;
    sleep_ms(30);
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void a_wake_is_announced(uint32_t edge)
{
    set_up(edge, 4);
    pthread_t thread = start(wake_later, 0);
    CHECK(wait_readable(HANG_MS));
    EQUAL(handle(CAPACITY), 0);
    pthread_join(thread, NULL);
    stays_quiet(1);
    tear_down();
}
BOTH_TRIGGERS(a_wake_is_announced)

TESTS(BOTH_SQPOLL_TOO(the_rest_of_a_train_is_announced),
      BOTH_SQPOLL_TOO(a_release_by_the_owner_is_followed_by_data),
      BOTH_SQPOLL_TOO(a_release_by_another_thread_is_followed_by_data),
      BOTH(starving_again_and_again_goes_on), BOTH_SQPOLL_TOO(a_cancel_is_announced),
      BOTH_SQPOLL_TOO(a_queued_single_shot_is_on_its_way), BOTH(a_wake_is_announced))
