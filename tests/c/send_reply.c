/* Answers leave from the address that was asked, whatever a server's socket is and whatever it was
 * asked by: unicast, an alias, AnyIP, broadcast, multicast, link-local, over IPv4, mapped IPv4 and
 * IPv6. Received by a ring, answered with ringmsg_path_reply() and ringmsg_send(). */
#include "network.h"

/* A server on every address of this network, and its ring. */
struct server {
    int fd, port;
    struct ringmsg_ring *ring;
    struct ringmsg_sender *sender;
};

static struct server make_server(int family)
{
    struct server server = {.fd = unbound_udp(family)};
    struct sockaddr_storage any = {.ss_family = (sa_family_t)family};
    socklen_t length = family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
    if (family == AF_INET6)
        set_int(server.fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    SYS(bind(server.fd, (struct sockaddr *)&any, length));
    any = address_of(server.fd, &length);
    server.port = ntohs(((struct sockaddr_in *)&any)->sin_port);
    OK(ringmsg_socket_enable(server.fd, RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS));
    server.ring = make_ring();
    OK(ringmsg_recvmsg_multishot(server.ring, make_pool(server.ring, server.fd, 8, 2048), server.fd, 0, 0, 0));
    server.sender = make_sender(server.fd);
    return server;
}

/* How long a datagram over loopback may take on a machine that is busy with other things. */
enum { PATIENCE_MS = 20000 * TEST_TIME_FACTOR };

/* Takes one question and answers it, with the payload of its record. */
static void answer(const struct server *server)
{
    struct ringmsg_record record;
    struct ringmsg_metadata meta;
    struct ringmsg_path path;
    struct ringmsg_wait wait = wait_ms(PATIENCE_MS);
    EQUAL(OK(ringmsg_reap(server->ring, &record, &meta, 1, &wait)), 1);
    memset(&path, 0x55, sizeof path);
    OK(ringmsg_path_reply(&path, &meta));
    if (path.valid & RINGMSG_PATH_TRAFFIC_CLASS)
        FAIL("the traffic class was copied");
    struct ringmsg_message message = {.payload = payload_of(server->ring, &record),
                                      .payload_length = record.payload_length, .path = &path};
    send_whole(server->sender, &message, 1);
    OK(ringmsg_release(server->ring, &record, 1));
}

/* Asks a server at `address`; the answer comes from `wanted`. */
static void ask(int client, const struct server *server, const char *address, const char *interface, const char *wanted)
{
    struct sockaddr_storage to;
    struct sockaddr_in *four = (struct sockaddr_in *)&to;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&to;
    memset(&to, 0, sizeof to);
    if (strchr(address, ':') == NULL) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)server->port);
        EQUAL(inet_pton(AF_INET, address, &four->sin_addr), 1);
    } else {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)server->port);
        six->sin6_scope_id = interface != NULL ? if_nametoindex(interface) : 0;
        EQUAL(inet_pton(AF_INET6, address, &six->sin6_addr), 1);
    }
    socklen_t length = to.ss_family == AF_INET ? sizeof *four : sizeof *six;
    EQUAL(SYS(sendto(client, "who?", 4, 0, (struct sockaddr *)&to, length)), 4);
    answer(server);

    struct pollfd readable = {.fd = client, .events = POLLIN};
    if (poll(&readable, 1, PATIENCE_MS) != 1)
        FAIL("%s does not answer", address);
    length = sizeof to;
    EQUAL(SYS(recvfrom(client, inbox, sizeof inbox, 0, (struct sockaddr *)&to, &length)), 4);
    EQUAL(memcmp(inbox, "who?", 4), 0);
    char from[INET6_ADDRSTRLEN];
    inet_ntop(to.ss_family, to.ss_family == AF_INET ? (void *)&four->sin_addr : (void *)&six->sin6_addr, from, sizeof from);
    if (strcmp(from, wanted) != 0)
        FAIL("asked at %s, answered from %s", address, from);
    EQUAL(ntohs(four->sin_port), server->port);
}

static int client_of(int family, const char *interface)
{
    int fd = unbound_udp(family);
    set_int(fd, SOL_SOCKET, SO_BROADCAST, 1);
    if (interface != NULL) {
        int index = (int)if_nametoindex(interface);
        struct ip_mreqn through = {.imr_ifindex = index};
        if (family == AF_INET)
            SYS(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &through, sizeof through));
        else
            SYS(setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index));
    }
    return fd;
}

static void over_loopback(void)
{
    enter_own_network();
    EQUAL(shell("ip addr add 10.1.0.1/32 dev lo && ip addr add fd01::1/128 dev lo nodad"), 0);
    await_address("fd01::1");
    EQUAL(shell("ip route add local 10.50.0.0/16 dev lo && ip route add local fd50::/64 dev lo"), 0); /* AnyIP */
    struct server v4 = make_server(AF_INET), dual = make_server(AF_INET6);
    int four = client_of(AF_INET, NULL), six = client_of(AF_INET6, NULL);
    const struct server *servers[] = {&v4, &dual};
    for (int s = 0; s < 2; s++) {
        ask(four, servers[s], "127.0.0.1", NULL, "127.0.0.1");
        ask(four, servers[s], "127.0.0.77", NULL, "127.0.0.77");
        ask(four, servers[s], "10.1.0.1", NULL, "10.1.0.1");
        ask(four, servers[s], "10.50.3.4", NULL, "10.50.3.4");
        ask(four, servers[s], "127.255.255.255", NULL, "127.0.0.1"); /* a directed broadcast */
    }
    ask(six, &dual, "::1", NULL, "::1");
    ask(six, &dual, "fd01::1", NULL, "fd01::1");
    EQUAL(sent_by(v4.sender).messages, 5);
}

/* A server and a client with a link between them. */
static void over_a_link(void)
{
    enter_own_network();
    if (shell("ip link add near type veth peer name far") != 0)
        skip_test("this kernel has no veth");
    int here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    SYS(unshare(CLONE_NEWNET));
    int there = open("/proc/self/ns/net", O_RDONLY);
    SYS(setns(here, CLONE_NEWNET));
    EQUAL(shell("ip link set far netns /proc/%d/fd/%d && ip link set lo up && ip addr add 10.2.0.1/24 brd + dev near && "
                "ip addr add 10.2.0.9/24 dev near && ip addr add 169.254.0.1/16 dev near && ip addr add fd02::1/64 dev near nodad && "
                "ip addr add fe80::1/64 dev near nodad && ip link set near up && "
                "ip route del 169.254.0.0/16 dev near && ip route add 169.254.0.0/16 dev lo", getpid(), there), 0);
    struct server v4 = make_server(AF_INET), dual = make_server(AF_INET6);
    struct ip_mreqn group = {.imr_ifindex = (int)if_nametoindex("near")};
    struct ipv6_mreq group6 = {.ipv6mr_interface = if_nametoindex("near")};
    EQUAL(inet_pton(AF_INET, "224.0.0.251", &group.imr_multiaddr), 1);
    EQUAL(inet_pton(AF_INET6, "ff02::fb", &group6.ipv6mr_multiaddr), 1);
    SYS(setsockopt(v4.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    SYS(setsockopt(dual.fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group));
    SYS(setsockopt(dual.fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &group6, sizeof group6));
    SYS(setns(there, CLONE_NEWNET));
    EQUAL(shell("ip link set lo up && ip addr add 10.2.0.2/24 brd + dev far && ip addr add fd02::2/64 dev far nodad && "
                "ip addr add fe80::2/64 dev far nodad && ip link set far up"), 0);
    await_address("fd02::2");
    await_address("fe80::2");
    SYS(setns(here, CLONE_NEWNET));
    await_address("fd02::1");
    await_address("fe80::1");
    SYS(setns(there, CLONE_NEWNET));
    int four = client_of(AF_INET, "far"), six = client_of(AF_INET6, "far");
    const struct server *servers[] = {&v4, &dual};
    for (int s = 0; s < 2; s++) {
        ask(four, servers[s], "10.2.0.1", NULL, "10.2.0.1");
        ask(four, servers[s], "10.2.0.9", NULL, "10.2.0.9");
        ask(four, servers[s], "10.2.0.255", NULL, "10.2.0.1");
        ask(four, servers[s], "224.0.0.251", NULL, "10.2.0.1");
    }
    ask(six, &dual, "fd02::1", NULL, "fd02::1");
    ask(six, &dual, "fe80::1", "far", "fe80::1");
    /* From a multicast address nothing is answered: the kernel chooses, on that link. */
    ask(six, &dual, "ff02::fb", "far", "fe80::1");

    /* A client with an address that is good on this link only: the answer must not go elsewhere. */
    SYS(setns(there, CLONE_NEWNET));
    EQUAL(shell("ip addr del 10.2.0.2/24 dev far && ip addr add 169.254.0.2/16 dev far && ip link set far up"), 0);
    int local = client_of(AF_INET, "far");
    for (int s = 0; s < 2; s++)
        ask(local, servers[s], "169.254.0.1", NULL, "169.254.0.1");
    close(there);
}

static void what_cannot_be_answered(void)
{
    struct ringmsg_metadata meta;
    struct ringmsg_path path, before;
    memset(&meta, 0, sizeof meta);
    memset(&path, 0x55, sizeof path);
    before = path;
    REFUSED(ringmsg_path_reply(&path, &meta), EADDRNOTAVAIL);
    REFUSED(ringmsg_path_reply(&path, NULL), EINVAL);
    REFUSED(ringmsg_path_reply(NULL, &meta), EINVAL);
    EQUAL(memcmp(&path, &before, sizeof path), 0);
}

TESTS(TEST(over_loopback), TEST(over_a_link), TEST(what_cannot_be_answered))
