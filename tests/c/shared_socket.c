/* A socket that several rings share, as a server's processes do while one is replaced by the next.
 * A ring whose owner has stopped reaping must leave the datagrams to the others. In DEFER mode the
 * kernel receives for a ring only while its owner reaps, and the recvmmsg engine receives nowhere
 * else; in plain and COOP mode the kernel receives for whatever is armed, so the owner cancels
 * first (see ringmsg_recvmsg_multishot()). */
#include "test.h"

enum { DATAGRAMS = 200 };

static struct fixture {
    int fd, sender, cancels;
    volatile int is_idle, is_over;
} fixture;

static struct ringmsg_ring *make_ring_on(int fd)
{
    struct ringmsg_ring *ring = make_ring();
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, fd, 16, 100), fd, 0, 0, 1));
    reap_nothing(ring, 0);
    return ring;
}

/* Reaps once, and then sleeps and makes system calls, as a program with other work does. */
static void *idle(void *unused)
{
    struct ringmsg_ring *ring = make_ring_on(fixture.fd);
    if (fixture.cancels) {
        OK(ringmsg_cancel(ring, 1));
        EQUAL(reap_one(ring).flags & RINGMSG_RECORD_FINAL, RINGMSG_RECORD_FINAL);
    }
    fixture.is_idle = 1;
    while (!fixture.is_over)
        sleep_briefly();
    OK(ringmsg_ring_free(ring));
    return unused;
}

static void the_other_ring_gets_every_datagram(void)
{
    pthread_t thread;
    fixture.fd = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.fd);
    EQUAL(pthread_create(&thread, NULL, idle, NULL), 0);
    WAIT_UNTIL(fixture.is_idle);
    struct ringmsg_ring *ring = make_ring_on(fixture.fd);
    for (int i = 0; i < DATAGRAMS; i++) {
        EQUAL(SYS(send(fixture.sender, &i, sizeof i, 0)), (long)sizeof i);
        struct ringmsg_record record = reap_one(ring);
        SAME_BYTES(payload_of(ring, &record), &i, sizeof i);
        OK(ringmsg_release(ring, &record, 1));
    }
    fixture.is_over = 1;
    EQUAL(pthread_join(thread, NULL), 0);
    OK(ringmsg_ring_free(ring));
}

static void an_idle_ring_takes_nothing(void)
{
    if (!is_bound() && !is_recvmmsg())
        return; /* see next test */
    the_other_ring_gets_every_datagram();
}

static void a_ring_that_has_cancelled_takes_nothing(void)
{
    fixture.cancels = 1;
    the_other_ring_gets_every_datagram();
}

TESTS(TEST(an_idle_ring_takes_nothing), TEST_SQPOLL_TOO(a_ring_that_has_cancelled_takes_nothing))
