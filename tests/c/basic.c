/* The smallest complete use of the library: one datagram is received with its payload and source,
 * and its record is released once. */
#include "test.h"

static void one_datagram_arrives_with_payload_and_source(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 42));
    EQUAL(SYS(send(sender, "hello", 5, 0)), 5);

    struct ringmsg_record record;
    struct ringmsg_metadata metadata;
    struct ringmsg_wait wait = wait_ms(2000);
    EQUAL(ringmsg_reap(ring, &record, &metadata, 1, &wait), 1);
    EQUAL(record.user_data, 42);
    EQUAL(record.result, 5);
    EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
    EQUAL(record.payload_length, 5);
    EQUAL(record.wire_length, 5);
    EQUAL(record.segments, 1);
    EQUAL(record.segment_size, 0);
    SAME_BYTES(payload_of(ring, &record), "hello", 5);

    socklen_t length;
    struct sockaddr_storage from = address_of(sender, &length);
    EQUAL(record.name_length, length);
    SAME_BYTES(ringmsg_pool_base(pool) + record.name_offset, &from, length);
    HAS_FLAG(metadata.valid, RINGMSG_META_SOURCE);
    EQUAL(metadata.source_port, ntohs(((struct sockaddr_in *)&from)->sin_port));
    OK(ringmsg_release(ring, &record, 1));
    OK(ringmsg_ring_free(ring));
}

static void a_record_is_released_only_once(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
    SYS(send(sender, "x", 1, 0));
    struct ringmsg_record twice[2];
    twice[0] = twice[1] = reap_one(ring);
    REFUSED(ringmsg_release(ring, twice, 2), EINVAL);
    EQUAL(stats_of(ring).buffers_held, 1);
    OK(ringmsg_release(ring, twice, 1));
    EQUAL(stats_of(ring).buffers_held, 0);
    REFUSED(ringmsg_release(ring, twice, 1), EINVAL);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(one_datagram_arrives_with_payload_and_source),
      TEST(a_record_is_released_only_once))
