/* After the first record a reap may linger for a larger batch. The linger never exceeds its limit
 * or the timeout, and costs nothing where it cannot help. */
#include "waiting.h"

/* The shortest of `tries` reaps of `datagrams` queued datagrams, in microseconds. The minimum
 * removes the machine's noise. */
static int64_t best_reap_us(const struct ringmsg_wait *wait, int datagrams, int tries)
{
    int64_t us, best = INT64_MAX;
    for (int i = 0; i < tries; i++) {
        send_some(datagrams);
        sleep_ms(1); /* on a busy kernel, or with SQPOLL, the completions are a little late */
        int got = OK(timed_reap(wait, &us));
        if (got == datagrams && us < best)
            best = us;
        release_all(got);
        for (; got < datagrams; got++) {
            struct ringmsg_record late = reap_one(fixture.ring);
            OK(ringmsg_release(fixture.ring, &late, 1));
        }
    }
    return best;
}

static void without_linger_one_datagram_returns_at_once(void)
{
    set_up(64);
    struct ringmsg_wait wait = wait_with(2000, 0);
    COMPARE(best_reap_us(&wait, 1, 10), <, 5000 * TEST_TIME_FACTOR);
    tear_down();
}

static void slow_traffic_is_not_delayed_by_auto(void)
{
    set_up(64);
    struct ringmsg_wait wait = wait_with(2000, RINGMSG_LINGER_AUTO);
    COMPARE(best_reap_us(&wait, 1, 10), <, 1000 * TEST_TIME_FACTOR);
    wait = wait_with(2000, RINGMSG_LINGER_AUTO_WITHIN | RINGMSG_LINGER_MAX_US);
    COMPARE(best_reap_us(&wait, 1, 10), <, 1000 * TEST_TIME_FACTOR);
    tear_down();
}

static void a_linger_is_an_upper_bound(void)
{
    set_up(64);
    struct ringmsg_wait wait = wait_with(2000, RINGMSG_LINGER_MAX_US);
    int64_t best = best_reap_us(&wait, 1, 10);
    COMPARE(best, <, RINGMSG_LINGER_MAX_US + 5000 * TEST_TIME_FACTOR);
    if (is_bound() || is_recvmmsg())
        COMPARE(best, >=, RINGMSG_LINGER_MAX_US - 1000); /* the reap lingered */
    else
        /* These modes ignore the linger, because it wastes CPU there. */
        COMPARE(best, <, 5000 * TEST_TIME_FACTOR);
    /* More than the maximum is refused, in microseconds and as a bound of AUTO. */
    struct ringmsg_record record;
    static const uint32_t more[] = {RINGMSG_LINGER_MAX_US + 1, 1000000,
                                    RINGMSG_LINGER_AUTO_WITHIN | (RINGMSG_LINGER_MAX_US + 1)};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        wait = wait_with(2000, more[i]);
        REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), EINVAL);
    }
    tear_down();
}

static void a_linger_never_outlasts_the_timeout(void)
{
    int64_t us, best = INT64_MAX;
    set_up(64);
    struct ringmsg_wait wait = wait_with(1, RINGMSG_LINGER_MAX_US);
    for (int i = 0; i < 20; i++) {
        EQUAL(timed_reap(&wait, &us), 0);
        COMPARE(us, >=, 1000);
        best = us < best ? us : best;
    }
    COMPARE(best, <, 6000 * TEST_TIME_FACTOR);
    COMPARE(best_reap_us(&wait, 1, 20), <, 6000 * TEST_TIME_FACTOR);
    tear_down();
}

/* Four buffers cannot hold more than four datagrams, so lingering for a fifth is pointless. */
static void a_small_pool_does_not_wait_out_the_linger(void)
{
    int64_t us;
    set_up(4);
    struct ringmsg_wait wait = wait_with(2000, RINGMSG_LINGER_MAX_US);
    COMPARE(best_reap_us(&wait, 4, 20), <, 5000 * TEST_TIME_FACTOR);
    /* All four are held, and more data is in the socket. */
    struct ringmsg_wait brief = wait_with(30, RINGMSG_LINGER_MAX_US);
    struct ringmsg_record held[4];
    send_some(5);
    for (int i = 0; i < 4; i++)
        held[i] = reap_one(fixture.ring);
    EQUAL(timed_reap(&brief, &us), 0);
    COMPARE(us, >=, 30000);
    OK(ringmsg_release(fixture.ring, held, 4));
    EQUAL(timed_reap(&wait, &us), 1);
    tear_down();
}

/* An idle reap with a linger sleeps. It does not wake up once per linger. */
static void an_idle_linger_sleeps(void)
{
    int64_t us;
    set_up(64);
    struct ringmsg_wait wait = wait_with(FOREVER, 1000);
    for (int round = 0; round < 2; round++) {
        pthread_t thread = start(wake_later, 200);
        uint64_t before = stats_of(fixture.ring).enters;
        EQUAL(timed_reap(&wait, &us), 0);
        COMPARE(since_start_us(), >=, 150000);
        COMPARE(us, <, 2000000);
        COMPARE(stats_of(fixture.ring).enters - before, <, 20);
        pthread_join(thread, NULL);
        wait.linger_us = RINGMSG_LINGER_AUTO;
        /* Sends fast traffic, so that AUTO lingers. */
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

static void a_wake_is_delayed_by_at_most_the_linger(void)
{
    int64_t us, best = INT64_MAX;
    set_up(64);
    struct ringmsg_wait wait = wait_with(FOREVER, RINGMSG_LINGER_MAX_US);
    for (int i = 0; i < 10; i++) {
        pthread_t thread = start(wake_later, 2);
        EQUAL(timed_reap(&wait, &us), 0);
        best = us < best ? us : best;
        pthread_join(thread, NULL);
    }
    COMPARE(best, <, RINGMSG_LINGER_MAX_US + 10000 * TEST_TIME_FACTOR);
    /* If a record and a wake arrive during one linger, the reap returns the record. */
    send_some(1);
    pthread_t thread = start(wake_later, 2);
    EQUAL(timed_reap(&wait, &us), 1);
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

/* Returns how many datagrams of a paced load arrive. A reap that waited for as many completions as
 * its array holds would sleep until the timeout of two seconds, and the socket's receive buffer
 * would overflow. */
static int under_load(uint32_t buffers, uint32_t linger_us)
{
    set_up(buffers);
    int enough = 1 << 22, got = 0;
    setsockopt(fixture.receiver, SOL_SOCKET, SO_RCVBUFFORCE, &enough, sizeof enough);
    struct ringmsg_wait wait = wait_with(2000, linger_us);
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
    EQUAL(got + (int)stats_of(fixture.ring).socket_drops, LOAD);
    printf("  %u buffers, linger %d us: %d of %d datagrams, longest wait %d us, %.1f per reap\n", buffers,
           (int)linger_us, got, LOAD, (int)longest, (double)got / (double)stats_of(fixture.ring).reaps);
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
                COMPARE(--tries, >, 0);
        }
    }
}

TESTS(TEST_SQPOLL_TOO(without_linger_one_datagram_returns_at_once),
      TEST(slow_traffic_is_not_delayed_by_auto),
      TEST(a_linger_is_an_upper_bound),
      TEST(a_linger_never_outlasts_the_timeout),
      TEST_SQPOLL_TOO(a_small_pool_does_not_wait_out_the_linger),
      TEST(an_idle_linger_sleeps),
      TEST(a_wake_is_delayed_by_at_most_the_linger),
      TEST(a_paced_load_loses_nothing))
