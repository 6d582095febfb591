/* Waiting: for a first record, for company, for a wake, for a signal; and never for nothing. */
#include "test.h"

#define CAPACITY 256
#define FOREVER (-1)

static struct ringmsg_record records[CAPACITY];

/* A ring with one multishot request on one socket. */
static struct setup {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} it;

static void set_up(uint32_t buffers)
{
    it.ring = make_ring();
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    it.pool = make_pool(it.ring, it.receiver, buffers, 2048);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 7));
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(it.ring));
    close(it.receiver);
    close(it.sender);
}

static void send_some(int count)
{
    for (int i = 0; i < count; i++)
        EQUAL(SYS(send(it.sender, "hello", 5, 0)), 5);
}

static struct ringmsg_wait waiting(int timeout_ms, uint32_t linger_us)
{
    struct ringmsg_wait wait = wait_ms(timeout_ms < 0 ? 0 : timeout_ms);
    wait.linger_us = linger_us;
    if (timeout_ms < 0)
        wait.timeout_ns = -1;
    return wait;
}

/* One reap; its answer, and how long it took in microseconds. */
static int timed_reap(const struct ringmsg_wait *wait, int64_t *us)
{
    int64_t start = now_ns();
    int got = ringmsg_reap(it.ring, records, NULL, CAPACITY, wait);
    *us = (now_ns() - start) / 1000;
    return got;
}

static void release_all(int count)
{
    OK(ringmsg_release(it.ring, records, (uint32_t)count));
}

static void *wake_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void *send_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    send_some(1);
    return NULL;
}

static int64_t started_ns;

static pthread_t start(void *(*run)(void *), intptr_t argument)
{
    pthread_t thread;
    started_ns = now_ns();
    EQUAL(pthread_create(&thread, NULL, run, (void *)argument), 0);
    return thread;
}

/* Since the last thread was started. */
static int64_t since_start_us(void)
{
    return (now_ns() - started_ns) / 1000;
}

/* --- time-outs --------------------------------------------------------------------------- */

static void timeouts_none_short_and_zero(void)
{
    int64_t us, best = INT64_MAX;
    set_up(16);
    struct ringmsg_wait none = waiting(0, 0), brief = waiting(30, 0);
    for (int i = 0; i < 20; i++) {
        EQUAL(timed_reap(&none, &us), 0);
        best = us < best ? us : best;
    }
    CHECK(best < 5000 * TEST_PATIENCE);
    best = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        EQUAL(timed_reap(&brief, &us), 0);
        CHECK(us >= 30000);
        best = us < best ? us : best;
    }
    CHECK(best < 150000 * TEST_PATIENCE);
    /* No limit, and no struct at all: until something comes. */
    pthread_t thread = start(send_later, 30);
    EQUAL(timed_reap(NULL, &us), 1);
    CHECK(since_start_us() >= 20000);
    pthread_join(thread, NULL);
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    thread = start(send_later, 30);
    EQUAL(timed_reap(&forever, &us), 1);
    CHECK(since_start_us() >= 20000);
    pthread_join(thread, NULL);
    tear_down();
}

/* --- wakes ------------------------------------------------------------------------------- */

static void a_wake_from_another_thread_ends_a_reap(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    pthread_t thread = start(wake_later, 30);
    EQUAL(timed_reap(&forever, &us), 0);
    CHECK(since_start_us() >= 20000);
    pthread_join(thread, NULL);
    tear_down();
}

static void wakes_are_sticky_and_count_as_one(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = waiting(FOREVER, 0), brief = waiting(30, 0);
    OK(ringmsg_wake(it.ring));
    OK(ringmsg_wake(it.ring));
    EQUAL(timed_reap(&forever, &us), 0);
    EQUAL(timed_reap(&brief, &us), 0);
    CHECK(us >= 30000);
    /* Records win; the wake has done its duty with them. */
    send_some(1);
    /* With SQPOLL it is there only when the kernel's thread got to it. */
    sleep_ms(test_mode & RINGMSG_SETUP_SQPOLL ? 200 : 10);
    OK(ringmsg_wake(it.ring));
    EQUAL(timed_reap(&forever, &us), 1);
    EQUAL(timed_reap(&brief, &us), 0);
    CHECK(us >= 30000);
    tear_down();
}

enum { WAKES = 10000 };
static volatile int woken;

static void *wake_again_and_again(void *unused)
{
    (void)unused;
    for (int i = 0; i < WAKES; i++) {
        OK(ringmsg_wake(it.ring));
        /* At every distance from the moment at which the reaper falls asleep. */
        WAIT_TURNING_FOR(woken > i);
        for (volatile int pause = 0; pause < i % 64; pause++)
            ;
    }
    return NULL;
}

/* Every wake ends a reap of its own: one that is lost hangs here, until the alarm. */
static void no_wake_is_lost(void)
{
    set_up(16);
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    alarm(30 * TEST_PATIENCE);
    woken = 0;
    pthread_t thread = start(wake_again_and_again, 0);
    for (int i = 0; i < WAKES; i++) {
        EQUAL(ringmsg_reap(it.ring, records, NULL, CAPACITY, &forever), 0);
        woken = i + 1;
    }
    pthread_join(thread, NULL);
    CHECK(stats_of(it.ring).wakes >= WAKES);
    tear_down();
}

/* --- signals ----------------------------------------------------------------------------- */

static void wake_in_handler(int signal)
{
    (void)signal;
    ringmsg_wake(it.ring);
}

static volatile sig_atomic_t handled;

static void just_note(int signal)
{
    (void)signal;
    handled++;
}

static void on_signal(void (*handler)(int), int flags)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    SYS(sigaction(SIGUSR1, &action, NULL));
}

static pthread_t reaper;

static void *signal_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    pthread_kill(reaper, SIGUSR1);
    return NULL;
}

static void a_wake_from_a_signal_handler_ends_a_reap(void)
{
    int64_t us;
    set_up(16);
    reaper = pthread_self();
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on_signal(wake_in_handler, flags);
        pthread_t thread = start(signal_later, 30);
        EQUAL(timed_reap(&forever, &us), 0);
        CHECK(since_start_us() >= 20000);
        pthread_join(thread, NULL);
    }
    tear_down();
}

static void a_signal_is_eintr_and_harms_nothing(void)
{
    int64_t us;
    set_up(16);
    reaper = pthread_self();
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on_signal(just_note, flags);
        pthread_t thread = start(signal_later, 30);
        REFUSED(timed_reap(&forever, &us), EINTR);
        CHECK(since_start_us() >= 20000);
        pthread_join(thread, NULL);
        /* next has released by then what it was given. */
        send_some(1);
        struct ringmsg_record done = reap_one(it.ring);
        thread = start(signal_later, 30);
        REFUSED(ringmsg_next(it.ring, &done, 1, records, NULL, CAPACITY, &forever), EINTR);
        EQUAL(stats_of(it.ring).buffers_held, 0);
        pthread_join(thread, NULL);
    }
    EQUAL(handled, 4);
    /* Records win over a signal, too. */
    send_some(1);
    sleep_ms(10);
    raise(SIGUSR1);
    EQUAL(timed_reap(&forever, &us), 1);
    tear_down();
}

enum { EMPTY = 2000 };
static volatile int arrived;

static void *send_empty_and_signal(void *unused)
{
    (void)unused;
    for (int i = 0; i < EMPTY; i++) {
        WAIT_FOR(i - arrived <= 4);
        EQUAL(SYS(send(it.sender, "", 0, 0)), 0);
        pthread_kill(reaper, SIGUSR1);
    }
    return NULL;
}

/* Each zero-length datagram ends the request in the kernel: signals meet the re-arm. */
static void signals_during_rearms_lose_nothing(void)
{
    int interrupted = 0;
    set_up(64);
    reaper = pthread_self();
    on_signal(just_note, 0);
    arrived = 0;
    pthread_t thread = start(send_empty_and_signal, 0);
    struct ringmsg_wait wait = waiting(2000, 0);
    while (arrived < EMPTY) {
        int n = ringmsg_reap(it.ring, records, NULL, CAPACITY, &wait);
        interrupted += n == -EINTR;
        if (n == -EINTR)
            continue;
        CHECK(n > 0);
        for (int i = 0; i < n; i++) {
            EQUAL(records[i].result, 0);
            EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
        }
        release_all(n);
        arrived += n;
    }
    pthread_join(thread, NULL);
    EQUAL(stats_of(it.ring).rearms, is_recvmmsg() ? 0 : EMPTY);
    CHECK(handled > 0);
    printf("  %d reaps interrupted, %d signals\n", interrupted, (int)handled);
    tear_down();
}

/* --- linger ------------------------------------------------------------------------------ */

/* The shortest of `tries` reaps of `datagrams` that lie ready, in microseconds: what the
 * machine's noise leaves of it. */
static int64_t best_reap_us(const struct ringmsg_wait *wait, int datagrams, int tries)
{
    int64_t us, best = INT64_MAX;
    for (int i = 0; i < tries; i++) {
        send_some(datagrams);
        sleep_ms(1); /* a busy kernel, or SQPOLL's thread, brings them a little later */
        int got = OK(timed_reap(wait, &us));
        if (got == datagrams && us < best)
            best = us;
        release_all(got);
        for (; got < datagrams; got++) {
            struct ringmsg_record late = reap_one(it.ring);
            OK(ringmsg_release(it.ring, &late, 1));
        }
    }
    return best;
}

static void without_linger_one_datagram_returns_at_once(void)
{
    set_up(64);
    struct ringmsg_wait wait = waiting(2000, 0);
    CHECK(best_reap_us(&wait, 1, 10) < 5000 * TEST_PATIENCE);
    tear_down();
}

static void slow_traffic_is_not_delayed_by_auto(void)
{
    set_up(64);
    struct ringmsg_wait wait = waiting(2000, RINGMSG_LINGER_AUTO);
    CHECK(best_reap_us(&wait, 1, 10) < 1000 * TEST_PATIENCE);
    wait = waiting(2000, RINGMSG_LINGER_AUTO_WITHIN | RINGMSG_LINGER_MAX_US);
    CHECK(best_reap_us(&wait, 1, 10) < 1000 * TEST_PATIENCE);
    tear_down();
}

static void a_linger_is_an_upper_bound(void)
{
    set_up(64);
    struct ringmsg_wait wait = waiting(2000, RINGMSG_LINGER_MAX_US);
    int64_t best = best_reap_us(&wait, 1, 10);
    CHECK(best < RINGMSG_LINGER_MAX_US + 5000 * TEST_PATIENCE);
    if (is_bound() || is_recvmmsg())
        CHECK(best >= RINGMSG_LINGER_MAX_US - 1000); /* it did wait for company */
    else
        CHECK(best < 5000 * TEST_PATIENCE); /* lingering costs there: ignored */
    /* More than the most is the most. */
    wait = waiting(2000, 1000000);
    CHECK(best_reap_us(&wait, 1, 10) < RINGMSG_LINGER_MAX_US + 5000 * TEST_PATIENCE);
    tear_down();
}

static void a_linger_never_outlasts_the_timeout(void)
{
    int64_t us, best = INT64_MAX;
    set_up(64);
    struct ringmsg_wait wait = waiting(1, RINGMSG_LINGER_MAX_US);
    for (int i = 0; i < 20; i++) {
        EQUAL(timed_reap(&wait, &us), 0);
        CHECK(us >= 1000);
        best = us < best ? us : best;
    }
    CHECK(best < 6000 * TEST_PATIENCE);
    CHECK(best_reap_us(&wait, 1, 20) < 6000 * TEST_PATIENCE);
    tear_down();
}

/* Four buffers cannot hold more than four datagrams: no use in waiting for a fifth. */
static void a_small_pool_does_not_sit_out_the_linger(void)
{
    int64_t us;
    set_up(4);
    struct ringmsg_wait wait = waiting(2000, RINGMSG_LINGER_MAX_US);
    CHECK(best_reap_us(&wait, 4, 20) < 5000 * TEST_PATIENCE);
    /* All held, and more in the socket. */
    struct ringmsg_wait brief = waiting(30, RINGMSG_LINGER_MAX_US);
    struct ringmsg_record held[4];
    send_some(5);
    for (int i = 0; i < 4; i++)
        held[i] = reap_one(it.ring);
    EQUAL(timed_reap(&brief, &us), 0);
    CHECK(us >= 30000);
    OK(ringmsg_release(it.ring, held, 4));
    EQUAL(timed_reap(&wait, &us), 1);
    tear_down();
}

/* A reap that waits for company that never comes does not get up every linger to look. */
static void an_idle_linger_sleeps(void)
{
    int64_t us;
    set_up(64);
    struct ringmsg_wait wait = waiting(FOREVER, 1000);
    for (int round = 0; round < 2; round++) {
        pthread_t thread = start(wake_later, 200);
        uint64_t before = stats_of(it.ring).enters;
        EQUAL(timed_reap(&wait, &us), 0);
        CHECK(since_start_us() >= 150000);
        CHECK(us < 2000000);
        CHECK(stats_of(it.ring).enters - before < 20);
        pthread_join(thread, NULL);
        wait.linger_us = RINGMSG_LINGER_AUTO;
        /* Fast traffic, so that AUTO lingers. */
        for (int i = 0; i < 500; i++) {
            send_some(32);
            for (int got = 0, n; got < 32; got += n) {
                n = OK(timed_reap(&wait, &us));
                release_all(n);
            }
        }
    }
    tear_down();
}

static void a_wake_during_a_linger_comes_late_by_the_linger_at_most(void)
{
    int64_t us, best = INT64_MAX;
    set_up(64);
    struct ringmsg_wait wait = waiting(FOREVER, RINGMSG_LINGER_MAX_US);
    for (int i = 0; i < 10; i++) {
        pthread_t thread = start(wake_later, 2);
        EQUAL(timed_reap(&wait, &us), 0);
        best = us < best ? us : best;
        pthread_join(thread, NULL);
    }
    CHECK(best < RINGMSG_LINGER_MAX_US + 10000 * TEST_PATIENCE);
    /* With a record and a wake in one linger, the record. */
    send_some(1);
    pthread_t thread = start(wake_later, 2);
    EQUAL(timed_reap(&wait, &us), 1);
    pthread_join(thread, NULL);
    tear_down();
}

/* --- one at a time ----------------------------------------------------------------------- */

static struct ringmsg_record kept;

static void *reap_too(void *unused)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = waiting(0, 0);
    (void)unused;
    sleep_ms(30);
    REFUSED(ringmsg_reap(it.ring, &record, NULL, 1, &wait), is_bound() ? EPERM : EBUSY);
    REFUSED(ringmsg_next(it.ring, &kept, 1, &record, NULL, 1, &wait), is_bound() ? EPERM : EBUSY);
    EQUAL(stats_of(it.ring).buffers_held, 1); /* what next was to release */
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void a_second_reap_is_refused(void)
{
    int64_t us;
    set_up(16);
    struct ringmsg_wait forever = waiting(FOREVER, 0);
    send_some(1);
    kept = reap_one(it.ring);
    pthread_t thread = start(reap_too, 0);
    EQUAL(timed_reap(&forever, &us), 0);
    pthread_join(thread, NULL);
    OK(ringmsg_release(it.ring, &kept, 1));
    send_some(1);
    EQUAL(timed_reap(&forever, &us), 1);
    tear_down();
}

/* --- spinning ---------------------------------------------------------------------------- */

static void a_spin_sees_records_wakes_and_its_timeout(void)
{
    int64_t us, best = INT64_MAX;
    set_up(16);
    struct ringmsg_wait wait = waiting(5, 0);
    wait.spin_us = 1000000;
    for (int i = 0; i < 10; i++) {
        EQUAL(timed_reap(&wait, &us), 0);
        CHECK(us >= 5000);
        best = us < best ? us : best;
    }
    CHECK(best < 100000 * TEST_PATIENCE);
    wait.timeout_ns = -1;
    pthread_t thread = start(wake_later, 20);
    EQUAL(timed_reap(&wait, &us), 0);
    CHECK(us < 900000);
    pthread_join(thread, NULL);
    thread = start(send_later, 20);
    EQUAL(timed_reap(&wait, &us), 1);
    CHECK(us < 900000);
    pthread_join(thread, NULL);
    /* The sleep after the spin is one like any other. */
    wait.spin_us = 2000;
    thread = start(send_later, 30);
    EQUAL(timed_reap(&wait, &us), 1);
    CHECK(since_start_us() >= 20000);
    pthread_join(thread, NULL);
    tear_down();
}

/* --- under load -------------------------------------------------------------------------- */

enum { PER_MS = 20, LOAD_MS = 150, LOAD = PER_MS * LOAD_MS };

static void *send_paced(void *unused)
{
    (void)unused;
    int64_t start_ns = now_ns();
    for (int ms = 0; ms < LOAD_MS; ms++) {
        while (now_ns() < start_ns + ms * 1000000LL)
            sleep_ms(0);
        send_some(PER_MS);
    }
    return NULL;
}

/* How many of a paced load arrive. A reaper that waits for as many completions as it has room
 * for sleeps to its time-out, two seconds, while the socket's buffer runs over. */
static int under_load(uint32_t buffers, uint32_t linger_us)
{
    set_up(buffers);
    int enough = 1 << 22, got = 0;
    setsockopt(it.receiver, SOL_SOCKET, SO_RCVBUFFORCE, &enough, sizeof enough);
    struct ringmsg_wait wait = waiting(2000, linger_us);
    pthread_t thread = start(send_paced, 0);
    int64_t longest = 0, us;
    while (got < LOAD) {
        int n = OK(timed_reap(&wait, &us));
        longest = us > longest ? us : longest;
        if (n == 0)
            break;
        got += n;
        release_all(n);
    }
    pthread_join(thread, NULL);
    EQUAL(got + (int)stats_of(it.ring).socket_drops, LOAD);
    printf("  %u buffers, linger %d us: %d of %d, longest wait %d us, %.1f a reap\n", buffers,
           (int)linger_us, got, LOAD, (int)longest, (double)got / (double)stats_of(it.ring).reaps);
    tear_down();
    return got;
}

static void a_paced_load_loses_nothing(void)
{
    static const uint32_t lingers[] = {0, 1000, RINGMSG_LINGER_AUTO};
    static const uint32_t pools[] = {16, 256};
    for (int l = 0; l < 3; l++) {
        for (int p = 0; p < 2; p++) {
            int tries = 3;
            while (under_load(pools[p], lingers[l]) < LOAD)
                CHECK(--tries > 0);
        }
    }
}

/* --- submissions from elsewhere ---------------------------------------------------------- */

enum { SINGLES = 5000 };
static struct msghdr messages[SINGLES];
static char payload[8];
static struct iovec part = {payload, sizeof payload};
static volatile int reaped;

static void *submit_singles(void *ahead)
{
    for (int i = 0; i < SINGLES; i++) {
        messages[i] = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
        OK(ringmsg_recvmsg(it.ring, it.receiver, &messages[i], MSG_DONTWAIT, 0, (uint64_t)i));
        WAIT_FOR(i - reaped <= (int)(intptr_t)ahead);
    }
    return NULL;
}

/* Single-shots queued by one thread while another reaps, asleep or not: each is answered. */
static void reap_singles(int timeout_ms, int ahead)
{
    static unsigned char answered[SINGLES];
    memset(answered, 0, sizeof answered);
    it.ring = make_ring();
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    struct ringmsg_wait wait = waiting(timeout_ms, 0);
    reaped = 0;
    pthread_t thread = start(submit_singles, ahead);
    int64_t deadline = now_ns() + 20000000000 * TEST_PATIENCE;
    while (reaped < SINGLES) {
        int n = OK(ringmsg_reap(it.ring, records, NULL, CAPACITY, &wait));
        for (int i = 0; i < n; i++) {
            EQUAL(records[i].result, -EAGAIN);
            CHECK(records[i].user_data < SINGLES);
            EQUAL(answered[records[i].user_data]++, 0);
        }
        reaped += n;
        if (now_ns() > deadline)
            FAIL("%d of %d answered", reaped, SINGLES);
    }
    pthread_join(thread, NULL);
    tear_down();
}

static void submissions_by_another_thread_reach_a_reaper(void)
{
    if (is_bound())
        return;
    reap_singles(0, 30);
    reap_singles(FOREVER, 0);
    reap_singles(1000, 30);
}

/* --- the same without task work ---------------------------------------------------------- */

static void everything_again_with_sqpoll(void)
{
    if (test_mode != 0 || is_recvmmsg())
        return;
    test_mode = RINGMSG_SETUP_SQPOLL;
    test_mode_name = "sqpoll";
    timeouts_none_short_and_zero();
    a_wake_from_another_thread_ends_a_reap();
    wakes_are_sticky_and_count_as_one();
    a_signal_is_eintr_and_harms_nothing();
    without_linger_one_datagram_returns_at_once();
    a_small_pool_does_not_sit_out_the_linger();
    a_second_reap_is_refused();
    signals_during_rearms_lose_nothing();
    a_spin_sees_records_wakes_and_its_timeout();
    submissions_by_another_thread_reach_a_reaper();
}

TESTS(TEST(timeouts_none_short_and_zero), TEST(a_wake_from_another_thread_ends_a_reap),
      TEST(wakes_are_sticky_and_count_as_one), TEST(no_wake_is_lost),
      TEST(a_wake_from_a_signal_handler_ends_a_reap), TEST(a_signal_is_eintr_and_harms_nothing),
      TEST(signals_during_rearms_lose_nothing), TEST(without_linger_one_datagram_returns_at_once),
      TEST(slow_traffic_is_not_delayed_by_auto), TEST(a_linger_is_an_upper_bound), TEST(a_linger_never_outlasts_the_timeout),
      TEST(a_small_pool_does_not_sit_out_the_linger), TEST(an_idle_linger_sleeps),
      TEST(a_wake_during_a_linger_comes_late_by_the_linger_at_most), TEST(a_second_reap_is_refused),
      TEST(a_spin_sees_records_wakes_and_its_timeout), TEST(a_paced_load_loses_nothing),
      TEST(submissions_by_another_thread_reach_a_reaper), TEST(everything_again_with_sqpoll))
