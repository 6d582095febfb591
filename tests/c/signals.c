/* A signal ends a waiting reap with -EINTR and loses nothing, and ringmsg_wake may be called from a
 * handler. */
#include "waiting.h"
#include <stdatomic.h>

static void wake_in_handler(int signal)
{
    (void)signal;
    ringmsg_wake(fixture.ring);
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
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on_signal(wake_in_handler, flags);
        pthread_t thread = start(signal_later, 30);
        EQUAL(timed_reap(&forever, &us), 0);
        COMPARE(since_start_us(), >=, 20000);
        pthread_join(thread, NULL);
    }
    tear_down();
}

static void a_signal_gives_eintr_and_loses_nothing(void)
{
    int64_t us;
    set_up(16);
    reaper = pthread_self();
    struct ringmsg_wait forever = wait_with(FOREVER, 0);
    for (int flags = 0; flags <= SA_RESTART; flags += SA_RESTART) {
        on_signal(just_note, flags);
        pthread_t thread = start(signal_later, 30);
        REFUSED(timed_reap(&forever, &us), EINTR);
        COMPARE(since_start_us(), >=, 20000);
        pthread_join(thread, NULL);
        /* ringmsg_next releases its records before it waits. */
        send_some(1);
        struct ringmsg_record done = reap_one(fixture.ring);
        thread = start(signal_later, 30);
        REFUSED(ringmsg_next(fixture.ring, &done, 1, records, NULL, CAPACITY, &forever), EINTR);
        EQUAL(stats_of(fixture.ring).buffers_held, 0);
        pthread_join(thread, NULL);
    }
    EQUAL(handled, 4);
    /* A reap with records returns them, although a signal has arrived. */
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
        WAIT_UNTIL(i - arrived <= 4);
        EQUAL(SYS(send(fixture.sender, "", 0, 0)), 0);
        pthread_kill(reaper, SIGUSR1);
    }
    return NULL;
}

/* Each zero-length datagram ends the request in the kernel, so signals arrive during the re-arm. */
static void signals_during_rearms_lose_nothing(void)
{
    int interrupted = 0;
    set_up(64);
    reaper = pthread_self();
    on_signal(just_note, 0);
    arrived = 0;
    pthread_t thread = start(send_empty_and_signal, 0);
    struct ringmsg_wait wait = wait_with(2000, 0);
    while (arrived < EMPTY) {
        int n = ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait);
        interrupted += n == -EINTR;
        if (n == -EINTR)
            continue;
        COMPARE(n, >, 0);
        for (int i = 0; i < n; i++) {
            EQUAL(records[i].result, 0);
            EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
        }
        release_all(n);
        arrived += n;
    }
    pthread_join(thread, NULL);
    EQUAL(stats_of(fixture.ring).rearms, is_recvmmsg() ? 0 : EMPTY);
    COMPARE(handled, >, 0);
    printf("  %d reaps interrupted, %d signals\n", interrupted, (int)handled);
    tear_down();
}

static void *signal_after_us(void *us)
{
    usleep((useconds_t)(intptr_t)us);
    pthread_kill(reaper, SIGUSR1);
    return NULL;
}

static atomic_int ended, repeated;

/* Again if the reap goes on: the first may have come before it began. */
static void *signal_until_it_ends(void *us)
{
    signal_after_us(us);
    for (int ms = 0; !ended; ms++) {
        sleep_ms(1);
        if (ms % 500 == 499) {
            repeated++;
            pthread_kill(reaper, SIGUSR1);
        }
    }
    return NULL;
}

/* Every signal ends the reap, at whatever moment it arrives: signals are blocked between the system
 * calls of one wait, so that each interrupts one of them, or is found pending. */
static void every_signal_ends_a_reap_with(struct ringmsg_wait wait)
{
    enum { REAPS = 100 };
    set_up(16);
    reaper = pthread_self();
    on_signal(just_note, 0);
    repeated = 0;
    for (int i = 0; i < REAPS; i++) {
        ended = 0;
        pthread_t thread = start(signal_until_it_ends, 1000 + i * 7919 % 4000);
        EQUAL(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait), -EINTR);
        ended = 1;
        pthread_join(thread, NULL);
        COMPARE(handled, >, i);
    }
    /* A loaded machine may begin some reaps late. What swallows signals swallows more. */
    COMPARE(repeated, <, REAPS / 10);
    tear_down();
}

static void a_signal_during_a_linger_is_eintr(void)
{
    every_signal_ends_a_reap_with(wait_with(5000, 10000));
}

static void a_signal_during_a_spin_is_eintr(void)
{
    struct ringmsg_wait wait = wait_with(5000, 0);
    wait.spin_us = 10000; /* all of them arrive during the spin */
    every_signal_ends_a_reap_with(wait);
}

static void a_signal_between_the_spin_and_the_sleep_is_eintr(void)
{
    struct ringmsg_wait wait = wait_with(5000, 10000);
    wait.spin_us = 2500; /* some arrive during the spin, some after it */
    every_signal_ends_a_reap_with(wait);
}

/* A signal that the process ignores ends no reap, as it ends no other system call. */
static void an_ignored_signal_ends_no_spin(void)
{
    int64_t us;
    set_up(16);
    reaper = pthread_self();
    on_signal(SIG_IGN, 0);
    struct ringmsg_wait wait = wait_with(30, 0);
    wait.spin_us = 20000;
    pthread_t thread = start(signal_after_us, 5000);
    EQUAL(timed_reap(&wait, &us), 0);
    pthread_join(thread, NULL);
    tear_down();
}

/* The mask that was in force is in force again afterwards. */
static void a_spin_restores_the_signal_mask(void)
{
    sigset_t blocked, before, after;
    int64_t us;
    set_up(16);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    struct ringmsg_wait wait = wait_with(5, 2000);
    wait.spin_us = 1000;
    raise(SIGUSR2); /* it stays pending: the program has blocked it */
    EQUAL(timed_reap(&wait, &us), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal < SIGRTMAX; signal++)
        EQUAL(sigismember(&after, signal), sigismember(&before, signal));
    tear_down();
}

TESTS(TEST(a_wake_from_a_signal_handler_ends_a_reap),
      TEST(a_signal_during_a_linger_is_eintr), TEST(a_signal_during_a_spin_is_eintr),
      TEST(a_signal_between_the_spin_and_the_sleep_is_eintr), TEST(an_ignored_signal_ends_no_spin),
      TEST(a_spin_restores_the_signal_mask),
      TEST_SQPOLL_TOO(a_signal_gives_eintr_and_loses_nothing),
      TEST_SQPOLL_TOO(signals_during_rearms_lose_nothing))
