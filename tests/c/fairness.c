/* A peer that floods one socket does not delay the datagrams of another. Each empty datagram ends
 * the multishot, and arming it again finds the next one in the same kernel entry, so there is
 * always a record to reap. No reap may stop at those records. */
#include "test.h"

/* Sends `count` datagrams to one socket before every reap, and one datagram to another socket of
 * the same pool. Counts the reaps until that one arrives. */
static void flood(uint32_t buffers, int count, const char *data, size_t size)
{
    struct ringmsg_ring *ring = make_ring();
    int flooded = bound_udp(AF_INET), flooder = sender_to(flooded);
    int quiet = bound_udp(AF_INET), quiet_sender = sender_to(quiet);
    struct ringmsg_pool *pool = make_pool(ring, flooded, buffers, 64);
    struct ringmsg_record records[256];
    set_int(flooded, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    OK(ringmsg_recvmsg_multishot(ring, pool, flooded, 0, 0, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, quiet, 0, 0, 2));
    for (int i = 0; i < 100; i++)
        SYS(send(flooder, data, size, 0));
    for (int round = 0; round < 20; round++) {
        int reaps = 0, received = 0;
        SYS(send(quiet_sender, "x", 1, 0));
        for (; !received && reaps < 100; reaps++) {
            for (int i = 0; i < count; i++)
                send(flooder, data, size, MSG_DONTWAIT);
            int n = reap_ms(ring, records, buffers, 1000);
            for (int i = 0; i < n; i++)
                received |= records[i].user_data == 2;
            OK(ringmsg_release(ring, records, (uint32_t)n));
        }
        if (!received)
            FAIL("round %d: no record of the other socket in %d reaps", round, reaps);
    }
    OK(ringmsg_ring_free(ring));
}

/* One reap returns fewer, so the flooded socket never runs empty. */
static void empty_datagrams_do_not_starve_another_socket(void)
{
    flood(64, 40, "", 0);
}

/* The pool has published fewer buffers than that. */
static void a_flood_leaves_buffers_to_another_socket(void)
{
    flood(256, 300, "flood", 5);
}

/* The pool has fewer buffers than the flood has datagrams, and the kernel can use all of them for
 * one socket at a time. Whichever request is armed first gets every buffer. */
static void a_flood_leaves_buffers_of_a_small_pool_to_another_socket(void)
{
    flood(16, 40, "flood", 5);
}

TESTS(TEST(a_flood_leaves_buffers_to_another_socket),
      TEST(a_flood_leaves_buffers_of_a_small_pool_to_another_socket),
      TEST(empty_datagrams_do_not_starve_another_socket))
