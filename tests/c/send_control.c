/* Control messages are the right ones for the peer, not for the socket: source address, interface,
 * traffic class, hop limit and flow label arrive at IPv4, mapped IPv4 and IPv6 peers, named by a
 * path or connected, alone and in trains; a message's own traffic class comes before the path's. */
#include "network.h"

/* What a receiver sees of a datagram. */
struct seen {
    struct ringmsg_metadata meta;
    struct sockaddr_storage from;
    ssize_t length;
};

static struct seen receive_seen(int fd)
{
    union {
        char space[512];
        struct cmsghdr align;
    } control;
    struct seen seen;
    memset(&seen, 0, sizeof seen);
    struct iovec part = {inbox, sizeof inbox};
    struct msghdr message = {.msg_name = &seen.from, .msg_namelen = sizeof seen.from, .msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = &control, .msg_controllen = sizeof control};
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, 20000 * TEST_TIME_FACTOR) != 1)
        FAIL("nothing came");
    seen.length = SYS(recvmsg(fd, &message, MSG_DONTWAIT));
    OK(ringmsg_control_decode(&control, message.msg_controllen, &seen.meta));
    return seen;
}

/* A receiver that sees what is set, at an address of loopback. */
static int seeing_receiver(int family, const char *address)
{
    int fd = unbound_udp(family);
    struct sockaddr_storage name = {.ss_family = (sa_family_t)family};
    void *at = family == AF_INET ? (void *)&((struct sockaddr_in *)&name)->sin_addr
                                 : (void *)&((struct sockaddr_in6 *)&name)->sin6_addr;
    EQUAL(inet_pton(family, address, at), 1);
    SYS(bind(fd, (struct sockaddr *)&name, family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)));
    OK(ringmsg_socket_enable(fd, RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT | RINGMSG_META_DESTINATION |
                                     (family == AF_INET6 ? RINGMSG_META_FLOW_LABEL : 0)));
    return fd;
}

static int dual_stack(void)
{
    int fd = unbound_udp(AF_INET6);
    set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    return fd;
}

/* The kinds of peers. `socket` and `path` make a sender's socket and a path to the receiver. */
enum { V4, MAPPED, V4_ON_V6, V6, V4_CONNECTED, MAPPED_CONNECTED, V6_CONNECTED, KINDS };

static int is_v6(int kind) { return kind == V6 || kind == V6_CONNECTED; }
static int is_connected(int kind) { return kind >= V4_CONNECTED; }

static int socket_for(int kind, int receiver, struct ringmsg_path *path)
{
    int fd = kind == V4 || kind == V4_CONNECTED ? unbound_udp(AF_INET) : dual_stack();
    *path = kind == MAPPED || kind == MAPPED_CONNECTED ? mapped_path_to(receiver) : path_to(receiver);
    if (is_connected(kind)) {
        struct sockaddr_in6 peer = {.sin6_family = AF_INET6, .sin6_port = htons(path->remote_port)};
        memcpy(&peer.sin6_addr, path->remote, 16);
        if (kind == V4_CONNECTED)
            connect_to(fd, receiver);
        else
            SYS(connect(fd, (struct sockaddr *)&peer, sizeof peer));
        memset(path, 0, sizeof *path);
    }
    return fd;
}

/* Three messages: a train of two, and one that is shorter and joins it, or is alone. */
static void send_three(struct ringmsg_sender *sender, const struct ringmsg_path *path, uint32_t flags, uint8_t class)
{
    struct ringmsg_message messages[3];
    messages_on(messages, 3, path, 100, 0);
    messages[2] = message_on(path, 101, 2); /* longer: not in the train */
    for (int i = 0; i < 3; i++) {
        messages[i].flags = flags;
        messages[i].traffic_class = class;
    }
    send_whole(sender, messages, 3);
    EQUAL(sent_by(sender).trains, 1);
}

static void class_limit_and_label_reach_every_kind_of_peer(void)
{
    int four = seeing_receiver(AF_INET, "127.0.0.1"), six = seeing_receiver(AF_INET6, "::1");
    for (int kind = 0; kind < KINDS; kind++) {
        int receiver = is_v6(kind) ? six : four;
        for (int own_class = 0; own_class < 3; own_class++) {
            struct ringmsg_path path;
            struct ringmsg_sender *sender = make_sender(socket_for(kind, receiver, &path));
            path.valid |= RINGMSG_PATH_HOP_LIMIT | RINGMSG_PATH_FLOW_LABEL;
            path.hop_limit = (uint8_t)(33 + kind);
            path.flow_label = 0xabcde;
            path.traffic_class = 0x2e; /* ECT(0) in it */
            if (own_class < 2)
                path.valid |= RINGMSG_PATH_TRAFFIC_CLASS;
            send_three(sender, &path, own_class ? RINGMSG_MESSAGE_TRAFFIC_CLASS : 0, 0x51);
            for (int i = 0; i < 3; i++) {
                struct seen seen = receive_seen(receiver);
                EQUAL(seen.length, i < 2 ? 100 : 101);
                EQUAL(seen.meta.valid & RINGMSG_META_TRAFFIC_CLASS, RINGMSG_META_TRAFFIC_CLASS);
                EQUAL(seen.meta.traffic_class, own_class ? 0x51 : 0x2e);
                EQUAL(seen.meta.hop_limit, 33 + kind);
                if (is_v6(kind))
                    EQUAL(seen.meta.flow_label, 0xabcde);
            }
            OK(ringmsg_sender_free(sender));
        }
    }
}

/* What is not set is the socket's own. */
static void without_settings_the_sockets_own_apply(void)
{
    int four = seeing_receiver(AF_INET, "127.0.0.1"), six = seeing_receiver(AF_INET6, "::1");
    for (int kind = 0; kind < KINDS; kind++) {
        struct ringmsg_path path;
        int receiver = is_v6(kind) ? six : four, fd = socket_for(kind, receiver, &path);
        set_int(fd, IPPROTO_IP, IP_TOS, 0x18);
        set_int(fd, IPPROTO_IP, IP_TTL, 77);
        if (kind != V4 && kind != V4_CONNECTED) {
            set_int(fd, IPPROTO_IPV6, IPV6_TCLASS, 0x18);
            set_int(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 77);
        }
        struct ringmsg_sender *sender = make_sender(fd);
        send_three(sender, &path, 0, 0xff);
        for (int i = 0; i < 3; i++) {
            struct seen seen = receive_seen(receiver);
            EQUAL(seen.meta.traffic_class, 0x18);
            EQUAL(seen.meta.hop_limit, 77);
        }
        OK(ringmsg_sender_free(sender));
    }
}

/* The address that a datagram came from, as text. */
static const char *source_of(const struct seen *seen)
{
    static char text[INET6_ADDRSTRLEN];
    const void *at = seen->from.ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)&seen->from)->sin_addr
                                                     : (const void *)&((const struct sockaddr_in6 *)&seen->from)->sin6_addr;
    inet_ntop(seen->from.ss_family, at, text, sizeof text);
    return text;
}

static void set_local(struct ringmsg_path *path, int kind, const char *four, const char *six)
{
    path->valid |= RINGMSG_PATH_LOCAL;
    if (is_v6(kind)) {
        path->family = AF_INET6;
        EQUAL(inet_pton(AF_INET6, six, path->local), 1);
    } else if (kind == MAPPED || kind == MAPPED_CONNECTED) {
        char text[64];
        path->family = AF_INET6;
        snprintf(text, sizeof text, "::ffff:%s", four);
        EQUAL(inet_pton(AF_INET6, text, path->local), 1);
    } else {
        path->family = AF_INET;
        EQUAL(inet_pton(AF_INET, four, path->local), 1);
    }
}

static void the_source_address_is_the_paths(void)
{
    enter_own_network();
    EQUAL(shell("ip addr add 10.1.0.1/32 dev lo && ip addr add 10.1.0.2/32 dev lo"), 0);
    EQUAL(shell("ip addr add fd01::1/128 dev lo nodad && ip addr add fd01::2/128 dev lo nodad"), 0);
    await_address("fd01::1");
    await_address("fd01::2");
    int four = seeing_receiver(AF_INET, "10.1.0.1"), six = seeing_receiver(AF_INET6, "fd01::1");
    int loopback = (int)if_nametoindex("lo");
    for (int kind = 0; kind < KINDS; kind++) {
        for (int with_interface = 0; with_interface < 2; with_interface++) {
            struct ringmsg_path path;
            int receiver = is_v6(kind) ? six : four;
            /* Where it is connected, connect(2) has chosen a source: the path's replaces it. */
            int fd = socket_for(kind, receiver, &path);
            set_local(&path, kind, "10.1.0.2", "fd01::2");
            if (with_interface) {
                path.valid |= RINGMSG_PATH_INTERFACE;
                path.interface_index = (uint32_t)loopback;
            }
            struct ringmsg_sender *sender = make_sender(fd);
            send_three(sender, &path, 0, 0);
            for (int i = 0; i < 3; i++) {
                struct seen seen = receive_seen(receiver);
                if (strcmp(source_of(&seen), is_v6(kind) ? "fd01::2" : "10.1.0.2") != 0)
                    FAIL("kind %d: from %s", kind, source_of(&seen));
            }
            OK(ringmsg_sender_free(sender));
            close(fd);
        }
    }
}

/* Only the interface: the kernel chooses the source there. A connected IPv6 socket may be connected
 * to an IPv4 peer: the library asks. */
static void the_interface_alone(void)
{
    enter_own_network();
    if (shell("ip link add one type veth peer name two") != 0)
        skip_test("this kernel has no veth");
    EQUAL(shell("ip addr add 10.2.0.1/24 dev one && ip addr add fd02::1/64 dev one nodad && ip link set one up"), 0);
    EQUAL(shell("ip link set two up && ip route add local 10.3.0.1 dev lo && ip route add local fd03::1 dev lo"), 0);
    struct {
        int kind;
        const char *interface;
        int result;
    } cases[] = {
        {V4, "lo", 100},           {MAPPED, "lo", 100},           {V6, "lo", 100},
        {V4_CONNECTED, "lo", 100}, {MAPPED_CONNECTED, "lo", 100}, {V6_CONNECTED, "lo", 100},
        /* There is no way to loopback's own address through a link. */
        {V4, "one", -1}, {MAPPED, "one", -1}, {V6, "one", -1},
        {V4, "none", -ENODEV}, {V6, "none", -ENODEV}, {MAPPED, "none", -ENODEV}, {MAPPED_CONNECTED, "none", -ENODEV},
    };
    int four = seeing_receiver(AF_INET, "127.0.0.1"), six = seeing_receiver(AF_INET6, "::1");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ringmsg_path path;
        int receiver = is_v6(cases[i].kind) ? six : four;
        struct ringmsg_sender *sender = make_sender(socket_for(cases[i].kind, receiver, &path));
        path.valid |= RINGMSG_PATH_INTERFACE;
        path.interface_index = strcmp(cases[i].interface, "none") == 0 ? 999 : if_nametoindex(cases[i].interface);
        struct ringmsg_message message = message_on(&path, 100, 1);
        EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
        if (cases[i].result == -ENODEV && message.result == -ENETUNREACH)
            message.result = -ENODEV; /* IPv4 has that name for it */
        if (cases[i].result > 0) {
            EQUAL(message.result, 100);
            expect_datagrams(receiver, &message, 1);
        } else if (cases[i].result == -ENODEV && message.result != -ENODEV) {
            FAIL("case %zu: %d", i, message.result);
        } else {
            expect_nothing(receiver);
        }
        OK(ringmsg_sender_free(sender));
    }
}

/* A source that makes no sense is that message's error, not another source. */
static void sources_that_are_none(void)
{
    int four = bound_udp(AF_INET), six = bound_udp(AF_INET6), fd = dual_stack();
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path v4 = mapped_path_to(four), v6 = path_to(six), paths[6] = {v4, v6, v6, v4, v4, v6};
    int wanted[6] = {-EINVAL, -EINVAL, -EINVAL, -EINVAL, 100, 100};
    const char *sources[6] = {"::1", "::ffff:127.0.0.1", "ff02::1", "::ffff:224.0.0.1", "::", "::"};
    struct ringmsg_message messages[6];
    for (int i = 0; i < 6; i++) {
        paths[i].valid |= RINGMSG_PATH_LOCAL;
        EQUAL(inet_pton(AF_INET6, sources[i], paths[i].local), 1);
        messages[i] = message_on(&paths[i], 100, (uint32_t)i);
    }
    EQUAL(ringmsg_send(sender, messages, 6, 0), 6);
    for (int i = 0; i < 6; i++)
        if (messages[i].result != wanted[i])
            FAIL("from %s: %d, not %d", sources[i], messages[i].result, wanted[i]);
    expect_datagrams(four, &messages[4], 1);
    expect_datagrams(six, &messages[5], 1);
    expect_nothing(four);
    expect_nothing(six);
}

/* Paths that say what no path can. */
static void paths_that_are_none(void)
{
    int receiver = bound_udp(AF_INET6), four = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET6));
    struct ringmsg_path good = path_to(receiver), paths[7] = {good, good, good, good, good, good, good};
    int wanted[7] = {-EINVAL, -EINVAL, -EINVAL, -EINVAL, -EAFNOSUPPORT, -EAFNOSUPPORT, -EAFNOSUPPORT};
    struct ringmsg_message messages[7];
    paths[0].valid |= 1u << 6;
    paths[1].reserved16 = 1;
    paths[2].reserved[1] = 1;
    paths[3].valid |= RINGMSG_PATH_FLOW_LABEL, paths[3].flow_label = 1u << 20;
    paths[4].family = 0;
    paths[5].family = AF_UNIX;
    paths[6] = (struct ringmsg_path){.valid = RINGMSG_PATH_LOCAL};
    for (int i = 0; i < 7; i++)
        messages[i] = message_on(&paths[i], 100, (uint32_t)i);
    EQUAL(ringmsg_send(sender, messages, 7, 0), 7);
    for (int i = 0; i < 7; i++)
        EQUAL(messages[i].result, wanted[i]);
    expect_nothing(receiver);

    struct ringmsg_sender *of_v4 = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path mapped = mapped_path_to(four);
    struct ringmsg_message message = message_on(&mapped, 100, 1);
    EQUAL(ringmsg_send(of_v4, &message, 1, 0), 1);
    EQUAL(message.result, -EAFNOSUPPORT);
}

/* 169.254/16 means nothing without an interface: the kernel routes it elsewhere. */
static void link_local_addresses(void)
{
    enter_own_network();
    if (shell("ip link add one type veth peer name two") != 0)
        skip_test("this kernel has no veth");
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    SYS(unshare(CLONE_NEWNET));
    int there = open("/proc/self/ns/net", O_RDONLY);
    SYS(setns(here, CLONE_NEWNET));
    EQUAL(shell("ip link set two netns /proc/%d/fd/%d && ip addr add 169.254.0.1/16 dev one && ip addr add fe80::a/64 dev one nodad "
                "&& ip link set one up",
                getpid(), there),
          0);
    SYS(setns(there, CLONE_NEWNET));
    EQUAL(shell("ip addr add 169.254.0.2/16 dev two && ip addr add fe80::b/64 dev two nodad && ip link set two up"), 0);
    await_address("fe80::b");
    int four = seeing_receiver(AF_INET, "169.254.0.2"), six = unbound_udp(AF_INET6);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_scope_id = if_nametoindex("two")};
    EQUAL(inet_pton(AF_INET6, "fe80::b", &address.sin6_addr), 1);
    SYS(bind(six, (struct sockaddr *)&address, sizeof address));
    struct ringmsg_path v4 = path_to(four), v6 = path_to(six);
    SYS(setns(here, CLONE_NEWNET));
    await_address("fe80::a");
    /* A way out that is not the link: where datagrams go that do not name it. */
    EQUAL(shell("ip link set lo up && ip route del 169.254.0.0/16 dev one && ip route add default dev lo"), 0);

    struct ringmsg_sender *of_v4 = make_sender(unbound_udp(AF_INET)), *of_v6 = make_sender(dual_stack());
    v4.valid |= RINGMSG_PATH_INTERFACE | RINGMSG_PATH_LOCAL;
    v4.interface_index = if_nametoindex("one");
    memcpy(v4.local, "\251\376\0\1", 4);
    send_three(of_v4, &v4, 0, 0);
    for (int i = 0; i < 3; i++) {
        struct seen seen = receive_seen(four);
        if (strcmp(source_of(&seen), "169.254.0.1") != 0)
            FAIL("from %s", source_of(&seen));
    }
    /* The scope of the remote address, or the interface, or both, lead there. */
    for (int how = 1; how < 4; how++) {
        struct ringmsg_path path = v6;
        path.remote_scope = how & 1 ? if_nametoindex("one") : 0;
        if (how & 2) {
            path.valid |= RINGMSG_PATH_INTERFACE;
            path.interface_index = if_nametoindex("one");
        }
        struct ringmsg_message message = message_on(&path, 100, (uint32_t)how);
        send_whole(of_v6, &message, 1);
        expect_datagrams(six, &message, 1);
    }
    close(there);
}

SEND_TESTS(TEST(class_limit_and_label_reach_every_kind_of_peer), TEST(without_settings_the_sockets_own_apply),
           TEST(the_source_address_is_the_paths), TEST(the_interface_alone), TEST(sources_that_are_none),
           TEST(paths_that_are_none), TEST(link_local_addresses))
