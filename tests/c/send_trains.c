/* Kernels and sockets that have no trains, or shorter ones: found out without a message that is
 * lost, reordered or cut. What a socket's own UDP_SEGMENT, UDP_CORK and checksums have to do with
 * it. */
#include "sendmmsg.h"

#include "send.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

enum { MANY = 40 };

static struct ringmsg_message messages[300];

/* Refuses trains of more than 64 datagrams, as a kernel before 6.9 does. */
static int refuse_65(const struct mmsghdr *headers, long *count)
{
    for (long i = 0; i < *count; i++) {
        const struct msghdr *message = &headers[i].msg_hdr;
        const void *data = control_of(message, SOL_UDP, UDP_SEGMENT);
        uint16_t size = 0;
        size_t length = 0;
        if (data != NULL)
            memcpy(&size, data, sizeof size);
        for (size_t p = 0; p < message->msg_iovlen; p++)
            length += message->msg_iov[p].iov_len;
        if (size != 0 && length > 64u * size) {
            if (i == 0)
                return EINVAL;
            *count = i; /* those before it go */
        }
    }
    return 0;
}

/* A seccomp filter in place of a kernel before 4.18: an option cannot be set, nor be read if
 * `reading` is SYS_getsockopt. */
static void refuse_option(int level, int option, uint32_t reading, int with)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, reading, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)level, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)option, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)with),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    SYS(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    SYS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* No train leaves, a caller's own is cut, and all arrives in order. */
static void expect_no_trains(struct ringmsg_sender *sender, const struct ringmsg_path *path, int receiver)
{
    messages_on(messages, 10, path, 100, 0);
    messages[4] = message_on(path, 950, 4);
    messages[4].segment_size = 100;
    messages[7].payload_length = 0;
    send_whole(sender, messages, 10);
    expect_datagrams(receiver, messages, 10);
    expect_nothing(receiver);
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).grouped, 0);
    EQUAL(sent_by(sender).datagrams, 19);
    EQUAL(sent_by(sender).errors, 0);
    /* Nine singles in two calls, and the train in one. */
    EQUAL(sent_by(sender).calls, 3);
}

static void a_kernel_without_udp_segment(void)
{
    int receiver = bound_udp(AF_INET);
    refuse_option(SOL_UDP, UDP_SEGMENT, SYS_getsockopt, ENOPROTOOPT);
    struct ringmsg_path path = path_to(receiver);
    expect_no_trains(make_sender(unbound_udp(AF_INET)), &path, receiver);
}

/* It may be read, and not be set. */
static void a_filter_that_forbids_to_set_udp_segment(void)
{
    int receiver = bound_udp(AF_INET);
    refuse_option(SOL_UDP, UDP_SEGMENT, SYS_setsockopt, EPERM);
    struct ringmsg_path path = path_to(receiver);
    expect_no_trains(make_sender(unbound_udp(AF_INET)), &path, receiver);
}

static void a_kernel_that_takes_64(void)
{
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    before_sendmmsg = refuse_65;
    for (int round = 0; round < 2; round++) {
        messages_on(messages, 300, &path, 10, 0);
        messages[299] = message_on(&path, 2000, 299);
        messages[299].segment_size = 10;
        send_whole(sender, messages, 300);
        expect_datagrams(receiver, messages, 300);
        EQUAL(sent_by(sender).errors, 0);
        if (sent_by(sender).fallbacks > 1)
            FAIL("%llu trains of more than 64", (unsigned long long)sent_by(sender).fallbacks);
    }
    EQUAL(sent_by(sender).trains >= 8, 1);
    /* Known for every sender of the process. */
    sender = make_sender(unbound_udp(AF_INET));
    messages_on(messages, 128, &path, 10, 0);
    send_whole(sender, messages, 128);
    EQUAL(sent_by(sender).trains, 2);
    EQUAL(sent_by(sender).fallbacks, 0);
}

/* A socket that takes no trains any more refuses them with the same errno. Other sockets have
 * trains as long as before once it is known that shorter ones are refused as well. */
static void one_socket_does_not_lower_the_limit(void)
{
    int receiver = roomy_udp(AF_INET), fd = unbound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(fd), *other = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    messages_on(messages, 128, &path, 10, 0);
    send_whole(other, messages, 128);
    expect_datagrams(receiver, messages, 128);
    uint64_t trains = sent_by(other).trains;
    set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1);
    for (int round = 0; round < 3; round++) {
        send_whole(sender, messages, 128);
        expect_datagrams(receiver, messages, 128);
    }
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).errors, 0);
    send_whole(other, messages, 128);
    expect_datagrams(receiver, messages, 128);
    EQUAL(sent_by(other).trains, 2 * trains);
    EQUAL(sent_by(other).fallbacks, 0);
}

/* The same where each message is a train: it is cut, and what is refused is one of its pieces. */
static void nor_does_one_with_messages_that_are_trains(void)
{
    enum { LENGTH = 1280, SEGMENT = 10, DATAGRAMS = LENGTH / SEGMENT };
    int receiver = roomy_udp(AF_INET), fd = unbound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(fd), *other = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message train = message_on(&path, LENGTH, 0);
    train.segment_size = SEGMENT;
    messages_on(messages, 128, &path, SEGMENT, 0);
    send_whole(other, messages, 128);
    expect_datagrams(receiver, messages, 128);
    uint64_t trains = sent_by(other).trains, fallbacks = 0;
    set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1);
    for (int round = 0; round < 5; round++) {
        fallbacks = round < 4 ? sent_by(sender).fallbacks : fallbacks;
        train.result = NO_RESULT;
        send_whole(sender, &train, 1);
        for (int i = 0; i < DATAGRAMS; i++)
            EQUAL(receive_within(receiver, 2000), SEGMENT);
    }
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).fallbacks, fallbacks); /* the path is remembered */
    send_whole(other, messages, 128);
    expect_datagrams(receiver, messages, 128);
    EQUAL(sent_by(other).fallbacks, 0);
    EQUAL(sent_by(other).trains, 2 * trains);
}

static void raw_sockets_have_no_trains(void)
{
    enum { EXPERIMENTAL = 253, HEADER = 20 };
    int receiver = socket(AF_INET, SOCK_RAW, EXPERIMENTAL);
    if (receiver < 0)
        skip_test("raw sockets take CAP_NET_RAW");
    struct ringmsg_sender *sender = make_sender((int)SYS(socket(AF_INET, SOCK_RAW, EXPERIMENTAL)));
    struct ringmsg_path path = {.valid = RINGMSG_PATH_REMOTE, .family = AF_INET, .remote = {127, 0, 0, 1}};
    messages_on(messages, 10, &path, 100, 0);
    send_whole(sender, messages, 10);
    for (int i = 0; i < 10; i++) {
        EQUAL(receive_within(receiver, 2000), HEADER + 100);
        EQUAL(memcmp(inbox + HEADER, messages[i].payload, 100), 0);
    }
    expect_nothing(receiver);
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).calls, 1);
}

static void udp_lite_has_no_trains(void)
{
    int receiver = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    if (receiver < 0)
        skip_test("this kernel has no UDP-Lite");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SYS(bind(receiver, (struct sockaddr *)&address, sizeof address));
    struct ringmsg_path path = path_to(receiver);
    expect_no_trains(make_sender((int)SYS(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE))), &path, receiver);
}

/* Datagrams without a checksum cannot be trains, whoever switches that on and when. */
static void sockets_without_checksums_have_no_trains(void)
{
    int receiver = bound_udp(AF_INET), six = bound_udp(AF_INET6), fd = unbound_udp(AF_INET), fd6 = unbound_udp(AF_INET6);
    struct ringmsg_path path = path_to(receiver), path6 = path_to(six);
    struct ringmsg_sender *before = make_sender(fd), *before6 = make_sender(fd6);
    set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1);
    set_int(six, SOL_UDP, UDP_NO_CHECK6_RX, 1);
    set_int(fd6, SOL_UDP, UDP_NO_CHECK6_TX, 1);
    expect_no_trains(make_sender(fd), &path, receiver);
    expect_no_trains(make_sender(fd6), &path6, six);
    for (int f = 0; f < 2; f++) {
        struct ringmsg_sender *sender = f == 0 ? before : before6;
        messages_on(messages, 10, f == 0 ? &path : &path6, 100, 0);
        send_whole(sender, messages, 10);
        expect_datagrams(f == 0 ? receiver : six, messages, 10);
        EQUAL(sent_by(sender).fallbacks, 1);
        send_whole(sender, messages, 10);
        expect_datagrams(f == 0 ? receiver : six, messages, 10);
        EQUAL(sent_by(sender).fallbacks, 1);
    }
}

/* The socket's own UDP_SEGMENT cuts nothing that is one message: set before or after the sender is
 * made, for a message alone or among many. */
static void one_message_is_one_datagram_whatever_the_socket_says(void)
{
    for (int late = 0; late < 2; late++) {
        int receiver = roomy_udp(AF_INET), fd = unbound_udp(AF_INET);
        struct ringmsg_path path = path_to(receiver);
        struct ringmsg_sender *sender = late ? make_sender(fd) : NULL;
        set_int(fd, SOL_UDP, UDP_SEGMENT, 100);
        sender = late ? sender : make_sender(fd);
        for (int count = 1; count <= 32; count *= 2) {
            for (int i = 0; i < count; i++) {
                messages[i] = message_on(&path, 300 + (size_t)i, (uint32_t)i); /* growing: none joins */
                messages[i].segment_size = i % 8 == 7 ? 120 : 0;
            }
            send_whole(sender, messages, count);
            expect_datagrams(receiver, messages, count);
        }
        expect_nothing(receiver);
        /* In a train it is the messages' size that counts. */
        messages_on(messages, 10, &path, 300, 0);
        send_whole(sender, messages, 10);
        expect_datagrams(receiver, messages, 10);
        EQUAL(sent_by(sender).errors, 0);
        OK(ringmsg_sender_free(sender));
    }
}

/* Trains and lone messages side by side, each with the control messages of a source address. */
static void on_such_a_socket_many_peers_are_served(void)
{
    enum { PEERS = 20 };
    int receivers[PEERS], fd = unbound_udp(AF_INET6);
    struct ringmsg_path paths[PEERS];
    set_int(fd, SOL_UDP, UDP_SEGMENT, 50);
    struct ringmsg_sender *sender = make_sender(fd);
    for (int i = 0; i < PEERS; i++) {
        receivers[i] = bound_udp(AF_INET6);
        paths[i] = path_to(receivers[i]);
        paths[i].valid |= RINGMSG_PATH_LOCAL;
        paths[i].local[15] = 1;
    }
    /* Peer i gets i % 3 + 1 of them. */
    int count = 0;
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < PEERS; i++)
            if (i % 3 >= round)
                {
                messages[count] = message_on(&paths[i], 120, (uint32_t)count);
                count++;
            }
    send_whole(sender, messages, count);
    for (int m = 0; m < count; m++)
        expect_datagrams(receivers[messages[m].path - paths], &messages[m], 1);
    EQUAL(sent_by(sender).trains, 2 * PEERS / 3);
}

static void a_corked_socket_has_no_sender(void)
{
    int fd = unbound_udp(AF_INET);
    struct ringmsg_sender *sender;
    set_int(fd, SOL_UDP, 1 /* UDP_CORK */, 1);
    REFUSED(ringmsg_sender_new(fd, NULL, &sender), EBUSY);
    set_int(fd, SOL_UDP, 1, 0);
    OK(ringmsg_sender_free(make_sender(fd)));
}

SEND_TESTS(TEST(a_kernel_without_udp_segment), TEST(a_filter_that_forbids_to_set_udp_segment),
           TEST(a_kernel_that_takes_64), TEST(one_socket_does_not_lower_the_limit),
           TEST(nor_does_one_with_messages_that_are_trains), TEST(udp_lite_has_no_trains),
           TEST(raw_sockets_have_no_trains), TEST(sockets_without_checksums_have_no_trains),
           TEST(one_message_is_one_datagram_whatever_the_socket_says),
           TEST(on_such_a_socket_many_peers_are_served), TEST(a_corked_socket_has_no_sender))
