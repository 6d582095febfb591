/* AUTO learns whether to linger. Its trials show in the statistics, keep to the bound and to the
 * timeout, and take place only in reaps that can tell something. What is cheaper is chosen, unless
 * datagrams arrive more slowly with it. Fixed lingers are used as they are.
 *
 * What a wait costs differs between machines, and so do the choices. So this program stands between
 * the library and the kernel: it notes how long each wait lingers, and it is the thread's CPU
 * clock, by which a wait costs what the test says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "waiting.h"

/* --- between the library and the kernel ---------------------------------------------------- */

static struct costs {
    uint64_t wait_ns, linger_ns; /* CPU time of a wait, and of one that lingers besides */
} costs;

static _Atomic uint64_t cpu_ns; /* what the CPU clock says */
static atomic_int clock_reads;  /* how often it was read */
static atomic_uint lingers, shortest_us, longest_us;
static int hides_min_wait; /* as a kernel before 6.12 */

enum { FEAT_MIN_TIMEOUT = 1 << 15 };

/* The system's header may lack the field min_wait_usec. */
struct wait_argument {
    uint64_t signal_mask;
    uint32_t signal_mask_size, min_wait_usec;
    uint64_t timeout;
};

static void note_wait(uint32_t linger_us)
{
    atomic_fetch_add(&cpu_ns, costs.wait_ns);
    if (linger_us == 0)
        return;
    atomic_fetch_add(&cpu_ns, costs.linger_ns);
    atomic_fetch_add(&lingers, 1);
    if (linger_us > atomic_load(&longest_us))
        atomic_store(&longest_us, linger_us);
    if (linger_us < atomic_load(&shortest_us))
        atomic_store(&shortest_us, linger_us);
}

static uint32_t in_us(const struct timespec *time)
{
    return (uint32_t)(time->tv_sec * 1000000 + time->tv_nsec / 1000);
}

static void note_enter(uint32_t want, const struct wait_argument *argument)
{
    const struct timespec *timeout = (const void *)(uintptr_t)argument->timeout;
    uint32_t linger_us = argument->min_wait_usec;
    if (want > 1 && linger_us == 0) {
        CHECK(timeout != NULL); /* a batch is never waited for without a limit */
        linger_us = in_us(timeout);
    }
    note_wait(linger_us);
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        given[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall"); /* as in dlsym(3) */
    if (number == SYS_io_uring_enter && given[2] > 0 && (given[3] & IORING_ENTER_EXT_ARG) != 0)
        note_enter((uint32_t)given[2], (const void *)given[4]);
    if (number == SYS_epoll_pwait2)
        note_wait(0);
    long result = next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    if (number == SYS_io_uring_setup && hides_min_wait)
        ((struct io_uring_params *)given[1])->features &= ~(uint32_t)FEAT_MIN_TIMEOUT;
    return result;
}

/* The recvmmsg engine lingers by this. */
int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    if (fds == NULL && timeout != NULL)
        note_wait(in_us(timeout));
    return (int)syscall(SYS_ppoll, fds, count, timeout, mask, 8);
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    static int (*next)(clockid_t, struct timespec *);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "clock_gettime");
    if (clock != CLOCK_THREAD_CPUTIME_ID)
        return next(clock, time);
    uint64_t ns = atomic_load(&cpu_ns);
    atomic_fetch_add(&clock_reads, 1);
    *time = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    return 0;
}

/* --- traffic ------------------------------------------------------------------------------- */

#ifdef TEST_EMULATED
enum { CHOICE_MS = 60000 };
#else
enum { CHOICE_MS = 30000 * TEST_TIME_FACTOR };
#endif
enum { GROUP = 20, DATAGRAM_NS = 200, PATIENCE_MS = 30000 * TEST_TIME_FACTOR };

static int may_linger(void)
{
    return is_bound() || is_recvmmsg();
}

static void begin(struct costs given)
{
    costs = given;
    atomic_store(&clock_reads, 0);
    atomic_store(&lingers, 0);
    atomic_store(&longest_us, 0);
    atomic_store(&shortest_us, UINT32_MAX);
    set_up(256);
}

/* Reaps once, and releases what comes. */
static int take(const struct ringmsg_wait *wait)
{
    int got = OK(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, wait));
    release_all(got);
    atomic_fetch_add(&cpu_ns, (uint64_t)got * DATAGRAM_NS);
    return got;
}

/* Sends some datagrams and reaps them: a linger would find nothing more. */
static void exchange(const struct ringmsg_wait *wait)
{
    send_some(GROUP);
    for (int got = 0; got < GROUP;)
        got += take(wait);
}

static void exchange_for(const struct ringmsg_wait *wait, int ms)
{
    for (int64_t end = now_ns() + ms * 1000000LL; now_ns() < end;)
        exchange(wait);
}

static struct ringmsg_stats stats(void)
{
    return stats_of(fixture.ring);
}

/* Exchanges datagrams until the condition holds, which may take a few seconds. */
#define EXCHANGE_UNTIL(wait, condition)                                       \
    for (int64_t end_ = now_ns() + PATIENCE_MS * 1000000LL; !(condition);) {  \
        exchange(wait);                                                       \
        CHECK(now_ns() < end_);                                               \
    }

static struct ringmsg_wait waits(uint32_t linger_us)
{
    return wait_with(FOREVER, linger_us);
}

static void nothing_was_tried(void)
{
    EQUAL(stats().linger_trials, 0);
    EQUAL(stats().linger_trial_ns, 0);
    EQUAL(stats().linger_us, 0);
    EQUAL(clock_reads, 0);
}

/* --- trials -------------------------------------------------------------------------------- */

static void a_trial_shows_in_the_statistics(void)
{
    struct ringmsg_wait wait = waits(RINGMSG_LINGER_AUTO);
    begin((struct costs){.wait_ns = 3000});
    nothing_was_tried();
    int64_t start = now_ns();
    if (!may_linger()) {
        /* These modes ignore the linger, so there is nothing to learn. */
        exchange_for(&wait, 200);
        nothing_was_tried();
        EQUAL(lingers, 0);
        tear_down();
        return;
    }
    EXCHANGE_UNTIL(&wait, stats().linger_trial_ns > 0);
    COMPARE(stats().linger_trials, >=, 1);
    COMPARE(stats().linger_trial_ns, <, now_ns() - start);
    COMPARE(clock_reads, >=, 2);
    COMPARE(lingers, >=, 1);
    COMPARE(longest_us, <=, 100);
    /* They are the ring's: of a request they are 0. */
    struct ringmsg_stats of_request = {.size = sizeof of_request};
    OK(ringmsg_request_stats(fixture.ring, 7, &of_request));
    EQUAL(of_request.linger_us + of_request.linger_trials + of_request.linger_trial_ns, 0);
    tear_down();
}

static void a_fixed_linger_is_used_as_it_is(void)
{
    static const uint32_t fixed[] = {0, 70};
    for (int i = 0; i < 2; i++) {
        struct ringmsg_wait wait = waits(fixed[i]);
        begin((struct costs){.wait_ns = 3000});
        exchange_for(&wait, 150);
        nothing_was_tried();
        EQUAL(lingers > 0, may_linger() && fixed[i] > 0);
        if (lingers > 0) {
            EQUAL(shortest_us, fixed[i]);
            EQUAL(longest_us, fixed[i]);
        }
        tear_down();
    }
}

static void a_bound_is_kept(void)
{
    static const uint32_t bounds[] = {0, 7, 250, 1000, RINGMSG_LINGER_MAX_US};
    for (int i = 0; i < 5 && may_linger(); i++) {
        struct ringmsg_wait wait = waits(RINGMSG_LINGER_AUTO_WITHIN | bounds[i]);
        begin((struct costs){.wait_ns = 3000});
        if (bounds[i] == 0) {
            exchange_for(&wait, 200);
            nothing_was_tried();
        } else
            EXCHANGE_UNTIL(&wait, stats().linger_trial_ns > 0);
        COMPARE(longest_us, <=, bounds[i]);
        /* A smaller bound holds from the next reap on. */
        atomic_store(&longest_us, 0);
        wait.linger_us = RINGMSG_LINGER_AUTO_WITHIN | 3;
        exchange_for(&wait, 50);
        COMPARE(longest_us, <=, 3);
        tear_down();
    }
}

static void a_timeout_ends_a_linger_of_auto(void)
{
    if (!may_linger())
        return;
    struct ringmsg_wait wait = wait_with(1, RINGMSG_LINGER_AUTO_WITHIN | RINGMSG_LINGER_MAX_US);
    begin((struct costs){.wait_ns = 3000});
    EXCHANGE_UNTIL(&wait, stats().linger_trial_ns > 0 && lingers > 0);
    COMPARE(longest_us, <=, 1000);
    int64_t us;
    EQUAL(timed_reap(&wait, &us), 0);
    COMPARE(us, >=, 1000);
    tear_down();
}

/* --- when nothing can be learnt -------------------------------------------------------------- */

static void *exchange_elsewhere(void *wait)
{
    exchange(wait);
    return NULL;
}

static void exchange_nonblocking(struct ringmsg_wait *wait)
{
    wait->timeout_ns = 0;
    exchange(wait);
}

static void exchange_spinning(struct ringmsg_wait *wait)
{
    wait->spin_us = 100;
    exchange(wait);
}

/* Each reap ends with a wake. */
static void exchange_woken(struct ringmsg_wait *wait)
{
    send_some(GROUP);
    for (int got = 0; got < GROUP; got += take(wait))
        OK(ringmsg_wake(fixture.ring));
}

/* Each group is reaped by another thread. */
static void exchange_in_turn(struct ringmsg_wait *wait)
{
    pthread_t thread;
    exchange(wait);
    EQUAL(pthread_create(&thread, NULL, exchange_elsewhere, wait), 0);
    pthread_join(thread, NULL);
}

static void reaps_that_cannot_tell_begin_no_trial(void)
{
    static void (*const ways[])(struct ringmsg_wait *) = {exchange_nonblocking, exchange_spinning,
                                                          exchange_woken, exchange_in_turn};
    if (!may_linger())
        return;
    for (int i = 0; i < (is_bound() ? 3 : 4); i++) {
        struct ringmsg_wait wait = waits(RINGMSG_LINGER_AUTO);
        begin((struct costs){.wait_ns = 3000});
        for (int64_t end = now_ns() + 200000000; now_ns() < end;)
            ways[i](&wait);
        nothing_was_tried();
        EQUAL(lingers, 0);
        /* The same traffic, undisturbed, has a trial. */
        wait = waits(RINGMSG_LINGER_AUTO);
        EXCHANGE_UNTIL(&wait, stats().linger_trials > 0);
        tear_down();
    }
}

static void rare_datagrams_are_not_delayed(void)
{
    struct ringmsg_wait wait = waits(RINGMSG_LINGER_AUTO_WITHIN | RINGMSG_LINGER_MAX_US);
    begin((struct costs){.wait_ns = 3000});
    for (int i = 0; i < 40; i++) {
        sleep_ms(12);
        send_some(1);
        EQUAL(take(&wait), 1);
    }
    nothing_was_tried();
    EQUAL(lingers, 0);
    tear_down();
}

/* --- choices ------------------------------------------------------------------------------- */

static atomic_int sends, pairs_sent;

/* Sends two datagrams every 50 us or so, whatever becomes of them. */
static void *send_on(void *unused)
{
    (void)unused;
    for (int64_t next = now_ns(); sends; next += 50000) {
        while (now_ns() < next && sends)
            ;
        send_some(2);
        pairs_sent++;
    }
    return NULL;
}

/* Receives what a thread sends until AUTO's choice is as expected, which it must become. */
static void chooses(struct costs given, int expects_linger)
{
    struct ringmsg_wait wait = wait_with(1000, RINGMSG_LINGER_AUTO);
    begin(given);
    sends = 1;
    pairs_sent = 0;
    pthread_t thread = start(send_on, 0);
    int64_t end = now_ns() + CHOICE_MS * 1000000LL;
    struct ringmsg_stats now;
    do {
        for (int i = 0; i < 100; i++)
            take(&wait);
        now = stats();
        /* A linger of 100 us gains nothing where so few datagrams come in that time. */
        if (now_ns() >= end && pairs_sent < CHOICE_MS * 5)
            skip_test("this machine is too slow to send two datagrams every 200 us");
#ifdef TEST_EMULATED
        if (now_ns() >= end)
            skip_test("the processor is emulated: beside what that costs, the costs given here are nothing");
#endif
        CHECK(now_ns() < end);
    } while (now.linger_trial_ns == 0 || (now.linger_us > 0) != expects_linger);
    COMPARE(now.linger_us, <=, 100);
    sends = 0;
    pthread_join(thread, NULL);
    tear_down();
}

/* A wait costs as much as fifty datagrams, so fewer waits are better. */
static void what_is_cheaper_is_chosen(void)
{
    if (may_linger())
        chooses((struct costs){.wait_ns = 50 * DATAGRAM_NS}, 1);
}

static void what_is_dearer_is_not_chosen(void)
{
    if (may_linger())
        chooses((struct costs){.wait_ns = DATAGRAM_NS, .linger_ns = 100 * DATAGRAM_NS}, 0);
}

/* Here the sender waits for the receiver. With a linger each wait would cost next to nothing, but
 * there would be fewer datagrams: AUTO leaves it at that, and most waits do not linger. */
static void a_closed_loop_is_not_slowed(void)
{
    if (!may_linger())
        return;
    struct ringmsg_wait wait = waits(RINGMSG_LINGER_AUTO_WITHIN | 1000);
    begin((struct costs){.wait_ns = 50 * DATAGRAM_NS});
    EXCHANGE_UNTIL(&wait, stats().linger_trials >= 3);
    EXCHANGE_UNTIL(&wait, stats().linger_us == 0);
    int64_t start = now_ns();
    uint64_t before = stats().linger_trial_ns;
    exchange_for(&wait, 300);
    EQUAL(stats().linger_us, 0);
    COMPARE(stats().linger_trial_ns - before, <, (now_ns() - start) * 3 / 4);
    tear_down();
}

/* --- during a trial -------------------------------------------------------------------------- */

static void ignore(int signal)
{
    (void)signal;
}

static pthread_t reaper;

static void *signal_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    pthread_kill(reaper, SIGUSR1);
    return NULL;
}

/* A wake, a signal and a timeout end a reap during a trial, which goes on afterwards. */
static void what_ends_a_reap_ends_it_during_a_trial(void)
{
    struct sigaction action = {.sa_handler = ignore};
    struct ringmsg_wait forever = waits(RINGMSG_LINGER_AUTO), brief = wait_with(5, RINGMSG_LINGER_AUTO);
    int64_t us;
    SYS(sigaction(SIGUSR1, &action, NULL));
    reaper = pthread_self();
    begin((struct costs){.wait_ns = 3000});
    for (int i = 0; i < 3; i++) {
        uint64_t trials = stats().linger_trials;
        if (may_linger())
            EXCHANGE_UNTIL(&forever, stats().linger_trials > trials);
        pthread_t thread = start(i == 0 ? wake_later : signal_later, 20);
        EQUAL(timed_reap(&forever, &us), i == 0 ? 0 : -EINTR);
        COMPARE(since_start_us(), >=, 20000);
        pthread_join(thread, NULL);
        EQUAL(timed_reap(&brief, &us), 0);
        COMPARE(us, >=, 5000);
        exchange(&forever);
    }
    uint64_t ns = stats().linger_trial_ns;
    if (may_linger())
        EXCHANGE_UNTIL(&forever, stats().linger_trial_ns > ns);
    tear_down();
}

/* --- without a minimum wait ------------------------------------------------------------------ */

/* The same on a kernel that has none: a batch is waited for with the wait's own timeout. */
static void all_of_it_holds_without_a_minimum_wait(void)
{
    if (!is_bound())
        return;
    hides_min_wait = 1;
    a_trial_shows_in_the_statistics();
    a_fixed_linger_is_used_as_it_is();
    a_bound_is_kept();
    a_timeout_ends_a_linger_of_auto();
    reaps_that_cannot_tell_begin_no_trial();
    what_is_cheaper_is_chosen();
    what_is_dearer_is_not_chosen();
    a_closed_loop_is_not_slowed();
    what_ends_a_reap_ends_it_during_a_trial();
    hides_min_wait = 0;
}

TESTS(TEST(a_trial_shows_in_the_statistics), TEST(a_fixed_linger_is_used_as_it_is), TEST(a_bound_is_kept),
      TEST(a_timeout_ends_a_linger_of_auto), TEST(reaps_that_cannot_tell_begin_no_trial),
      TEST(rare_datagrams_are_not_delayed), TEST(what_is_cheaper_is_chosen),
      TEST(what_is_dearer_is_not_chosen), TEST(a_closed_loop_is_not_slowed),
      TEST(what_ends_a_reap_ends_it_during_a_trial), TEST(all_of_it_holds_without_a_minimum_wait))
