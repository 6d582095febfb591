/* ringmsg_recvmsg_once() receives one message into a pool, and its record equals that of a
 * multishot, with FINAL set. */
#include "test.h"

static struct ringmsg_record reap_with(struct ringmsg_ring *ring, struct ringmsg_metadata *metadata)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(2000);
    EQUAL(ringmsg_reap(ring, &record, metadata, 1, &wait), 1);
    return record;
}

static void check_same_bytes(struct ringmsg_ring *ring, const struct ringmsg_record *a, uint32_t a_at,
                       const struct ringmsg_record *b, uint32_t b_at, uint32_t length)
{
    const uint8_t *a_base = ringmsg_pool_base(ringmsg_ring_pool(ring, a->pool));
    const uint8_t *b_base = ringmsg_pool_base(ringmsg_ring_pool(ring, b->pool));
    SAME_BYTES(a_base + a_at, b_base + b_at, length);
}

/* Receives one datagram by a single-shot with MSG_PEEK and then by a multishot, and compares the
 * two records. */
static void compare(struct ringmsg_ring *ring, struct ringmsg_pool *once,
                    struct ringmsg_pool *multishot, int fd, int sender, size_t size)
{
    static char data[3000];
    struct ringmsg_metadata actual_metadata, expected_metadata;
    memset(data, (int)size, sizeof data);
    EQUAL(SYS(send(sender, data, size, 0)), size);
    OK(ringmsg_recvmsg_once(ring, once, fd, MSG_PEEK, 0, 1));
    struct ringmsg_record actual = reap_with(ring, &actual_metadata);
    OK(ringmsg_recvmsg_multishot(ring, multishot, fd, 0, 0, 2));
    struct ringmsg_record expected = reap_with(ring, &expected_metadata);
    OK(ringmsg_cancel(ring, 2));
    EQUAL(reap_one(ring).flags, RINGMSG_RECORD_FINAL);

    EQUAL(actual.user_data, 1);
    EQUAL(actual.flags, expected.flags | RINGMSG_RECORD_FINAL);
    EQUAL(actual.result, expected.result);
    EQUAL(actual.payload_length, expected.payload_length);
    EQUAL(actual.control_length, expected.control_length);
    EQUAL(actual.name_length, expected.name_length);
    EQUAL(actual.wire_length, expected.wire_length);
    EQUAL(actual.msg_flags, expected.msg_flags);
    EQUAL(actual.segment_size, expected.segment_size);
    EQUAL(actual.segments, expected.segments);
    SAME_BYTES(&actual_metadata, &expected_metadata, sizeof actual_metadata);
    check_same_bytes(ring, &actual, actual.payload_offset, &expected, expected.payload_offset,
                     actual.payload_length);
    check_same_bytes(ring, &actual, actual.control_offset, &expected, expected.control_offset,
                     actual.control_length);
    check_same_bytes(ring, &actual, actual.name_offset, &expected, expected.name_offset, actual.name_length);
    EQUAL(actual.wire_length, size);
    OK(ringmsg_release(ring, &actual, 1));
    OK(ringmsg_release(ring, &expected, 1));
}

/* Pools of every size, so that payload, name and control messages are truncated as well. */
static void its_record_equals_that_of_a_multishot(void)
{
    const uint32_t payloads[] = {8, 104, 2048}, names[] = {0, 8, 16, 128}, controls[] = {0, 24, 56, 512};
    const size_t sizes[] = {0, 1, 8, 9, 100, 1472};
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS |
                                           RINGMSG_META_HOP_LIMIT | RINGMSG_META_SOFTWARE_TIMESTAMP));
    sleep_ms(20); /* the kernel enables timestamps in the background */
    for (size_t i = 0; i < 3 * 4 * 4; i++) {
        struct ringmsg_pool_config config;
        struct ringmsg_pool *once, *multishot;
        ringmsg_pool_config_init(&config);
        config.buffers = 4;
        config.payload_capacity = payloads[i % 3];
        config.name_capacity = names[i / 3 % 4];
        config.control_capacity = controls[i / 12];
        OK(ringmsg_pool_new(ring, &config, &once));
        OK(ringmsg_pool_new(ring, &config, &multishot));
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            compare(ring, once, multishot, receiver, sender, sizes[s]);
        OK(ringmsg_pool_free(once));
        OK(ringmsg_pool_free(multishot));
    }
    OK(ringmsg_ring_free(ring));
}

static void a_single_shot_needs_an_unpublished_buffer(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 2, 2048);
    struct ringmsg_record records[2], final;
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 2));
    REFUSED(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 3), ENOBUFS);
    REFUSED(ringmsg_cancel(ring, 3), ENOENT);
    for (int i = 0; i < 2; i++) {
        SYS(send(sender, "x", 1, 0));
        records[i] = reap_one(ring);
    }
    REFUSED(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 3), ENOBUFS); /* both buffers are held */
    OK(ringmsg_release(ring, records, 1));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 3));
    OK(ringmsg_cancel(ring, 3));
    EQUAL(reap_one(ring).result, -ECANCELED);
    OK(ringmsg_release(ring, records + 1, 1));

    /* A multishot publishes every buffer, and takes the unused ones back when it ends. */
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 4));
    EQUAL(stats_of(ring).buffers_published, 2);
    REFUSED(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 5), ENOBUFS);
    OK(ringmsg_cancel(ring, 4));
    final = reap_one(ring);
    EQUAL(final.user_data, 4);
    EQUAL(stats_of(ring).buffers_published, 0);
    OK(ringmsg_recvmsg_once(ring, pool, receiver, MSG_DONTWAIT, 0, 5));
    final = reap_one(ring);
    EQUAL(final.flags, RINGMSG_RECORD_FINAL); /* an error record holds no buffer */
    EQUAL(final.result, -EAGAIN);
    EQUAL(stats_of(ring).buffers_held, 0);
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

/* A multishot that is starved because single-shots have taken the buffers is armed again when those
 * end. */
static void a_finished_single_shot_feeds_a_starved_multishot(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    int other = bound_udp(AF_INET), other_sender = sender_to(other);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 2, 2048);
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, other, 0, 0, 2));
    SYS(send(other_sender, "y", 1, 0));
    reap_nothing(ring, 10);
    OK(ringmsg_cancel(ring, 1));
    int finals = 0, messages = 0;
    while (finals < 2 || messages < 1) {
        struct ringmsg_record record = reap_one(ring);
        finals += record.user_data == 1;
        messages += record.user_data == 2;
        OK(ringmsg_release(ring, &record, 1));
    }
    /* The same, with single-shots that end with data or an error. */
    OK(ringmsg_cancel(ring, 2));
    EQUAL(reap_one(ring).user_data, 2);
    OK(ringmsg_recvmsg_once(ring, pool, receiver, MSG_DONTWAIT, 0, 1));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, other, 0, 0, 2));
    SYS(send(other_sender, "y", 1, 0));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, -EAGAIN);
    record = reap_one(ring);
    EQUAL(record.user_data, 2);
    EQUAL(record.result, 1);
    SYS(send(sender, "x", 1, 0));
    EQUAL(reap_one(ring).user_data, 1);
    OK(ringmsg_ring_free(ring));
}

static void a_single_shot_splits_trains(void)
{
    enum { SEGMENT = 100, SEGMENTS = 5, LAST = 30 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 0);
    struct ringmsg_record records[SEGMENTS];
    char train[(SEGMENTS - 1) * SEGMENT + LAST];
    for (size_t i = 0; i < sizeof train; i++)
        train[i] = (char)(i * 3);
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(sender, train, sizeof train, SEGMENT);
    for (int i = 0; i < SEGMENTS; i++) {
        records[i] = reap_one(ring);
        const int is_last = i == SEGMENTS - 1;
        EQUAL(records[i].result, is_last ? LAST : SEGMENT);
        EQUAL(records[i].segment, i);
        EQUAL(records[i].segments, SEGMENTS);
        EQUAL(records[i].segment_size, SEGMENT);
        EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_SEGMENT |
                                    (is_last ? RINGMSG_RECORD_FINAL : 0));
        SAME_BYTES(payload_of(ring, &records[i]), train + i * SEGMENT, records[i].payload_length);
    }
    REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    OK(ringmsg_release(ring, records, SEGMENTS));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 2));
    send_train(sender, train, sizeof train, SEGMENT);
    struct ringmsg_record whole = reap_one(ring);
    EQUAL(whole.flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_FINAL);
    EQUAL(whole.segment_size, SEGMENT);
    EQUAL(whole.result, sizeof train);
    OK(ringmsg_release(ring, &whole, 1));
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

/* One reap that does not block submits all queued requests and returns those whose data is
 * available. */
static void one_reap_submits_and_returns_available_data(void)
{
    enum { MANY = 32 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, MANY, 2048);
    struct ringmsg_record records[MANY];
    for (int i = 0; i < MANY; i++) {
        SYS(send(sender, "x", 1, 0));
        OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, (uint64_t)i));
    }
    uint64_t before = stats_of(ring).enters;
    EQUAL(reap_ms(ring, records, MANY, 0), MANY);
    /* One recvmsg(2) per message; epoll_ctl adds the socket, epoll_wait waits, epoll_ctl removes
     * it. */
    COMPARE(stats_of(ring).enters - before, <=, (is_recvmmsg() ? MANY + 3 : 2));
    OK(ringmsg_release(ring, records, MANY));
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(its_record_equals_that_of_a_multishot),
      TEST(a_single_shot_needs_an_unpublished_buffer),
      TEST(a_finished_single_shot_feeds_a_starved_multishot),
      TEST(a_single_shot_splits_trains),
      TEST(one_reap_submits_and_returns_available_data))
