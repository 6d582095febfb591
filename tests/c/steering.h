/* What the tests of ringmsg_socket_steer() share: groups of sockets, and datagrams to them. */
#ifndef RINGMSG_TEST_STEERING_H
#define RINGMSG_TEST_STEERING_H

#include "test.h"

#ifndef IPPROTO_UDPLITE
#define IPPROTO_UDPLITE 136
#endif

/* Not 3, 5 or 15: modulo these 256 is 1, so that the order of bytes would not matter. */
enum { SHARDS = 7 };

/* Sockets that share an address, in the order of bind(2). */
struct group {
    int fds[SHARDS + 1], count, family;
    struct sockaddr_storage address; /* where it is reached */
    socklen_t length;
};

__attribute__((unused)) static int shared_socket(int family)
{
    int fd = (int)SYS(socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    return fd;
}

/* Binds one more socket to the group's port, on every address. */
__attribute__((unused)) static void bind_to(struct group *group, int fd)
{
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = 0};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = 0};
    any.sin6_port = any4.sin_port = ((struct sockaddr_in *)&group->address)->sin_port;
    if (group->family == AF_INET6)
        SYS(bind(fd, (struct sockaddr *)&any, sizeof any));
    else
        SYS(bind(fd, (struct sockaddr *)&any4, sizeof any4));
    socklen_t length;
    struct sockaddr_storage bound = address_of(fd, &length);
    ((struct sockaddr_in *)&group->address)->sin_port = ((struct sockaddr_in *)&bound)->sin_port;
}

__attribute__((unused)) static struct group make_unbound_group(int family, int count)
{
    struct group group = {.count = count, .family = family};
    if (family == AF_INET6) {
        *(struct sockaddr_in6 *)&group.address =
            (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
        group.length = sizeof(struct sockaddr_in6);
    } else {
        *(struct sockaddr_in *)&group.address =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        group.length = sizeof(struct sockaddr_in);
    }
    for (int i = 0; i < count; i++)
        group.fds[i] = shared_socket(family);
    return group;
}

__attribute__((unused)) static struct group make_group(int family, int count)
{
    struct group group = make_unbound_group(family, count);
    for (int i = 0; i < count; i++)
        bind_to(&group, group.fds[i]);
    return group;
}

/* How a client reaches the group: over the group's own family, or over IPv4 to a dual-stack one. */
__attribute__((unused)) static struct sockaddr_storage target_of(const struct group *group, int family, socklen_t *length)
{
    struct sockaddr_storage to = group->address;
    *length = group->length;
    if (family != group->family) {
        *(struct sockaddr_in *)&to = (struct sockaddr_in){
            .sin_family = AF_INET,
            .sin_port = ((const struct sockaddr_in *)&group->address)->sin_port,
            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        *length = sizeof(struct sockaddr_in);
    }
    return to;
}

/* Which socket of the group gets the one datagram that was sent. A busy kernel delivers it later.
 * All the others must be empty. */
__attribute__((unused)) static int shard_with_datagram(const struct group *group)
{
    struct pollfd polled[SHARDS + 1];
    char data[2048];
    int found = -1;
    for (int i = 0; i < group->count; i++)
        polled[i] = (struct pollfd){.fd = group->fds[i], .events = POLLIN};
    EQUAL(poll(polled, (nfds_t)group->count, 10000 * TEST_TIME_FACTOR), 1);
    for (int i = 0; i < group->count; i++)
        while (recv(group->fds[i], data, sizeof data, MSG_DONTWAIT) >= 0) {
            if (found >= 0)
                FAIL("sockets %d and %d have a datagram each, but one was sent", found, i);
            found = i;
        }
    return found;
}

/* Sends a datagram from a new port, and, over IPv4, from another address of loopback: a peer that
 * migrates. Returns the shard that got it. */
__attribute__((unused)) static int shard_of(const struct group *group, int family, const void *data, size_t size)
{
    static unsigned turn;
    socklen_t length;
    struct sockaddr_storage to = target_of(group, family, &length);
    int fd = (int)SYS(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (family == AF_INET) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + turn++ % 200)};
        SYS(bind(fd, (struct sockaddr *)&from, sizeof from));
    }
    EQUAL(SYS(sendto(fd, data, size, 0, (struct sockaddr *)&to, length)), (long)size);
    close(fd);
    return shard_with_datagram(group);
}

__attribute__((unused)) static const struct ringmsg_steering *steering(uint32_t by, uint32_t offset, uint32_t length)
{
    static struct ringmsg_steering s;
    s = (struct ringmsg_steering){.size = sizeof s, .by = by, .offset = offset, .length = length};
    return &s;
}

__attribute__((unused)) static int steer(const struct group *group, uint32_t by, uint32_t offset, uint32_t length)
{
    return ringmsg_socket_steer(group->fds, (uint32_t)group->count, steering(by, offset, length));
}

__attribute__((unused)) static void close_group(struct group *group)
{
    for (int i = 0; i < group->count; i++)
        close(group->fds[i]);
}

/* The first byte of the payload selects the socket. */
__attribute__((unused)) static void check_shards(const struct group *group)
{
    for (uint8_t i = 0; i < 3 * SHARDS; i++)
        EQUAL(shard_of(group, group->family, &i, 1), i % group->count);
}

#endif
