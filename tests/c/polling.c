/* ring_fd in somebody else's loop: epoll, level- and edge-triggered, and a handler that reaps
 * with timeout 0. Nothing may wait for a time-out, and nothing may get up in vain. */
#include "test.h"

#define CAPACITY 64
#define HANG_MS 5000

static struct ringmsg_record records[CAPACITY];

static struct setup {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender, epoll;
} it;

/* What the loop has seen since it was last zeroed. */
static struct seen {
    int records, wakeups, empty, finals;
} seen;

static void watch(uint32_t edge)
{
    int fd = OK(ringmsg_ring_fd(it.ring));
    EQUAL(fd, OK(ringmsg_ring_fd(it.ring)));
    CHECK(SYS(fcntl(fd, F_GETFD)) & FD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | edge};
    it.epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    SYS(epoll_ctl(it.epoll, EPOLL_CTL_ADD, fd, &event));
    memset(&seen, 0, sizeof seen);
}

static void set_up_sockets(void)
{
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
}

static void set_up(uint32_t edge, uint32_t buffers)
{
    it.ring = make_ring();
    set_up_sockets();
    it.pool = make_pool(it.ring, it.receiver, buffers, 2048);
    watch(edge);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(it.ring));
    close(it.receiver);
    close(it.sender);
    close(it.epoll);
}

static void send_some(int count)
{
    for (int i = 0; i < count; i++)
        EQUAL(SYS(send(it.sender, "hello", 5, 0)), 5);
}

static pthread_t start(void *(*run)(void *), intptr_t argument)
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, run, (void *)argument), 0);
    return thread;
}

/* 1: ring_fd is readable; 0: it was not within this time. */
static int wait_readable(int ms)
{
    struct epoll_event event;
    int64_t deadline = now_ns() + (int64_t)ms * 1000000;
    for (;;) {
        int64_t left = deadline - now_ns();
        int got = epoll_wait(it.epoll, &event, 1, left < 0 ? 0 : (int)((left + 999999) / 1000000));
        /* Plain and COOP interrupt the thread that armed. */
        if (got >= 0)
            return got;
        EQUAL(errno, EINTR);
    }
}

/* What a handler does: one reap that does not block. Its records stay in `records`. */
static int handle(uint32_t capacity)
{
    int n = reap_ms(it.ring, records, capacity, 0);
    seen.wakeups++;
    seen.empty += n == 0;
    seen.records += n;
    for (int i = 0; i < n; i++)
        seen.finals += (records[i].flags & RINGMSG_RECORD_FINAL) != 0;
    return n;
}

static void handle_and_release(uint32_t capacity)
{
    int n = handle(capacity);
    OK(ringmsg_release(it.ring, records, (uint32_t)n));
}

/* The loop, until so many records have come. */
static void loop_until(int wanted, uint32_t capacity)
{
    while (seen.records < wanted) {
        if (wait_readable(HANG_MS) == 0)
            FAIL("deaf: %d of %d records", seen.records, wanted);
        handle_and_release(capacity);
    }
    EQUAL(seen.records, wanted);
}

/* Nothing is left to be told. */
static void stays_quiet(int may_be_empty)
{
    for (int i = 0; wait_readable(30) != 0; i++) {
        CHECK(i < may_be_empty);
        EQUAL(handle(CAPACITY), 0);
    }
}

#define BOTH_TRIGGERS(body)                             \
    static void body##_level(void) { body(0); }         \
    static void body##_edge(void) { body(EPOLLET); }

/* --- steady state ------------------------------------------------------------------------ */

enum { PACED = 1000 };

static void *send_paced(void *unused)
{
    (void)unused;
    for (int i = 0; i < PACED; i++) {
        int64_t until = now_ns() + 500000;
        send_some(1);
        while (now_ns() < until) {
            struct timespec pause = {0, 200000};
            nanosleep(&pause, NULL);
        }
    }
    return NULL;
}

static void steady_state_has_no_empty_wakeups(uint32_t edge)
{
    set_up(edge, 64);
    uint64_t before = stats_of(it.ring).enters;
    pthread_t thread = start(send_paced, 0);
    loop_until(PACED, CAPACITY);
    pthread_join(thread, NULL);
    stays_quiet(2);
    printf("  %d datagrams, %d wake-ups, %d of them empty, %d kernel entries\n", seen.records,
           seen.wakeups, seen.empty, (int)(stats_of(it.ring).enters - before));
    CHECK(seen.empty <= PACED / 50);
    tear_down();
}
BOTH_TRIGGERS(steady_state_has_no_empty_wakeups)

/* Bursts, taken in pieces: what a reap leaves behind is announced again. */
static void bursts_are_taken_in_pieces(uint32_t edge)
{
    static const uint32_t capacities[] = {1, 3, CAPACITY};
    set_up(edge, 64);
    for (int c = 0; c < 3; c++) {
        for (int round = 0; round < 20; round++) {
            memset(&seen, 0, sizeof seen);
            send_some(100);
            loop_until(100, capacities[c]);
            CHECK(seen.wakeups <= 100 + 20);
        }
        stays_quiet(2);
    }
    tear_down();
}
BOTH_TRIGGERS(bursts_are_taken_in_pieces)

enum { RACES = 4000 };
static volatile int answered;

static void *send_when_answered(void *unused)
{
    (void)unused;
    for (int i = 0; i < RACES; i++) {
        send_some(1);
        WAIT_TURNING_FOR(answered > i);
        for (volatile int pause = 0; pause < i % 64; pause++)
            ;
    }
    return NULL;
}

/* The next datagram comes at every distance from the end of the reap before. */
static void no_datagram_falls_between_two_reaps(uint32_t edge)
{
    set_up(edge, 64);
    answered = 0;
    pthread_t thread = start(send_when_answered, 0);
    for (int i = 1; i <= RACES; i++) {
        while (seen.records < i) {
            if (wait_readable(HANG_MS) == 0)
                FAIL("deaf after %d", seen.records);
            answered = i - 1 + reap_ms(it.ring, records, CAPACITY, 0);
            seen.records = answered;
        }
        OK(ringmsg_release(it.ring, records, 1));
    }
    pthread_join(thread, NULL);
    tear_down();
}
BOTH_TRIGGERS(no_datagram_falls_between_two_reaps)

/* --- what no new datagram announces ------------------------------------------------------- */

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

/* --- when ring_fd is asked for ------------------------------------------------------------ */

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

/* A loop that uses ring_fd may reap with a time-out as well. */
static void blocking_reaps_between(uint32_t edge)
{
    set_up(edge, 64);
    for (int i = 0; i < 50; i++) {
        send_some(3);
        for (int got = 0; got < 3; got++)
            OK(ringmsg_release(it.ring, (records[0] = reap_one(it.ring), records), 1));
        send_some(1);
        memset(&seen, 0, sizeof seen);
        loop_until(1, CAPACITY);
    }
    stays_quiet(2);
    tear_down();
}
BOTH_TRIGGERS(blocking_reaps_between)

static void everything_again_with_sqpoll(void)
{
    if (test_mode != 0 || is_recvmmsg())
        return;
    test_mode = RINGMSG_SETUP_SQPOLL;
    test_mode_name = "sqpoll";
    for (uint32_t edge = 0, round = 0; round < 2; round++, edge = EPOLLET) {
        bursts_are_taken_in_pieces(edge);
        the_rest_of_a_train_is_announced(edge);
        a_cancel_is_announced(edge);
        a_queued_single_shot_is_on_its_way(edge);
        a_release_by_the_owner_is_followed_by_data(edge);
        a_release_by_another_thread_is_followed_by_data(edge);
        late_after_data_is_queued(edge);
        before_enable(edge);
    }
}

#define BOTH(body) TEST(body##_level), TEST(body##_edge)
TESTS(BOTH(steady_state_has_no_empty_wakeups), BOTH(bursts_are_taken_in_pieces),
      BOTH(no_datagram_falls_between_two_reaps), BOTH(the_rest_of_a_train_is_announced),
      BOTH(a_release_by_the_owner_is_followed_by_data),
      BOTH(a_release_by_another_thread_is_followed_by_data), BOTH(starving_again_and_again_goes_on),
      BOTH(a_cancel_is_announced), BOTH(a_queued_single_shot_is_on_its_way), BOTH(a_wake_is_announced),
      BOTH(late_after_data_is_queued), BOTH(late_with_a_single_shot_queued), BOTH(from_another_thread),
      BOTH(while_the_owner_sleeps_in_reap),
      TEST(asked_for_by_several_threads_at_once), BOTH(before_enable), BOTH(blocking_reaps_between),
      TEST(everything_again_with_sqpoll))
