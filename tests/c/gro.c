/* GRO trains are delivered whole or, with RINGMSG_RECV_SPLIT, as one record per segment, also if a
 * train is longer than the array or than the buffer. */
#include "test.h"

/* A ring with a pool and a multishot with these flags, on a receiver with GRO on; and a sender. */
struct gro {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int sender;
};

static struct gro set_up(int family, uint32_t flags, uint32_t buffers, uint32_t payload)
{
    struct gro g = {.ring = make_ring()};
    int receiver = bound_udp(family);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION));
    g.sender = sender_to(receiver);
    g.pool = make_pool(g.ring, receiver, buffers, payload);
    OK(ringmsg_recvmsg_multishot(g.ring, g.pool, receiver, 0, flags, 5));
    return g;
}

/* Sends one train in which each byte depends on its position. */
static uint8_t train_bytes[65536];
static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i * 31 + i / 251);
}

static void send_bytes(const struct gro *g, size_t size, uint16_t segment)
{
    for (size_t i = 0; i < size; i++)
        train_bytes[i] = byte_at(i);
    send_train(g->sender, train_bytes, size, segment);
}

static void check_bytes(const struct gro *g, const struct ringmsg_record *record, size_t start)
{
    SAME_BYTES(payload_of(g->ring, record), train_bytes + start, record->payload_length);
}

/* Reaps `count` records with their metadata, `at_most` in one reap. */
static void reap_all(const struct gro *g, struct ringmsg_record *records, struct ringmsg_metadata *metadata,
                     uint32_t count, uint32_t at_most)
{
    struct ringmsg_wait wait = wait_ms(2000);
    for (uint32_t done = 0; done < count;) {
        uint32_t room = count - done < at_most ? count - done : at_most;
        int n = OK(ringmsg_reap(g->ring, records + done, metadata + done, room, &wait));
        if (n == 0)
            FAIL("%u of %u records arrived", done, count);
        done += (uint32_t)n;
    }
    reap_nothing(g->ring, 0);
}

static struct ringmsg_record records[128];
static struct ringmsg_metadata metadata[128];

static const uint32_t lengths[] = {2, 3, 5, 16, 44, 64, 100, 127, 128};
static const uint16_t sizes[] = {1, 37, 500, 1200, 1472};

static uint32_t last_size(uint32_t kind, uint32_t size)
{
    return kind == 0 ? 1 : kind == 1 && size > 1 ? size - 1 : size;
}

/* Iterates over every train length, with a last segment of one byte, one byte short, or full. */
#define EACH_TRAIN(total, segments, size)                                             \
    for (size_t l_ = 0; l_ < sizeof lengths / sizeof *lengths; l_++)                  \
        for (size_t s_ = 0; s_ < sizeof sizes / sizeof *sizes; s_++)                  \
            for (uint32_t last_ = 0; last_ < 3; last_++)                              \
                for (uint32_t segments = lengths[l_], size = sizes[s_],               \
                     total = (segments - 1) * size + last_size(last_, size),      \
                     once_ = 1; once_ && total <= 65000; once_ = 0)

static void whole(int family)
{
    struct gro g = set_up(family, 0, 16, 0);
    uint64_t trains = 0, datagrams = 0, bytes = 0;
    EACH_TRAIN(total, segments, size) {
        send_bytes(&g, total, (uint16_t)size);
        reap_all(&g, records, metadata, 1, 1);
        struct ringmsg_record *record = &records[0];
        EQUAL(record->flags, RINGMSG_RECORD_BUFFER);
        EQUAL(record->result, total);
        EQUAL(record->payload_length, total);
        EQUAL(record->wire_length, total);
        EQUAL(record->segment_size, size);
        EQUAL(record->segment, 0);
        EQUAL(record->segments, 1);
        HAS_FLAG(metadata[0].valid, RINGMSG_META_SEGMENT_SIZE);
        EQUAL(metadata[0].segment_size, size);
        check_bytes(&g, record, 0);
        OK(ringmsg_release(g.ring, record, 1));
        trains++, datagrams += segments, bytes += total;
    }
    struct ringmsg_stats stats = stats_of(g.ring);
    COMPARE(trains, >, 100);
    EQUAL(stats.records, trains);
    EQUAL(stats.datagrams, datagrams);
    EQUAL(stats.payload_bytes, bytes);
    EQUAL(stats.truncated, 0);
    EQUAL(stats.buffers_held, 0);
    OK(ringmsg_ring_free(g.ring));
}

static void trains_arrive_whole(void)
{
    whole(AF_INET);
    whole(AF_INET6);
}

static void check_segment(const struct gro *g, const struct ringmsg_record *first, uint32_t i, uint32_t total,
                          uint32_t segments, uint32_t size)
{
    const struct ringmsg_record *record = first + i;
    uint32_t length = i + 1 < segments ? size : total - i * size;
    EQUAL(record->user_data, 5);
    EQUAL(record->flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_SEGMENT);
    EQUAL(record->result, length);
    EQUAL(record->payload_length, length);
    EQUAL(record->wire_length, length);
    EQUAL(record->segment_size, size);
    EQUAL(record->segment, i);
    EQUAL(record->segments, segments);
    EQUAL(record->payload_offset, first->payload_offset + i * size);
    EQUAL(record->buffer, first->buffer);
    EQUAL(record->generation, first->generation);
    EQUAL(record->name_offset, first->name_offset);
    EQUAL(record->control_length, first->control_length);
    check_bytes(g, record, i * (size_t)size);
}

/* Reaps `at_most` records at a time: the rest of a train comes with the next reap. */
static void split(int family, uint32_t at_most)
{
    struct gro g = set_up(family, RINGMSG_RECV_SPLIT, 2, 0);
    uint64_t datagrams = 0;
    EACH_TRAIN(total, segments, size) {
        send_bytes(&g, total, (uint16_t)size);
        reap_all(&g, records, metadata, segments, at_most);
        for (uint32_t i = 0; i < segments; i++) {
            check_segment(&g, records, i, total, segments, size);
            SAME_BYTES(&metadata[i], &metadata[0], sizeof metadata[0]);
        }
        EQUAL(metadata[0].segment_size, size);
        HAS_FLAG(metadata[0].valid, RINGMSG_META_DESTINATION);
        EQUAL(stats_of(g.ring).buffers_held, 1);
        /* The buffer is returned with the last release, in whatever order. */
        OK(ringmsg_release(g.ring, records + 1, segments - 1));
        EQUAL(stats_of(g.ring).buffers_held, 1);
        check_bytes(&g, &records[0], 0);
        OK(ringmsg_release(g.ring, records, 1));
        EQUAL(stats_of(g.ring).buffers_held, 0);
        datagrams += segments;
    }
    EQUAL(stats_of(g.ring).datagrams, datagrams);
    EQUAL(stats_of(g.ring).records, datagrams);
    OK(ringmsg_ring_free(g.ring));
}

static void trains_are_split(void)
{
    split(AF_INET, 128);
    split(AF_INET6, 128);
}

static void a_train_longer_than_the_array_continues_in_the_next_reap(void)
{
    split(AF_INET, 1);
    split(AF_INET6, 7);
}

/* The first segments are reaped without metadata, the rest with it, and no other record comes
 * between them. */
static void metadata_can_be_asked_for_in_the_middle_of_a_train(void)
{
    struct gro g = set_up(AF_INET, RINGMSG_RECV_SPLIT, 8, 0);
    struct ringmsg_wait wait = wait_ms(2000);
    send_bytes(&g, 10 * 100, 100);
    SYS(send(g.sender, "next", 4, 0));
    EQUAL(ringmsg_reap(g.ring, records, NULL, 4, &wait), 4);
    EQUAL(records[0].segment_size, 100);
    EQUAL(ringmsg_reap(g.ring, records + 4, metadata + 4, 6, &wait), 6);
    for (uint32_t i = 0; i < 10; i++)
        check_segment(&g, records, i, 1000, 10, 100);
    for (uint32_t i = 4; i < 10; i++) {
        HAS_FLAG(metadata[i].valid, RINGMSG_META_SOURCE);
        HAS_FLAG(metadata[i].valid, RINGMSG_META_DESTINATION);
        EQUAL(metadata[i].segment_size, 100);
    }
    EQUAL(reap_one(g.ring).result, 4);
    OK(ringmsg_ring_free(g.ring));
}

/* Some segments are released before the rest is reaped. */
static void segments_can_be_released_before_the_rest_is_reaped(void)
{
    struct gro g = set_up(AF_INET, RINGMSG_RECV_SPLIT, 1, 0);
    for (int round = 0; round < 3; round++) {
        send_bytes(&g, 10 * 100, 100);
        for (uint32_t i = 0; i < 10; i++) {
            struct ringmsg_record record = reap_one(g.ring);
            EQUAL(record.segment, i);
            check_bytes(&g, &record, i * 100);
            EQUAL(stats_of(g.ring).buffers_held, 1);
            OK(ringmsg_release(g.ring, &record, 1));
            REFUSED(ringmsg_release(g.ring, &record, 1), EINVAL);
        }
        EQUAL(stats_of(g.ring).buffers_held, 0);
    }
    EQUAL(stats_of(g.ring).errors, 0);
    OK(ringmsg_ring_free(g.ring));
}

static void a_train_that_does_not_fit_is_flagged_truncated(void)
{
    enum { CUT = RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_TRUNCATED };
    for (uint32_t payload = 296; payload <= 400; payload += 8) {
        struct gro g = set_up(AF_INET, 0, 4, payload);
        send_bytes(&g, 950, 100);
        struct ringmsg_record record = reap_one(g.ring);
        EQUAL(record.flags, CUT);
        EQUAL(record.result, payload);
        EQUAL(record.wire_length, 950);
        EQUAL(record.segment_size, 100);
        check_bytes(&g, &record, 0);
        EQUAL(stats_of(g.ring).truncated, 1);
        EQUAL(stats_of(g.ring).datagrams, payload / 100 + 1); /* the same count as with SPLIT */
        OK(ringmsg_ring_free(g.ring));

        /* With SPLIT: the complete segments, then one that is truncated. */
        g = set_up(AF_INET, RINGMSG_RECV_SPLIT, 4, payload);
        send_bytes(&g, 950, 100);
        uint32_t complete = payload / 100;
        reap_all(&g, records, metadata, complete + 1, 128);
        for (uint32_t i = 0; i < complete; i++)
            check_segment(&g, records, i, 950, 10, 100);
        EQUAL(records[complete].flags, CUT | RINGMSG_RECORD_SEGMENT);
        EQUAL(records[complete].payload_length, payload % 100);
        EQUAL(records[complete].wire_length, 100);
        EQUAL(records[complete].segments, 10);
        EQUAL(stats_of(g.ring).truncated, 1);
        EQUAL(stats_of(g.ring).datagrams, complete + 1);
        OK(ringmsg_release(g.ring, records, complete + 1));
        EQUAL(stats_of(g.ring).buffers_held, 0);
        OK(ringmsg_ring_free(g.ring));
    }
}

static void a_single_datagram_is_no_train(void)
{
    for (uint32_t flags = 0; flags <= RINGMSG_RECV_SPLIT; flags += RINGMSG_RECV_SPLIT) {
        struct gro g = set_up(AF_INET, flags, 4, 0);
        for (int i = 0; i < 2; i++) {
            struct ringmsg_record record;
            if (i == 0)
                send_bytes(&g, 1200, 1200); /* a train of one segment */
            else
                SYS(send(g.sender, train_bytes, 700, 0));
            reap_all(&g, &record, metadata, 1, 1);
            EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
            EQUAL(record.result, i == 0 ? 1200 : 700);
            EQUAL(record.segment_size, 0);
            EQUAL(record.segments, 1);
            EQUAL(metadata[0].valid & RINGMSG_META_SEGMENT_SIZE, 0);
            OK(ringmsg_release(g.ring, &record, 1));
        }
        OK(ringmsg_ring_free(g.ring));
    }
}

/* The kernel writes SOL_SOCKET messages first, and the segment size must fit behind them. */
static void split_needs_control_space_for_the_segment_size(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
    for (uint32_t control = 0; control <= 64; control += 8) {
        struct ringmsg_pool_config config;
        struct ringmsg_pool *pool;
        ringmsg_pool_config_init(&config);
        config.buffers = 1;
        config.control_capacity = control;
        OK(ringmsg_pool_new(ring, &config, &pool));
        for (int stamped = 0; stamped < 2; stamped++) {
            set_int(receiver, SOL_SOCKET, SO_TIMESTAMPNS, stamped);
            if (control < (stamped ? 56u : 24u)) {
                REFUSED(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 0), EINVAL);
                REFUSED(ringmsg_recvmsg_once(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 0), EINVAL);
                REFUSED(ringmsg_cancel(ring, 0), ENOENT);
                continue;
            }
            OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 0));
            send_train(sender, train_bytes, 300, 100);
            EQUAL(reap_ms(ring, records, 4, 2000), 3);
            EQUAL(records[0].flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_SEGMENT);
            OK(ringmsg_release(ring, records, 3));
            OK(ringmsg_cancel(ring, 0));
            EQUAL(reap_one(ring).result, -ECANCELED);
        }
        OK(ringmsg_pool_free(pool));
    }
    OK(ringmsg_ring_free(ring));
}

/* A single-shot ends with its train. FINAL is set on the train's last record, however few records
 * each reap takes. */
static void final_is_set_on_the_last_record_of_a_train(void)
{
    for (uint32_t at_most = 1; at_most <= 10; at_most += 3) {
        struct ringmsg_ring *ring = make_ring();
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
        struct ringmsg_pool *pool = make_pool(ring, receiver, 2, 0);
        struct gro g = {.ring = ring, .pool = pool, .sender = sender};
        OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 5));
        send_bytes(&g, 10 * 100, 100);
        reap_all(&g, records, metadata, 10, at_most);
        for (uint32_t i = 0; i < 10; i++)
            EQUAL((records[i].flags & RINGMSG_RECORD_FINAL) != 0, i == 9);
        records[9].flags &= ~RINGMSG_RECORD_FINAL;
        for (uint32_t i = 0; i < 10; i++)
            check_segment(&g, records, i, 1000, 10, 100);
        REFUSED(ringmsg_cancel(ring, 5), ENOENT);
        OK(ringmsg_release(ring, records, 10));
        OK(ringmsg_pool_free(pool));
        OK(ringmsg_ring_free(ring));
    }
}

/* A request is cancelled while its train is partly reaped: the rest of the train comes first, then
 * one FINAL record. */
static void the_final_of_a_cancel_follows_the_whole_train(void)
{
    struct gro g = set_up(AF_INET, RINGMSG_RECV_SPLIT, 4, 0);
    send_bytes(&g, 10 * 100, 100);
    for (uint32_t i = 0; i < 10; i++) {
        records[i] = reap_one(g.ring);
        EQUAL(records[i].segment, i);
        if (i == 4)
            OK(ringmsg_cancel(g.ring, 5));
    }
    struct ringmsg_record record = reap_one(g.ring);
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    EQUAL(record.result, -ECANCELED);
    reap_nothing(g.ring, 50);
    OK(ringmsg_release(g.ring, records, 10));
    OK(ringmsg_ring_free(g.ring));
}

TESTS(TEST(trains_arrive_whole),
      TEST(trains_are_split),
      TEST(a_train_longer_than_the_array_continues_in_the_next_reap),
      TEST(metadata_can_be_asked_for_in_the_middle_of_a_train),
      TEST(segments_can_be_released_before_the_rest_is_reaped),
      TEST(a_train_that_does_not_fit_is_flagged_truncated),
      TEST(a_single_datagram_is_no_train),
      TEST(split_needs_control_space_for_the_segment_size),
      TEST(final_is_set_on_the_last_record_of_a_train),
      TEST(the_final_of_a_cancel_follows_the_whole_train))
