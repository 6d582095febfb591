/* A sleeping reap ends with a record, a wake, or its timeout, submits what other threads queue, and
 * loses no wake. */
#include "waiting.h"

/* --- timeouts ---------------------------------------------------------------------------- */

static void *send_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    send_some(1);
    return NULL;
}

static void zero_short_and_infinite_timeouts_are_kept(void)
{
    int64_t us, best = INT64_MAX;
    set_up(16);
    struct ringmsg_wait none = wait_with(0, 0), brief = wait_with(30, 0);
    for (int i = 0; i < 20; i++) {
        EQUAL(timed_reap(&none, &us), 0);
        best = us < best ? us : best;
    }
    COMPARE(best, <, 5000 * TEST_TIME_FACTOR);
    best = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        EQUAL(timed_reap(&brief, &us), 0);
        COMPARE(us, >=, 30000);
        best = us < best ? us : best;
    }
    COMPARE(best, <, 150000 * TEST_TIME_FACTOR);
    /* Without a limit, or without a struct, the reap waits until a record arrives. */
    pthread_t thread = start(send_later, 30);
    EQUAL(timed_reap(NULL, &us), 1);
    COMPARE(since_start_us(), >=, 20000);
    pthread_join(thread, NULL);
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    thread = start(send_later, 30);
    EQUAL(timed_reap(&forever, &us), 1);
    COMPARE(since_start_us(), >=, 20000);
    pthread_join(thread, NULL);
    tear_down();
}

/* --- wakes ------------------------------------------------------------------------------- */

static void a_wake_from_another_thread_ends_a_reap(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    pthread_t thread = start(wake_later, 30);
    EQUAL(timed_reap(&forever, &us), 0);
    COMPARE(since_start_us(), >=, 20000);
    pthread_join(thread, NULL);
    tear_down();
}

static void wakes_are_sticky_and_count_as_one(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = wait_with(FOREVER, 0), brief = wait_with(30, 0);
    OK(ringmsg_wake(fixture.ring));
    OK(ringmsg_wake(fixture.ring));
    EQUAL(timed_reap(&forever, &us), 0);
    EQUAL(timed_reap(&brief, &us), 0);
    COMPARE(us, >=, 30000);
    /* A reap that returns records consumes the wake as well. */
    send_some(1);
    /* With SQPOLL the kernel's thread may post the completion later. */
    sleep_ms(test_mode & RINGMSG_SETUP_SQPOLL ? 200 : 10);
    OK(ringmsg_wake(fixture.ring));
    EQUAL(timed_reap(&forever, &us), 1);
    EQUAL(timed_reap(&brief, &us), 0);
    COMPARE(us, >=, 30000);
    tear_down();
}

enum { WAKES = 10000 };
static volatile int woken;

static void *wake_again_and_again(void *unused)
{
    (void)unused;
    for (int i = 0; i < WAKES; i++) {
        OK(ringmsg_wake(fixture.ring));
        /* Each wake comes at another distance in time from the moment at which the reaper falls
         * asleep. */
        SPIN_UNTIL(woken > i);
        for (volatile int pause = 0; pause < i % 64; pause++)
            ;
    }
    return NULL;
}

/* Every wake ends one reap. If a wake is lost, the test hangs until the alarm. */
static void no_wake_is_lost(void)
{
    set_up(16);
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    alarm(30 * TEST_TIME_FACTOR);
    woken = 0;
    pthread_t thread = start(wake_again_and_again, 0);
    for (int i = 0; i < WAKES; i++) {
        EQUAL(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &forever), 0);
        woken = i + 1;
    }
    pthread_join(thread, NULL);
    COMPARE(stats_of(fixture.ring).wakes, >=, WAKES);
    tear_down();
}

/* --- one reap at a time ------------------------------------------------------------------ */

static struct ringmsg_record kept;

static void *reap_too(void *unused)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_with(0, 0);
    (void)unused;
    sleep_ms(30);
    REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), is_bound() ? EPERM : EBUSY);
    REFUSED(ringmsg_next(fixture.ring, &kept, 1, &record, NULL, 1, &wait), is_bound() ? EPERM : EBUSY);
    EQUAL(stats_of(fixture.ring).buffers_held, 1); /* the refused ringmsg_next has not released it */
    OK(ringmsg_wake(fixture.ring));
    return NULL;
}

static void a_second_reap_is_refused(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    send_some(1);
    kept = reap_one(fixture.ring);
    pthread_t thread = start(reap_too, 0);
    EQUAL(timed_reap(&forever, &us), 0);
    pthread_join(thread, NULL);
    OK(ringmsg_release(fixture.ring, &kept, 1));
    send_some(1);
    EQUAL(timed_reap(&forever, &us), 1);
    tear_down();
}

/* --- spinning ---------------------------------------------------------------------------- */

static void a_spin_ends_with_a_record_a_wake_or_the_timeout(void)
{
    int64_t us, best = INT64_MAX;
    set_up(16);
    struct ringmsg_wait wait = wait_with(5, 0);
    wait.spin_us = 1000000;
    for (int i = 0; i < 10; i++) {
        EQUAL(timed_reap(&wait, &us), 0);
        COMPARE(us, >=, 5000);
        best = us < best ? us : best;
    }
    COMPARE(best, <, 100000 * TEST_TIME_FACTOR);
    wait.timeout_ns = -1;
    pthread_t thread = start(wake_later, 20);
    EQUAL(timed_reap(&wait, &us), 0);
    COMPARE(us, <, 900000);
    pthread_join(thread, NULL);
    thread = start(send_later, 20);
    EQUAL(timed_reap(&wait, &us), 1);
    COMPARE(us, <, 900000);
    pthread_join(thread, NULL);
    /* The sleep after the spin works like any other. */
    wait.spin_us = 2000;
    thread = start(send_later, 30);
    EQUAL(timed_reap(&wait, &us), 1);
    COMPARE(since_start_us(), >=, 20000);
    pthread_join(thread, NULL);
    tear_down();
}

/* --- submissions by another thread -------------------------------------------------------- */

enum { SINGLES = 5000 };
static struct msghdr messages[SINGLES];
static char payload[8];
static struct iovec part = {payload, sizeof payload};
static volatile int reaped;

static void *submit_singles(void *ahead)
{
    for (int i = 0; i < SINGLES; i++) {
        messages[i] = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
        OK(ringmsg_recvmsg(fixture.ring, fixture.receiver, &messages[i], MSG_DONTWAIT, 0, (uint64_t)i));
        WAIT_UNTIL(i - reaped <= (int)(intptr_t)ahead);
    }
    return NULL;
}

/* One thread queues single-shots while another reaps, asleep or not. Every request completes. */
static void reap_singles(int timeout_ms, int ahead)
{
    static unsigned char answered[SINGLES];
    memset(answered, 0, sizeof answered);
    fixture.ring = make_ring();
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    struct ringmsg_wait wait = wait_with(timeout_ms, 0);
    reaped = 0;
    pthread_t thread = start(submit_singles, ahead);
    int64_t deadline = now_ns() + 20000000000 * TEST_TIME_FACTOR;
    while (reaped < SINGLES) {
        int n = OK(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait));
        for (int i = 0; i < n; i++) {
            EQUAL(records[i].result, -EAGAIN);
            COMPARE(records[i].user_data, <, SINGLES);
            EQUAL(answered[records[i].user_data]++, 0);
        }
        reaped += n;
        if (now_ns() > deadline)
            FAIL("%d of %d requests completed", reaped, SINGLES);
    }
    pthread_join(thread, NULL);
    tear_down();
}

static void submissions_by_another_thread_reach_the_reaper(void)
{
    if (is_bound())
        return;
    reap_singles(0, 30);
    reap_singles(FOREVER, 0);
    reap_singles(1000, 30);
}

TESTS(TEST_SQPOLL_TOO(zero_short_and_infinite_timeouts_are_kept),
      TEST_SQPOLL_TOO(a_wake_from_another_thread_ends_a_reap),
      TEST_SQPOLL_TOO(wakes_are_sticky_and_count_as_one),
      TEST(no_wake_is_lost),
      TEST_SQPOLL_TOO(a_second_reap_is_refused),
      TEST_SQPOLL_TOO(a_spin_ends_with_a_record_a_wake_or_the_timeout),
      TEST_SQPOLL_TOO(submissions_by_another_thread_reach_the_reaper))
