/* Of a hundred thousand datagrams every one is received once and unaltered, or counted as
 * dropped. */
#include "test.h"

#define MAGIC 0x9e3779b97f4a7c15u
#define SENDERS 2

/* Datagrams of 16 bytes and more begin with this head. The other bytes follow from the number. */
struct head {
    uint32_t number, length;
    uint64_t checksum;
};

static uint64_t word_at(uint32_t number, uint32_t i)
{
    return (number + 1) * MAGIC + i * 0x2545f4914f6cdd1du;
}

/* Writes datagram `number`, with the checksum of its bytes in the head. */
static void write_datagram(uint8_t *to, uint32_t number, uint32_t length)
{
    struct head head = {number, length, number};
    if (length < sizeof head) {
        memset(to, 0x5a, length);
        return;
    }
    for (uint32_t at = sizeof head; at < length; at += 8) {
        uint64_t word = word_at(number, at);
        memcpy(to + at, &word, length - at < 8 ? length - at : 8);
        head.checksum = (head.checksum ^ word) * MAGIC;
    }
    memcpy(to, &head, sizeof head);
}

/* Checks a datagram. Returns its number, or UINT32_MAX if it is too short to have one. */
static uint32_t check_datagram(const uint8_t *at, uint32_t length)
{
    struct head head;
    if (length < sizeof head) {
        EQUAL(length == 0 ? 0x5a : *at, 0x5a);
        return UINT32_MAX;
    }
    memcpy(&head, at, sizeof head);
    EQUAL(head.length, length);
    uint64_t checksum = head.number;
    for (uint32_t i = sizeof head; i < length; i += 8) {
        uint64_t word = word_at(head.number, i), seen = word;
        memcpy(&seen, at + i, length - i < 8 ? length - i : 8);
        if (seen != word)
            FAIL("datagram %u of %u bytes is altered at byte %u", head.number, length, i);
        checksum = (checksum ^ seen) * MAGIC;
    }
    EQUAL(checksum, head.checksum);
    return head.number;
}

/* Mixed sizes. Long datagrams are rare, because they take time. */
static uint32_t size_of(uint32_t number)
{
    static const uint32_t sizes[] = {0, 64, 1, 1200, 64, 1472, 1200, 64, 1200, 0, 1472, 1, 64, 1200, 1472};
    if (number % 128 == 77)
        return 65507;
    if (number % 32 == 13)
        return 9000;
    return sizes[number % (sizeof sizes / sizeof *sizes)];
}

/* --- sending ----------------------------------------------------------------------------- */

#define SEGMENT 200
#define SEGMENTS_MAX 32

static struct traffic {
    int receiver, senders[SENDERS];
    uint16_t ports[SENDERS];
    uint32_t messages;      /* number of datagrams, or of trains */
    int trains;             /* whether each message is a train */
    uint32_t lead;          /* how many messages the sender may be ahead; 0: no limit */
    uint32_t accounted_for; /* atomic: messages received or dropped so far */
    int sent;               /* atomic: everything is sent */
} traffic;

static uint32_t segments_of(uint32_t train)
{
    return 2 + train % (SEGMENTS_MAX - 1);
}

static void *send_all(void *unused)
{
    static uint8_t data[65536];
    (void)unused;
    for (uint32_t number = 0; number < traffic.messages; number++) {
        int fd = traffic.senders[number % SENDERS];
        WAIT_UNTIL(traffic.lead == 0 ||
                   number - __atomic_load_n(&traffic.accounted_for, __ATOMIC_ACQUIRE) <=
                       traffic.lead);
        if (traffic.trains) {
            for (uint32_t i = 0; i < segments_of(number); i++)
                write_datagram(data + i * SEGMENT, number * SEGMENTS_MAX + i, SEGMENT);
            send_train(fd, data, segments_of(number) * SEGMENT, SEGMENT);
        } else {
            uint32_t size = size_of(number);
            write_datagram(data, number, size);
            EQUAL(SYS(send(fd, data, size, 0)), size);
        }
    }
    __atomic_store_n(&traffic.sent, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* --- receiving --------------------------------------------------------------------------- */

static uint64_t received, unnumbered; /* messages; datagrams without a number */
static uint8_t *seen;                 /* how often each number arrived */

static void check_source(const struct ringmsg_record *record, const struct ringmsg_metadata *m, int family)
{
    static const uint8_t v4[16] = {127, 0, 0, 1};
    struct sockaddr_in6 name;
    EQUAL(m->valid & RINGMSG_META_SOURCE, RINGMSG_META_SOURCE);
    EQUAL(m->family, family);
    ONE_OF(m->source_port, traffic.ports[0], traffic.ports[1]);
    SAME_BYTES(m->source, family == AF_INET ? v4 : (const uint8_t *)&in6addr_loopback, 16);
    EQUAL(record->name_length, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof name);
}

static void check_record(struct ringmsg_ring *ring, const struct ringmsg_record *record,
                         const struct ringmsg_metadata *m, int family)
{
    EQUAL(record->flags & ~RINGMSG_RECORD_SEGMENT, RINGMSG_RECORD_BUFFER);
    EQUAL(record->result, record->payload_length);
    check_source(record, m, family);
    uint32_t number = check_datagram(payload_of(ring, record), record->payload_length);
    uint32_t message = traffic.trains ? number / SEGMENTS_MAX : number;
    received += record->segment == 0;
    if (number == UINT32_MAX) {
        unnumbered++;
        return;
    }
    COMPARE(message, <, traffic.messages);
    EQUAL(m->source_port, traffic.ports[message % SENDERS]);
    if (traffic.trains)
        EQUAL(record->segment, number % SEGMENTS_MAX);
    else
        EQUAL(record->payload_length, size_of(number));
    EQUAL(seen[number]++, 0);
}

static struct ringmsg_stats receive_all(struct ringmsg_ring *ring, int family)
{
    static struct ringmsg_record records[256];
    static struct ringmsg_metadata metadata[256];
    struct ringmsg_wait wait = wait_ms(100);
    wait.linger_us = RINGMSG_LINGER_AUTO;
    int n = 0;
    for (int quiet = 0; quiet < 2;) {
        int all_sent = __atomic_load_n(&traffic.sent, __ATOMIC_ACQUIRE);
        n = OK(ringmsg_next(ring, records, (uint32_t)n, records, metadata, 256, &wait));
        for (int i = 0; i < n; i++)
            check_record(ring, &records[i], &metadata[i], family);
        quiet = n == 0 && all_sent ? quiet + 1 : 0;
        if (traffic.lead == 0)
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL); /* slower than the sender */
        else
            __atomic_store_n(&traffic.accounted_for,
                             (uint32_t)(received + stats_of(ring).socket_drops), __ATOMIC_RELEASE);
    }
    return stats_of(ring);
}

/* Counts what the kernel has dropped before the socket, which no socket counts: packets beyond the
 * backlog of a processor (second column of softnet_stat). */
static uint64_t lost_on_the_way(void)
{
    unsigned processed, dropped;
    uint64_t lost = 0;
    FILE *file = fopen("/proc/net/softnet_stat", "r");
    while (file != NULL && fscanf(file, "%x %x%*[^\n]", &processed, &dropped) == 2)
        lost += dropped;
    if (file != NULL)
        fclose(file);
    return lost;
}

/* --- the runs ---------------------------------------------------------------------------- */

struct run {
    int family, trains;
    uint32_t messages, receive_buffer, lead, buffers;
};

static void set_up_traffic(const struct run *run)
{
    memset(&traffic, 0, sizeof traffic);
    traffic.receiver = bound_udp(run->family);
    traffic.messages = run->messages;
    traffic.trains = run->trains;
    traffic.lead = run->lead;
    if (setsockopt(traffic.receiver, SOL_SOCKET, SO_RCVBUFFORCE, &run->receive_buffer,
                   sizeof run->receive_buffer) != 0)
        SYS(setsockopt(traffic.receiver, SOL_SOCKET, SO_RCVBUF, &run->receive_buffer,
                       sizeof run->receive_buffer));
    if (run->trains)
        OK(ringmsg_socket_enable(traffic.receiver, RINGMSG_META_SEGMENT_SIZE));
    for (int i = 0; i < SENDERS; i++) {
        socklen_t length;
        traffic.senders[i] = sender_to(traffic.receiver);
        set_int(traffic.senders[i], SOL_SOCKET, SO_SNDBUF, 1 << 20);
        struct sockaddr_storage from = address_of(traffic.senders[i], &length);
        traffic.ports[i] = ntohs(((struct sockaddr_in *)&from)->sin_port);
    }
    received = unnumbered = 0;
    free(seen);
    seen = calloc(run->messages, run->trains ? SEGMENTS_MAX : 1);
}

/* Does one run and fills in its statistics. Returns 0 if the kernel dropped a packet before the
 * socket. */
static int account(const struct run *run, struct ringmsg_stats *stats)
{
    pthread_t sender;
    set_up_traffic(run);
    uint64_t lost = lost_on_the_way();
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, traffic.receiver, run->buffers, 0);
    uint32_t flags = run->trains ? RINGMSG_RECV_SPLIT : 0;
    OK(ringmsg_recvmsg_multishot(ring, pool, traffic.receiver, 0, flags, 11));
    EQUAL(pthread_create(&sender, NULL, send_all, NULL), 0);
    *stats = receive_all(ring, run->family);
    pthread_join(sender, NULL);

    struct ringmsg_stats request = {.size = sizeof request};
    OK(ringmsg_request_stats(ring, 11, &request));
    EQUAL(request.socket_drops, stats->socket_drops);
    EQUAL(request.records, stats->records);
    EQUAL(stats->errors, 0);
    EQUAL(stats->truncated + stats->control_truncated, 0);
    EQUAL(stats->buffers_held, 0);
    OK(ringmsg_ring_free(ring));
    for (int i = 0; i < SENDERS; i++)
        close(traffic.senders[i]);
    close(traffic.receiver);
    if (received + stats->socket_drops != run->messages && lost_on_the_way() != lost)
        return 0;
    EQUAL(received + stats->socket_drops, run->messages);
    return 1;
}

static struct ringmsg_stats run(const struct run *run)
{
    struct ringmsg_stats stats;
    for (int attempt = 0; attempt < 5; attempt++)
        if (account(run, &stats))
            return stats;
    FAIL("in five runs the kernel dropped datagrams before the socket");
}

/* The sender stays within a limit of the receiver, so nothing is dropped. */
static void everything_arrives(int family)
{
    struct run plain = {.family = family,
                        .messages = 100000,
                        .receive_buffer = 16 << 20,
                        .lead = 100,
                        .buffers = 256};
    struct ringmsg_stats stats = run(&plain);
    uint64_t empty = 0;
    for (uint32_t i = 0; i < plain.messages; i++) {
        empty += size_of(i) == 0;
        EQUAL(seen[i], size_of(i) >= sizeof(struct head));
    }
    EQUAL(stats.socket_drops, 0);
    EQUAL(stats.records, plain.messages);
    EQUAL(stats.datagrams, plain.messages);
    EQUAL(stats.zero_length, empty);
}

static void everything_arrives_over_ipv4(void)
{
    everything_arrives(AF_INET);
}

static void everything_arrives_over_ipv6(void)
{
    everything_arrives(AF_INET6);
}

/* The sender does not wait, and the receive buffer holds a few datagrams. The last datagrams are
 * dropped, and none follows that could carry the drop counter. */
static void most_datagrams_are_dropped_and_counted(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        struct run small = {.family = v6 ? AF_INET6 : AF_INET,
                            .messages = 100000,
                            .receive_buffer = 4096,
                            .buffers = 4};
        struct ringmsg_stats stats = run(&small);
        COMPARE(stats.socket_drops, >, small.messages / 2);
        EQUAL(stats.datagrams, received);
        COMPARE(unnumbered, >, 0);
        COMPARE(unnumbered, <, received);
    }
}

/* With GRO the kernel counts dropped trains. The number of missing trains equals that count, and of
 * a received train every segment arrives. */
static void missing_trains_equal_the_drop_count(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        struct run trains = {.family = v6 ? AF_INET6 : AF_INET, .trains = 1, .messages = 10000,
                             .receive_buffer = 8192, .buffers = 4};
        struct ringmsg_stats stats = run(&trains);
        uint64_t missing = 0, datagrams = 0;
        for (uint32_t train = 0; train < trains.messages; train++) {
            const uint8_t *segment = seen + (size_t)train * SEGMENTS_MAX;
            missing += !segment[0];
            datagrams += segment[0] ? segments_of(train) : 0;
            for (uint32_t i = 0; i < segments_of(train); i++)
                EQUAL(segment[i], segment[0]);
        }
        COMPARE(stats.socket_drops, >, trains.messages / 2);
        EQUAL(missing, stats.socket_drops);
        EQUAL(stats.datagrams, datagrams);
        EQUAL(stats.records, datagrams);
    }
}

/* Datagrams are dropped and none is received after them. The drop count is still right. */
static void drops_are_counted_without_a_datagram_after_them(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), queued = 0;
    struct ringmsg_record held[64];
    set_int(receiver, SOL_SOCKET, SO_RCVBUF, 4096);
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 1, 64), receiver, 0, 0, 0));
    SYS(send(sender, "held", 4, 0));
    EQUAL(reap_ms(ring, held, 1, 2000), 1);
    for (int i = 0; i < 1000; i++)
        SYS(send(sender, "queued or dropped", 17, 0));
    uint64_t drops = stats_of(ring).socket_drops;
    COMPARE(drops, >, 900);
    COMPARE(drops, <, 1000);
    for (int n = 1; n == 1; queued += n) {
        OK(ringmsg_release(ring, held, 1));
        n = reap_ms(ring, held, 1, 100);
        if (n == 0)
            break;
    }
    EQUAL(queued + drops, 1000);
    EQUAL(stats_of(ring).socket_drops, drops);
    /* The end of the request does not reset the ring's count. */
    OK(ringmsg_cancel(ring, 0));
    EQUAL(reap_one(ring).result, -ECANCELED);
    EQUAL(stats_of(ring).socket_drops, drops);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(everything_arrives_over_ipv4),
      TEST(everything_arrives_over_ipv6),
      TEST(most_datagrams_are_dropped_and_counted),
      TEST(missing_trains_equal_the_drop_count),
      TEST(drops_are_counted_without_a_datagram_after_them))
