/* What the tests of sending share: senders, paths, messages whose bytes tell which they are, and
 * receivers that check them. No ring is in it, so each test runs once, whatever the mode:
 * SEND_TESTS(...) for TESTS(...). */
#ifndef RINGMSG_TEST_SEND_H
#define RINGMSG_TEST_SEND_H

#include "test.h"
#include <sys/ioctl.h>

#ifndef SO_TXTIME
#define SO_TXTIME 61
#endif
#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif

/* --- senders and paths -------------------------------------------------------------------- */

/* Tests may leave senders behind: the process ends. They stay reachable, so that leak checkers find
 * what the library itself loses. */
static struct ringmsg_sender *volatile made[4096];
static size_t made_count;

__attribute__((unused)) static struct ringmsg_sender *keep(struct ringmsg_sender *sender)
{
    made[__atomic_fetch_add(&made_count, 1, __ATOMIC_RELAXED) % (sizeof made / sizeof *made)] = sender;
    return sender;
}

__attribute__((unused)) static struct ringmsg_sender *
make_sender_of(int fd, const struct ringmsg_sender_config *config)
{
    struct ringmsg_sender *sender;
    OK(ringmsg_sender_new(fd, config, &sender));
    return keep(sender);
}

__attribute__((unused)) static struct ringmsg_sender *make_sender(int fd)
{
    return make_sender_of(fd, NULL);
}

__attribute__((unused)) static struct ringmsg_sender *make_sender_with(int fd, uint32_t flags)
{
    struct ringmsg_sender_config config;
    ringmsg_sender_config_init(&config);
    config.flags = flags;
    return make_sender_of(fd, &config);
}

__attribute__((unused)) static struct ringmsg_sender_stats sent_by(const struct ringmsg_sender *sender)
{
    struct ringmsg_sender_stats stats;
    memset(&stats, 0, sizeof stats);
    stats.size = sizeof stats;
    OK(ringmsg_sender_stats(sender, &stats));
    return stats;
}

/* The path to an address. */
__attribute__((unused)) static struct ringmsg_path path_to_address(const struct sockaddr_storage *address)
{
    struct ringmsg_path path;
    OK(ringmsg_path_to(&path, (const struct sockaddr *)address, sizeof *address));
    return path;
}

__attribute__((unused)) static struct ringmsg_path path_to(int receiver)
{
    socklen_t length;
    struct sockaddr_storage address = address_of(receiver, &length);
    return path_to_address(&address);
}

/* The same through an IPv6 socket: ::ffff:a.b.c.d. */
__attribute__((unused)) static struct ringmsg_path mapped_path_to(int receiver)
{
    struct ringmsg_path path = path_to(receiver);
    EQUAL(path.family, AF_INET);
    path.family = AF_INET6;
    memcpy(path.remote + 12, path.remote, 4);
    memset(path.remote, 0, 10);
    memset(path.remote + 10, 0xff, 2);
    return path;
}

__attribute__((unused)) static int unbound_udp(int family)
{
    return (int)SYS(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

/* A receiver on loopback with as much room as can be had. */
__attribute__((unused)) static int roomy_udp(int family)
{
    int fd = bound_udp(family), most = 32 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &most, sizeof most) != 0)
        set_int(fd, SOL_SOCKET, SO_RCVBUF, most);
    return fd;
}

/* A receiver on loopback with room for 4 MiB, or the test is skipped. */
__attribute__((unused)) static int very_roomy_udp(int family)
{
    int fd = roomy_udp(family);
    make_room(fd, 4 << 20);
    return fd;
}

/* --- messages ----------------------------------------------------------------------------- */

/* Bytes that differ from message to message and from place to place. */
static void fill(uint8_t *bytes, size_t length, uint32_t number)
{
    uint32_t state = number * 2654435761u + 1;
    for (size_t i = 0; i < length; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

enum { ARENA = 64 << 20 };
static uint8_t *arena;
static size_t arena_used;

/* A payload of the message with this number. */
__attribute__((unused)) static uint8_t *make_payload(size_t length, uint32_t number)
{
    if (arena == NULL) {
        arena = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (arena == MAP_FAILED)
            FAIL("mmap: %s", strerror(errno));
    }
    if (arena_used + length > ARENA)
        FAIL("the arena is full");
    uint8_t *payload = arena + arena_used;
    arena_used += length;
    fill(payload, length, number);
    return payload;
}

enum { NO_RESULT = 0x5a5a5a };

__attribute__((unused)) static struct ringmsg_message
message_on(const struct ringmsg_path *path, size_t length, uint32_t number)
{
    struct ringmsg_message message;
    memset(&message, 0, sizeof message);
    message.payload = make_payload(length, number);
    message.payload_length = (uint32_t)length;
    message.path = path;
    message.result = NO_RESULT;
    message.user_data = number;
    return message;
}

/* `count` messages of one length on one path, numbered from `first`. */
__attribute__((unused)) static void
messages_on(struct ringmsg_message *messages, int count, const struct ringmsg_path *path, size_t length, uint32_t first)
{
    for (int i = 0; i < count; i++)
        messages[i] = message_on(path, length, first + (uint32_t)i);
}

/* Every message was taken whole. */
__attribute__((unused)) static void expect_taken(const struct ringmsg_message *messages, int count)
{
    for (int i = 0; i < count; i++)
        if (messages[i].result != (int32_t)messages[i].payload_length)
            FAIL("message %d of %d: result %d (%s), not %u", i, count, messages[i].result,
                 ringmsg_strerror(messages[i].result), messages[i].payload_length);
}

/* Sends messages that are all to be taken by one call. */
__attribute__((unused)) static void
send_whole(struct ringmsg_sender *sender, struct ringmsg_message *messages, int count)
{
    EQUAL(ringmsg_send(sender, messages, (uint32_t)count, 0), count);
    expect_taken(messages, count);
}

/* --- receiving ---------------------------------------------------------------------------- */

static uint8_t inbox[1 << 18];

/* The next datagram, or train with UDP_GRO on; -1 when none comes within `ms`. */
__attribute__((unused)) static ssize_t receive_within(int fd, int ms)
{
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, ms) != 1)
        return -1;
    return SYS(recv(fd, inbox, sizeof inbox, MSG_DONTWAIT));
}

__attribute__((unused)) static void expect_nothing(int fd)
{
    ssize_t length = receive_within(fd, 20);
    if (length != -1)
        FAIL("a datagram of %zd bytes that nobody sent", length);
}

/* The next datagram is just these bytes. */
__attribute__((unused)) static void expect_bytes(int fd, const void *bytes, size_t length)
{
    ssize_t got = receive_within(fd, 20000 * TEST_TIME_FACTOR);
    if (got != (ssize_t)length)
        FAIL("a datagram of %zd bytes, not %zu", got, length);
    if (length != 0 && memcmp(inbox, bytes, length) != 0)
        FAIL("a datagram of %zu bytes has other bytes than were sent", length);
}

/* The datagrams of these messages come in this order: of each message, or piece by piece. */
__attribute__((unused)) static void expect_datagrams(int fd, const struct ringmsg_message *messages, int count)
{
    for (int i = 0; i < count; i++) {
        const struct ringmsg_message *m = &messages[i];
        uint32_t piece = m->segment_size != 0 && m->segment_size < m->payload_length ? m->segment_size : m->payload_length;
        uint32_t at = 0;
        do {
            uint32_t length = m->payload_length - at < piece ? m->payload_length - at : piece;
            expect_bytes(fd, (const uint8_t *)m->payload + at, length);
            at += length;
        } while (at < m->payload_length);
    }
}

/* Reads what `ioctl(SIOCINQ)` does not: how many datagrams wait, and drops them. */
__attribute__((unused)) static int drain(int fd)
{
    int count = 0;
    while (recv(fd, inbox, sizeof inbox, MSG_DONTWAIT) >= 0)
        count++;
    return count;
}

/* --- the runner --------------------------------------------------------------------------- */

__attribute__((unused)) static int run_once(const struct test *tests, int argc, char **argv)
{
    static const struct test_mode no_ring = {"no ring", 0, 0};
    int failed = 0, ran = 0;
    for (const struct test *test = tests; test->name != NULL; test++)
        if (is_selected(test, argc, argv)) {
            ran++;
            failed += !run_test(test, &no_ring);
        }
    printf("%d passed, %d failed\n", ran - failed, failed);
    return failed != 0 || ran == 0;
}

#define SEND_TESTS(...)                                   \
    int main(int argc, char **argv)                       \
    {                                                     \
        static const struct test tests[] = {__VA_ARGS__, {NULL, NULL, 0}}; \
        return run_once(tests, argc, argv);               \
    }

#endif
