/* Stream and local sockets deliver every byte in order, and the end of a stream or an error of the
 * connection is one FINAL record. */
#include "test.h"
#include <sys/un.h>

enum { TOTAL = 6 << 20 };

struct kind {
    const char *name;
    int domain, type;
};

static const struct kind kinds[] = {
    {"TCP over IPv4", AF_INET, SOCK_STREAM},
    {"TCP over IPv6", AF_INET6, SOCK_STREAM},
    {"local stream", AF_UNIX, SOCK_STREAM},
    {"local seqpacket", AF_UNIX, SOCK_SEQPACKET},
    {"local datagram", AF_UNIX, SOCK_DGRAM},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Makes two connected sockets: [0] receives, [1] sends. */
static void make_pair(const struct kind *kind, int pair[2])
{
    if (kind->domain == AF_UNIX) {
        SYS(socketpair(AF_UNIX, kind->type | SOCK_CLOEXEC, 0, pair));
        return;
    }
    int listener = (int)SYS(socket(kind->domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
    socklen_t length;
    SYS(listen(listener, 1));
    struct sockaddr_storage address = address_of(listener, &length);
    pair[1] = (int)SYS(socket(kind->domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SYS(connect(pair[1], (struct sockaddr *)&address, length));
    pair[0] = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    close(listener);
}

/* The byte at this position of everything that is sent. No two ranges are alike. */
static uint8_t byte_at(uint32_t at)
{
    return (uint8_t)((at * 2654435761u) >> 24 ^ at);
}

static void fill(uint8_t *to, uint32_t at, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        to[i] = byte_at(at + i);
}

/* The length of message `n`, never 0. */
static uint32_t message_length(uint32_t n)
{
    return 1 + n * 7919 % 12000;
}

struct sender {
    int fd;
    uint32_t messages;
};

static void *send_messages(void *argument)
{
    struct sender *sender = argument;
    uint8_t message[12000];
    for (uint32_t at = 0; at < TOTAL; sender->messages++) {
        uint32_t length = message_length(sender->messages);
        length = length < TOTAL - at ? length : TOTAL - at;
        fill(message, at, length);
        for (uint32_t sent = 0; sent < length;)
            sent += (uint32_t)SYS(send(sender->fd, message + sent, length - sent, MSG_NOSIGNAL));
        at += length;
    }
    SYS(close(sender->fd));
    return NULL;
}

/* Checks that no record arrives and that the reap does not enter the kernel repeatedly. */
static void quiet(struct ringmsg_ring *ring)
{
    struct ringmsg_stats before = stats_of(ring);
    reap_nothing(ring, 30);
    struct ringmsg_stats after = stats_of(ring);
    COMPARE(after.enters - before.enters, <=, 4);
    EQUAL(after.rearms, before.rearms);
}

static void receive_all(const struct kind *kind, uint32_t buffers, uint32_t cq_entries)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = config.cq_entries = cq_entries;
    OK(ringmsg_ring_new(&config, &ring));
    int pair[2];
    make_pair(kind, pair);
    struct ringmsg_pool *pool = make_pool(ring, pair[0], buffers, 12000);
    struct sender sender = {pair[1], 0};
    pthread_t thread;
    OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));
    EQUAL(pthread_create(&thread, NULL, send_messages, &sender), 0);
    uint32_t at = 0, messages = 0;
    const int has_end = kind->type != SOCK_DGRAM, has_messages = kind->type != SOCK_STREAM;
    struct ringmsg_record record;
    static uint8_t expected[12000];
    for (;;) {
        record = reap_one(ring);
        if (record.result == 0 || record.result < 0)
            break;
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        EQUAL(record.result, record.payload_length);
        EQUAL(record.wire_length, record.payload_length);
        if (has_messages && at + record.payload_length < TOTAL)
            EQUAL(record.payload_length, message_length(messages));
        fill(expected, at, record.payload_length);
        if (memcmp(payload_of(ring, &record), expected, record.payload_length) != 0)
            FAIL("%s: %u bytes at %u differ from those sent", kind->name, record.payload_length, at);
        at += record.payload_length;
        messages++;
        OK(ringmsg_release(ring, &record, 1));
        if (!has_end && at == TOTAL)
            break;
    }
    EQUAL(at, TOTAL);
    if (has_end) {
        EQUAL(record.result, 0);
        EQUAL(record.flags, RINGMSG_RECORD_FINAL | RINGMSG_RECORD_BUFFER);
        OK(ringmsg_release(ring, &record, 1));
        REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    } else {
        reap_nothing(ring, 5); /* the request may be armed again once */
    }
    quiet(ring);
    EQUAL(stats_of(ring).control_truncated, 0);
    EQUAL(stats_of(ring).buffers_held, 0);
    pthread_join(thread, NULL);
    if (has_messages)
        EQUAL(messages, sender.messages);
    OK(ringmsg_ring_free(ring));
    close(pair[0]);
}

static void every_byte_arrives_in_order(void)
{
    for (int i = 0; i < KINDS; i++)
        receive_all(&kinds[i], 64, 0);
}

static void every_byte_arrives_with_few_buffers_and_a_full_completion_queue(void)
{
    for (int i = 0; i < KINDS; i++) {
        receive_all(&kinds[i], 2, 0);
        receive_all(&kinds[i], 64, 4);
    }
}

/* The kernel receives the messages in several passes, and the end of the stream directly follows
 * them, so no later event reports the end. */
static void an_end_behind_many_messages_is_seen(void)
{
    enum { SIZE = 64, MESSAGES_MAX = 50 };
    static const char message[SIZE];
    struct ringmsg_ring *ring = make_ring();
    for (int i = 0; i < KINDS; i++) {
        if (kinds[i].type == SOCK_DGRAM)
            continue;
        for (int count = 30; count <= MESSAGES_MAX; count++) {
            int pair[2];
            make_pair(&kinds[i], pair);
            struct ringmsg_pool *pool = make_pool(ring, pair[0], 64, SIZE);
            OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));
            reap_nothing(ring, 0);
            for (int sent = 0; sent < count; sent++)
                EQUAL(SYS(send(pair[1], message, SIZE, 0)), SIZE);
            close(pair[1]);
            for (int got = 0; got < count * SIZE;) {
                struct ringmsg_record record = reap_one(ring);
                COMPARE(record.result, >, 0);
                got += record.result;
                OK(ringmsg_release(ring, &record, 1));
            }
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.result, 0);
            HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
            OK(ringmsg_release(ring, &record, 1));
            OK(ringmsg_pool_free(pool));
            close(pair[0]);
        }
    }
    OK(ringmsg_ring_free(ring));
}

/* The peer shuts down its sending direction and still receives. */
static void end_of_stream_is_final_and_ends_one_direction_only(void)
{
    for (int i = 0; i < KINDS; i++) {
        if (kinds[i].type == SOCK_DGRAM)
            continue;
        struct ringmsg_ring *ring = make_ring();
        int pair[2];
        char answer[8];
        make_pair(&kinds[i], pair);
        struct ringmsg_pool *pool = make_pool(ring, pair[0], 16, 2048);
        OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));
        SYS(send(pair[1], "last", 4, 0));
        SYS(shutdown(pair[1], SHUT_WR));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.result, 4);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        record = reap_one(ring);
        EQUAL(record.result, 0);
        HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
        quiet(ring);
        SYS(send(pair[0], "goodbye", 8, 0));
        EQUAL(SYS(recv(pair[1], answer, sizeof answer, 0)), 8);

        /* A new request on the ended stream ends as well. */
        OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 2));
        record = reap_one(ring);
        EQUAL(record.result, 0);
        HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
        OK(ringmsg_recvmsg_once(ring, pool, pair[0], 0, 0, 3));
        record = reap_one(ring);
        EQUAL(record.result, 0);
        HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
        quiet(ring);
        OK(ringmsg_ring_free(ring));
        close(pair[0]);
        close(pair[1]);
    }
}

static void a_reset_is_a_final_econnreset(void)
{
    for (int i = 0; i < KINDS; i++) {
        if (kinds[i].type == SOCK_DGRAM)
            continue;
        struct ringmsg_ring *ring = make_ring();
        int pair[2];
        make_pair(&kinds[i], pair);
        struct ringmsg_pool *pool = make_pool(ring, pair[0], 16, 2048);
        OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));
        SYS(send(pair[1], "data", 4, 0));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.result, 4);
        /* A local peer that closes with unread data resets the connection. */
        struct linger at_once = {1, 0};
        SYS(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once));
        SYS(send(pair[0], "unread", 6, 0));
        SYS(close(pair[1]));
        record = reap_one(ring);
        EQUAL(record.result, -ECONNRESET);
        EQUAL(record.flags, RINGMSG_RECORD_FINAL);
        quiet(ring);
        REFUSED(ringmsg_cancel(ring, 1), ENOENT);
        OK(ringmsg_ring_free(ring));
        close(pair[0]);
    }
}

static void an_unconnected_stream_ends_at_once(void)
{
    struct ringmsg_ring *ring = make_ring();
    int fd = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    struct ringmsg_pool *pool = make_pool(ring, fd, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, -ENOTCONN);
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    quiet(ring);
    OK(ringmsg_ring_free(ring));
}

/* On a stream MSG_TRUNC discards the bytes. On sockets with message boundaries it is allowed. */
static void msg_trunc_is_refused_on_streams(void)
{
    for (int i = 0; i < KINDS; i++) {
        struct ringmsg_ring *ring = make_ring();
        int pair[2], is_stream = kinds[i].type == SOCK_STREAM;
        make_pair(&kinds[i], pair);
        struct ringmsg_pool *pool = make_pool(ring, pair[0], 16, 8);
        SYS(send(pair[1], "0123456789", 10, 0));
        struct ringmsg_record record;
        if (is_stream) {
            REFUSED(ringmsg_recvmsg_multishot(ring, pool, pair[0], MSG_TRUNC, 0, 1), EINVAL);
            REFUSED(ringmsg_recvmsg_once(ring, pool, pair[0], MSG_TRUNC, 0, 1), EINVAL);
            OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));
        } else {
            OK(ringmsg_recvmsg_multishot(ring, pool, pair[0], MSG_TRUNC, 0, 1));
        }
        record = reap_one(ring);
        EQUAL(record.result, 8);
        EQUAL(record.wire_length, is_stream ? 8 : 10);
        EQUAL(!(record.flags & RINGMSG_RECORD_TRUNCATED), is_stream);
        SAME_BYTES(payload_of(ring, &record), "01234567", 8);
        if (is_stream) {
            record = reap_one(ring);
            EQUAL(record.result, 2);
            SAME_BYTES(payload_of(ring, &record), "89", 2);
        }
        OK(ringmsg_ring_free(ring));
        close(pair[0]);
        close(pair[1]);
    }
}

/* MSG_WAITALL fills every part of the iovec, however the bytes arrive. */
static void msg_waitall_fills_every_part_of_a_single_shot(void)
{
    struct ringmsg_ring *ring = make_ring();
    for (int i = 0; i < 3; i++) {
        static uint8_t parts[3][5000], sent[15000];
        int pair[2];
        make_pair(&kinds[i], pair);
        struct iovec into[3] = {{parts[0], 5000}, {parts[1], 5000}, {parts[2], 5000}};
        struct msghdr message = {.msg_iov = into, .msg_iovlen = 3};
        memset(parts, 0, sizeof parts);
        fill(sent, 17, sizeof sent);
        OK(ringmsg_recvmsg(ring, pair[0], &message, MSG_WAITALL, 0, 1));
        OK(ringmsg_submit(ring));
        for (int n = 0; n < 10; n++) {
            SYS(send(pair[1], sent + n * 1500, 1500, 0));
            if (n < 9)
                reap_nothing(ring, 1);
        }
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.result, sizeof sent);
        /* Linux 6.17 adds a control message (SCM_INQ) to every receive on a local stream, even if
         * it was not requested. */
        uint32_t scm_inq = kinds[i].domain == AF_UNIX ? RINGMSG_RECORD_CONTROL_TRUNCATED : 0;
        EQUAL(record.flags & ~scm_inq, RINGMSG_RECORD_FINAL);
        SAME_BYTES(parts, sent, sizeof sent);
        close(pair[0]);
        close(pair[1]);
    }
    OK(ringmsg_ring_free(ring));
}

/* A local datagram of length zero is a message like any other. */
static void local_datagrams_have_names_and_may_be_empty(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int receiver = (int)SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    int sender = (int)SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    socklen_t length;
    SYS(bind(receiver, (struct sockaddr *)&name, sizeof(sa_family_t))); /* the kernel chooses the names */
    SYS(bind(sender, (struct sockaddr *)&name, sizeof(sa_family_t)));
    struct sockaddr_storage address = address_of(receiver, &length);
    SYS(connect(sender, (struct sockaddr *)&address, length));
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    for (int i = 0; i < 10; i++) {
        EQUAL(SYS(send(sender, "full", i % 2 ? 4 : 0, 0)), i % 2 ? 4 : 0);
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.result, i % 2 ? 4 : 0);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        address = address_of(sender, &length);
        EQUAL(record.name_length, length);
        SAME_BYTES(ringmsg_pool_base(pool) + record.name_offset, &address, length);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(every_byte_arrives_in_order),
      TEST(every_byte_arrives_with_few_buffers_and_a_full_completion_queue),
      TEST(an_end_behind_many_messages_is_seen),
      TEST(end_of_stream_is_final_and_ends_one_direction_only),
      TEST(a_reset_is_a_final_econnreset),
      TEST(an_unconnected_stream_ends_at_once),
      TEST(msg_trunc_is_refused_on_streams),
      TEST(msg_waitall_fills_every_part_of_a_single_shot),
      TEST(local_datagrams_have_names_and_may_be_empty))
