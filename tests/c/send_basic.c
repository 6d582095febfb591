/* One message, one datagram: where it goes (a path's remote address, or the connected peer), how
 * a path is made of an address, what its result says, that the three forms of a batch send the
 * same, that a sender keeps its socket when the caller closes his descriptor, which kinds of
 * sockets can have one. */
#include "send.h"
#include <stddef.h>
#include <sys/un.h>

static void a_message_goes_to_its_path(void)
{
    int families[] = {AF_INET, AF_INET6};
    for (int f = 0; f < 2; f++) {
        int receiver = bound_udp(families[f]), fd = unbound_udp(families[f]);
        struct ringmsg_sender *sender = make_sender(fd);
        struct ringmsg_path path = path_to(receiver);
        struct ringmsg_message message = message_on(&path, 300, 1);
        send_whole(sender, &message, 1);
        EQUAL(message.user_data, 1);
        expect_datagrams(receiver, &message, 1);
        expect_nothing(receiver);
        OK(ringmsg_sender_free(sender));
        close(fd);
        close(receiver);
    }
}

static void expect_equal_paths(struct ringmsg_path path, struct ringmsg_path expected)
{
    SAME_BYTES(&path, &expected, sizeof path);
}

/* All of the path is written, and the address needs no alignment. */
static void a_path_is_made_of_an_address(void)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(0xc0000201)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(853), .sin6_scope_id = 7};
    memcpy(&six.sin6_addr, "\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    struct ringmsg_path path;
    for (size_t at = 0; at < 4; at++) {
        uint8_t bytes[4 + sizeof six];
        memset(&path, 0xff, sizeof path);
        OK(ringmsg_path_to(&path, memcpy(bytes + at, &four, sizeof four), sizeof four));
        expect_equal_paths(path, (struct ringmsg_path){.valid = RINGMSG_PATH_REMOTE, .family = AF_INET,
                                                       .remote_port = 53, .remote = {192, 0, 2, 1}});
        memset(&path, 0xff, sizeof path);
        OK(ringmsg_path_to(&path, memcpy(bytes + at, &six, sizeof six), sizeof six));
        expect_equal_paths(path, (struct ringmsg_path){
            .valid = RINGMSG_PATH_REMOTE, .family = AF_INET6, .remote_port = 853, .remote_scope = 7,
            .remote = {0xfe, 0x80, [15] = 1}});
    }

    struct ringmsg_path before = path;
    struct sockaddr_un other = {.sun_family = AF_UNIX};
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&other, sizeof other), EAFNOSUPPORT);
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&four, sizeof four - 1), EINVAL);
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&six, sizeof six - 1), EINVAL);
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&six, 1), EINVAL);
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&six, 0), EINVAL);
    REFUSED(ringmsg_path_to(&path, (struct sockaddr *)&six, 1u << 31), EINVAL);
    REFUSED(ringmsg_path_to(&path, NULL, sizeof six), EINVAL);
    REFUSED(ringmsg_path_to(NULL, (struct sockaddr *)&six, sizeof six), EINVAL);
    expect_equal_paths(path, before);
}

static void without_a_path_it_goes_to_the_connected_peer(void)
{
    int receiver = bound_udp(AF_INET), fd = sender_to(receiver);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path nothing = {0};
    struct ringmsg_message messages[2] = {message_on(NULL, 10, 1), message_on(&nothing, 20, 2)};
    send_whole(sender, messages, 2);
    expect_datagrams(receiver, messages, 2);

    /* Not connected: the kernel has no destination. */
    struct ringmsg_sender *lost = make_sender(unbound_udp(AF_INET));
    EQUAL(ringmsg_send(lost, messages, 2, 0), 2);
    EQUAL(messages[0].result, -EDESTADDRREQ);
    EQUAL(messages[1].result, -EDESTADDRREQ);
    EQUAL(sent_by(lost).errors, 2);
    expect_nothing(receiver);
}

static void a_mapped_path_goes_to_an_ipv4_peer(void)
{
    int receiver = bound_udp(AF_INET), off = 0, fd = unbound_udp(AF_INET6);
    SYS(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path paths[2] = {mapped_path_to(receiver), path_to(receiver)};
    struct ringmsg_message messages[2] = {message_on(&paths[0], 10, 1), message_on(&paths[1], 20, 2)};
    send_whole(sender, messages, 2);
    /* Not one peer: the family differs, so their order is free. */
    ssize_t first = receive_within(receiver, 2000), second = receive_within(receiver, 2000);
    EQUAL(first + second, 30);
}

static void empty_messages_are_empty_datagrams(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_message messages[5];
    messages_on(messages, 5, NULL, 0, 0);
    messages[1].payload = NULL;
    messages[2] = message_on(NULL, 100, 2);
    messages[4].segment_size = 10;
    send_whole(sender, messages, 5);
    expect_datagrams(receiver, messages, 5);
    expect_nothing(receiver);
    EQUAL(sent_by(sender).datagrams, 5);
}

static void nothing_to_send_is_nothing(void)
{
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    EQUAL(ringmsg_send(sender, NULL, 0, 0), 0);
    EQUAL(ringmsg_send(sender, NULL, 0, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME), 0);
    EQUAL(ringmsg_send_from(sender, NULL, 0, NULL, 0, NULL, 0, 0), 0);
    EQUAL(ringmsg_send_columns(sender, NULL, 0, NULL, NULL, NULL, NULL, 0, NULL, 0, 0), 0);
    EQUAL(sent_by(sender).calls, 0);
}

/* Two peers, three lengths, a bad path and a payload out of bounds among them. */
enum { FORMS = 40 };

static void the_three_forms_send_the_same(void)
{
    int receivers[2] = {bound_udp(AF_INET), bound_udp(AF_INET)}, fd = unbound_udp(AF_INET);
    struct ringmsg_path paths[3] = {path_to(receivers[0]), path_to(receivers[1]), {.valid = 1u << 31}};
    uint8_t *base = make_payload(FORMS * 100, 7);
    for (int form = 0; form < 4; form++) {
        struct ringmsg_sender *sender = make_sender(fd);
        struct ringmsg_message messages[FORMS];
        uint64_t offsets[FORMS];
        uint32_t lengths[FORMS], index[FORMS];
        int32_t results[FORMS], settled;
        size_t at = 0;
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < FORMS; i++) {
            lengths[i] = (uint32_t)(i % 7 == 0 ? 50 : 100 - i % 2);
            index[i] = i == 20 ? 2 : (uint32_t)(i / 3 % 2);
            offsets[i] = at;
            at += lengths[i];
            messages[i].payload_length = lengths[i];
            messages[i].payload = form == 0 ? (const void *)(base + offsets[i]) : (const void *)(uintptr_t)offsets[i];
            messages[i].path = form == 0 ? &paths[index[i]] : (const struct ringmsg_path *)(uintptr_t)index[i];
        }
        if (form == 0)
            settled = ringmsg_send(sender, messages, FORMS, 0);
        else if (form == 1)
            settled = ringmsg_send_from(sender, base, at, paths, 3, messages, FORMS, 0);
        else
            settled = ringmsg_send_columns(sender, base, at, form == 2 ? offsets : NULL, lengths, index, paths, 3,
                                           results, FORMS, 0);
        EQUAL(settled, FORMS);
        for (int r = 0; r < 2; r++) {
            for (int i = 0; i < FORMS; i++)
                if (index[i] == (uint32_t)r)
                    expect_bytes(receivers[r], base + offsets[i], lengths[i]);
            expect_nothing(receivers[r]);
        }
        for (int i = 0; i < FORMS; i++)
            EQUAL(form < 2 ? messages[i].result : results[i], i == 20 ? -EINVAL : (int)lengths[i]);
        EQUAL(sent_by(sender).messages, FORMS - 1);
        EQUAL(sent_by(sender).errors, 1);
        OK(ringmsg_sender_free(sender));
    }
}

static void columns_may_leave_out_what_is_simple(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *connected = make_sender(sender_to(receiver)), *free_one = make_sender(unbound_udp(AF_INET));
    uint8_t *base = make_payload(60, 1);
    uint32_t lengths[3] = {10, 20, 30}, none[3] = {UINT32_MAX, UINT32_MAX, UINT32_MAX}, second[3] = {1, 1, 1};
    int32_t results[3];
    struct ringmsg_path to = path_to(receiver), paths[3] = {to, to, to};
    const uint32_t *indexes[5] = {NULL, none, NULL, second, second};
    /* No paths; paths with none chosen; path i for message i; one path for all; indexes without
     * paths. */
    for (int how = 0; how < 5; how++) {
        int has_paths = how != 0 && how != 4;
        memset(results, 0, sizeof results);
        EQUAL(ringmsg_send_columns(how == 2 || how == 3 ? free_one : connected, base, 60, NULL, lengths, indexes[how],
                                   has_paths ? paths : NULL, has_paths ? 3 : (uint32_t)how, results, 3, 0),
              3);
        for (int i = 0, at = 0; i < 3; at += (int)lengths[i++]) {
            EQUAL(results[i], (int)lengths[i]);
            expect_bytes(receiver, base + at, lengths[i]);
        }
    }
}

static void out_of_bounds_is_that_messages_efault(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    uint8_t *base = make_payload(100, 1);
    struct ringmsg_path path = path_to(receiver);
    struct {
        uint64_t offset;
        uint32_t length;
        uint64_t path;
        int result;
    } cases[] = {
        {0, 100, 0, 100},        {99, 1, 0, 1},         {100, 0, 0, 0},          {0, 101, 0, -EFAULT},
        {100, 1, 0, -EFAULT},    {101, 0, 0, -EFAULT},  {UINT64_MAX, 1, 0, -EFAULT}, {UINT64_MAX - 50, 100, 0, -EFAULT},
        {1ull << 63, 10, 0, -EFAULT}, {0, 10, 1, -EFAULT}, {0, 10, UINT32_MAX, -EFAULT}, {0, 10, UINT64_MAX - 1, -EFAULT},
        {0, 10, UINT64_MAX, -EDESTADDRREQ}, {90, 10, 0, 10},
    };
    enum { COUNT = sizeof cases / sizeof *cases };
    struct ringmsg_message messages[COUNT];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < COUNT; i++) {
        messages[i].payload = (const void *)(uintptr_t)cases[i].offset;
        messages[i].payload_length = cases[i].length;
        messages[i].path = (const struct ringmsg_path *)(uintptr_t)cases[i].path;
    }
    EQUAL(ringmsg_send_from(sender, base, 100, &path, 1, messages, COUNT, 0), COUNT);
    for (int i = 0; i < COUNT; i++) {
        EQUAL(messages[i].result, cases[i].result);
        if (cases[i].result >= 0)
            expect_bytes(receiver, base + cases[i].offset, cases[i].length);
    }
    expect_nothing(receiver);

    uint64_t offsets[COUNT];
    uint32_t lengths[COUNT], index[COUNT];
    int32_t results[COUNT];
    for (int i = 0; i < COUNT; i++) {
        offsets[i] = cases[i].offset;
        lengths[i] = cases[i].length;
        index[i] = cases[i].path == UINT32_MAX ? 7 : (uint32_t)cases[i].path;
    }
    index[11] = UINT32_MAX - 1;
    EQUAL(ringmsg_send_columns(sender, base, 100, offsets, lengths, index, &path, 1, results, COUNT, 0), COUNT);
    for (int i = 0; i < COUNT; i++)
        EQUAL(results[i], cases[i].result);
    EQUAL(drain(receiver), 4);
    /* More messages than paths, path i for message i; payloads that lie behind the end. */
    uint32_t halves[3] = {50, 50, 1};
    EQUAL(ringmsg_send_columns(sender, base, 100, NULL, halves, NULL, &path, 1, results, 3, 0), 3);
    EQUAL(results[0], 50);
    EQUAL(results[1], -EFAULT);
    EQUAL(results[2], -EFAULT);
}

static void a_sender_keeps_its_socket(void)
{
    int receiver = bound_udp(AF_INET), fd = sender_to(receiver), before = open_descriptors();
    struct ringmsg_sender *sender = make_sender(fd);
    close(fd);
    int other = bound_udp(AF_INET); /* takes the number */
    EQUAL(other, fd);
    struct ringmsg_message message = message_on(NULL, 50, 1);
    send_whole(sender, &message, 1);
    expect_datagrams(receiver, &message, 1);
    OK(ringmsg_sender_free(sender));
    close(other);
    EQUAL(open_descriptors(), before - 1);
}

static void which_sockets_can_have_a_sender(void)
{
    struct ringmsg_sender *sender = NULL;
    int pair[2];
    REFUSED(ringmsg_sender_new((int)SYS(socket(AF_INET, SOCK_STREAM, 0)), NULL, &sender), EOPNOTSUPP);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    REFUSED(ringmsg_sender_new(pair[0], NULL, &sender), EOPNOTSUPP);
    SYS(pipe(pair));
    REFUSED(ringmsg_sender_new(pair[1], NULL, &sender), ENOTSOCK);
    REFUSED(ringmsg_sender_new(-1, NULL, &sender), EBADF);
    REFUSED(ringmsg_sender_new(999, NULL, &sender), EBADF);
    if (sender != NULL)
        FAIL("a refused call has written its output");

    int kinds[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int k = 0; k < 2; k++) {
        SYS(socketpair(AF_UNIX, kinds[k], 0, pair));
        sender = make_sender(pair[0]);
        struct ringmsg_message messages[3];
        messages_on(messages, 3, NULL, 1000, 0);
        messages[1].segment_size = 300; /* cut by the library: there are no trains here */
        send_whole(sender, messages, 3);
        expect_datagrams(pair[1], messages, 3);
        EQUAL(sent_by(sender).trains, 0);
        EQUAL(sent_by(sender).datagrams, 6);
        OK(ringmsg_sender_free(sender));
    }
}

static void statistics_count_what_was_sent(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_message messages[6];
    messages_on(messages, 3, NULL, 100, 0); /* a train of three */
    messages[3] = message_on(NULL, 200, 3);  /* alone */
    messages[4] = message_on(NULL, 1000, 4); /* a train in one message */
    messages[4].segment_size = 300;
    messages[5] = message_on(NULL, 80000, 5); /* longer than any datagram */
    EQUAL(ringmsg_send(sender, messages, 6, 0), 6);
    struct ringmsg_sender_stats stats = sent_by(sender);
    EQUAL(stats.size, sizeof stats);
    EQUAL(stats.messages, 5);
    EQUAL(stats.datagrams, 8);
    EQUAL(stats.payload_bytes, 1500);
    EQUAL(stats.trains, 2);
    EQUAL(stats.grouped, 3);
    EQUAL(stats.errors, 1);
    EQUAL(stats.fallbacks, 0);
    EQUAL(stats.would_block, 0);
    EQUAL(stats.socket_errors, 0);
    EQUAL(stats.last_socket_error, 0);
    EQUAL(messages[5].result, -EMSGSIZE);
}

SEND_TESTS(TEST(a_message_goes_to_its_path), TEST(a_path_is_made_of_an_address),
           TEST(without_a_path_it_goes_to_the_connected_peer),
           TEST(a_mapped_path_goes_to_an_ipv4_peer), TEST(empty_messages_are_empty_datagrams),
           TEST(nothing_to_send_is_nothing), TEST(the_three_forms_send_the_same),
           TEST(columns_may_leave_out_what_is_simple), TEST(out_of_bounds_is_that_messages_efault),
           TEST(a_sender_keeps_its_socket), TEST(which_sockets_can_have_a_sender),
           TEST(statistics_count_what_was_sent))
