/* A truncated payload, name or control message is flagged, an empty datagram is a record, and no
 * slice of a record shows bytes that were not received with it. */
#include "test.h"

#define STALE 0xa5

/* Makes a pool with these capacities and fills it with a pattern before anything is armed. */
static struct ringmsg_pool *
patterned_pool(struct ringmsg_ring *ring, uint32_t buffers, uint32_t payload, uint32_t control, uint32_t name)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    config.buffers = buffers;
    config.payload_capacity = payload;
    config.control_capacity = control;
    config.name_capacity = name;
    OK(ringmsg_pool_new(ring, &config, &pool));
    memset((void *)(uintptr_t)ringmsg_pool_base(pool), STALE, ringmsg_pool_size(pool));
    return pool;
}

/* Checks that no byte of the pattern lies in this slice of the record. */
static void check_not_stale(const struct ringmsg_pool *pool, const char *what, uint32_t offset,
                            uint32_t length)
{
    const uint8_t *bytes = ringmsg_pool_base(pool) + offset;
    COMPARE(offset + (size_t)length, <=, ringmsg_pool_size(pool));
    for (uint32_t i = 0; i < length; i++)
        if (bytes[i] == STALE)
            FAIL("byte %u of %u of the %s was not received with the datagram", i, length, what);
}

/* Payload and control messages never contain the pattern's byte here. A port may, so the name is
 * compared. */
static void check_record(const struct ringmsg_pool *pool, const struct ringmsg_record *record, int sender)
{
    socklen_t length;
    struct sockaddr_storage from = address_of(sender, &length);
    COMPARE(record->name_length, <=, length);
    SAME_BYTES(ringmsg_pool_base(pool) + record->name_offset, &from, record->name_length);
    check_not_stale(pool, "payload", record->payload_offset, record->payload_length);
    check_not_stale(pool, "control slice", record->control_offset, record->control_length);
}

/* --- zero-length datagrams --------------------------------------------------------------- */

static void zero_length(int family, uint32_t flags)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(family), sender = sender_to(receiver);
    struct ringmsg_pool *pool = patterned_pool(ring, 8, 64, 256, 128);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_DESTINATION | RINGMSG_META_SEGMENT_SIZE));
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, flags, 9));
    for (int round = 0; round < 20; round++) {
        /* Four empty datagrams and one with data, to check the order. */
        for (int i = 0; i < 5; i++)
            SYS(send(sender, "data", i == 3 ? 4 : 0, 0));
        for (int i = 0; i < 5; i++) {
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.result, i == 3 ? 4 : 0);
            EQUAL(record.payload_length, record.result);
            EQUAL(record.wire_length, record.result);
            EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
            EQUAL(record.msg_flags, 0);
            EQUAL(record.segments, 1);
            EQUAL(record.user_data, 9);
            COMPARE(record.name_length, >, 0);
            COMPARE(record.control_length, >, 0);
            check_record(pool, &record, sender);
            OK(ringmsg_release(ring, &record, 1));
            REFUSED(ringmsg_release(ring, &record, 1), EINVAL);
        }
    }
    struct ringmsg_stats stats = stats_of(ring);
    EQUAL(stats.zero_length, 80);
    EQUAL(stats.datagrams, 100);
    EQUAL(stats.payload_bytes, 80);
    EQUAL(stats.errors, 0);
    EQUAL(stats.starvations, 0);
    EQUAL(stats.buffers_held, 0);
    EQUAL(stats.buffers_published, 8);
    OK(ringmsg_ring_free(ring));
}

static void empty_datagrams_are_records_and_leak_no_buffer(void)
{
    zero_length(AF_INET, 0);
    zero_length(AF_INET6, 0);
    zero_length(AF_INET, RINGMSG_RECV_SPLIT);
}

/* Held empty datagrams keep their buffers and starve the request, as others do. */
static void empty_datagrams_hold_their_buffers(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_record held[8];
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), n = 0;
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 4, 64), receiver, 0, 0, 0));
    for (int i = 0; i < 6; i++)
        SYS(send(sender, "", 0, 0));
    while (n < 4)
        n += reap_ms(ring, held + n, (uint32_t)(8 - n), 2000);
    EQUAL(n, 4);
    reap_nothing(ring, 20);
    EQUAL(stats_of(ring).buffers_held, 4);
    OK(ringmsg_release(ring, held, 4));
    for (n = 0; n < 2;)
        n += reap_ms(ring, held + n, (uint32_t)(8 - n), 2000);
    EQUAL(n, 2);
    OK(ringmsg_ring_free(ring));
}

/* With NO_REARM every end is reported, together with its data. */
static void with_no_rearm_an_empty_datagram_is_final(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 4, 64), receiver, 0,
                                 RINGMSG_RECV_NO_REARM, 0));
    SYS(send(sender, "", 0, 0));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, 0);
    EQUAL(record.flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_FINAL);
    REFUSED(ringmsg_cancel(ring, 0), ENOENT);
    OK(ringmsg_ring_free(ring));
}

/* Without space for payloads every datagram looks empty in its buffer, but only an empty one may
 * end a request with NO_REARM (or one on a connection): behind the end nothing may follow. */
static void datagrams_without_space_for_payloads_are_truncated(void)
{
    enum { DATAGRAMS = 20 };
    for (uint32_t flags = 0; flags <= RINGMSG_RECV_NO_REARM; flags += RINGMSG_RECV_NO_REARM) {
        struct ringmsg_ring *ring = make_ring();
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        struct ringmsg_pool *pool = patterned_pool(ring, 64, 0, 64, 128);
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, flags, 9));
        for (int i = 0; i < DATAGRAMS; i++)
            SYS(send(sender, "abc", 3, 0));
        struct ringmsg_record records[DATAGRAMS];
        for (int n, got = 0; got < DATAGRAMS; got += n) {
            n = reap_ms(ring, records, DATAGRAMS, 2000);
            COMPARE(n, >, 0);
            for (int i = 0; i < n; i++) {
                EQUAL(records[i].payload_length, 0);
                EQUAL(records[i].wire_length, 3);
                EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_TRUNCATED);
                check_record(pool, &records[i], sender);
            }
            OK(ringmsg_release(ring, records, (uint32_t)n));
        }
        reap_nothing(ring, 5);
        EQUAL(stats_of(ring).datagrams, DATAGRAMS);
        COMPARE(stats_of(ring).buffers_published, <=, 64);
        OK(ringmsg_cancel(ring, 9));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.result, -ECANCELED);
        reap_nothing(ring, 5);
        OK(ringmsg_ring_free(ring));
    }
}

/* --- truncation -------------------------------------------------------------------------- */

struct truncation {
    uint32_t payload, control, name; /* the pool's capacities */
    uint32_t flags;                  /* the expected flags beside BUFFER */
};

/* Receives datagrams of 100 bytes from an IPv4 or IPv6 socket, with packet information and traffic
 * class, into a pool with these capacities: by a multishot, which truncation must not end, or by
 * two single-shots. */
static void receive_truncated_as(int family, const struct truncation *truncation, int once)
{
    uint8_t data[100];
    memset(data, 0x11, sizeof data);
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(family), sender = sender_to(receiver);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_DESTINATION));
    struct ringmsg_pool *pool =
        patterned_pool(ring, 4, truncation->payload, truncation->control, truncation->name);
    if (!once)
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
    uint32_t name = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    for (int i = 0; i < 2; i++) {
        if (once)
            OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 0));
        SYS(send(sender, data, sizeof data, 0));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER | truncation->flags | (once ? RINGMSG_RECORD_FINAL : 0));
        EQUAL(record.wire_length, sizeof data);
        EQUAL(record.payload_length, truncation->payload < sizeof data ? truncation->payload : sizeof data);
        EQUAL(record.result, record.payload_length);
        EQUAL(record.name_length, truncation->name < name ? truncation->name : name);
        COMPARE(record.control_length, <=, truncation->control);
        EQUAL((record.msg_flags & MSG_TRUNC) != 0, (truncation->flags & RINGMSG_RECORD_TRUNCATED) != 0);
        EQUAL((record.msg_flags & MSG_CTRUNC) != 0,
              (truncation->flags & RINGMSG_RECORD_CONTROL_TRUNCATED) != 0);
        SAME_BYTES(ringmsg_pool_base(pool) + record.payload_offset, data, record.payload_length);
        check_record(pool, &record, sender);
        OK(ringmsg_release(ring, &record, 1));
    }
    struct ringmsg_stats stats = stats_of(ring);
    EQUAL(stats.truncated, truncation->flags & RINGMSG_RECORD_TRUNCATED ? 2 : 0);
    EQUAL(stats.control_truncated, truncation->flags & RINGMSG_RECORD_CONTROL_TRUNCATED ? 2 : 0);
    EQUAL(stats.errors, 0);
    EQUAL(stats.buffers_held, 0);
    OK(ringmsg_ring_free(ring));
}

static void receive_truncated(int family, const struct truncation *truncation)
{
    receive_truncated_as(family, truncation, 0);
    receive_truncated_as(family, truncation, 1);
}

/* IPv4 needs 32 + 24 bytes of control space and a name of 16 bytes. IPv6 needs 40 + 24 (the IPv4
 * options are on as well, but send nothing here) and a name of 28 bytes. */
static void each_part_is_truncated_and_flagged_separately(void)
{
    enum { PAYLOAD = RINGMSG_RECORD_TRUNCATED, CONTROL = RINGMSG_RECORD_CONTROL_TRUNCATED,
           NAME = RINGMSG_RECORD_NAME_TRUNCATED };
    static const struct truncation both[] = {
        {104, 64, 32, 0},       {96, 64, 32, PAYLOAD},        {8, 64, 32, PAYLOAD},
        {0, 64, 32, PAYLOAD},   {104, 48, 32, CONTROL},       {104, 32, 32, CONTROL},
        {104, 16, 32, CONTROL}, {104, 8, 32, CONTROL},        {104, 0, 32, CONTROL},
        {104, 64, 8, NAME},     {8, 16, 8, PAYLOAD | CONTROL | NAME},
        {104, 64, 0, 0}, /* a pool without name space does not request the name */
        {0, 0, 0, PAYLOAD | CONTROL},
    };
    for (size_t i = 0; i < sizeof both / sizeof *both; i++) {
        receive_truncated(AF_INET, &both[i]);
        receive_truncated(AF_INET6, &both[i]);
    }
    receive_truncated(AF_INET6, &(struct truncation){104, 64, 24, NAME});
    receive_truncated(AF_INET, &(struct truncation){104, 56, 16, 0});
}

/* The kernel does not pad the last control message. A single IP_TOS message uses 17 of 24 bytes. */
static void padding_between_control_messages_is_not_stale(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    set_int(receiver, SOL_IP, IP_RECVTOS, 1);
    set_int(receiver, SOL_IP, IP_RECVTTL, 1);
    set_int(receiver, SOL_IP, IP_PKTINFO, 1);
    struct ringmsg_pool *pool = patterned_pool(ring, 4, 64, 256, 16);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
    OK(ringmsg_recvmsg_once(ring, patterned_pool(ring, 4, 64, 256, 16), receiver, 0, 0, 1));
    for (int i = 0; i < 6; i++) {
        struct ringmsg_record record;
        struct ringmsg_metadata metadata;
        struct ringmsg_wait wait = wait_ms(2000);
        SYS(send(sender, "x", 1, 0));
        EQUAL(ringmsg_reap(ring, &record, i % 2 ? &metadata : NULL, 1, &wait), 1);
        EQUAL(record.control_length, 32 + 24 + 24);
        check_record(ringmsg_ring_pool(ring, record.pool), &record, sender);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_ring_free(ring));
}

/* A buffer that held a long datagram shows nothing of it after a short one. */
static void a_reused_buffer_shows_only_the_new_datagram(void)
{
    uint8_t secret[1000];
    memset(secret, STALE, sizeof secret);
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 1, 1000);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
    for (int i = 0; i < 10; i++) {
        uint32_t size = i % 2 == 0 ? sizeof secret : (uint32_t)i;
        SYS(send(sender, i % 2 == 0 ? (const void *)secret : "123456789", size, 0));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.payload_length, size);
        if (i % 2 == 1)
            check_record(pool, &record, sender);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(empty_datagrams_are_records_and_leak_no_buffer),
      TEST(datagrams_without_space_for_payloads_are_truncated),
      TEST(empty_datagrams_hold_their_buffers),
      TEST(with_no_rearm_an_empty_datagram_is_final),
      TEST(each_part_is_truncated_and_flagged_separately),
      TEST(padding_between_control_messages_is_not_stale),
      TEST(a_reused_buffer_shows_only_the_new_datagram))
