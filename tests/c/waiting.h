/* Shared by the programs about waiting: a ring with one request, timed reaps, and threads that act
 * after a delay. */
#ifndef RINGMSG_TEST_WAITING_H
#define RINGMSG_TEST_WAITING_H

#include "test.h"

#define CAPACITY 256
#define FOREVER (-1)

static struct ringmsg_record records[CAPACITY];

/* A ring with one multishot request on one socket. */
static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} fixture;

static void set_up(uint32_t buffers)
{
    fixture.ring = make_ring();
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, buffers, 2048);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 7));
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.receiver);
    close(fixture.sender);
}

static void send_some(int count)
{
    for (int i = 0; i < count; i++)
        EQUAL(SYS(send(fixture.sender, "hello", 5, 0)), 5);
}

static struct ringmsg_wait wait_with(int timeout_ms, uint32_t linger_us)
{
    struct ringmsg_wait wait = wait_ms(timeout_ms < 0 ? 0 : timeout_ms);
    wait.linger_us = linger_us;
    if (timeout_ms < 0)
        wait.timeout_ns = -1;
    return wait;
}

/* Does one reap. Returns its result, and in `us` how many microseconds it took. */
static int timed_reap(const struct ringmsg_wait *wait, int64_t *us)
{
    int64_t start = now_ns();
    int got = ringmsg_reap(fixture.ring, records, NULL, CAPACITY, wait);
    *us = (now_ns() - start) / 1000;
    return got;
}

__attribute__((unused)) static void release_all(int count)
{
    OK(ringmsg_release(fixture.ring, records, (uint32_t)count));
}

__attribute__((unused)) static void *wake_later(void *ms)
{
    sleep_ms((int)(intptr_t)ms);
    OK(ringmsg_wake(fixture.ring));
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

/* Microseconds since the last thread was started. */
static int64_t since_start_us(void)
{
    return (now_ns() - started_ns) / 1000;
}

#endif
