/* ringmsg_socket_steer() refuses what is no steering, no socket that can be steered, or no group,
 * with an errno and a sentence of its own, whichever place of the array it has, and leaves an
 * earlier steering in force. */
#include "steering.h"

#ifndef SO_LOCK_FILTER
#define SO_LOCK_FILTER 44
#endif

static void bad_steerings_are_refused(void)
{
    struct group group = make_group(AF_INET, SHARDS);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    static const uint32_t bad[][3] = {
        {3, 0, 1}, {~0u, 0, 1}, {RINGMSG_STEER_CPU, 1, 0}, {RINGMSG_STEER_CPU, 0, 1},
        {RINGMSG_STEER_PAYLOAD, 0, 0}, {RINGMSG_STEER_PAYLOAD, 0, 5}, {RINGMSG_STEER_PAYLOAD, 65527, 1},
        {RINGMSG_STEER_PAYLOAD, ~0u, 1}, {RINGMSG_STEER_PAYLOAD, ~0u - 2, 4}, {RINGMSG_STEER_PAYLOAD, 0, ~0u},
        {RINGMSG_STEER_QUIC, 0, 0}, {RINGMSG_STEER_QUIC, 0, 5}, {RINGMSG_STEER_QUIC, 20, 1},
        {RINGMSG_STEER_QUIC, 17, 4}, {RINGMSG_STEER_QUIC, ~0u, 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(steer(&group, bad[i][0], bad[i][1], bad[i][2]), EINVAL);
    for (int i = 0; i < 12; i++) {
        struct ringmsg_steering s = *steering(RINGMSG_STEER_PAYLOAD, 1, 1);
        s.reserved[i] = 1;
        REFUSED(ringmsg_socket_steer(group.fds, SHARDS, &s), EINVAL);
    }
    for (uint32_t size = 0; size < 4; size++) {
        struct ringmsg_steering s = *steering(RINGMSG_STEER_PAYLOAD, 1, 1);
        s.size = size;
        REFUSED(ringmsg_socket_steer(group.fds, SHARDS, &s), EINVAL);
    }
    REFUSED(ringmsg_socket_steer(group.fds, SHARDS, NULL), EINVAL);
    REFUSED(ringmsg_socket_steer(NULL, SHARDS, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);
    const uint32_t counts[] = {0, 65536, 0x80000000, ~0u};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        static int many[65536];
        memcpy(many, group.fds, sizeof(int) * SHARDS);
        REFUSED(ringmsg_socket_steer(many, counts[i], steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);
    }
    check_shards(&group); /* the steering of before is in force */
    close_group(&group);
}

/* Puts `fd` in the place of each socket of the group in turn: refused there, whichever it is. */
static void refuse_in_each_place(struct group *group, int fd, int expected)
{
    for (int i = 0; i < group->count; i++) {
        int kept = group->fds[i];
        group->fds[i] = fd;
        REFUSED(steer(group, RINGMSG_STEER_CPU, 0, 0), expected);
        group->fds[i] = kept;
    }
}

static void sockets_of_other_kinds_are_refused(void)
{
    static const int kinds[][3] = {
        {AF_UNIX, SOCK_DGRAM, 0}, {AF_UNIX, SOCK_STREAM, 0}, {AF_INET, SOCK_STREAM, 0}, {AF_INET6, SOCK_STREAM, 0},
        {AF_NETLINK, SOCK_RAW, 0}, {AF_INET, SOCK_RAW, IPPROTO_UDP}, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
    };
    struct group group = make_group(AF_INET, SHARDS);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int fd = socket(kinds[i][0], kinds[i][1] | SOCK_CLOEXEC, kinds[i][2]);
        if (fd < 0)
            continue; /* raw and ping sockets take privileges */
        refuse_in_each_place(&group, fd, EOPNOTSUPP);
        close(fd);
    }
    int file = (int)SYS(open("/dev/null", O_RDONLY));
    refuse_in_each_place(&group, file, ENOTSOCK);
    close(file);
    refuse_in_each_place(&group, -1, EBADF);
    refuse_in_each_place(&group, 1 << 20, EBADF);
    check_shards(&group);
    close_group(&group);
}

static void sockets_that_are_no_group_are_refused(void)
{
    struct group group = make_group(AF_INET, 3), of_another_port = make_group(AF_INET, 1);
    struct group of_another_family = make_group(AF_INET6, 1);
    OK(steer(&group, RINGMSG_STEER_PAYLOAD, 0, 1));
    refuse_in_each_place(&group, of_another_port.fds[0], EINVAL);
    refuse_in_each_place(&group, of_another_family.fds[0], EINVAL);

    int without = bound_udp(AF_INET); /* SO_REUSEPORT is off, and set too late */
    refuse_in_each_place(&group, without, EINVAL);
    set_int(without, SOL_SOCKET, SO_REUSEPORT, 1);
    REFUSED(ringmsg_socket_steer(&without, 1, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);

    int same = (int)SYS(dup(group.fds[0])), twice[4] = {group.fds[0], group.fds[1], group.fds[2], same};
    REFUSED(ringmsg_socket_steer(twice, 4, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);

    int unbound = shared_socket(AF_INET), early[2] = {unbound, group.fds[0]};
    REFUSED(ringmsg_socket_steer(early, 2, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);

    int connected = shared_socket(AF_INET);
    bind_to(&group, connected);
    connect_to(connected, of_another_port.fds[0]);
    refuse_in_each_place(&group, connected, EISCONN);
    close(connected);

    check_shards(&group);
    set_int(group.fds[0], SOL_SOCKET, SO_LOCK_FILTER, 1);
    REFUSED(steer(&group, RINGMSG_STEER_CPU, 0, 0), EPERM);
    check_shards(&group);
}

/* A dual-stack socket and one for IPv6 only are two groups of one port. */
static void sockets_of_ipv6_only_are_a_group_of_their_own(void)
{
    struct group group = make_group(AF_INET6, 1);
    int only = (int)SYS(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    set_int(only, SOL_SOCKET, SO_REUSEPORT, 1);
    set_int(only, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    bind_to(&group, only);
    int both[2] = {group.fds[0], only};
    REFUSED(ringmsg_socket_steer(both, 2, steering(RINGMSG_STEER_CPU, 0, 0)), EINVAL);
    close(only);
    close_group(&group);
}

TESTS(TEST(bad_steerings_are_refused),
      TEST(sockets_of_other_kinds_are_refused),
      TEST(sockets_that_are_no_group_are_refused),
      TEST(sockets_of_ipv6_only_are_a_group_of_their_own))
