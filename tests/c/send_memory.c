/* Which memory a call reads and writes, and how long a message may be: payloads, paths and columns
 * are read during the call only and never written; the same pointers may lead to something else in
 * the next call; every byte of a path counts; the longest datagrams and every segment size that a
 * caller may give, to IPv4, mapped IPv4 and IPv6 peers. */
#include "send.h"

enum { PAGE = 4096, MANY = 40 };

static uint8_t *map_pages(size_t bytes)
{
    uint8_t *pages = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    return pages;
}

/* Payloads and paths are in memory that may not be written, and that is gone after the call. */
static void payloads_and_paths_are_only_read_and_only_during_the_call(void)
{
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    for (int round = 0; round < 3; round++) {
        uint8_t *payloads = map_pages(PAGE), wanted[MANY * 100];
        struct ringmsg_path *paths = (struct ringmsg_path *)(void *)map_pages(PAGE);
        struct ringmsg_message messages[MANY];
        memset(messages, 0, sizeof messages);
        fill(payloads, sizeof wanted, (uint32_t)round);
        memcpy(wanted, payloads, sizeof wanted);
        paths[0] = paths[1] = path_to(receiver);
        for (int i = 0; i < MANY; i++) {
            messages[i].payload = payloads + 100 * i;
            messages[i].payload_length = 100;
            messages[i].path = &paths[i % 2];
        }
        SYS(mprotect(payloads, PAGE, PROT_READ));
        SYS(mprotect(paths, PAGE, PROT_READ));
        send_whole(sender, messages, MANY);
        SYS(munmap(payloads, PAGE));
        SYS(munmap(paths, PAGE));
        for (int i = 0; i < MANY; i++)
            expect_bytes(receiver, wanted + 100 * i, 100);
    }
    expect_nothing(receiver);
}

/* Of the columns only the results are written. */
static void columns_are_only_read(void)
{
    struct columns {
        uint64_t offsets[8];
        uint32_t lengths[8], index[8];
        uint8_t base[800];
    } *columns = (struct columns *)(void *)map_pages(PAGE);
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    int32_t results[8];
    fill(columns->base, sizeof columns->base, 1);
    for (int i = 0; i < 8; i++) {
        columns->offsets[i] = 100 * (uint64_t)i;
        columns->lengths[i] = 100;
        columns->index[i] = 0;
    }
    SYS(mprotect(columns, PAGE, PROT_READ));
    EQUAL(ringmsg_send_columns(sender, columns->base, sizeof columns->base, columns->offsets, columns->lengths,
                               columns->index, &path, 1, results, 8, 0), 8);
    for (int i = 0; i < 8; i++) {
        EQUAL(results[i], 100);
        expect_bytes(receiver, columns->base + 100 * i, 100);
    }
}

/* What a thread remembers of a call's paths and messages is not looked at in the next one. */
static void the_same_pointers_may_lead_elsewhere(void)
{
    int receivers[2] = {bound_udp(AF_INET), bound_udp(AF_INET)}, fd = unbound_udp(AF_INET);
    struct ringmsg_sender *senders[2] = {make_sender(fd), make_sender(fd)};
    struct ringmsg_path paths[2];
    struct ringmsg_message messages[8];
    for (int round = 0; round < 6; round++) {
        paths[0] = path_to(receivers[round % 2]);
        paths[1] = path_to(receivers[(round + 1) % 2]);
        for (int i = 0; i < 8; i++)
            messages[i] = message_on(&paths[i % 2], 50, (uint32_t)(round * 8 + i));
        send_whole(senders[round / 2 % 2], messages, 8);
        for (int i = 0; i < 8; i++)
            expect_datagrams(receivers[(round + i) % 2], &messages[i], 1);
    }
    expect_nothing(receivers[0]);
    expect_nothing(receivers[1]);
}

/* A field that `valid` does not name is compared as well: such messages are no train, and stay in
 * order. */
static void every_byte_of_a_path_is_compared(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver), paths[6] = {path, path, path, path, path, path};
    struct ringmsg_message messages[6];
    paths[1].traffic_class = 1;
    paths[2].hop_limit = 1;
    paths[3].local[15] = 1;
    paths[4].interface_index = 7;
    paths[5].flow_label = 1;
    for (int other = 1; other < 6; other++) {
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        for (int i = 0; i < 6; i++)
            messages[i] = message_on(&paths[i == 2 || i == 3 ? other : 0], 100, (uint32_t)i);
        send_whole(sender, messages, 6);
        expect_datagrams(receiver, messages, 6);
        EQUAL(sent_by(sender).trains, 3);
        OK(ringmsg_sender_free(sender));
    }
}

/* An IPv4, a mapped and an IPv6 peer: the sender, the path and the longest datagram. */
struct peer {
    int receiver, longest;
    struct ringmsg_path path;
    struct ringmsg_sender *sender;
};

static void make_peers(struct peer peers[3])
{
    for (int p = 0; p < 3; p++) {
        int fd = unbound_udp(p == 0 ? AF_INET : AF_INET6);
        if (p > 0)
            set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
        peers[p].receiver = roomy_udp(p == 2 ? AF_INET6 : AF_INET);
        peers[p].path = p == 1 ? mapped_path_to(peers[p].receiver) : path_to(peers[p].receiver);
        peers[p].longest = p == 2 ? 65527 : 65507;
        peers[p].sender = make_sender(fd);
    }
}

/* The longest datagram goes, the next longer one has the errno, and hides nothing beside it. */
static void the_longest_datagrams(void)
{
    struct peer peers[3];
    make_peers(peers);
    for (int p = 0; p < 3; p++) {
        const struct peer *peer = &peers[p];
        size_t lengths[] = {10, (size_t)peer->longest, (size_t)peer->longest + 1, 65536, 1 << 20, 10};
        int wanted[] = {10, peer->longest, -EMSGSIZE, -EMSGSIZE, -EMSGSIZE, 10};
        struct ringmsg_message messages[6];
        for (int i = 0; i < 6; i++)
            messages[i] = message_on(&peer->path, lengths[i], (uint32_t)i);
        EQUAL(ringmsg_send(peer->sender, messages, 6, 0), 6);
        for (int i = 0; i < 6; i++) {
            EQUAL(messages[i].result, wanted[i]);
            if (wanted[i] > 0)
                expect_datagrams(peer->receiver, &messages[i], 1);
        }
        expect_nothing(peer->receiver);
        EQUAL(sent_by(peer->sender).errors, 3);
    }
}

/* The caller's segment sizes: each datagram has that size, the last what is left. */
static void every_segment_size_is_kept(void)
{
    static const struct {
        size_t length;
        uint32_t size;
    } trains[] = {{1000, 1},   {1001, 7},      {100, 99},       {100, 100},      {100, 101}, {100, UINT32_MAX},
                  {65507, 65506}, {65507, 65507}, {200000, 65507}, {100000, 50000}, {129, 1},   {2, 1}, {1, 1}, {0, 1}};
    struct peer peers[3];
    make_peers(peers);
    for (int p = 0; p < 3; p++) {
        const struct peer *peer = &peers[p];
        make_room(peer->receiver, 4 << 20);
        for (size_t t = 0; t < sizeof trains / sizeof *trains; t++) {
            struct ringmsg_message messages[3];
            messages_on(messages, 3, &peer->path, 5, (uint32_t)t);
            messages[1] = message_on(&peer->path, trains[t].length, (uint32_t)t);
            messages[1].segment_size = trains[t].size;
            send_whole(peer->sender, messages, 3);
            expect_datagrams(peer->receiver, messages, 3);
            expect_nothing(peer->receiver);
        }
        /* Segments that no datagram can be: refused whole, and nothing of them goes. */
        struct ringmsg_message train = message_on(&peer->path, 150000, 1);
        train.segment_size = 70000;
        EQUAL(ringmsg_send(peer->sender, &train, 1, 0), 1);
        EQUAL(train.result, -EMSGSIZE);
        expect_nothing(peer->receiver);
    }
}

/* Without a config a batch is 1,024 messages, whatever the count; with the largest it is 32,768. */
static void batches_of_the_default_and_of_the_largest_size(void)
{
    enum { MOST = 33000 };
    struct ringmsg_message *messages = calloc(MOST, sizeof *messages);
    struct ringmsg_sender_config config;
    ringmsg_sender_config_init(&config);
    for (int largest = 0; largest < 2; largest++) {
        int receiver = roomy_udp(AF_INET), count = largest ? MOST : 1025;
        struct ringmsg_path path = path_to(receiver);
        uint8_t *payload = make_payload(1, 1);
        config.batch = largest ? 32768 : 0;
        struct ringmsg_sender *sender = make_sender_of(unbound_udp(AF_INET), &config);
        for (int i = 0; i < count; i++)
            messages[i] = (struct ringmsg_message){.payload = payload, .payload_length = 1, .path = &path};
        send_whole(sender, messages, count);
        /* The trains of one batch are one system call. */
        EQUAL(sent_by(sender).calls, 2);
        EQUAL(sent_by(sender).datagrams, count);
        OK(ringmsg_sender_free(sender));
        close(receiver);
    }
    free(messages);
}

SEND_TESTS(TEST(payloads_and_paths_are_only_read_and_only_during_the_call), TEST(columns_are_only_read),
           TEST(the_same_pointers_may_lead_elsewhere), TEST(every_byte_of_a_path_is_compared),
           TEST(the_longest_datagrams), TEST(every_segment_size_is_kept),
           TEST(batches_of_the_default_and_of_the_largest_size))
