/* ring_fd becomes readable for everything that a reap would return or do, although no new datagram
 * arrives: the rest of a train, a release, a cancel, a queued single-shot, a wake. */
#include "ring_fd_loop.h"

static void the_rest_of_a_train_makes_ring_fd_readable(uint32_t edge)
{
    static char train[20 * 100];
    fixture.ring = make_ring();
    set_up_sockets();
    OK(ringmsg_socket_enable(fixture.receiver, RINGMSG_META_SEGMENT_SIZE));
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 16, 0);
    add_to_epoll(edge);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(fixture.sender, train, sizeof train, 100);
    loop_until(20, 3);
    EQUAL(counts.wakeups, 7);
    check_no_more_records(1);
    EQUAL(stats_of(fixture.ring).buffers_held, 0);
    tear_down();
}
BOTH_TRIGGERS(the_rest_of_a_train_makes_ring_fd_readable)

static struct ringmsg_record held[4];

/* Holds all four buffers, with four more datagrams in the socket. */
static void starve(uint32_t edge)
{
    set_up(edge, 4);
    send_some(8);
    for (int have = 0, n; have < 4; have += n) {
        CHECK(wait_readable(HANG_MS));
        n = handle(CAPACITY);
        COMPARE(have + n, <=, 4);
        memcpy(held + have, records, (size_t)n * sizeof *held);
    }
    check_no_more_records(2);
    EQUAL(stats_of(fixture.ring).starvations, 1);
}

static void a_release_by_the_owner_resumes_a_starved_request(uint32_t edge)
{
    starve(edge);
    OK(ringmsg_release(fixture.ring, held, 2));
    loop_until(8, CAPACITY);
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(a_release_by_the_owner_resumes_a_starved_request)

static void *release_later(void *unused)
{
    (void)unused;
    sleep_ms(30);
    OK(ringmsg_release(fixture.ring, held, 4));
    return NULL;
}

static void a_release_by_another_thread_resumes_a_starved_request(uint32_t edge)
{
    starve(edge);
    pthread_t thread = start(release_later, 0);
    loop_until(8, CAPACITY);
    pthread_join(thread, NULL);
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(a_release_by_another_thread_resumes_a_starved_request)

static struct ringmsg_record given[CAPACITY];
static volatile int given_count;

static void *release_what_is_given(void *unused)
{
    (void)unused;
    for (int i = 0; i < RACES; i++) {
        SPIN_UNTIL(given_count > i);
        OK(ringmsg_release(fixture.ring, &given[i % CAPACITY], 1));
    }
    return NULL;
}

/* With a pool of one buffer every datagram starves the request, and the release comes at any
 * time. */
static void repeated_starvation_never_stops_the_loop(uint32_t edge)
{
    set_up(edge, 1);
    int sent = 0, got = 0;
    given_count = 0;
    pthread_t thread = start(release_what_is_given, 0);
    while (got < RACES) {
        for (; sent < RACES && sent - got < 4; sent++)
            send_some(1);
        if (wait_readable(HANG_MS) == 0)
            FAIL("no wake-up after %d records", got);
        int n = handle(1);
        if (n == 1) {
            given[got % CAPACITY] = records[0];
            given_count = ++got;
        }
    }
    pthread_join(thread, NULL);
    EQUAL(stats_of(fixture.ring).buffers_held, 0);
    tear_down();
}
BOTH_TRIGGERS(repeated_starvation_never_stops_the_loop)

static void a_cancel_makes_ring_fd_readable(uint32_t edge)
{
    set_up(edge, 4);
    OK(ringmsg_cancel(fixture.ring, 1));
    loop_until(1, CAPACITY);
    EQUAL(counts.finals, 1);
    check_no_more_records(2);
    tear_down();

    starve(edge);
    memset(&counts, 0, sizeof counts);
    OK(ringmsg_cancel(fixture.ring, 1));
    loop_until(1, CAPACITY);
    EQUAL(counts.finals, 1);
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(a_cancel_makes_ring_fd_readable)

static void a_queued_single_shot_makes_ring_fd_readable(uint32_t edge)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 4, 2048);
    add_to_epoll(edge);
    send_some(1);
    OK(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    loop_until(1, CAPACITY);
    /* A second single-shot, whose datagram arrives later. */
    OK(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 2));
    check_no_more_records(2);
    send_some(1);
    loop_until(2, CAPACITY);
    EQUAL(counts.finals, 2);
    tear_down();
}
BOTH_TRIGGERS(a_queued_single_shot_makes_ring_fd_readable)

static void *wake_later(void *unused)
{
    (void)unused;
    sleep_ms(30);
    OK(ringmsg_wake(fixture.ring));
    return NULL;
}

static void a_wake_makes_ring_fd_readable(uint32_t edge)
{
    set_up(edge, 4);
    pthread_t thread = start(wake_later, 0);
    CHECK(wait_readable(HANG_MS));
    EQUAL(handle(CAPACITY), 0);
    pthread_join(thread, NULL);
    check_no_more_records(1);
    tear_down();
}
BOTH_TRIGGERS(a_wake_makes_ring_fd_readable)

TESTS(BOTH_SQPOLL_TOO(the_rest_of_a_train_makes_ring_fd_readable),
      BOTH_SQPOLL_TOO(a_release_by_the_owner_resumes_a_starved_request),
      BOTH_SQPOLL_TOO(a_release_by_another_thread_resumes_a_starved_request),
      BOTH(repeated_starvation_never_stops_the_loop),
      BOTH_SQPOLL_TOO(a_cancel_makes_ring_fd_readable),
      BOTH_SQPOLL_TOO(a_queued_single_shot_makes_ring_fd_readable),
      BOTH(a_wake_makes_ring_fd_readable))
