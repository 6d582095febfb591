/* ringmsg_socket_enable turns socket options on, pool sizing leaves room for their control
 * messages, and ringmsg_control_next and ringmsg_control_decode read any byte sequence safely. */
#include "test.h"

#include <linux/errqueue.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <net/if.h>

static int option_of(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1;
}

/* --- ringmsg_socket_enable --------------------------------------------------------------- */

struct switches {
    uint32_t metadata;
    int level, option;
};

static const struct switches v4_switches[] = {
    {RINGMSG_META_DESTINATION, SOL_IP, IP_PKTINFO},
    {RINGMSG_META_INTERFACE, SOL_IP, IP_PKTINFO},
    {RINGMSG_META_LOCAL_V4, SOL_IP, IP_PKTINFO},
    {RINGMSG_META_TRAFFIC_CLASS, SOL_IP, IP_RECVTOS},
    {RINGMSG_META_HOP_LIMIT, SOL_IP, IP_RECVTTL},
    {RINGMSG_META_SEGMENT_SIZE, SOL_UDP, UDP_GRO},
    {RINGMSG_META_DROPPED, SOL_SOCKET, SO_RXQ_OVFL},
    {RINGMSG_META_SOFTWARE_TIMESTAMP, SOL_SOCKET, SO_TIMESTAMPING},
    {RINGMSG_META_HARDWARE_TIMESTAMP, SOL_SOCKET, SO_TIMESTAMPING},
    {RINGMSG_META_DESTINATION_PORT, SOL_IP, IP_RECVORIGDSTADDR},
    {RINGMSG_META_SOCKET_ERROR, SOL_IP, IP_RECVERR},
};
static const struct switches v6_switches[] = {
    {RINGMSG_META_DESTINATION, SOL_IPV6, IPV6_RECVPKTINFO},
    {RINGMSG_META_INTERFACE, SOL_IPV6, IPV6_RECVPKTINFO},
    {RINGMSG_META_TRAFFIC_CLASS, SOL_IPV6, IPV6_RECVTCLASS},
    {RINGMSG_META_HOP_LIMIT, SOL_IPV6, IPV6_RECVHOPLIMIT},
    {RINGMSG_META_DESTINATION_PORT, SOL_IPV6, IPV6_RECVORIGDSTADDR},
    {RINGMSG_META_SOCKET_ERROR, SOL_IPV6, IPV6_RECVERR},
    {RINGMSG_META_FLOW_LABEL, SOL_IPV6, 11 /* IPV6_FLOWINFO */},
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void check_switches(int family, const struct switches *switches, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int fd = bound_udp(family);
        EQUAL(option_of(fd, switches[i].level, switches[i].option), 0);
        EQUAL(ringmsg_socket_enable(fd, 0), 0);
        EQUAL(ringmsg_socket_enable(fd, RINGMSG_META_SOURCE), 0);
        EQUAL(option_of(fd, switches[i].level, switches[i].option), 0);
        EQUAL(ringmsg_socket_enable(fd, switches[i].metadata), 0);
        COMPARE(option_of(fd, switches[i].level, switches[i].option), >, 0);
        EQUAL(ringmsg_socket_enable(fd, switches[i].metadata), 0); /* a second call succeeds */
        close(fd);
    }
}

static void each_metadata_bit_enables_its_socket_option(void)
{
    check_switches(AF_INET, v4_switches, COUNT(v4_switches));
    /* An IPv6 socket needs these for v4-mapped addresses. */
    check_switches(AF_INET6, v4_switches, COUNT(v4_switches));
    check_switches(AF_INET6, v6_switches, COUNT(v6_switches));
}

static void enabling_timestamps_keeps_the_flags_already_set(void)
{
    int fd = bound_udp(AF_INET), had = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY;
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING, had);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SOFTWARE_TIMESTAMP));
    had |= SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    EQUAL(option_of(fd, SOL_SOCKET, SO_TIMESTAMPING), had);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_HARDWARE_TIMESTAMP));
    had |= SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    EQUAL(option_of(fd, SOL_SOCKET, SO_TIMESTAMPING), had);
}

/* The option that fails comes late in the library's list, so earlier ones must be undone. */
static void a_failing_enable_changes_no_option(void)
{
    int udp = bound_udp(AF_INET), tcp = (int)SYS(socket(AF_INET, SOCK_STREAM, 0));
    int local = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    uint32_t most = RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT |
                    RINGMSG_META_DROPPED | RINGMSG_META_SOFTWARE_TIMESTAMP | RINGMSG_META_DESTINATION_PORT;
    set_int(udp, SOL_IP, IP_RECVTOS, 1);
    set_int(udp, SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE);
    COMPARE(ringmsg_socket_enable(udp, most | RINGMSG_META_FLOW_LABEL), <, 0);
    EQUAL(option_of(udp, SOL_IP, IP_PKTINFO), 0);
    EQUAL(option_of(udp, SOL_IP, IP_RECVTOS), 1);
    EQUAL(option_of(udp, SOL_IP, IP_RECVTTL), 0);
    EQUAL(option_of(udp, SOL_IP, IP_RECVORIGDSTADDR), 0);
    EQUAL(option_of(udp, SOL_SOCKET, SO_RXQ_OVFL), 0);
    EQUAL(option_of(udp, SOL_SOCKET, SO_TIMESTAMPING), SOF_TIMESTAMPING_RX_SOFTWARE);
    COMPARE(ringmsg_socket_enable(tcp, most | RINGMSG_META_SEGMENT_SIZE), <, 0);
    EQUAL(option_of(tcp, SOL_IP, IP_RECVTOS), 0);
    EQUAL(option_of(tcp, SOL_IP, IP_PKTINFO), 0);
    REFUSED(ringmsg_socket_enable(local, RINGMSG_META_DROPPED | RINGMSG_META_HOP_LIMIT), EOPNOTSUPP);
    EQUAL(option_of(local, SOL_SOCKET, SO_RXQ_OVFL), 0);
    OK(ringmsg_socket_enable(local, RINGMSG_META_DROPPED));
    EQUAL(option_of(local, SOL_SOCKET, SO_RXQ_OVFL), 1);
    REFUSED(ringmsg_socket_enable(udp, RINGMSG_META_DROPPED | 1u << 16), EINVAL);
    EQUAL(option_of(udp, SOL_SOCKET, SO_RXQ_OVFL), 0);

    int pipes[2];
    SYS(pipe(pipes));
    REFUSED(ringmsg_socket_enable(pipes[0], RINGMSG_META_DROPPED), ENOTSOCK);
    REFUSED(ringmsg_socket_enable(-1, RINGMSG_META_DROPPED), EBADF);
    REFUSED(ringmsg_socket_enable(999, RINGMSG_META_DROPPED), EBADF);
}

/* --- room for other kinds of sockets ----------------------------------------------------- */

/* Receives one record, untruncated, into a pool sized for the socket. */
static void receive_whole(int receiver)
{
    struct ringmsg_ring *ring = make_ring();
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 4, 0), receiver, 0, 0, 0));
    struct ringmsg_record record = reap_one(ring);
    if (record.result < 0)
        FAIL("%s", ringmsg_strerror(record.result));
    EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
    COMPARE(record.control_length, >, 0);
    OK(ringmsg_ring_free(ring));
}

static void packet_information_of_netlink_sockets_fits(void)
{
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct {
        struct nlmsghdr header;
        char body[16];
    } ask = {.header = {.nlmsg_len = sizeof ask,
                        .nlmsg_type = 18 /* RTM_GETLINK */,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    set_int(fd, SOL_NETLINK, NETLINK_PKTINFO, 1);
    set_int(fd, SOL_SOCKET, SO_PASSCRED, 1);
    SYS(send(fd, &ask, sizeof ask, 0));
    receive_whole(fd);
}

static void auxiliary_data_of_packet_sockets_fits(void)
{
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)), other = bound_udp(AF_INET);
    if (fd < 0) {
        printf("(skipped %s: no packet socket: %s)\n", test_name, strerror(errno));
        return;
    }
    set_int(fd, SOL_PACKET, PACKET_AUXDATA, 1);
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    SYS(send(sender_to(other), "seen", 4, 0));
    receive_whole(fd);
}

/* The error queue of a packet socket has transmit timestamps, with the ids that OPT_ID counts. */
static void transmit_timestamps_of_packet_sockets_are_decoded(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        printf("(skipped %s: no packet socket: %s)\n", test_name, strerror(errno));
        return;
    }
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex("lo")};
    char frame[60] = {[12] = (char)0x88, [13] = (char)0xb5}; /* an EtherType for experiments */
    SYS(bind(fd, (struct sockaddr *)&to, sizeof to));
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING,
            SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID);
    struct ringmsg_ring *ring = make_ring();
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, fd, 8, 0), fd, MSG_ERRQUEUE, 0, 0));
    for (uint32_t i = 0; i < 3; i++) {
        struct ringmsg_record record;
        struct ringmsg_metadata metadata;
        struct ringmsg_wait wait = wait_ms(2000);
        SYS(send(fd, frame, sizeof frame, 0));
        EQUAL(ringmsg_reap(ring, &record, &metadata, 1, &wait), 1);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        EQUAL(metadata.valid, RINGMSG_META_SOFTWARE_TIMESTAMP | RINGMSG_META_SOCKET_ERROR);
        EQUAL(metadata.socket_error, 0); /* a timestamp is not an error */
        EQUAL(metadata.error_origin, SO_EE_ORIGIN_TIMESTAMPING);
        EQUAL(metadata.error_data, i);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_ring_free(ring));
    close(fd);
}

/* --- slices ------------------------------------------------------------------------------ */

/* A control slice at an odd address, which add() extends by one message. */
static uint8_t slice_space[513];
static uint8_t *const slice = slice_space + 1;
static size_t slice_length;

static void add(int level, int type, const void *data, size_t length)
{
    size_t whole = CMSG_LEN(length);
    uint8_t *at = slice + slice_length;
    memset(at, 0xee, CMSG_SPACE(length));
    memcpy(at, &whole, sizeof whole);
    memcpy(at + sizeof whole, &level, sizeof level);
    memcpy(at + sizeof whole + sizeof level, &type, sizeof type);
    memcpy(at + CMSG_LEN(0), data, length);
    slice_length += CMSG_SPACE(length);
}

static struct ringmsg_metadata decode(void)
{
    struct ringmsg_metadata m;
    memset(&m, 0xee, sizeof m);
    OK(ringmsg_control_decode(slice, slice_length, &m));
    return m;
}

/* Unknown types, known types at other levels, and messages too short for their type. */
static void unknown_and_short_control_messages_are_skipped(void)
{
    static const uint8_t zeros[64];
    slice_length = 0;
    add(SOL_SOCKET, 12345, zeros, 3);
    add(12345, UDP_GRO, zeros, 4);
    add(SOL_IP, SO_RXQ_OVFL, zeros, 4);
    add(SOL_IP, IP_PKTINFO, zeros, 11);
    add(SOL_IPV6, IPV6_PKTINFO, zeros, 19);
    add(SOL_SOCKET, SO_TIMESTAMPNS, zeros, 15);
    add(SOL_UDP, UDP_GRO, zeros, 3);
    add(SOL_IP, IP_TOS, zeros, 0);
    add(SOL_SOCKET, 999, zeros, 0);
    struct ringmsg_metadata m = decode(), none = {0};
    SAME_BYTES(&m, &none, sizeof m);
    add(SOL_IP, IP_TOS, &(uint8_t){0xb9}, 1);
    EQUAL(decode().valid, RINGMSG_META_TRAFFIC_CLASS);
    EQUAL(decode().traffic_class, 0xb9);
}

static void control_messages_are_decoded_in_every_width(void)
{
    slice_length = 0;
    add(SOL_IP, IP_TOS, &(int){0x2e}, 4); /* some kernels send four bytes */
    add(SOL_UDP, UDP_GRO, &(int){70000}, 4);
    EQUAL(decode().traffic_class, 0x2e);
    EQUAL(decode().segment_size, 70000);
    struct timespec stamps[3] = {{0, 0}, {0, 0}, {1700000000, 123456789}};
    slice_length = 0;
    add(SOL_SOCKET, SO_TIMESTAMPING, stamps, sizeof stamps);
    EQUAL(decode().valid, RINGMSG_META_HARDWARE_TIMESTAMP);
    EQUAL(decode().hardware_timestamp_ns, 1700000000123456789);
}

static void malformed_control_messages_are_refused_and_change_nothing(void)
{
    static const size_t impossible[] = {0, 1, CMSG_LEN(0) - 1, 1000, SIZE_MAX, SIZE_MAX - 7};
    for (size_t i = 0; i < COUNT(impossible); i++) {
        slice_length = 0;
        add(SOL_IP, IP_TTL, &(int){64}, 4);
        size_t second = slice_length;
        add(SOL_IP, IP_TTL, &(int){65}, 4);
        memcpy(slice + second, &impossible[i], sizeof impossible[i]);
        struct ringmsg_metadata m, before;
        memset(&m, 0x77, sizeof m);
        before = m;
        REFUSED(ringmsg_control_decode(slice, slice_length, &m), EBADMSG);
        SAME_BYTES(&m, &before, sizeof m);
        struct ringmsg_cmsg cursor = {0};
        EQUAL(ringmsg_control_next(slice, slice_length, &cursor), 1);
        EQUAL(cursor.length, 4);
        struct ringmsg_cmsg at = cursor;
        REFUSED(ringmsg_control_next(slice, slice_length, &cursor), EBADMSG);
        SAME_BYTES(&cursor, &at, sizeof at);
    }
}

/* The kernel may end a slice without padding, or with fewer bytes than a header. */
static void the_last_control_message_may_lack_its_padding(void)
{
    slice_length = 0;
    add(SOL_IP, IP_TTL, &(int){64}, 4);
    for (size_t length = CMSG_LEN(4); length < CMSG_SPACE(4) + CMSG_LEN(0); length++) {
        struct ringmsg_cmsg cursor = {0};
        struct ringmsg_metadata m;
        EQUAL(ringmsg_control_next(slice, length, &cursor), 1);
        EQUAL(cursor.length, 4);
        EQUAL(ringmsg_control_next(slice, length, &cursor), 0);
        EQUAL(ringmsg_control_next(slice, length, &cursor), 0);
        OK(ringmsg_control_decode(slice, length, &m));
        EQUAL(m.hop_limit, 64);
    }
    struct ringmsg_cmsg cursor = {0};
    struct ringmsg_metadata m;
    EQUAL(ringmsg_control_next(NULL, 0, &cursor), 0);
    EQUAL(ringmsg_control_decode(NULL, 0, &m), 0);
    EQUAL(m.valid, 0);
    REFUSED(ringmsg_control_next(NULL, 8, &cursor), EINVAL);
    REFUSED(ringmsg_control_next(slice, 24, NULL), EINVAL);
    REFUSED(ringmsg_control_decode(NULL, 8, &m), EINVAL);
    REFUSED(ringmsg_control_decode(slice, 24, NULL), EINVAL);
}

/* A cursor that no earlier call produced must not read outside the slice. */
static void a_forged_cursor_reads_nothing_outside_the_slice(void)
{
    slice_length = 0;
    add(SOL_IP, IP_TTL, &(int){64}, 4);
    static const uint32_t wild[] = {1, 7, 16, 24, 25, 4096, 0x7fffffff, 0xfffffff8, 0xffffffff};
    for (size_t i = 0; i < COUNT(wild) * COUNT(wild); i++) {
        struct ringmsg_cmsg cursor = {.offset = wild[i / COUNT(wild)], .length = wild[i % COUNT(wild)]};
        int n = ringmsg_control_next(slice, slice_length, &cursor);
        CHECK(n == 0 || n == -EBADMSG || (n == 1 && cursor.offset + cursor.length <= slice_length));
    }
}

TESTS(TEST(each_metadata_bit_enables_its_socket_option),
      TEST(enabling_timestamps_keeps_the_flags_already_set),
      TEST(a_failing_enable_changes_no_option),
      TEST(packet_information_of_netlink_sockets_fits),
      TEST(auxiliary_data_of_packet_sockets_fits),
      TEST(transmit_timestamps_of_packet_sockets_are_decoded),
      TEST(unknown_and_short_control_messages_are_skipped),
      TEST(control_messages_are_decoded_in_every_width),
      TEST(malformed_control_messages_are_refused_and_change_nothing),
      TEST(the_last_control_message_may_lack_its_padding),
      TEST(a_forged_cursor_reads_nothing_outside_the_slice))
