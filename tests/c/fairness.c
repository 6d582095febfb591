/* A peer that floods one socket does not keep the others from theirs. Each empty datagram ends
 * the multishot, and arming it again finds the next one in the same kernel entry: so there is
 * always something to reap, and nothing may make a reap content with that. */
#include "test.h"

static void empty_datagrams_do_not_starve_another_socket(void)
{
    struct ringmsg_ring *ring = make_ring();
    int flooded = bound_udp(AF_INET), flooder = sender_to(flooded);
    int quiet = bound_udp(AF_INET), speaker = sender_to(quiet);
    struct ringmsg_pool *pool = make_pool(ring, flooded, 64, 2048);
    struct ringmsg_record records[64];
    OK(ringmsg_recvmsg_multishot(ring, pool, flooded, 0, 0, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, quiet, 0, 0, 2));
    for (int i = 0; i < 100; i++)
        SYS(send(flooder, "", 0, 0));
    for (int round = 0; round < 20; round++) {
        int reaps = 0, heard = 0;
        SYS(send(speaker, "x", 1, 0));
        for (; !heard && reaps < 100; reaps++) {
            /* More than a reap takes, so that the flood never ebbs. */
            for (int i = 0; i < 40; i++)
                send(flooder, "", 0, MSG_DONTWAIT);
            int n = reap_ms(ring, records, 64, 1000);
            for (int i = 0; i < n; i++)
                heard |= records[i].user_data == 2;
            OK(ringmsg_release(ring, records, (uint32_t)n));
        }
        if (!heard)
            FAIL("round %d: nothing of the other socket in %d reaps", round, reaps);
    }
    OK(ringmsg_ring_free(ring));
}

/* With more data at every reap than the pool has published, all of it at one socket. */
static void a_flood_leaves_buffers_to_another_socket(void)
{
    struct ringmsg_ring *ring = make_ring();
    int flooded = bound_udp(AF_INET), flooder = sender_to(flooded);
    int quiet = bound_udp(AF_INET), speaker = sender_to(quiet);
    struct ringmsg_record records[256];
    struct ringmsg_pool *pool = make_pool(ring, flooded, 256, 64);
    set_int(flooded, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    OK(ringmsg_recvmsg_multishot(ring, pool, flooded, 0, 0, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, quiet, 0, 0, 2));
    for (int round = 0; round < 20; round++) {
        int reaps = 0, heard = 0;
        for (; !heard && reaps < 50; reaps++) {
            for (int i = 0; i < 300; i++)
                send(flooder, "flood", 5, MSG_DONTWAIT);
            if (reaps == 0)
                SYS(send(speaker, "x", 1, 0));
            int n = reap_ms(ring, records, 256, 1000);
            for (int i = 0; i < n; i++)
                heard |= records[i].user_data == 2;
            OK(ringmsg_release(ring, records, (uint32_t)n));
        }
        if (!heard)
            FAIL("round %d: nothing of the other socket in %d reaps", round, reaps);
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(a_flood_leaves_buffers_to_another_socket), TEST(empty_datagrams_do_not_starve_another_socket))
