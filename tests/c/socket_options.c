/* ringmsg_socket_enable() works on every kind of socket that can report the metadata: UDP,
 * UDP-Lite, raw and ping sockets of both families, and packet sockets. It skips an option level
 * that the socket does not have. ringmsg_socket_disable() turns off exactly the named options. It
 * turns off GRO only with an empty receive queue, so that a plain receive never sees a train
 * without its segment size. */
#include "test.h"

#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <sched.h>
#include <sys/ioctl.h>

enum { SO_RCVPRIORITY_ = 82 };

/* Makes such a socket, or skips the test if this process may not have one. */
static int socket_or_skip(int domain, int type, int protocol)
{
    int fd = socket(domain, type, protocol);
    if (fd < 0 && (errno == EPERM || errno == EACCES))
        skip_test("this process may not open raw, packet or ping sockets");
    if (fd < 0 && (errno == EPROTONOSUPPORT || errno == ESOCKTNOSUPPORT || errno == EAFNOSUPPORT))
        skip_test("this kernel has no such socket");
    return (int)SYS(fd);
}

static int option_of(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1;
}

/* Sends one ICMP echo request to this machine and receives it with metadata. A raw socket receives
 * the request and the answer, a ping socket the answer. */
static void check_metadata_of_a_ping(int fd, int family, int raw, uint32_t requested, uint32_t expected)
{
    OK(ringmsg_socket_enable(fd, requested));
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, fd, 4, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to;
    memset(&to, 0, sizeof to);
    uint8_t echo[8] = {family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST};
    if (family == AF_INET && raw)
        echo[2] = 0xf7, echo[3] = 0xff; /* the checksum of eight bytes that begin with 8 */
    if (family == AF_INET)
        to.v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    else
        to.v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
    socklen_t length = family == AF_INET ? sizeof to.v4 : sizeof to.v6;
    if (sendto(fd, echo, sizeof echo, 0, &to.any, length) < 0 && errno == EADDRNOTAVAIL)
        skip_test("this machine has no loopback address of this family");
    struct ringmsg_record record;
    struct ringmsg_metadata metadata;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 5000000000};
    EQUAL(OK(ringmsg_reap(ring, &record, &metadata, 1, &wait)), 1);
    EQUAL(metadata.valid & expected, expected);
    EQUAL(metadata.family, family);
    OK(ringmsg_ring_free(ring));
    close(fd);
}

#define PER_PACKET                                                                              \
    (RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE |                  \
     RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT)

static void raw_sockets_report_addresses_and_headers(void)
{
    check_metadata_of_a_ping(socket_or_skip(AF_INET, SOCK_RAW, IPPROTO_ICMP), AF_INET, 1,
                  PER_PACKET | RINGMSG_META_DROPPED, PER_PACKET);
    check_metadata_of_a_ping(socket_or_skip(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), AF_INET6, 1,
                  PER_PACKET | RINGMSG_META_DROPPED, PER_PACKET);
}

/* In a network namespace of its own this process may allow itself ping sockets. */
static void allow_ping_sockets(void)
{
    if (unshare(CLONE_NEWNET) != 0)
        skip_test("a network namespace needs root");
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = bound_udp(AF_INET);
    SYS(ioctl(fd, SIOCSIFFLAGS, &lo));
    close(fd);
    FILE *range = fopen("/proc/sys/net/ipv4/ping_group_range", "w");
    if (range == NULL || fputs("0 2147483647", range) < 0 || fclose(range) != 0)
        skip_test("net.ipv4.ping_group_range cannot be written");
}

static void ping_sockets_report_addresses_and_headers(void)
{
    allow_ping_sockets();
    check_metadata_of_a_ping(socket_or_skip(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), AF_INET, 0,
                             PER_PACKET, PER_PACKET);
    check_metadata_of_a_ping(socket_or_skip(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6), AF_INET6, 0,
                             PER_PACKET, PER_PACKET);
}

static void raw_and_ping_sockets_have_no_ports(void)
{
    int raw = socket_or_skip(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    REFUSED(ringmsg_socket_enable(raw, RINGMSG_META_DESTINATION_PORT | RINGMSG_META_HOP_LIMIT), EOPNOTSUPP);
    EQUAL(option_of(raw, SOL_IP, IP_RECVTTL), 0); /* no option was turned on */
    close(raw);
}

static void udp_lite_reports_the_same_as_udp_except_trains(void)
{
    int fd = socket_or_skip(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE);
    OK(ringmsg_socket_enable(fd, PER_PACKET | RINGMSG_META_DESTINATION_PORT | RINGMSG_META_SOCKET_ERROR));
    EQUAL(option_of(fd, SOL_IPV6, IPV6_RECVHOPLIMIT), 1);
    EQUAL(option_of(fd, SOL_IP, IP_RECVTTL), 1);
    close(fd);
}

/* A packet socket reports drops and timestamps only. */
static void packet_sockets_report_drops_and_timestamps_only(void)
{
    int fd = socket_or_skip(AF_PACKET, SOCK_DGRAM, htons(ETH_P_LOOP));
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SOURCE | RINGMSG_META_DROPPED |
                                     RINGMSG_META_SOFTWARE_TIMESTAMP));
    EQUAL(option_of(fd, SOL_SOCKET, SO_RXQ_OVFL), 1);
    REFUSED(ringmsg_socket_enable(fd, RINGMSG_META_HOP_LIMIT), EOPNOTSUPP);
    OK(ringmsg_socket_disable(fd, RINGMSG_META_DROPPED | RINGMSG_META_SOFTWARE_TIMESTAMP));
    EQUAL(option_of(fd, SOL_SOCKET, SO_RXQ_OVFL), 0);
    EQUAL(option_of(fd, SOL_SOCKET, SO_TIMESTAMPING), 0);
    close(fd);
}

/* Either every named option is on afterwards, or none is. */
static void a_refused_option_leaves_the_others_off(void)
{
    int fd = bound_udp(AF_INET);
    REFUSED(ringmsg_socket_enable(fd, RINGMSG_META_HOP_LIMIT | RINGMSG_META_FLOW_LABEL), ENOPROTOOPT);
    EQUAL(option_of(fd, SOL_IP, IP_RECVTTL), 0);
    REFUSED(ringmsg_socket_enable(fd, 1u << 31), EINVAL);
    REFUSED(ringmsg_socket_disable(fd, 1u << 31), EINVAL);
    REFUSED(ringmsg_socket_enable(-1, RINGMSG_META_HOP_LIMIT), EBADF);
    REFUSED(ringmsg_socket_disable(-1, RINGMSG_META_HOP_LIMIT), EBADF);
    close(fd);
}

static void disable_turns_off_exactly_the_named_options(void)
{
    int fd = bound_udp(AF_INET6);
    OK(ringmsg_socket_enable(fd, PER_PACKET | RINGMSG_META_SOFTWARE_TIMESTAMP |
                                     RINGMSG_META_HARDWARE_TIMESTAMP | RINGMSG_META_SOCKET_ERROR));
    int stamps = option_of(fd, SOL_SOCKET, SO_TIMESTAMPING);
    OK(ringmsg_socket_disable(fd, RINGMSG_META_HOP_LIMIT | RINGMSG_META_HARDWARE_TIMESTAMP));
    EQUAL(option_of(fd, SOL_IP, IP_RECVTTL), 0);
    EQUAL(option_of(fd, SOL_IPV6, IPV6_RECVHOPLIMIT), 0);
    EQUAL(option_of(fd, SOL_IP, IP_RECVTOS), 1);
    EQUAL(option_of(fd, SOL_IPV6, IPV6_RECVTCLASS), 1);
    EQUAL(option_of(fd, SOL_IPV6, IPV6_RECVERR), 1);
    int left = option_of(fd, SOL_SOCKET, SO_TIMESTAMPING);
    CHECK(left != 0 && left != stamps && (left & stamps) == left);
    OK(ringmsg_socket_disable(fd, PER_PACKET | RINGMSG_META_SOFTWARE_TIMESTAMP | RINGMSG_META_SOCKET_ERROR));
    EQUAL(option_of(fd, SOL_IP, IP_PKTINFO), 0);
    EQUAL(option_of(fd, SOL_IPV6, IPV6_RECVPKTINFO), 0);
    EQUAL(option_of(fd, SOL_SOCKET, SO_TIMESTAMPING), 0);
    OK(ringmsg_socket_disable(fd, PER_PACKET)); /* the options are already off */
    close(fd);
}

/* Ten queued datagrams of 100 bytes must not read as one of 1,000, so GRO stays on while they are
 * queued. */
static void gro_is_disabled_only_with_an_empty_queue(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    static char data[1000], received[2000];
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_HOP_LIMIT));
    send_train(sender, data, sizeof data, 100);
    REFUSED(ringmsg_socket_disable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_HOP_LIMIT), EAGAIN);
    EQUAL(option_of(fd, SOL_UDP, UDP_GRO), 1);
    EQUAL(option_of(fd, SOL_IP, IP_RECVTTL), 1); /* the whole call is refused */
    EQUAL(SYS(recv(fd, received, sizeof received, 0)), 1000);
    EQUAL(recv(fd, received, sizeof received, MSG_DONTWAIT), -1);
    OK(ringmsg_socket_disable(fd, RINGMSG_META_SEGMENT_SIZE));
    EQUAL(option_of(fd, SOL_UDP, UDP_GRO), 0);
    send_train(sender, data, sizeof data, 100);
    for (int i = 0; i < 10; i++)
        EQUAL(SYS(recv(fd, received, sizeof received, 0)), 100);
    OK(ringmsg_socket_disable(fd, RINGMSG_META_SEGMENT_SIZE)); /* the option is already off */
    close(fd);
    close(sender);
}

static void the_priority_of_a_packet_is_reported(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd), priority = 5;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVPRIORITY_, &(int){0}, sizeof(int)) != 0) {
        REFUSED(ringmsg_socket_enable(fd, RINGMSG_META_PRIORITY), ENOPROTOOPT);
        skip_test("this kernel has no SO_RCVPRIORITY (6.15 has it)");
    }
    OK(ringmsg_socket_enable(fd, RINGMSG_META_PRIORITY));
    set_int(sender, SOL_SOCKET, SO_PRIORITY, priority);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, fd, 4, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    SYS(send(sender, "x", 1, 0));
    struct ringmsg_record record;
    struct ringmsg_metadata metadata;
    EQUAL(OK(ringmsg_reap(ring, &record, &metadata, 1, NULL)), 1);
    HAS_FLAG(metadata.valid, RINGMSG_META_PRIORITY);
    EQUAL(metadata.priority, priority);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(raw_sockets_report_addresses_and_headers),
      TEST(ping_sockets_report_addresses_and_headers),
      TEST(raw_and_ping_sockets_have_no_ports),
      TEST(udp_lite_reports_the_same_as_udp_except_trains),
      TEST(packet_sockets_report_drops_and_timestamps_only),
      TEST(a_refused_option_leaves_the_others_off),
      TEST(disable_turns_off_exactly_the_named_options),
      TEST(gro_is_disabled_only_with_an_empty_queue),
      TEST(the_priority_of_a_packet_is_reported))
