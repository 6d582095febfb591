/* Every control message that loopback can deliver is decoded into the metadata, can be iterated
 * raw, and fits into a pool of the computed size. */
#include "test.h"

#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#ifndef SO_RCVMARK
#define SO_RCVMARK 75
#endif
#ifndef IPV6_FLOWINFO
#define IPV6_FLOWINFO 11
#endif
#define IPV6_FLOWINFO_SEND 33
#define IP_CHECKSUM_ 23
#define RECVFRAGSIZE_V4 25
#define RECVFRAGSIZE_V6 77

#define ALL_V4 0x3fffu & ~(RINGMSG_META_FLOW_LABEL | RINGMSG_META_MARK)
#define ALL_V6 (0x3fffu & ~RINGMSG_META_MARK)

/* Setting SO_MARK needs CAP_NET_ADMIN, and SO_RCVMARK needs Linux 5.19. */
static int may_set_marks(int fd)
{
    return setsockopt(fd, SOL_SOCKET, SO_MARK, &(int){0}, sizeof(int)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_RCVMARK, &(int){0}, sizeof(int)) == 0;
}

/* A ring, a multishot for this socket, and a pool of the size that the library computes. */
struct reception {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_record record;
    struct ringmsg_metadata metadata;
    const uint8_t *control;
};

static struct reception receive_from(int receiver, int msg_flags)
{
    struct reception r = {.ring = make_ring()};
    r.pool = make_pool(r.ring, receiver, 16, 0);
    OK(ringmsg_recvmsg_multishot(r.ring, r.pool, receiver, msg_flags, 0, 0));
    return r;
}

/* Checks that iterating and decoding the raw messages yields the metadata of the reap, except for
 * the source, which is not a control message. Returns the number of messages. */
static int check_raw(const struct reception *r)
{
    struct ringmsg_metadata decoded = {0};
    OK(ringmsg_control_decode(r->control, r->record.control_length, &decoded));
    memcpy(decoded.source, r->metadata.source, sizeof decoded.source);
    decoded.source_port = r->metadata.source_port;
    decoded.source_scope = r->metadata.source_scope;
    decoded.valid |= r->metadata.valid & RINGMSG_META_SOURCE;
    if (decoded.family == 0)
        decoded.family = r->metadata.family;
    SAME_BYTES(&decoded, &r->metadata, sizeof decoded);

    struct ringmsg_cmsg cursor = {0};
    struct msghdr header = {.msg_control = (void *)(uintptr_t)r->control,
                            .msg_controllen = r->record.control_length};
    int count = 0;
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header); cmsg != NULL; cmsg = CMSG_NXTHDR(&header, cmsg)) {
        EQUAL(ringmsg_control_next(r->control, r->record.control_length, &cursor), 1);
        EQUAL(cursor.level, cmsg->cmsg_level);
        EQUAL(cursor.type, cmsg->cmsg_type);
        EQUAL(cursor.offset, CMSG_DATA(cmsg) - r->control);
        EQUAL(cursor.length, cmsg->cmsg_len - CMSG_LEN(0));
        count++;
    }
    EQUAL(ringmsg_control_next(r->control, r->record.control_length, &cursor), 0);
    return count;
}

/* Reaps the next record, which must not be truncated. */
static void next_record(struct reception *r)
{
    struct ringmsg_wait wait = wait_ms(2000);
    if (r->record.flags & RINGMSG_RECORD_BUFFER)
        OK(ringmsg_release(r->ring, &r->record, 1));
    EQUAL(ringmsg_reap(r->ring, &r->record, &r->metadata, 1, &wait), 1);
    EQUAL(r->record.flags, RINGMSG_RECORD_BUFFER);
    r->control = ringmsg_pool_base(r->pool) + r->record.control_offset;
    check_raw(r);
}

static uint16_t port_of(int fd)
{
    socklen_t length;
    struct sockaddr_storage address = address_of(fd, &length);
    /* A sockaddr_in6 has the port at the same offset. */
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

/* The kernel enables timestamps in the background, so the first datagrams may lack one. */
static void until_stamped(struct reception *r, int sender)
{
    for (int i = 0; i < 1000; i++) {
        SYS(send(sender, "stamp", 5, 0));
        next_record(r);
        if (r->metadata.valid & RINGMSG_META_SOFTWARE_TIMESTAMP)
            return;
        sleep_ms(2);
    }
    FAIL("none of a thousand datagrams has a timestamp");
}

static void check_recent(const struct ringmsg_metadata *m)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - m->software_timestamp_ns;
    COMPARE(age, >=, 0);
    COMPARE(age, <, 10000000000);
}

/* --- metadata of each datagram ----------------------------------------------------------- */

static void check_common(const struct reception *r, int receiver, int sender, uint16_t family)
{
    const struct ringmsg_metadata *m = &r->metadata;
    EQUAL(m->family, family);
    EQUAL(m->source_port, port_of(sender));
    EQUAL(m->destination_port, port_of(receiver));
    EQUAL(m->interface_index, if_nametoindex("lo"));
    EQUAL(m->traffic_class, 0x2e);
    EQUAL(m->hop_limit, 33);
    EQUAL(m->reserved, 0);
    EQUAL(m->hardware_timestamp_ns, 0);
    check_recent(m);
}

#define PER_DATAGRAM                                                                            \
    (RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE |                  \
     RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT | RINGMSG_META_SOFTWARE_TIMESTAMP |    \
     RINGMSG_META_DESTINATION_PORT)

static void ipv4_datagrams_carry_every_metadata_field(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), marks = may_set_marks(sender);
    OK(ringmsg_socket_enable(receiver, ALL_V4));
    set_int(sender, SOL_IP, IP_TOS, 0x2e);
    set_int(sender, SOL_IP, IP_TTL, 33);
    if (marks) {
        OK(ringmsg_socket_enable(receiver, RINGMSG_META_MARK));
        set_int(sender, SOL_SOCKET, SO_MARK, 0x1234567);
    }
    struct reception r = receive_from(receiver, 0);
    until_stamped(&r, sender);
    EQUAL(r.metadata.valid, PER_DATAGRAM | RINGMSG_META_LOCAL_V4 | (marks ? RINGMSG_META_MARK : 0));
    check_common(&r, receiver, sender, AF_INET);
    static const uint8_t loopback[16] = {127, 0, 0, 1};
    SAME_BYTES(r.metadata.source, loopback, 16);
    SAME_BYTES(r.metadata.destination, loopback, 16);
    SAME_BYTES(r.metadata.local_v4, loopback, 4);
    EQUAL(r.metadata.mark, marks ? 0x1234567 : 0);
    COMPARE(check_raw(&r), >=, 5);

    send_train(sender, "0123456789012345678901234567890", 31, 10);
    next_record(&r);
    EQUAL(r.metadata.segment_size, 10);
    HAS_FLAG(r.metadata.valid, RINGMSG_META_SEGMENT_SIZE);
    check_common(&r, receiver, sender, AF_INET);
    OK(ringmsg_ring_free(r.ring));
}

static void ipv6_datagrams_carry_every_metadata_field(void)
{
    int receiver = bound_udp(AF_INET6), sender = (int)SYS(socket(AF_INET6, SOCK_DGRAM, 0));
    socklen_t length;
    struct sockaddr_storage to = address_of(receiver, &length);
    ((struct sockaddr_in6 *)&to)->sin6_flowinfo = htonl(0xabcde);
    set_int(sender, SOL_IPV6, IPV6_FLOWINFO_SEND, 1);
    SYS(connect(sender, (struct sockaddr *)&to, length));
    OK(ringmsg_socket_enable(receiver, ALL_V6));
    set_int(sender, SOL_IPV6, IPV6_TCLASS, 0x2e);
    set_int(sender, SOL_IPV6, IPV6_UNICAST_HOPS, 33);
    struct reception r = receive_from(receiver, 0);
    until_stamped(&r, sender);
    EQUAL(r.metadata.valid, PER_DATAGRAM | RINGMSG_META_FLOW_LABEL);
    check_common(&r, receiver, sender, AF_INET6);
    SAME_BYTES(r.metadata.source, &in6addr_loopback, 16);
    SAME_BYTES(r.metadata.destination, &in6addr_loopback, 16);
    EQUAL(r.metadata.flow_label, 0xabcde);
    OK(ringmsg_ring_free(r.ring));
}

/* An IPv4 datagram on an IPv6 socket has two v4-mapped addresses, and its traffic class and hop
 * limit come through the IPv4 options. */
static void ipv4_datagrams_on_ipv6_sockets_have_mapped_addresses(void)
{
    int receiver = (int)SYS(socket(AF_INET6, SOCK_DGRAM, 0)),
        sender = (int)SYS(socket(AF_INET, SOCK_DGRAM, 0));
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    set_int(receiver, SOL_IPV6, IPV6_V6ONLY, 0);
    SYS(bind(receiver, (struct sockaddr *)&any, sizeof any));
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port_of(receiver)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SYS(connect(sender, (struct sockaddr *)&to, sizeof to));
    OK(ringmsg_socket_enable(receiver, ALL_V6));
    set_int(sender, SOL_IP, IP_TOS, 0x2e);
    set_int(sender, SOL_IP, IP_TTL, 33);
    struct reception r = receive_from(receiver, 0);
    until_stamped(&r, sender);
    EQUAL(r.metadata.valid & ~RINGMSG_META_FLOW_LABEL, PER_DATAGRAM | RINGMSG_META_LOCAL_V4);
    check_common(&r, receiver, sender, AF_INET6);
    static const uint8_t mapped[16] = {[10] = 0xff, 0xff, 127, 0, 0, 1};
    SAME_BYTES(r.metadata.source, mapped, 16);
    SAME_BYTES(r.metadata.destination, mapped, 16);
    SAME_BYTES(r.metadata.local_v4, mapped + 12, 4);
    EQUAL(r.record.name_length, sizeof(struct sockaddr_in6));

    send_train(sender, "0123456789012345678901234567890", 31, 10);
    next_record(&r);
    EQUAL(r.metadata.segment_size, 10);
    check_common(&r, receiver, sender, AF_INET6);
    OK(ringmsg_ring_free(r.ring));
}

/* Each kind of timestamp alone, together with a train, so that the control space is exactly
 * used. */
static void every_kind_of_timestamp_is_decoded(void)
{
    enum { NEW = 63, NEW_NS = 64, NEW_STAMPING = 65 };
    static const struct { int option, value; } forms[] = {
        {SO_TIMESTAMP, 1}, {SO_TIMESTAMPNS, 1}, {NEW, 1}, {NEW_NS, 1},
        {SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE},
        {NEW_STAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        set_int(receiver, SOL_SOCKET, forms[i].option, forms[i].value);
        OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
        struct reception r = receive_from(receiver, 0);
        until_stamped(&r, sender);
        check_recent(&r.metadata);
        if (forms[i].option == SO_TIMESTAMP || forms[i].option == NEW)
            EQUAL(r.metadata.software_timestamp_ns % 1000, 0);
        send_train(sender, "0123456789012345678901234567890", 31, 10);
        next_record(&r);
        EQUAL(r.metadata.segment_size, 10);
        check_recent(&r.metadata);
        OK(ringmsg_ring_free(r.ring));
        close(receiver), close(sender);
    }
}

/* The drop counter comes with the first datagram that was queued after the drops. */
static void the_drop_counter_is_reported(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), queued = 0, sent = 0;
    set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_DROPPED));
    for (; sent < 500; sent++)
        SYS(send(sender, "drop", 4, 0));
    char scratch[8];
    while (recv(receiver, scratch, sizeof scratch, MSG_DONTWAIT) == 4)
        queued++;
    COMPARE(queued, >, 0);
    COMPARE(queued, <, sent);
    struct reception r = receive_from(receiver, 0);
    SYS(send(sender, "last", 4, 0));
    next_record(&r);
    HAS_FLAG(r.metadata.valid, RINGMSG_META_DROPPED);
    EQUAL(r.metadata.dropped, sent - queued);
    EQUAL(stats_of(r.ring).socket_drops, 0); /* the statistics count from the arming on */
    OK(ringmsg_ring_free(r.ring));
}

/* --- the error queue --------------------------------------------------------------------- */

/* A multishot reads the error queue of a socket whose peer does not exist. */
static void error_queue(int family)
{
    int gone = bound_udp(family), sender = sender_to(gone);
    OK(ringmsg_socket_enable(sender, RINGMSG_META_SOCKET_ERROR | RINGMSG_META_SOFTWARE_TIMESTAMP));
    uint16_t port = port_of(gone);
    refuse_senders(gone);
    struct reception r = receive_from(sender, MSG_ERRQUEUE);
    for (int i = 0; i < 5; i++) {
        while (send(sender, "refused!!", 9, 0) < 0) /* the previous error is still pending */
            EQUAL(errno, ECONNREFUSED);
        next_record(&r);
        HAS_FLAG(r.record.msg_flags, MSG_ERRQUEUE);
        HAS_FLAG(r.metadata.valid, RINGMSG_META_SOCKET_ERROR);
        EQUAL(r.metadata.socket_error, ECONNREFUSED);
        EQUAL(r.metadata.source_port, port); /* the destination of the datagram that failed */
        EQUAL(r.metadata.error_origin, family == AF_INET ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
        EQUAL(r.metadata.error_type, family == AF_INET ? 3 : 1); /* destination unreachable */
        EQUAL(r.metadata.error_code, family == AF_INET ? 3 : 4); /* port */
        HAS_FLAG(r.metadata.valid, RINGMSG_META_OFFENDER);
        static const uint8_t loopback[2][16] = {{127, 0, 0, 1}, {[15] = 1}};
        SAME_BYTES(r.metadata.offender, loopback[family == AF_INET6], family == AF_INET ? 4 : 16);
        EQUAL(r.record.result, 9);
        SAME_BYTES(payload_of(r.ring, &r.record), "refused!!", 9);
    }
    OK(ringmsg_ring_free(r.ring));
}

static void errors_come_from_the_error_queue(void)
{
    error_queue(AF_INET);
    error_queue(AF_INET6);
}

/* Transmit timestamps arrive on the error queue as an IP_RECVERR message, although that option is
 * off. */
static void transmit_timestamps_are_received(void)
{
    for (int v6 = 0; v6 < 2; v6++) {
        int receiver = bound_udp(v6 ? AF_INET6 : AF_INET), sender = sender_to(receiver);
        set_int(sender, SOL_SOCKET, SO_TIMESTAMPING,
                SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID |
                    SOF_TIMESTAMPING_OPT_CMSG);
        struct reception r = receive_from(sender, MSG_ERRQUEUE);
        for (int i = 0; i < 3; i++) {
            SYS(send(sender, "stamped", 7, 0));
            next_record(&r);
            EQUAL(r.metadata.valid & ~RINGMSG_META_SOURCE & ~RINGMSG_META_DESTINATION &
                      ~RINGMSG_META_INTERFACE & ~RINGMSG_META_LOCAL_V4,
                  RINGMSG_META_SOFTWARE_TIMESTAMP | RINGMSG_META_SOCKET_ERROR);
            EQUAL(r.metadata.socket_error, 0); /* a timestamp is not an error */
            EQUAL(r.metadata.error_origin, SO_EE_ORIGIN_TIMESTAMPING);
            EQUAL(r.metadata.error_data, i); /* OPT_ID counts from 0 */
            check_recent(&r.metadata);
        }
        OK(ringmsg_ring_free(r.ring));
    }
}

/* A zero-copy send causes a notification with the sends that it covers and whether the kernel
 * copied the data. */
static void zero_copy_notifications_are_not_errors(void)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    if (setsockopt(sender, SOL_SOCKET, SO_ZEROCOPY, &(int){1}, sizeof(int)) != 0)
        skip_test("this kernel has no SO_ZEROCOPY for UDP (5.0 has it)");
    struct reception r = receive_from(sender, MSG_ERRQUEUE);
    for (uint32_t i = 0; i < 3; i++) {
        SYS(send(sender, "no copy", 7, MSG_ZEROCOPY));
        next_record(&r);
        HAS_FLAG(r.metadata.valid, RINGMSG_META_SOCKET_ERROR);
        CHECK(!(r.metadata.valid & RINGMSG_META_OFFENDER));
        EQUAL(r.metadata.socket_error, 0);
        EQUAL(r.metadata.error_origin, SO_EE_ORIGIN_ZEROCOPY);
        EQUAL(r.metadata.error_info, i);
        EQUAL(r.metadata.error_data, i);
        EQUAL(r.metadata.error_code, SO_EE_CODE_ZEROCOPY_COPIED); /* loopback always copies */
    }
    OK(ringmsg_ring_free(r.ring));
}

/* A datagram that is too long for the path causes an error with the MTU of that path. */
static void the_mtu_of_a_path_is_reported(void)
{
    enum { MTU = 1400 };
    if (unshare(CLONE_NEWNET) != 0)
        skip_test("a network namespace needs root");
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int receiver = bound_udp(AF_INET);
    SYS(ioctl(receiver, SIOCSIFFLAGS, &lo));
    lo.ifr_mtu = MTU;
    SYS(ioctl(receiver, SIOCSIFMTU, &lo));
    int sender = sender_to(receiver);
    static char data[2000];
    OK(ringmsg_socket_enable(sender, RINGMSG_META_SOCKET_ERROR));
    set_int(sender, SOL_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    struct reception r = receive_from(sender, MSG_ERRQUEUE);
    EQUAL(send(sender, data, sizeof data, 0), -1);
    EQUAL(errno, EMSGSIZE);
    next_record(&r);
    EQUAL(r.metadata.socket_error, EMSGSIZE);
    EQUAL(r.metadata.error_origin, SO_EE_ORIGIN_LOCAL);
    EQUAL(r.metadata.error_info, MTU);
    OK(ringmsg_ring_free(r.ring));
}

/* --- control space ----------------------------------------------------------------------- */

static void enable_all_options(int fd, int family)
{
    OK(ringmsg_socket_enable(fd, family == AF_INET ? ALL_V4 : ALL_V6));
    setsockopt(fd, SOL_SOCKET, SO_RCVMARK, &(int){1}, sizeof(int));
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    static const int v4[] = {IP_RECVOPTS, IP_RETOPTS, IP_CHECKSUM_, RECVFRAGSIZE_V4};
    static const int v6[] = {IPV6_RECVHOPOPTS, IPV6_RECVDSTOPTS, IPV6_RECVRTHDR, IPV6_2292HOPOPTS,
                             IPV6_2292DSTOPTS, IPV6_2292PKTINFO, IPV6_2292HOPLIMIT, RECVFRAGSIZE_V6};
    for (size_t i = 0; i < sizeof v4 / sizeof *v4; i++)
        setsockopt(fd, SOL_IP, v4[i], &(int){1}, sizeof(int));
    for (size_t i = 0; family == AF_INET6 && i < sizeof v6 / sizeof *v6; i++)
        setsockopt(fd, SOL_IPV6, v6[i], &(int){1}, sizeof(int));
}

/* Every option is enabled. A datagram with IP options, a train and a fragmented datagram arrive
 * after drops, and next_record checks that none of them is truncated. */
static void everything(int receiver_family, int sender_family)
{
    int receiver = (int)SYS(socket(receiver_family, SOCK_DGRAM, 0)),
        sender = (int)SYS(socket(sender_family, SOCK_DGRAM, 0));
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } to = {.any.sa_family = (sa_family_t)receiver_family};
    SYS(bind(receiver, &to.any, receiver_family == AF_INET ? sizeof to.v4 : sizeof to.v6));
    uint16_t port = htons(port_of(receiver));
    memset(&to, 0, sizeof to);
    if (sender_family == AF_INET)
        to.v4 = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    else
        to.v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = in6addr_loopback};
    SYS(connect(sender, &to.any, sizeof to));

    enable_all_options(receiver, receiver_family);
    static char data[65000];
    set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1);
    for (int i = 0; i < 300; i++)
        SYS(send(sender, data, 1000, 0));
    set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    while (recv(receiver, data, sizeof data, MSG_DONTWAIT) > 0)
        ;
    struct reception r = receive_from(receiver, 0);
    until_stamped(&r, sender);
    HAS_FLAG(r.metadata.valid, RINGMSG_META_DROPPED);
    send_train(sender, data, 31, 10);
    next_record(&r);
    EQUAL(r.metadata.segment_size, 10);
    SYS(send(sender, data, sizeof data, 0));
    next_record(&r);
    EQUAL(r.record.result, sizeof data);

    /* The longest options: no-operations, and an unknown option that receivers skip. */
    static const uint8_t v4_options[40] = {1, 1, 1, 1, 1, 1, 1, 1};
    static const uint8_t v6_options[256] = {[1] = 31, 0x1e, 252};
    if (sender_family == AF_INET)
        SYS(setsockopt(sender, SOL_IP, IP_OPTIONS, v4_options, sizeof v4_options));
    else if (setsockopt(sender, SOL_IPV6, IPV6_HOPOPTS, v6_options, sizeof v6_options) == 0)
        SYS(setsockopt(sender, SOL_IPV6, IPV6_DSTOPTS, v6_options, sizeof v6_options));
    SYS(send(sender, "options", 7, 0));
    next_record(&r);
    EQUAL(r.record.result, 7);
    EQUAL(stats_of(r.ring).control_truncated, 0);
    OK(ringmsg_ring_free(r.ring));
}

static void with_every_option_on_nothing_is_truncated(void)
{
    everything(AF_INET, AF_INET);
    everything(AF_INET6, AF_INET6);
    everything(AF_INET6, AF_INET);
}

TESTS(TEST(ipv4_datagrams_carry_every_metadata_field),
      TEST(ipv6_datagrams_carry_every_metadata_field),
      TEST(ipv4_datagrams_on_ipv6_sockets_have_mapped_addresses),
      TEST(every_kind_of_timestamp_is_decoded),
      TEST(the_drop_counter_is_reported),
      TEST(errors_come_from_the_error_queue),
      TEST(transmit_timestamps_are_received),
      TEST(zero_copy_notifications_are_not_errors),
      TEST(the_mtu_of_a_path_is_reported),
      TEST(with_every_option_on_nothing_is_truncated))
