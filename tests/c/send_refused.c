/* Trains that are refused on the way: by the MTU, a firewall, a route, a queueing discipline. Their
 * datagrams go singly and none is lost, doubled or moved; a firewall is not asked more often than
 * it must be; what is learnt is learnt for that path, and forgotten after a while; and however many
 * peers refuse trains, each costs the same. */
#include "network.h"

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

/* Under IP_PMTUDISC_DO and PROBE singles of that size are refused as well, each with a try, since a
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

/* Many trains of one path in one call: the first refusal counts for all of them. (It is
 * asked twice, since what precedes it goes, and sendmmsg(2) then hides the errno.) */
static void what_is_learnt_holds_in_the_same_call(void)
{
    enter_own_network();
    int receiver = bound_to_port(7000);
    make_room(receiver, 1 << 20);
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
            /* Nothing was learnt about trains: the next call again makes two system calls. */
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

/* CPU time for each of 2 * `peers` messages, two to a peer, in one batch: every peer refuses a
 * train of them. */
static double time_of_refusals(uint32_t peers, int port)
{
    static const uint8_t payload[2000];
    struct ringmsg_sender_config config;
    ringmsg_sender_config_init(&config);
    config.batch = 2 * peers;
    int fd = unbound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender_of(fd, &config);
    struct ringmsg_path *paths = calloc(peers, sizeof *paths);
    struct ringmsg_message *two_each = calloc(2 * peers, sizeof *two_each);
    for (uint32_t i = 0; i < 2 * peers; i++) {
        uint32_t peer = i % peers;
        paths[peer] = (struct ringmsg_path){.valid = RINGMSG_PATH_REMOTE,
                                            .family = AF_INET,
                                            .remote_port = (uint16_t)port,
                                            .remote = {127, 1, (uint8_t)(peer >> 8), (uint8_t)peer}};
        two_each[i] = (struct ringmsg_message){
            .payload = payload, .payload_length = sizeof payload, .path = &paths[peer]};
    }
    struct timespec from, to;
    SYS(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from));
    EQUAL(ringmsg_send(sender, two_each, 2 * peers, RINGMSG_SEND_WAIT), 2 * peers);
    SYS(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to));
    EQUAL(sent_by(sender).fallbacks, peers);
    EQUAL(sent_by(sender).datagrams, 2 * peers);
    OK(ringmsg_sender_free(sender));
    close(fd);
    free(two_each);
    free(paths);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / (2.0 * peers);
}

/* One large batch takes no more time for each message than many small ones. (It took eight times as
 * much while every refusal looked at all groups behind it.) */
static void many_peers_that_refuse_trains_cost_the_same_each(void)
{
#ifdef TEST_UNDER_VALGRIND
    enum { FEW = 64, ALL = FEW, ROUNDS = 3 }; /* valgrind looks at every header in each system call */
#else
    enum { FEW = 64, ALL = TEST_TIME_FACTOR > 1 ? 2048 : 16384, ROUNDS = 3 }; /* emulation is slow */
#endif
    enter_own_network();
    if (shell("ip link set lo mtu 1500") != 0)
        FAIL("the MTU cannot be set");
    int receiver = unbound_udp(AF_INET); /* one that is full refuses them all for little */
    struct sockaddr_in any = {.sin_family = AF_INET};
    SYS(bind(receiver, (struct sockaddr *)&any, sizeof any));
    socklen_t length = sizeof any;
    SYS(getsockname(receiver, (struct sockaddr *)&any, &length));
    double best = 1e9;
    for (int round = 0; round < ROUNDS && best > 3; round++) {
        double small = 0;
        for (int i = 0; i < 16; i++)
            small += time_of_refusals(FEW, ntohs(any.sin_port)) / 16;
        double ratio = time_of_refusals(ALL, ntohs(any.sin_port)) / small;
        best = ratio < best ? ratio : best;
    }
    if (best > 3)
        FAIL("a message of a large batch takes %.1f times as much as one of a small batch", best);
}

SEND_TESTS(TEST(datagrams_above_the_mtu_go_singly), TEST(what_is_not_to_be_fragmented),
           TEST(a_firewall_that_drops_by_length), TEST(what_is_learnt_holds_in_the_same_call),
           TEST(a_firewall_that_drops_by_peer), TEST(a_route_that_is_unreachable),
           TEST(a_queueing_discipline_that_is_full), TEST(over_a_link),
           TEST(many_peers_that_refuse_trains_cost_the_same_each))
