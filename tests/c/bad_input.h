/* Shared by the programs about wrong arguments: a ring with a pool and a socket, and a check that
 * the ring still works afterwards. Every wrong call returns its documented -errno with an
 * explanatory sentence, nothing crashes, and no datagram or buffer is lost. */
#ifndef RINGMSG_TEST_BAD_INPUT_H
#define RINGMSG_TEST_BAD_INPUT_H

#include "test.h"

#define CAPACITY 16

static struct ringmsg_record records[CAPACITY];

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} fixture;

static void set_up(void)
{
    fixture.ring = make_ring();
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 16, 2048);
}

static void arm(void)
{
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
}

static void receive(int count)
{
    for (int i = 0; i < count; i++)
        SYS(send(fixture.sender, "hello", 5, 0));
    for (int have = 0; have < count;)
        have += reap_ms(fixture.ring, records + have, (uint32_t)(count - have), 2000);
}

/* Checks after the refused calls: data flows, no buffer is missing, every request is accounted
 * for. */
static void check_ring_still_works(void)
{
    struct ringmsg_record kept[CAPACITY];
    memcpy(kept, records, sizeof kept);
    uint64_t held = stats_of(fixture.ring).buffers_held;
    receive(4);
    for (int i = 0; i < 4; i++) {
        EQUAL(records[i].result, 5);
        EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
    }
    OK(ringmsg_release(fixture.ring, records, 4));
    EQUAL(stats_of(fixture.ring).buffers_held, held);
    reap_nothing(fixture.ring, 5);
    memcpy(records, kept, sizeof kept);
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.receiver);
    close(fixture.sender);
}

__attribute__((unused)) static struct msghdr message_of(struct iovec *part)
{
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = part;
    message.msg_iovlen = 1;
    return message;
}

#endif
