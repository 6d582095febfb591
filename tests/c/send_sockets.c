/* Sockets other than UDP's, by each of the three functions: what the kernel can send arrives whole
 * and alone, what it cannot is the message's own error, and no option of UDP is assumed: datagrams
 * and seqpackets of AF_UNIX, netlink, packet and ping sockets, UDP-Lite, raw IP, vsock. A sender
 * keeps its socket, whatever becomes of the number; and none of it raises SIGPIPE. */
#include "network.h"
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <netinet/ip_icmp.h>

enum { COUNT = 3, LENGTH = 40 };

/* The payloads of all three calls; the caller may write into them. */
static uint8_t payloads[COUNT][LENGTH];
static int32_t results[COUNT];

static void fill_payloads(void)
{
    for (uint32_t i = 0; i < COUNT; i++)
        fill(payloads[i], LENGTH, i);
}

static void keep_results(const struct ringmsg_message *messages)
{
    for (int i = 0; i < COUNT; i++)
        results[i] = messages[i].result;
}

/* Sends the payloads on one path, or on none, by the function with this number. */
static int send_by(int function, struct ringmsg_sender *sender, const struct ringmsg_path *path)
{
    struct ringmsg_message messages[COUNT];
    uint32_t lengths[COUNT], index[COUNT];
    for (int i = 0; i < COUNT; i++) {
        messages[i] = (struct ringmsg_message){
            .payload = payloads[i], .payload_length = LENGTH, .path = path, .result = NO_RESULT};
        if (function == 1) {
            messages[i].payload = (const void *)(uintptr_t)(i * LENGTH);
            messages[i].path = (const void *)(uintptr_t)(path != NULL ? 0 : UINT64_MAX);
        }
        lengths[i] = LENGTH;
        index[i] = path != NULL ? 0 : UINT32_MAX;
        results[i] = NO_RESULT;
    }
    if (function == 2)
        return ringmsg_send_columns(sender, payloads, sizeof payloads, NULL, lengths, index, path, path != NULL, results,
                                    COUNT, 0);
    int n = function == 0 ? ringmsg_send(sender, messages, COUNT, 0)
                          : ringmsg_send_from(sender, payloads, sizeof payloads, path, path != NULL, messages, COUNT, 0);
    keep_results(messages);
    return n;
}

static void expect_results(int function, struct ringmsg_sender *sender, const struct ringmsg_path *path, int wanted)
{
    EQUAL(send_by(function, sender, path), COUNT);
    for (int i = 0; i < COUNT; i++)
        EQUAL(results[i], wanted);
}

/* What is sent by each function arrives at `receiver`, behind `head` bytes that are not looked
 * at. */
static void expect_delivery(struct ringmsg_sender *sender, const struct ringmsg_path *path, int receiver, size_t head)
{
    for (int function = 0; function < 3; function++) {
        expect_results(function, sender, path, LENGTH);
        for (int i = 0; i < COUNT; i++) {
            EQUAL(receive_within(receiver, 20000 * TEST_TIME_FACTOR), head + LENGTH);
            if (memcmp(inbox + head, payloads[i], LENGTH) != 0)
                FAIL("function %d, message %d: other bytes", function, i);
        }
        expect_nothing(receiver);
    }
    EQUAL(sent_by(sender).trains, 0);
    EQUAL(sent_by(sender).errors, 0);
    EQUAL(sent_by(sender).messages, 3 * COUNT);
}

/* Each function says so of each message, with a path. */
static void expect_no_paths(struct ringmsg_sender *sender)
{
    struct ringmsg_path path = path_to(bound_udp(AF_INET));
    for (int function = 0; function < 3; function++)
        expect_results(function, sender, &path, -EAFNOSUPPORT);
}

static void af_unix(void)
{
    int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    fill_payloads();
    for (int t = 0; t < 2; t++) {
        int pair[2];
        SYS(socketpair(AF_UNIX, types[t] | SOCK_CLOEXEC, 0, pair));
        struct ringmsg_sender *sender = make_sender(pair[0]);
        expect_delivery(sender, NULL, pair[1], 0);
        expect_no_paths(sender);
    }
    /* A datagram socket without a peer. */
    struct ringmsg_sender *alone = make_sender((int)SYS(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
    for (int function = 0; function < 3; function++)
        expect_results(function, alone, NULL, -ENOTCONN);
}

/* To another netlink socket of this process, by its port. */
static void netlink(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK}, nobody = {.nl_family = AF_NETLINK, .nl_pid = 0x7ffffff1};
    socklen_t length = sizeof address;
    int receiver = (int)SYS(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_USERSOCK));
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
    SYS(bind(receiver, (struct sockaddr *)&address, sizeof address));
    SYS(getsockname(receiver, (struct sockaddr *)&address, &length));
    SYS(connect(fd, (struct sockaddr *)&address, sizeof address));
    struct ringmsg_sender *sender = make_sender(fd);
    fill_payloads();
    expect_delivery(sender, NULL, receiver, 0);
    expect_no_paths(sender);
    /* Nobody has that port: the message's own, and tried once. */
    uint64_t calls = sent_by(sender).calls;
    SYS(connect(fd, (struct sockaddr *)&nobody, sizeof nobody));
    expect_results(0, sender, NULL, -ECONNREFUSED);
    EQUAL(sent_by(sender).calls, calls + COUNT);
    EQUAL(sent_by(sender).socket_errors, 0);
}

/* Frames on loopback, with their header (SOCK_RAW). They leave by the interface that the socket is
 * bound to: a packet socket has no connected peer. */
static void packet(void)
{
    enter_own_network();
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(0x88b5), .sll_ifindex = (int)if_nametoindex("lo")};
    int receiver = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (receiver < 0 || fd < 0)
        skip_test("no packet sockets: they take CAP_NET_RAW");
    SYS(bind(receiver, (struct sockaddr *)&to, sizeof to));
    SYS(bind(fd, (struct sockaddr *)&to, sizeof to));
    int only_received = 1;
    setsockopt(receiver, SOL_PACKET, 23 /* PACKET_IGNORE_OUTGOING */, &only_received, sizeof only_received);
    fill_payloads();
    for (int i = 0; i < COUNT; i++) { /* addresses of zeros are loopback's */
        memset(payloads[i], 0, 12);
        memcpy(payloads[i] + 12, "\x88\xb5", 2);
    }
    struct ringmsg_sender *sender = make_sender(fd);
    expect_delivery(sender, NULL, receiver, 0);
    expect_no_paths(sender);
    /* The interface is down: own, and the socket's pending error beside it. */
    EQUAL(shell("ip link set lo down"), 0);
    expect_results(0, sender, NULL, -ENETDOWN);
    EQUAL(shell("ip link set lo up"), 0);
    expect_results(1, sender, NULL, LENGTH);
}

/* Echo requests: the kernel writes the identifier and the checksum. */
static void ping(void)
{
    enter_own_network();
    if (shell("echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range") != 0)
        skip_test("ping sockets cannot be allowed here");
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
    if (fd < 0)
        skip_test("no ping sockets");
    int receiver = bound_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = make_sender(fd);
    fill_payloads();
    for (int i = 0; i < COUNT; i++) {
        memset(payloads[i], 0, 8);
        payloads[i][0] = ICMP_ECHO;
        payloads[i][7] = (uint8_t)i;
    }
    for (int function = 0; function < 3; function++) {
        expect_results(function, sender, &path, LENGTH);
        for (int i = 0; i < COUNT; i++) { /* the answers */
            EQUAL(receive_within(fd, 20000 * TEST_TIME_FACTOR), LENGTH);
            EQUAL(inbox[0], ICMP_ECHOREPLY);
            EQUAL(inbox[7], i);
            if (memcmp(inbox + 8, payloads[i] + 8, LENGTH - 8) != 0)
                FAIL("function %d, message %d: other bytes", function, i);
        }
    }
    EQUAL(sent_by(sender).trains, 0);
    fill_payloads(); /* no echo requests */
    expect_results(0, sender, &path, -EINVAL);
}

static void raw_ip(void)
{
    enter_own_network();
    int receiver = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 253), fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 253);
    if (receiver < 0 || fd < 0)
        skip_test("no raw sockets: they take CAP_NET_RAW");
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
    SYS(bind(receiver, (struct sockaddr *)&own, sizeof own)); /* another address than the sender's */
    struct ringmsg_path path = {.valid = RINGMSG_PATH_REMOTE, .family = AF_INET, .remote = {127, 0, 0, 2}};
    struct ringmsg_sender *sender = make_sender(fd);
    fill_payloads();
    for (int function = 0; function < 3; function++) {
        send_by(function, sender, &path);
        for (int i = 0; i < COUNT; i++)
            EQUAL(results[i], LENGTH);
    }
    for (int i = 0; i < 3 * COUNT; i++) {
        EQUAL(receive_within(receiver, 20000 * TEST_TIME_FACTOR), 20 + LENGTH);
        if (memcmp(inbox + 20, payloads[i % COUNT], LENGTH) != 0)
            FAIL("message %d: other bytes", i);
    }
    expect_nothing(receiver);
}

static void udp_lite(void)
{
    int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE);
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (receiver < 0)
        skip_test("this kernel has no UDP-Lite");
    SYS(bind(receiver, (struct sockaddr *)&own, sizeof own));
    struct ringmsg_path path = path_to(receiver);
    fill_payloads();
    expect_delivery(make_sender((int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE))), &path, receiver, 0);
}

static void vsock(void)
{
    struct sockaddr_vm any = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = VMADDR_PORT_ANY};
    struct sockaddr_vm own = {.svm_family = AF_VSOCK};
    socklen_t length = sizeof own;
    int listener = socket(AF_VSOCK, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fd = socket(AF_VSOCK, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (listener < 0 || fd < 0)
        skip_test("this kernel has no vsock");
    SYS(bind(listener, (struct sockaddr *)&any, sizeof any));
    SYS(listen(listener, 1));
    SYS(getsockname(listener, (struct sockaddr *)&own, &length));
    own.svm_cid = VMADDR_CID_LOCAL;
    if (connect(fd, (struct sockaddr *)&own, sizeof own) != 0)
        skip_test("vsock has no loopback transport here");
    int receiver = (int)SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    fill_payloads();
    struct ringmsg_sender *sender = make_sender(fd);
    expect_delivery(sender, NULL, receiver, 0);
    expect_no_paths(sender);
}

static volatile sig_atomic_t pipe_signals;
static void count_signal(int signal) { (void)signal, pipe_signals++; }

/* Streams have no sender, and the peer of a seqpacket socket may be gone. */
static void no_sigpipe(void)
{
    int pair[2], types[] = {SOCK_STREAM, SOCK_SEQPACKET};
    struct sigaction action = {.sa_handler = count_signal};
    struct ringmsg_sender *sender = NULL;
    SYS(sigaction(SIGPIPE, &action, NULL));
    fill_payloads();
    for (int t = 0; t < 2; t++) {
        SYS(socketpair(AF_UNIX, types[t] | SOCK_CLOEXEC, 0, pair));
        if (types[t] == SOCK_STREAM) {
            REFUSED(ringmsg_sender_new(pair[0], NULL, &sender), EOPNOTSUPP);
            continue;
        }
        sender = make_sender(pair[0]);
        expect_results(0, sender, NULL, LENGTH); /* the peer goes with unread messages: -ECONNRESET is pending */
        close(pair[1]);
        for (int function = 0; function < 3; function++)
            expect_results(function, sender, NULL, -EPIPE);
        EQUAL(sent_by(sender).last_socket_error, ECONNRESET);
    }
    REFUSED(ringmsg_sender_new((int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), NULL, &sender), EOPNOTSUPP);
    EQUAL(pipe_signals, 0);
}

/* The program closes its socket, and another one gets the number: the sender keeps the first. */
static void the_number_of_a_closed_socket_is_used_again(void)
{
    int receiver = bound_udp(AF_INET), other = bound_udp(AF_INET), fd = sender_to(receiver);
    struct ringmsg_sender *sender = make_sender(fd);
    fill_payloads();
    close(fd);
    int again = sender_to(other);
    EQUAL(again, fd);
    for (int function = 0; function < 3; function++) {
        expect_results(function, sender, NULL, LENGTH);
        for (int i = 0; i < COUNT; i++)
            expect_bytes(receiver, payloads[i], LENGTH);
    }
    expect_nothing(other);
    OK(ringmsg_sender_free(sender));
    SYS(send(again, "x", 1, 0)); /* and closes its own number, not this one */
    expect_bytes(other, "x", 1);
    /* No number is left to the program, and a pipe has it: what is refused is not the sender's. */
    sender = make_sender(again);
    close(again);
    int ends[2];
    SYS(pipe2(ends, O_CLOEXEC));
    expect_results(0, sender, NULL, LENGTH);
    for (int i = 0; i < COUNT; i++)
        expect_bytes(other, payloads[i], LENGTH);
    REFUSED(ringmsg_sender_new(ends[0], NULL, &sender), ENOTSOCK);
}

SEND_TESTS(TEST(af_unix), TEST(netlink), TEST(packet), TEST(ping), TEST(raw_ip), TEST(udp_lite), TEST(vsock),
           TEST(no_sigpipe), TEST(the_number_of_a_closed_socket_is_used_again))
