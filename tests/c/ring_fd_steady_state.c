/* An epoll loop on ring_fd misses no datagram and has no empty wake-ups under paced traffic, in
 * bursts, in a race with the next datagram, and between reaps that block. */
#include "ring_fd_loop.h"

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
    uint64_t before = stats_of(fixture.ring).enters;
    pthread_t thread = start(send_paced, 0);
    loop_until(PACED, CAPACITY);
    pthread_join(thread, NULL);
    check_no_more_records(2);
    printf("  %d datagrams, %d wake-ups, %d of them empty, %d kernel entries\n", counts.records,
           counts.wakeups, counts.empty, (int)(stats_of(fixture.ring).enters - before));
    COMPARE(counts.empty, <=, PACED / 50);
    tear_down();
}
BOTH_TRIGGERS(steady_state_has_no_empty_wakeups)

/* Bursts that several reaps take: ring_fd is readable again for what a reap has left. */
static void a_burst_is_reaped_in_pieces(uint32_t edge)
{
    static const uint32_t capacities[] = {1, 3, CAPACITY};
    set_up(edge, 64);
    for (int c = 0; c < 3; c++) {
        for (int round = 0; round < 20; round++) {
            memset(&counts, 0, sizeof counts);
            send_some(100);
            loop_until(100, capacities[c]);
            COMPARE(counts.wakeups, <=, 100 + 20);
        }
        check_no_more_records(2);
    }
    tear_down();
}
BOTH_TRIGGERS(a_burst_is_reaped_in_pieces)

static volatile int answered;

static void *send_when_answered(void *unused)
{
    (void)unused;
    for (int i = 0; i < RACES; i++) {
        send_some(1);
        SPIN_UNTIL(answered > i);
        for (volatile int pause = 0; pause < i % 64; pause++)
            ;
    }
    return NULL;
}

/* The next datagram arrives at every distance in time from the end of the previous reap. */
static void no_datagram_is_missed_between_two_reaps(uint32_t edge)
{
    set_up(edge, 64);
    answered = 0;
    pthread_t thread = start(send_when_answered, 0);
    for (int i = 1; i <= RACES; i++) {
        while (counts.records < i) {
            if (wait_readable(HANG_MS) == 0)
                FAIL("no wake-up after %d records", counts.records);
            answered = i - 1 + reap_ms(fixture.ring, records, CAPACITY, 0);
            counts.records = answered;
        }
        OK(ringmsg_release(fixture.ring, records, 1));
    }
    pthread_join(thread, NULL);
    tear_down();
}
BOTH_TRIGGERS(no_datagram_is_missed_between_two_reaps)

/* A loop on ring_fd may also reap with a timeout. */
static void blocking_reaps_mix_with_an_epoll_loop(uint32_t edge)
{
    set_up(edge, 64);
    for (int i = 0; i < 50; i++) {
        send_some(3);
        for (int got = 0; got < 3; got++)
            OK(ringmsg_release(fixture.ring, (records[0] = reap_one(fixture.ring), records), 1));
        send_some(1);
        memset(&counts, 0, sizeof counts);
        loop_until(1, CAPACITY);
    }
    check_no_more_records(2);
    tear_down();
}
BOTH_TRIGGERS(blocking_reaps_mix_with_an_epoll_loop)

TESTS(BOTH(steady_state_has_no_empty_wakeups),
      BOTH_SQPOLL_TOO(a_burst_is_reaped_in_pieces),
      BOTH(no_datagram_is_missed_between_two_reaps),
      BOTH(blocking_reaps_mix_with_an_epoll_loop))
