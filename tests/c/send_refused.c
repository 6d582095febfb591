/* Trains that are refused: by the MTU, a firewall, a socket or kernel that has none. Their
 * datagrams go singly and none is lost, doubled or moved; a firewall is not asked more often than
 * it must be; what is learnt is learnt for that path, and forgotten after a while. */
#include "sendmmsg.h"

#include "network.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

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

enum { MANY = 40 };

static struct ringmsg_message messages[300];

/* Over loopback with an Ethernet's MTU. */
static void datagrams_above_the_mtu_go_singly(void)
{
    enter_own_network();
    if (shell("ip link set lo mtu 1500") != 0)
        FAIL("the MTU cannot be set");
    int families[] = {AF_INET, AF_INET6};
    for (int f = 0; f < 2; f++) {
        int receiver = roomy_udp(families[f]);
        struct ringmsg_sender *sender = make_sender(unbound_udp(families[f]));
        struct ringmsg_path path = path_to(receiver);
        messages_on(messages, 10, &path, 2000, 0); /* as singles they are fragmented */
        messages[9] = message_on(&path, 1000, 9);
        send_whole(sender, messages, 10);
        expect_datagrams(receiver, messages, 10);
        EQUAL(sent_by(sender).fallbacks, 1);
        EQUAL(sent_by(sender).trains, 0);

        /* Remembered, for datagrams of that size or more on this path. */
        uint64_t calls = sent_by(sender).calls;
        send_whole(sender, messages, 10);
        expect_datagrams(receiver, messages, 10);
        EQUAL(sent_by(sender).fallbacks, 1);
        EQUAL(sent_by(sender).calls, calls + 1);
        messages_on(messages, 10, &path, 1400, 0);
        send_whole(sender, messages, 10);
        expect_datagrams(receiver, messages, 10);
        EQUAL(sent_by(sender).trains, 1);
        int other = roomy_udp(families[f]);
        struct ringmsg_path elsewhere = path_to(other);
        messages_on(messages, 10, &elsewhere, 2000, 0);
        send_whole(sender, messages, 10);
        expect_datagrams(other, messages, 10);
        EQUAL(sent_by(sender).fallbacks, 2);

        /* A train of the caller's, in the same call as what precedes and follows it. */
        messages_on(messages, 3, &path, 2000, 0);
        messages[1] = message_on(&path, 9000, 1);
        messages[1].segment_size = 2000;
        send_whole(sender, messages, 3);
        expect_datagrams(receiver, messages, 3);
        EQUAL(sent_by(sender).fallbacks, 2);

        /* And tried again later. */
        sleep_ms(1100);
        if (shell("ip link set lo mtu 9000") != 0)
            FAIL("the MTU cannot be set");
        messages_on(messages, 10, &path, 2000, 0);
        send_whole(sender, messages, 10);
        expect_datagrams(receiver, messages, 10);
        EQUAL(sent_by(sender).trains, 2);
        EQUAL(sent_by(sender).fallbacks, 2);
        EQUAL(sent_by(sender).errors, 0);
        if (shell("ip link set lo mtu 1500") != 0)
            FAIL("the MTU cannot be set");
    }
}

/* Under IP_PMTUDISC_DO and PROBE singles of that size are refused as well: each by itself, since a
 * shorter one may pass. */
static void what_is_not_to_be_fragmented(void)
{
    enter_own_network();
    if (shell("ip link set lo mtu 1500") != 0)
        FAIL("the MTU cannot be set");
    int policies[] = {IP_PMTUDISC_DO, IP_PMTUDISC_PROBE};
    for (int p = 0; p < 2; p++) {
        int receiver = roomy_udp(AF_INET), fd = unbound_udp(AF_INET);
        set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, policies[p]);
        struct ringmsg_sender *sender = make_sender(fd);
        struct ringmsg_path path = path_to(receiver);
        messages_on(messages, 5, &path, 2000, 0);
        messages[5] = message_on(&path, 1000, 5);
        EQUAL(ringmsg_send(sender, messages, 6, 0), 6);
        for (int i = 0; i < 6; i++)
            EQUAL(messages[i].result, i == 5 ? 1000 : -EMSGSIZE);
        expect_datagrams(receiver, &messages[5], 1);
        expect_nothing(receiver);
    }
}

static const char *const by_length =
    "table inet t { counter refused { }; chain c { type filter hook output priority 0; "
    "udp dport 7000 udp length > 500 counter name refused drop; }; }";

static int bound_to_port(int port)
{
    int fd = unbound_udp(AF_INET), most = 32 << 20;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &most, sizeof most);
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

/* A firewall that drops by length sees a train's. */
static void a_firewall_that_drops_by_length(void)
{
    enter_own_network();
    int receiver = bound_to_port(7000), other = bound_to_port(7001);
    firewall(by_length);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path paths[2] = {path_to(receiver), path_to(other)};
    struct ringmsg_message ours[MANY], others[MANY];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            ours[i] = messages[2 * i] = message_on(&paths[0], 100, (uint32_t)i);
            others[i] = messages[2 * i + 1] = message_on(&paths[1], 100, (uint32_t)i);
        }
        send_whole(sender, messages, 2 * MANY);
        expect_datagrams(receiver, ours, MANY);
        expect_datagrams(other, others, MANY);
        /* Once; remembered in the next call; tried again after a second. */
        EQUAL(firewall_count("refused"), round < 2 ? 1 : 2);
        EQUAL(sent_by(sender).fallbacks, round < 2 ? 1 : 2);
        EQUAL(sent_by(sender).trains, round + 1);
        if (round == 1)
            sleep_ms(1100);
    }
    EQUAL(sent_by(sender).errors, 0);
}

/* Many trains of one path in one call: the first that is refused tells for all of them. (It is
 * asked twice, since what precedes it goes, and sendmmsg(2) then hides the errno.) */
static void what_is_learnt_holds_in_the_same_call(void)
{
    enter_own_network();
    int receiver = bound_to_port(7000);
    firewall(by_length);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver);
    for (int i = 0; i < 300; i++)
        messages[i] = message_on(&path, i % 60 == 0 ? 120 : 100, (uint32_t)i);
    send_whole(sender, messages, 300);
    expect_datagrams(receiver, messages, 300);
    EQUAL(firewall_count("refused"), 2);
    EQUAL(sent_by(sender).fallbacks, 1);
}

/* A firewall that drops all for a peer is asked twice for a train, not once for each datagram. */
static void a_firewall_that_drops_by_peer(void)
{
    enter_own_network();
    int bad = bound_to_port(7000), good = bound_to_port(7001);
    const char *const verdicts[] = {"drop", "reject"};
    for (int v = 0; v < 2; v++) {
        char rules[256];
        snprintf(rules, sizeof rules,
                 "table inet t { counter refused { }; chain c { type filter hook output priority 0; "
                 "udp dport 7000 counter name refused %s; }; }", verdicts[v]);
        firewall(rules);
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        struct ringmsg_path paths[2] = {path_to(bad), path_to(good)};
        struct ringmsg_message goods[MANY];
        for (int round = 1; round <= 2; round++) {
            for (int i = 0; i < MANY; i++) {
                messages[2 * i] = message_on(&paths[0], 100, (uint32_t)i);
                goods[i] = messages[2 * i + 1] = message_on(&paths[1], 100, (uint32_t)i);
            }
            EQUAL(ringmsg_send(sender, messages, 2 * MANY, 0), 2 * MANY);
            for (int i = 0; i < 2 * MANY; i++)
                EQUAL(messages[i].result, i % 2 == 0 ? -EPERM : 100);
            expect_datagrams(good, goods, MANY);
            expect_nothing(bad);
            /* Nothing was learnt about trains: the next call asks twice again. */
            EQUAL(firewall_count("refused"), 2 * round);
            EQUAL(sent_by(sender).trains, round);
        }
        EQUAL(sent_by(sender).errors, 2 * MANY);
        EQUAL(shell("nft delete table inet t"), 0);
    }
}

/* Routes that lead nowhere: the first datagram's errno is the train's, and so everybody's. */
static void a_route_that_is_unreachable(void)
{
    enter_own_network();
    struct {
        const char *route;
        int errno_;
    } routes[] = {{"unreachable", EHOSTUNREACH}, {"prohibit", EACCES}, {"blackhole", EINVAL}};
    for (int r = 0; r < 3; r++) {
        if (shell("ip route replace %s 10.9.0.0/16", routes[r].route) != 0)
            FAIL("no route");
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        struct ringmsg_path path = {.valid = RINGMSG_PATH_REMOTE, .family = AF_INET, .remote_port = 9, .remote = {10, 9, 0, 1}};
        messages_on(messages, MANY, &path, 100, 0);
        EQUAL(ringmsg_send(sender, messages, MANY, 0), MANY);
        for (int i = 0; i < MANY; i++)
            EQUAL(messages[i].result, -routes[r].errno_);
        EQUAL(sent_by(sender).socket_errors, 0);
        /* -EINVAL may be one message's own, so that each is asked. */
        if (routes[r].errno_ != EINVAL && sent_by(sender).calls > 4)
            FAIL("%llu system calls", (unsigned long long)sent_by(sender).calls);
    }
}

/* A queueing discipline that is full drops: in silence, or with IP_RECVERR as -ENOBUFS. */
static void a_queueing_discipline_that_is_full(void)
{
    enter_own_network();
    slow_loopback(8, 8000);
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    for (int told = 0; told < 2; told++) {
        int fd = unbound_udp(AF_INET);
        set_int(fd, IPPROTO_IP, IP_RECVERR, told);
        struct ringmsg_sender *sender = make_sender(fd);
        messages_on(messages, MANY, &path, 500, 0);
        EQUAL(ringmsg_send(sender, messages, 4, 0), 4); /* fills it, as far as it is not */
        uint64_t calls = sent_by(sender).calls, fallbacks = sent_by(sender).fallbacks;
        messages_on(messages, MANY, &path, 1000, 0);
        EQUAL(ringmsg_send(sender, messages, MANY, 0), MANY);
        for (int i = 0; i < MANY; i++)
            EQUAL(messages[i].result, told ? -ENOBUFS : 1000);
        EQUAL(sent_by(sender).calls, calls + 1); /* a result, not to be retried */
        EQUAL(sent_by(sender).fallbacks, fallbacks);
        EQUAL(sent_by(sender).would_block, 0);
    }
}

/* A seccomp filter in place of a kernel before 4.18: it has no such option. */
static void refuse_option(int level, int option)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_setsockopt, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)level, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)option, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
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
    refuse_option(SOL_UDP, UDP_SEGMENT);
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

static void a_corked_socket_has_no_sender(void)
{
    int fd = unbound_udp(AF_INET);
    struct ringmsg_sender *sender;
    set_int(fd, SOL_UDP, 1 /* UDP_CORK */, 1);
    REFUSED(ringmsg_sender_new(fd, NULL, &sender), EBUSY);
    set_int(fd, SOL_UDP, 1, 0);
    OK(ringmsg_sender_new(fd, NULL, &sender));
}

/* Between namespaces: a link with an Ethernet's MTU, with what its device offers, and with none
 * of it. */
static void over_a_link(void)
{
    enter_own_network();
    int near = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    SYS(unshare(CLONE_NEWNET));
    int far = open("/proc/self/ns/net", O_RDONLY);
    if (shell("ip link set lo up && ip link add far type veth peer name near netns /proc/%d/fd/%d", getpid(), near) != 0)
        skip_test("this kernel has no veth");
    EQUAL(shell("ip addr add 10.213.1.2/24 dev far && ip link set far up"), 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0ad50102), .sin_port = htons(7000)};
    int receiver = unbound_udp(AF_INET), most = 32 << 20;
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUFFORCE, &most, sizeof most);
    SYS(bind(receiver, (struct sockaddr *)&address, sizeof address));
    struct ringmsg_path path = path_to(receiver);
    SYS(setns(near, CLONE_NEWNET));
    EQUAL(shell("ip addr add 10.213.1.1/24 dev near && ip link set near up"), 0);
    int fd = unbound_udp(AF_INET);
    for (int offloads = 1; offloads >= 0; offloads--) {
        /* ETHTOOL_STXCSUM, _SSG, _STSO, _SGSO */
        uint32_t commands[] = {0x17, 0x19, 0x1f, 0x24};
        for (int c = 0; c < 4; c++) {
            uint32_t value[2] = {commands[c], (uint32_t)offloads};
            struct ifreq request = {.ifr_name = "near", .ifr_data = (char *)value};
            SYS(ioctl(fd, 0x8946 /* SIOCETHTOOL */, &request));
        }
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        messages_on(messages, MANY, &path, 1200, 0);
        send_whole(sender, messages, MANY);
        expect_datagrams(receiver, messages, MANY);
        EQUAL(sent_by(sender).trains, 1);
        EQUAL(sent_by(sender).fallbacks, 0);
        messages_on(messages, MANY, &path, 1480, 0); /* above the MTU by 8 */
        send_whole(sender, messages, MANY);
        expect_datagrams(receiver, messages, MANY);
        EQUAL(sent_by(sender).trains, 1);
        EQUAL(sent_by(sender).fallbacks, 1);
        OK(ringmsg_sender_free(sender));
    }
    close(far);
    close(near);
}

SEND_TESTS(TEST(datagrams_above_the_mtu_go_singly), TEST(what_is_not_to_be_fragmented),
           TEST(a_firewall_that_drops_by_length), TEST(what_is_learnt_holds_in_the_same_call),
           TEST(a_firewall_that_drops_by_peer), TEST(a_route_that_is_unreachable),
           TEST(a_queueing_discipline_that_is_full), TEST(a_kernel_without_udp_segment), TEST(a_kernel_that_takes_64),
           TEST(udp_lite_has_no_trains), TEST(sockets_without_checksums_have_no_trains),
           TEST(one_message_is_one_datagram_whatever_the_socket_says), TEST(a_corked_socket_has_no_sender),
           TEST(over_a_link))
