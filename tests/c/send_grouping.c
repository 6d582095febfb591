/* Grouping: which messages leave as one UDP_SEGMENT train, seen by a receiver with UDP_GRO, which
 * gets a train whole; and what never changes by it: the datagrams, their bytes, their order to a
 * peer. */
#include "send.h"

/* A receiver that sees trains. */
static int train_receiver(int family)
{
    int fd = roomy_udp(family);
    if (!loopback_keeps_trains_whole())
        skip_test("trains are cut on this kernel's loopback");
    set_int(fd, SOL_UDP, UDP_GRO, 1);
    return fd;
}

/* The next train, or datagram, is this long and has datagrams of this size; 0: one datagram. */
static void expect_train(int fd, size_t length, int size)
{
    union {
        char space[64];
        struct cmsghdr align;
    } control;
    struct iovec part = {inbox, sizeof inbox};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, 20000 * TEST_TIME_FACTOR) != 1)
        FAIL("no train of %zu bytes came", length);
    ssize_t got = SYS(recvmsg(fd, &message, MSG_DONTWAIT));
    int segment = 0;
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    if (cmsg != NULL && cmsg->cmsg_level == SOL_UDP && cmsg->cmsg_type == UDP_GRO)
        memcpy(&segment, CMSG_DATA(cmsg), sizeof segment);
    if (got != (ssize_t)length || segment != size)
        FAIL("a train of %zd bytes with datagrams of %d, not %zu with %d", got, segment, length, size);
}

/* A message in short. */
struct given {
    size_t length;
    uint32_t segment_size, flags;
    uint8_t traffic_class;
};
#define ONE(length) {length, 0, 0, 0}
#define TRAIN(length, size) {length, size, 0, 0}
/* A train in short; length SIZE_MAX ends a list. */
struct train {
    size_t length;
    int size;
};
#define END {SIZE_MAX, 0}

static void send_given(struct ringmsg_sender *sender, const struct ringmsg_path *path, const struct given *given, int count)
{
    struct ringmsg_message messages[16];
    for (int i = 0; i < count; i++) {
        messages[i] = message_on(path, given[i].length, (uint32_t)i);
        messages[i].segment_size = given[i].segment_size;
        messages[i].flags = given[i].flags;
        messages[i].traffic_class = given[i].traffic_class;
    }
    send_whole(sender, messages, count);
}

enum { CLASS = RINGMSG_MESSAGE_TRAFFIC_CLASS, ALONE = RINGMSG_MESSAGE_ALONE, STAMP = RINGMSG_MESSAGE_TIMESTAMP };

static const struct {
    struct given given[5];
    int count;
    struct train trains[6];
} cases[] = {
    {{ONE(100), ONE(100), ONE(100)}, 3, {{300, 100}, END}},
    {{ONE(100), ONE(100), ONE(40), ONE(100)}, 4, {{240, 100}, {100, 0}, END}},      /* a shorter one ends it */
    {{ONE(100), ONE(40), ONE(40)}, 3, {{140, 100}, {40, 0}, END}},
    {{ONE(40), ONE(100)}, 2, {{40, 0}, {100, 0}, END}},
    {{ONE(100), ONE(0), ONE(100)}, 3, {{100, 0}, {0, 0}, {100, 0}, END}},        /* empty ones never join */
    {{ONE(0), ONE(0), ONE(0)}, 3, {{0, 0}, {0, 0}, {0, 0}, END}},
    {{{100, 0, CLASS, 1}, {100, 0, CLASS, 1}, {100, 0, CLASS, 2}, ONE(100)}, 4, {{200, 100}, {100, 0}, {100, 0}, END}},
    {{{100, 0, 0, 1}, {100, 0, 0, 2}}, 2, {{200, 100}, END}},           /* without the flag the class is not looked at */
    {{{100, 0, ALONE, 0}, {100, 0, ALONE, 0}, ONE(100), ONE(100)}, 4, {{100, 0}, {100, 0}, {200, 100}, END}},
    {{{100, 0, STAMP, 0}, {100, 0, STAMP, 0}, ONE(100)}, 3, {{100, 0}, {100, 0}, {100, 0}, END}},
    {{TRAIN(300, 100), TRAIN(200, 100), ONE(100), ONE(60)}, 4, {{660, 100}, END}},      /* whole trains join, and so do single ones */
    {{TRAIN(250, 100), TRAIN(250, 100)}, 2, {{250, 100}, {250, 100}, END}},       /* as one they would be five of 100 */
    {{TRAIN(200, 100), TRAIN(250, 100), ONE(100)}, 3, {{450, 100}, {100, 0}, END}},
    {{TRAIN(200, 100), TRAIN(200, 50)}, 2, {{200, 100}, {200, 50}, END}},
    {{TRAIN(100, 100), TRAIN(100, 65535), ONE(100)}, 3, {{300, 100}, END}},          /* one datagram each, however it is said */
    {{{300, 100, ALONE, 0}, TRAIN(300, 100), TRAIN(300, 100)}, 3, {{300, 100}, {600, 100}, END}},
};

static void what_joins_and_what_does_not(void)
{
    int receiver = train_receiver(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        send_given(sender, &path, cases[c].given, cases[c].count);
        int trains = 0;
        for (const struct train *train = cases[c].trains; train->length != SIZE_MAX; train++) {
            expect_train(receiver, train->length, train->size);
            trains += train->size != 0;
        }
        EQUAL(sent_by(sender).trains, trains);
        expect_nothing(receiver);
        OK(ringmsg_sender_free(sender));
    }
}

/* The same cases to a receiver that gets datagrams: byte by byte, in order. */
static void no_datagram_is_altered(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct ringmsg_message messages[16];
        for (int i = 0; i < cases[c].count; i++) {
            messages[i] = message_on(&path, cases[c].given[i].length, (uint32_t)(100 * c) + (uint32_t)i);
            messages[i].segment_size = cases[c].given[i].segment_size;
            messages[i].flags = cases[c].given[i].flags;
            messages[i].traffic_class = cases[c].given[i].traffic_class;
        }
        send_whole(sender, messages, cases[c].count);
        expect_datagrams(receiver, messages, cases[c].count);
        expect_nothing(receiver);
    }
}

/* Interleaved peers are grouped each; by path structs they share, and by equal ones of their
 * own. */
static void peers_are_grouped_each(void)
{
    enum { PEERS = 16, EACH = 8, COUNT = PEERS * EACH };
    for (int own = 0; own < 2; own++) {
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET6));
        int receivers[PEERS];
        struct ringmsg_path paths[COUNT];
        struct ringmsg_message messages[COUNT], of_peer[EACH];
        for (int p = 0; p < PEERS; p++)
            receivers[p] = bound_udp(AF_INET6);
        for (int i = 0; i < COUNT; i++) {
            paths[i] = path_to(receivers[i % PEERS]);
            messages[i] = message_on(&paths[own ? i : i % PEERS], 64, (uint32_t)i);
        }
        send_whole(sender, messages, COUNT);
        EQUAL(sent_by(sender).trains, PEERS);
        EQUAL(sent_by(sender).grouped, COUNT);
        EQUAL(sent_by(sender).calls, 1);
        for (int p = 0; p < PEERS; p++) {
            for (int i = 0; i < EACH; i++)
                of_peer[i] = messages[i * PEERS + p];
            expect_datagrams(receivers[p], of_peer, EACH);
            expect_nothing(receivers[p]);
            close(receivers[p]);
        }
        OK(ringmsg_sender_free(sender));
    }
}

/* A QUIC sender marks packets of one connection differently: they stay in order. */
static void order_to_a_peer_is_kept_whatever_differs(void)
{
    enum { COUNT = 200 };
    int receiver = roomy_udp(AF_INET), other = roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path paths[4] = {path_to(receiver), path_to(receiver), path_to(receiver), path_to(other)};
    paths[1].valid |= RINGMSG_PATH_TRAFFIC_CLASS;
    paths[1].traffic_class = 1;
    paths[2].valid |= RINGMSG_PATH_HOP_LIMIT;
    paths[2].hop_limit = 9;
    struct ringmsg_message messages[COUNT], ours[COUNT];
    unsigned seed = 1;
    int count = 0;
    for (int i = 0; i < COUNT; i++) {
        seed = seed * 1103515245u + 12345;
        const struct ringmsg_path *path = &paths[seed >> 16 & 3];
        messages[i] = message_on(path, (seed >> 18 & 7) == 0 ? 30 : 90, (uint32_t)i);
        if ((seed >> 21 & 3) == 0) {
            messages[i].flags = RINGMSG_MESSAGE_TRAFFIC_CLASS;
            messages[i].traffic_class = (uint8_t)(seed >> 23 & 3);
        } else if ((seed >> 21 & 3) == 1 && messages[i].payload_length == 90) {
            messages[i].segment_size = 30;
        }
        if (path != &paths[3])
            ours[count++] = messages[i];
    }
    send_whole(sender, messages, COUNT);
    expect_datagrams(receiver, ours, count);
    expect_nothing(receiver);
    if (sent_by(sender).trains == 0)
        FAIL("nothing was grouped");
}

static void trains_are_as_long_as_the_kernel_allows(void)
{
    int families[] = {AF_INET, AF_INET6};
    size_t most[] = {65507, 65527};
    for (int f = 0; f < 2; f++) {
        int receiver = train_receiver(families[f]);
        struct ringmsg_sender *sender = make_sender(unbound_udp(families[f]));
        struct ringmsg_path path = path_to(receiver);
        enum { MANY = 300 };
        struct ringmsg_message messages[MANY];
        messages_on(messages, MANY, &path, 10, 0);
        send_whole(sender, messages, MANY);
        /* 64 before Linux 6.9, 128 since: the first train shows which. */
        ssize_t first = receive_within(receiver, 2000);
        if (first != 640 && first != 1280)
            FAIL("a train of %zd datagrams", first / 10);
        for (size_t at = (size_t)first; at < MANY * 10; at += (size_t)first)
            expect_train(receiver, MANY * 10 - at < (size_t)first ? MANY * 10 - at : (size_t)first, 10);

        /* As many bytes as one datagram can have. (The device may cut a train of that length.) */
        size_t size = most[f] / 2;
        uint64_t trains = sent_by(sender).trains;
        for (int more = 0; more < 2; more++) {
            messages_on(messages, 2, &path, size + (size_t)more, 0);
            send_whole(sender, messages, 2);
            EQUAL(sent_by(sender).trains, trains + 1);
            ssize_t got = receive_within(receiver, 2000);
            EQUAL(got + (got == (ssize_t)(2 * size) ? 0 : receive_within(receiver, 2000)), 2 * (size + (size_t)more));
        }
        EQUAL(sent_by(sender).fallbacks, 0);
        EQUAL(sent_by(sender).errors, 0);
    }
}

/* A message that is a train may be longer than any the kernel takes: in datagrams or in bytes. */
static void a_long_train_leaves_in_pieces(void)
{
    int receiver = very_roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    struct {
        size_t length;
        uint32_t size;
    } trains[] = {{1290, 10}, {3001, 10}, {200000, 1400}, {1000000, 1000}, {131014, 65507}, {140000, 40000}};
    for (size_t t = 0; t < sizeof trains / sizeof *trains; t++) {
        struct ringmsg_message messages[3];
        messages[0] = message_on(&path, 10, 0);
        messages[1] = message_on(&path, trains[t].length, 1);
        messages[1].segment_size = trains[t].size;
        messages[2] = message_on(&path, 10, 2);
        send_whole(sender, messages, 3);
        expect_datagrams(receiver, messages, 3);
        expect_nothing(receiver);
    }
    struct ringmsg_sender_stats stats = sent_by(sender);
    EQUAL(stats.fallbacks, 0);
    EQUAL(stats.errors, 0);
    /* 129 datagrams are two trains or three, not 129 of them. */
    if (stats.calls > 200)
        FAIL("%llu system calls", (unsigned long long)stats.calls);
}

static void a_batch_is_as_long_as_the_config_says(void)
{
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_sender_config config;
    struct ringmsg_message messages[10];
    struct ringmsg_path path = path_to(receiver);
    ringmsg_sender_config_init(&config);
    EQUAL(config.transmit_clock, -1);
    config.batch = 4;
    struct ringmsg_sender *sender = make_sender_of(unbound_udp(AF_INET), &config);
    messages_on(messages, 10, &path, 100, 0);
    send_whole(sender, messages, 10);
    EQUAL(sent_by(sender).trains, 3);
    EQUAL(sent_by(sender).calls, 3);
    expect_datagrams(receiver, messages, 10);
    /* This thread's scratch space holds more by now; the sender still takes four. */
    struct ringmsg_sender *other = make_sender(unbound_udp(AF_INET));
    send_whole(other, messages, 10);
    EQUAL(sent_by(other).trains, 1);
    send_whole(sender, messages, 10);
    EQUAL(sent_by(sender).trains, 6);
}

/* The most that one call can be, every message to a peer of its own: as few system calls as
 * sendmmsg(2) allows. */
static void many_messages_are_few_system_calls(void)
{
    enum { COUNT = 3000 };
    int receiver = very_roomy_udp(AF_INET);
    struct ringmsg_sender_config config;
    static struct ringmsg_message messages[COUNT];
    struct ringmsg_path path = path_to(receiver);
    ringmsg_sender_config_init(&config);
    config.batch = COUNT;
    config.flags = RINGMSG_SENDER_NO_GROUPING;
    struct ringmsg_sender *sender = make_sender_of(unbound_udp(AF_INET), &config);
    messages_on(messages, COUNT, &path, 10, 0);
    send_whole(sender, messages, COUNT);
    EQUAL(sent_by(sender).calls, 3);
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).grouped, 0);
    expect_datagrams(receiver, messages, COUNT);
}

static void without_grouping_only_trains_are_trains(void)
{
    int receiver = train_receiver(AF_INET);
    struct ringmsg_sender *sender = make_sender_with(unbound_udp(AF_INET), RINGMSG_SENDER_NO_GROUPING);
    struct ringmsg_path path = path_to(receiver);
    send_given(sender, &path, (struct given[]){ONE(100), ONE(100), TRAIN(300, 100), TRAIN(300, 100)}, 4);
    expect_train(receiver, 100, 0);
    expect_train(receiver, 100, 0);
    expect_train(receiver, 300, 100);
    expect_train(receiver, 300, 100);
    EQUAL(sent_by(sender).trains, 2);
    EQUAL(sent_by(sender).grouped, 0);
}

static void the_connected_peer_is_grouped_too(void)
{
    int receiver = train_receiver(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_path nothing = {0};
    struct ringmsg_message messages[4];
    messages_on(messages, 4, NULL, 100, 0);
    messages[2].path = &nothing;
    send_whole(sender, messages, 4);
    expect_train(receiver, 400, 100);
}

/* Transmit times end groups like all that differs: see send_times.c for what they do. */
SEND_TESTS(TEST(what_joins_and_what_does_not), TEST(no_datagram_is_altered), TEST(peers_are_grouped_each),
           TEST(order_to_a_peer_is_kept_whatever_differs), TEST(trains_are_as_long_as_the_kernel_allows),
           TEST(a_long_train_leaves_in_pieces), TEST(a_batch_is_as_long_as_the_config_says),
           TEST(many_messages_are_few_system_calls), TEST(without_grouping_only_trains_are_trains),
           TEST(the_connected_peer_is_grouped_too))
