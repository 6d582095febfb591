/* A want of buffers is never told as the socket's own error, whoever runs the completions:
 * with SQPOLL the kernel's thread meets the empty buffer ring while the reaper fills it. */
#include "test.h"

static void want_of_buffers_is_never_a_datagram_sockets_error(void)
{
    enum { SOCKETS = 4 };
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    struct ringmsg_record records[8];
    int senders[SOCKETS];
    ringmsg_ring_config_init(&config);
    /* The mode under test counts where nobody else runs the completions. */
    config.flags = test_mode == 0 && !is_recvmmsg() ? RINGMSG_SETUP_SQPOLL : test_mode;
    config.engine = test_engine;
    OK(ringmsg_ring_new(&config, &ring));
    struct ringmsg_pool *pool = NULL;
    for (int i = 0; i < SOCKETS; i++) {
        int receiver = bound_udp(AF_INET);
        senders[i] = sender_to(receiver);
        if (pool == NULL)
            pool = make_pool(ring, receiver, 4, 2048);
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, (uint64_t)i));
    }
    int64_t end = now_ns() + 1500 * 1000000LL;
    while (now_ns() < end) {
        for (int i = 0; i < 4 * SOCKETS; i++)
            SYS(send(senders[i % SOCKETS], "x", 1, 0));
        for (int n = 1; n > 0;) {
            n = reap_ms(ring, records, 8, 0);
            for (int i = 0; i < n; i++) {
                EQUAL(records[i].result, 1);
                OK(ringmsg_release(ring, &records[i], 1));
            }
        }
    }
    CHECK(stats_of(ring).rearms > 0);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(want_of_buffers_is_never_a_datagram_sockets_error))
