/* Generates ICMP and ICMPv6 errors: packets that quote a datagram which the socket under test could
 * have sent. Needs CAP_NET_RAW, or else user namespaces for a network namespace of its own. */
#ifndef RINGMSG_TEST_ICMP_H
#define RINGMSG_TEST_ICMP_H

#include "test.h"
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

/* Names from linux/icmp.h and linux/icmpv6.h, which cannot be included beside net/if.h. */
enum { DESTINATION_UNREACHABLE = 3, FRAGMENTATION_NEEDED = 4, PACKET_TOO_BIG = 2 };

struct icmp_error {
    uint8_t type, code;
    int error;
    int fatal; /* reported on a connected socket without IP_RECVERR as well */
};

/* The errno for each ICMP error, from net/ipv4/icmp.c and net/ipv4/udp.c. */
static const struct icmp_error icmp_errors[] = {
    {3, 0, ENETUNREACH, 0},  {3, 1, EHOSTUNREACH, 0},  {3, 2, ENOPROTOOPT, 1},   {3, 3, ECONNREFUSED, 1},
    {3, 4, EMSGSIZE, 1},     {3, 5, EOPNOTSUPP, 0},    {3, 6, ENETUNREACH, 1},   {3, 7, EHOSTDOWN, 1},
    {3, 8, ENONET, 1},       {3, 9, ENETUNREACH, 1},   {3, 10, EHOSTUNREACH, 1}, {3, 11, ENETUNREACH, 0},
    {3, 12, EHOSTUNREACH, 0}, {3, 13, EHOSTUNREACH, 1}, {3, 14, EHOSTUNREACH, 1}, {3, 15, EHOSTUNREACH, 1},
    {11, 0, EHOSTUNREACH, 0}, {12, 0, EPROTO, 1},       {0},
};

/* The errno for each ICMPv6 error, from net/ipv6/icmp.c. */
static const struct icmp_error icmpv6_errors[] = {
    {1, 0, ENETUNREACH, 0}, {1, 1, EACCES, 1},   {1, 2, EHOSTUNREACH, 0}, {1, 3, EHOSTUNREACH, 0},
    {1, 4, ECONNREFUSED, 1}, {1, 5, EACCES, 1},  {1, 6, EACCES, 1},       {2, 0, EMSGSIZE, 1},
    {3, 0, EHOSTUNREACH, 0}, {4, 0, EPROTO, 1},  {0},
};

/* Moves this process into a network namespace of its own, with loopback up. */
static int enter_own_network(void)
{
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return -1;
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = ioctl(fd, SIOCSIFFLAGS, &request);
    close(fd);
    return result;
}

/* Makes a raw socket for sending the errors. If that is impossible and RINGMSG_TEST_ALLOW_SKIP is
 * set, the test is skipped. Call this before making other sockets: they must be in the same
 * namespace. */
static int icmp_socket(int family)
{
    int protocol = family == AF_INET6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    int fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0 && errno == EPERM && enter_own_network() == 0)
        fd = socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
    if (fd < 0 && getenv("RINGMSG_TEST_ALLOW_SKIP") == NULL)
        FAIL("raw socket: %s; this test needs CAP_NET_RAW or user namespaces", strerror(errno));
    if (fd < 0)
        skip_test("no CAP_NET_RAW and no user namespaces");
    return fd;
}

static uint16_t internet_checksum(const uint8_t *bytes, size_t length)
{
    uint32_t sum = 0;
    for (size_t i = 0; i + 1 < length; i += 2)
        sum += (uint32_t)(bytes[i] << 8 | bytes[i + 1]);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Writes a UDP header from `from` to `to`, behind an IPv4 header. */
static size_t quote_v4(uint8_t *at, const struct sockaddr_in *from, const struct sockaddr_in *to)
{
    uint16_t udp_length = htons(8), total = htons(28);
    memset(at, 0, 28);
    at[0] = 0x45;
    memcpy(at + 2, &total, 2);
    at[8] = 64;
    at[9] = IPPROTO_UDP;
    memcpy(at + 12, &from->sin_addr, 4);
    memcpy(at + 16, &to->sin_addr, 4);
    memcpy(at + 20, &from->sin_port, 2);
    memcpy(at + 22, &to->sin_port, 2);
    memcpy(at + 24, &udp_length, 2);
    return 28;
}

static size_t quote_v6(uint8_t *at, const struct sockaddr_in6 *from, const struct sockaddr_in6 *to)
{
    uint16_t udp_length = htons(8);
    memset(at, 0, 48);
    at[0] = 0x60;
    memcpy(at + 4, &udp_length, 2);
    at[6] = IPPROTO_UDP;
    at[7] = 64;
    memcpy(at + 8, &from->sin6_addr, 16);
    memcpy(at + 24, &to->sin6_addr, 16);
    memcpy(at + 40, &from->sin6_port, 2);
    memcpy(at + 42, &to->sin6_port, 2);
    memcpy(at + 44, &udp_length, 2);
    return 48;
}

/* Reports to the sender of a datagram from `from` to `to` that it failed. */
static void send_icmp(int raw, const struct icmp_error *what, const struct sockaddr_storage *from,
                      const struct sockaddr_storage *to)
{
    uint8_t packet[64] = {what->type, what->code};
    size_t length = 8;
    if (from->ss_family == AF_INET) {
        /* An MTU that is not below loopback's changes no route. */
        if (what->type == DESTINATION_UNREACHABLE && what->code == FRAGMENTATION_NEEDED)
            packet[6] = packet[7] = 0xff;
        length += quote_v4(packet + 8, (const struct sockaddr_in *)from, (const struct sockaddr_in *)to);
        uint16_t checksum = internet_checksum(packet, length);
        memcpy(packet + 2, &checksum, 2);
        struct sockaddr_in address = *(const struct sockaddr_in *)from;
        address.sin_port = 0;
        EQUAL(SYS(sendto(raw, packet, length, 0, (struct sockaddr *)&address, sizeof address)), length);
    } else {
        if (what->type == PACKET_TOO_BIG)
            packet[5] = 1;
        length += quote_v6(packet + 8, (const struct sockaddr_in6 *)from, (const struct sockaddr_in6 *)to);
        struct sockaddr_in6 address = *(const struct sockaddr_in6 *)from;
        address.sin6_port = 0;
        EQUAL(SYS(sendto(raw, packet, length, 0, (struct sockaddr *)&address, sizeof address)), length);
    }
}

#endif
