/* ringmsg_socket_steer() makes the kernel select the socket of a SO_REUSEPORT group by processor,
 * by bytes of the payload, or by bytes of the QUIC connection id: then every datagram of a
 * connection reaches one shard, whatever address it comes from, over IPv4, IPv6 and mapped IPv4.
 * What is too short for that goes by the kernel's hash. The group may grow, shrink, and be bound
 * later. */
#include "steering.h"

#include <sched.h>

/* Families of group and client: IPv4, IPv6, and IPv4 to a dual-stack group. */
static const int ways[][2] = {{AF_INET, AF_INET}, {AF_INET6, AF_INET6}, {AF_INET6, AF_INET}};
#define FOR_EACH_WAY(way) for (const int *way = ways[0]; way < ways[0] + 6; way += 2)

static uint32_t big_endian(const uint8_t *bytes, uint32_t length)
{
    uint32_t number = 0;
    for (uint32_t i = 0; i < length; i++)
        number = number << 8 | bytes[i];
    return number;
}

static void fill_random(uint8_t *data, size_t size)
{
    static uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        data[i] = (uint8_t)(state >> 32);
    }
}

/* --- by payload --------------------------------------------------------------------------- */

static void the_payloads_number_selects_the_shard(void)
{
    FOR_EACH_WAY(way) {
        struct group group = make_group(way[0], SHARDS);
        const uint32_t offsets[] = {0, 1, 7, 1000};
        for (uint32_t length = 1; length <= 4; length++)
            for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
                OK(steer(&group, RINGMSG_STEER_PAYLOAD, offsets[o], length));
                for (int i = 0; i < 20; i++) {
                    uint8_t data[1100];
                    size_t size = i % 2 == 0 ? offsets[o] + length : sizeof data;
                    fill_random(data, sizeof data);
                    EQUAL(shard_of(&group, way[1], data, size),
                          big_endian(data + offsets[o], length) % SHARDS);
                }
            }
        close_group(&group);
    }
}

/* A datagram that ends before the number goes by the hash of addresses and ports: from many ports,
 * to more than one socket. (A program that read beyond the end would put them all into the
 * first.) */
static void short_datagrams_go_by_the_hash(void)
{
    static const struct ringmsg_steering by[] = {
        {.size = sizeof *by, .by = RINGMSG_STEER_PAYLOAD, .offset = 8, .length = 2},
        {.size = sizeof *by, .by = RINGMSG_STEER_QUIC, .offset = 4, .length = 4},
    };
    /* Nothing; one byte short; a short header, and a long one whose connection id is too short,
     * although the packet is not. */
    static const uint8_t nothing[1], short_header[8] = {0x40}, long_header[14] = {0xc0, 0, 0, 0, 1, 7};
    static const struct { const uint8_t *data; size_t size; int by; } cases[] = {
        {nothing, 0, 0}, {short_header, 8, 0}, {nothing, 0, 1}, {short_header, 8, 1}, {long_header, 14, 1},
        {long_header, 5, 1}, {long_header, 13, 1},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct group group = make_group(AF_INET, SHARDS);
        int got[SHARDS] = {0}, used = 0;
        OK(ringmsg_socket_steer(group.fds, SHARDS, &by[cases[c].by]));
        for (int i = 0; i < 64; i++) {
            int shard = shard_of(&group, AF_INET, cases[c].data, cases[c].size);
            COMPARE(shard, >=, 0);
            used += got[shard]++ == 0;
        }
        COMPARE(used, >=, 2);
        close_group(&group);
    }
}

/* --- by connection id --------------------------------------------------------------------- */

/* Packets of a connection with this id: long headers of two versions, short headers, the bits that
 * RFC 8999 leaves to versions at random. Returns the size. */
static size_t make_packet(uint8_t *packet, int is_long, const uint8_t *id, size_t id_length)
{
    fill_random(packet, 200);
    if (!is_long) {
        packet[0] &= 0x7f;
        memcpy(packet + 1, id, id_length);
        return 1 + id_length + packet[199] % 100;
    }
    packet[0] |= 0x80;
    packet[5] = (uint8_t)id_length;
    memcpy(packet + 6, id, id_length);
    packet[6 + id_length] = 0; /* no source connection id */
    return 6 + id_length + packet[199] % 100;
}

/* A connection's packets come from a new port each, over IPv4 also from another address, while long
 * and short headers mix: all reach the shard that its connection id names. */
static void a_connection_keeps_its_shard_while_its_peer_moves(void)
{
    FOR_EACH_WAY(way) {
        struct group group = make_group(way[0], SHARDS);
        for (uint32_t length = 1; length <= 4; length++)
            for (uint32_t offset = 0; offset + length <= 20; offset += 3) {
                OK(steer(&group, RINGMSG_STEER_QUIC, offset, length));
                for (int connection = 0; connection < 6; connection++) {
                    uint8_t id[20], packet[200];
                    fill_random(id, sizeof id);
                    /* The shortest id that holds the number, and the longest. */
                    size_t id_length = connection % 2 == 0 ? offset + length : sizeof id;
                    uint32_t shard = big_endian(id + offset, length) % SHARDS;
                    for (int i = 0; i < 4; i++) {
                        size_t size = make_packet(packet, i % 2, id, id_length);
                        EQUAL(shard_of(&group, way[1], packet, size), shard);
                    }
                }
            }
        close_group(&group);
    }
}

/* A migrated datagram reaches the ring of its shard, with the peer's new address as its source. */
static void the_ring_of_the_shard_sees_the_new_address(void)
{
    struct group group = make_group(AF_INET, 2);
    struct ringmsg_ring *rings[2];
    OK(steer(&group, RINGMSG_STEER_QUIC, 0, 1));
    for (int i = 0; i < 2; i++) {
        rings[i] = make_ring();
        struct ringmsg_pool *pool = make_pool(rings[i], group.fds[i], 16, 2048);
        OK(ringmsg_recvmsg_multishot(rings[i], pool, group.fds[i], 0, 0, (uint64_t)i));
    }
    for (uint32_t turn = 0; turn < 12; turn++) {
        uint8_t shard = turn % 3 == 0, packet[200];
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000010 + turn)};
        int client = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        SYS(bind(client, (struct sockaddr *)&from, sizeof from));
        size_t size = make_packet(packet, turn % 2 == 0, &shard, 1);
        SYS(sendto(client, packet, size, 0, (struct sockaddr *)&group.address, group.length));
        struct ringmsg_record record;
        struct ringmsg_metadata metadata;
        struct ringmsg_wait wait = wait_ms(2000);
        EQUAL(OK(ringmsg_reap(rings[shard], &record, &metadata, 1, &wait)), 1);
        EQUAL(record.user_data, shard);
        SAME_BYTES(payload_of(rings[shard], &record), packet, size);
        SAME_BYTES(metadata.source, &from.sin_addr, 4);
        OK(ringmsg_release(rings[shard], &record, 1));
        close(client);
    }
    for (int i = 0; i < 2; i++) {
        reap_nothing(rings[i], 0);
        OK(ringmsg_ring_free(rings[i]));
    }
    close_group(&group);
}

/* A GRO train is one datagram to the program: it goes whole where its first segment goes. */
static void a_train_goes_where_its_first_datagram_goes(void)
{
    if (!loopback_keeps_trains_whole())
        skip_test("this kernel's loopback cuts trains");
    struct group group = make_group(AF_INET, 3);
    for (int i = 0; i < 3; i++)
        OK(ringmsg_socket_enable(group.fds[i], RINGMSG_META_SEGMENT_SIZE));
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    for (int first = 0; first < 3; first++) {
        char data[400], received[1000];
        int client = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        for (int i = 0; i < 4; i++)
            memset(data + 100 * i, first + i, 100);
        SYS(connect(client, (struct sockaddr *)&group.address, group.length));
        send_train_from(client, data, sizeof data, 100);
        for (int i = 0; i < 3; i++)
            EQUAL(recv(group.fds[i], received, sizeof received, MSG_DONTWAIT), i == first ? 400 : -1);
        close(client);
    }
    close_group(&group);
}

/* --- by processor ------------------------------------------------------------------------- */

/* Over loopback the processor that sends is the one that takes the datagram in. */
static void the_processor_selects_the_shard(void)
{
    cpu_set_t allowed, one;
    SYS(sched_getaffinity(0, sizeof allowed, &allowed));
    FOR_EACH_WAY(way) {
        struct group group = make_group(way[0], 2);
        OK(steer(&group, RINGMSG_STEER_CPU, 0, 0));
        for (int processor = 0; processor < CPU_SETSIZE; processor++) {
            if (!CPU_ISSET(processor, &allowed))
                continue;
            CPU_ZERO(&one);
            CPU_SET(processor, &one);
            SYS(sched_setaffinity(0, sizeof one, &one));
            for (int i = 0; i < 16; i++)
                EQUAL(shard_of(&group, way[1], "x", 1), processor % 2);
        }
        SYS(sched_setaffinity(0, sizeof allowed, &allowed));
        close_group(&group);
    }
}

/* --- the group ---------------------------------------------------------------------------- */

/* The kernel takes the program before bind(2) as well; the group keeps that of the socket that was
 * bound first. */
static void sockets_may_be_bound_later(void)
{
    for (int bound = 0; bound <= SHARDS; bound++) {
        struct group group = make_unbound_group(AF_INET, SHARDS);
        for (int i = 0; i < bound; i++)
            bind_to(&group, group.fds[i]);
        OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
        for (int i = bound; i < SHARDS; i++)
            bind_to(&group, group.fds[i]);
        check_shards(&group);
        close_group(&group);
    }
}

/* A new socket gets nothing until the steering names it; when one is closed, the last takes its
 * index, and the hash selects for the index that is gone. */
static void the_group_may_grow_and_shrink(void)
{
    struct group group = make_group(AF_INET, SHARDS);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    group.fds[group.count++] = shared_socket(AF_INET);
    bind_to(&group, group.fds[SHARDS]);
    for (uint8_t i = 0; i < 3 * SHARDS; i++)
        EQUAL(shard_of(&group, AF_INET, &i, 1), i % SHARDS);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    check_shards(&group);

    close(group.fds[1]);
    group.fds[1] = group.fds[--group.count];
    for (uint8_t i = 0; i < 3 * (SHARDS + 1); i++) {
        int shard = shard_of(&group, AF_INET, &i, 1);
        if (i % (SHARDS + 1) < SHARDS)
            EQUAL(shard, i % (SHARDS + 1));
        else
            COMPARE(shard, >=, 0); /* it reached a shard */
    }
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    check_shards(&group);
    while (group.count > 1)
        close(group.fds[--group.count]);
    OK(steer(&group, RINGMSG_STEER_QUIC, 0, 4));
    check_shards(&group);
    close_group(&group);
}

static void a_steering_replaces_the_one_before(void)
{
    struct group group = make_group(AF_INET6, SHARDS);
    const uint8_t data[8] = {0, 4, 0, 3};
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 1, 1));
    EQUAL(shard_of(&group, AF_INET6, data, sizeof data), 4);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 3, 1));
    EQUAL(shard_of(&group, AF_INET6, data, sizeof data), 3);
    OK(steer(&group, RINGMSG_STEER_QUIC, 0, 1)); /* a short header: byte 1 */
    EQUAL(shard_of(&group, AF_INET6, data, sizeof data), 4);
    close_group(&group);
}

static void udp_lite_is_steered_too(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fds[2], client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE);
    if (client < 0)
        skip_test("this kernel has no UDP-Lite");
    for (int i = 0; i < 2; i++) {
        fds[i] = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDPLITE));
        set_int(fds[i], SOL_SOCKET, SO_REUSEPORT, 1);
        SYS(bind(fds[i], (struct sockaddr *)&address, length));
        SYS(getsockname(fds[i], (struct sockaddr *)&address, &length));
    }
    OK(ringmsg_socket_steer(fds, 2, steering(RINGMSG_STEER_PAYLOAD, 0, 1)));
    for (char shard = 0; shard < 6; shard++) {
        SYS(sendto(client, &shard, 1, 0, (struct sockaddr *)&address, length));
        for (int i = 0; i < 2; i++)
            EQUAL(recv(fds[i], &(char){0}, 1, 0), i == shard % 2 ? 1 : -1);
    }
    int udp = shared_socket(AF_INET), mixed[2] = {fds[0], udp};
    REFUSED(ringmsg_socket_steer(mixed, 2, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);
}

TESTS(TEST(the_payloads_number_selects_the_shard),
      TEST(short_datagrams_go_by_the_hash),
      TEST(a_connection_keeps_its_shard_while_its_peer_moves),
      TEST(the_ring_of_the_shard_sees_the_new_address),
      TEST(a_train_goes_where_its_first_datagram_goes),
      TEST(the_processor_selects_the_shard),
      TEST(sockets_may_be_bound_later),
      TEST(the_group_may_grow_and_shrink),
      TEST(a_steering_replaces_the_one_before),
      TEST(udp_lite_is_steered_too))
