/* Shared by the programs about ring_fd: an epoll loop, level- or edge-triggered, whose handler
 * reaps with timeout 0. No test may depend on a timeout to make progress, and wake-ups without a
 * record are counted. */
#ifndef RINGMSG_TEST_RING_FD_LOOP_H
#define RINGMSG_TEST_RING_FD_LOOP_H

#include "test.h"

#define CAPACITY 64
#define HANG_MS 5000
enum { RACES = 4000 };

static struct ringmsg_record records[CAPACITY];

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender, epoll;
} fixture;

/* What the loop has counted since it was last zeroed. */
static struct counts {
    int records, wakeups, empty, finals;
} counts;

static void add_to_epoll(uint32_t edge)
{
    int fd = OK(ringmsg_ring_fd(fixture.ring));
    EQUAL(fd, OK(ringmsg_ring_fd(fixture.ring)));
    HAS_FLAG(SYS(fcntl(fd, F_GETFD)), FD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN | edge};
    fixture.epoll = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    SYS(epoll_ctl(fixture.epoll, EPOLL_CTL_ADD, fd, &event));
    memset(&counts, 0, sizeof counts);
}

static void set_up_sockets(void)
{
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
}

__attribute__((unused)) static void set_up(uint32_t edge, uint32_t buffers)
{
    fixture.ring = make_ring();
    set_up_sockets();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, buffers, 2048);
    add_to_epoll(edge);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.receiver);
    close(fixture.sender);
    close(fixture.epoll);
}

static void send_some(int count)
{
    for (int i = 0; i < count; i++)
        EQUAL(SYS(send(fixture.sender, "hello", 5, 0)), 5);
}

static pthread_t start(void *(*run)(void *), intptr_t argument)
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, run, (void *)argument), 0);
    return thread;
}

/* Returns 1 if ring_fd became readable within this time, else 0. */
static int wait_readable(int ms)
{
    struct epoll_event event;
    int64_t deadline = now_ns() + (int64_t)ms * 1000000;
    for (;;) {
        int64_t left = deadline - now_ns();
        int got = epoll_wait(fixture.epoll, &event, 1, left < 0 ? 0 : (int)((left + 999999) / 1000000));
        /* Plain and COOP rings interrupt the thread that armed the request. */
        if (got >= 0)
            return got;
        EQUAL(errno, EINTR);
    }
}

/* The handler: one reap that does not block. Its records stay in `records`. */
static int handle(uint32_t capacity)
{
    int n = reap_ms(fixture.ring, records, capacity, 0);
    counts.wakeups++;
    counts.empty += n == 0;
    counts.records += n;
    for (int i = 0; i < n; i++)
        counts.finals += (records[i].flags & RINGMSG_RECORD_FINAL) != 0;
    return n;
}

static void handle_and_release(uint32_t capacity)
{
    int n = handle(capacity);
    OK(ringmsg_release(fixture.ring, records, (uint32_t)n));
}

/* Runs the loop until `count` records have arrived. */
static void loop_until(int count, uint32_t capacity)
{
    while (counts.records < count) {
        if (wait_readable(HANG_MS) == 0)
            FAIL("no wake-up after %d of %d records", counts.records, count);
        handle_and_release(capacity);
    }
    EQUAL(counts.records, count);
}

/* Checks that no further record arrives, with at most `may_be_empty` wake-ups that bring none. */
static void check_no_more_records(int may_be_empty)
{
    for (int i = 0; wait_readable(30) != 0; i++) {
        COMPARE(i, <, may_be_empty);
        EQUAL(handle(CAPACITY), 0);
    }
}

#define BOTH_TRIGGERS(body)                             \
    static void body##_level(void) { body(0); }         \
    static void body##_edge(void) { body(EPOLLET); }
#define BOTH(body) TEST(body##_level), TEST(body##_edge)
#define BOTH_SQPOLL_TOO(body) TEST_SQPOLL_TOO(body##_level), TEST_SQPOLL_TOO(body##_edge)

#endif
