/* Transmit times (SO_TXTIME, SCM_TXTIME) and transmit timestamps (SO_TIMESTAMPING, SCM_TS_OPT_ID):
 * what a sender sets on its socket and what it refuses, what times do to grouping, and that each
 * message that asks gets one timestamp with its own id, also as a record of a ring. */
#include "sendmmsg.h"

#include "network.h"
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>

static int has_clock(int fd, int clock, uint32_t flags)
{
    struct sock_txtime set;
    socklen_t length = sizeof set;
    SYS(getsockopt(fd, SOL_SOCKET, SO_TXTIME, &set, &length));
    return (int)set.clockid == clock && set.flags == flags;
}

static uint32_t timestamping_of(int fd)
{
    uint32_t flags[2] = {0, 0};
    socklen_t length = sizeof flags;
    SYS(getsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, flags, &length));
    return flags[0];
}

static int sender_with_clock(int fd, int clock, struct ringmsg_sender **sender)
{
    struct ringmsg_sender_config config;
    ringmsg_sender_config_init(&config);
    config.transmit_clock = clock;
    int made = ringmsg_sender_new(fd, &config, sender);
    if (made == 0)
        keep(*sender);
    return made;
}

static void a_sender_sets_its_clock(void)
{
    struct ringmsg_sender *sender = NULL;
    int fd = unbound_udp(AF_INET), pair[2];
    OK(sender_with_clock(fd, CLOCK_MONOTONIC, &sender));
    EQUAL(has_clock(fd, CLOCK_MONOTONIC, 0), 1);
    /* The same again is fine, and keeps what else was set. */
    struct sock_txtime reporting = {CLOCK_MONOTONIC, SOF_TXTIME_REPORT_ERRORS};
    SYS(setsockopt(fd, SOL_SOCKET, SO_TXTIME, &reporting, sizeof reporting));
    OK(sender_with_clock(fd, CLOCK_MONOTONIC, &sender));
    EQUAL(has_clock(fd, CLOCK_MONOTONIC, SOF_TXTIME_REPORT_ERRORS), 1);
    /* Another would change the meaning of everybody's times. */
    REFUSED(sender_with_clock(fd, CLOCK_TAI, &sender), EBUSY);
    EQUAL(has_clock(fd, CLOCK_MONOTONIC, SOF_TXTIME_REPORT_ERRORS), 1);
    REFUSED(sender_with_clock(unbound_udp(AF_INET), 77, &sender), EINVAL);
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    REFUSED(sender_with_clock(pair[0], CLOCK_MONOTONIC, &sender), EOPNOTSUPP);
    /* None was asked for: none is set. */
    fd = unbound_udp(AF_INET);
    OK(sender_with_clock(fd, -1, &sender));
    EQUAL(has_clock(fd, 0, 0), 1);
}

/* No descriptor is left for the sender's own reference. */
static void a_sender_that_cannot_be_made_sets_nothing(void)
{
    struct ringmsg_sender_config config;
    struct ringmsg_sender *sender = NULL;
    struct rlimit before;
    int fd = unbound_udp(AF_INET), software = SOF_TIMESTAMPING_SOFTWARE;
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING, software);
    ringmsg_sender_config_init(&config);
    config.transmit_clock = CLOCK_MONOTONIC;
    config.flags = RINGMSG_SENDER_TIMESTAMPS;
    SYS(getrlimit(RLIMIT_NOFILE, &before));
    SYS(setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, before.rlim_max}));
    REFUSED(ringmsg_sender_new(fd, &config, &sender), EMFILE);
    SYS(setrlimit(RLIMIT_NOFILE, &before));
    SAME_POINTER(sender, NULL);
    EQUAL(has_clock(fd, 0, 0), 1);
    EQUAL(timestamping_of(fd), software);
    OK(ringmsg_sender_new(fd, &config, &sender));
    keep(sender);
    EQUAL(has_clock(fd, CLOCK_MONOTONIC, 0), 1);
    if (timestamping_of(fd) == SOF_TIMESTAMPING_SOFTWARE)
        FAIL("the timestamps are not on");
}

static void other_clocks_take_a_privilege(void)
{
    struct ringmsg_sender *sender = NULL;
    int fd = unbound_udp(AF_INET);
    if (sender_with_clock(fd, CLOCK_TAI, &sender) == 0)
        EQUAL(has_clock(fd, CLOCK_TAI, 0), 1);
    if (geteuid() == 0)
        SYS(setresuid(65534, 65534, 65534));
    REFUSED(sender_with_clock(unbound_udp(AF_INET), CLOCK_TAI, &sender), EPERM);
    struct ringmsg_sender_config both;
    ringmsg_sender_config_init(&both);
    both.transmit_clock = CLOCK_TAI;
    both.flags = RINGMSG_SENDER_TIMESTAMPS;
    fd = unbound_udp(AF_INET);
    REFUSED(ringmsg_sender_new(fd, &both, &sender), EPERM);
    EQUAL(timestamping_of(fd), 0); /* refused as a whole */
    OK(sender_with_clock(unbound_udp(AF_INET), CLOCK_MONOTONIC, &sender));
}

/* The times that went to the kernel. */
static uint64_t times_seen[8];
static int times_count;

static int see_times(const struct mmsghdr *headers, long *count)
{
    for (long i = 0; i < *count; i++) {
        const void *data = control_of(&headers[i].msg_hdr, SOL_SOCKET, SO_TXTIME);
        if (data != NULL)
            memcpy(&times_seen[times_count], data, sizeof *times_seen);
        times_count++;
    }
    return 0;
}

static void times_that_differ_end_a_group(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender;
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message messages[6];
    uint64_t now = (uint64_t)now_ns();
    OK(sender_with_clock(unbound_udp(AF_INET), CLOCK_MONOTONIC, &sender));
    messages_on(messages, 6, &path, 100, 0);
    for (int i = 0; i < 6; i++)
        messages[i].transmit_time_ns = i < 3 ? now : i < 5 ? now + 1000 : 0;
    before_sendmmsg = see_times;
    send_whole(sender, messages, 6);
    expect_datagrams(receiver, messages, 6);
    EQUAL(sent_by(sender).trains, 2);
    EQUAL(sent_by(sender).grouped, 5);
    EQUAL(times_count, 3);
    EQUAL(times_seen[0], now);
    EQUAL(times_seen[1], now + 1000);
    EQUAL(times_seen[2], 0);
}

/* fq keeps what is sent until its time. */
static void fq_sends_at_the_time(void)
{
    enter_own_network();
    need_tool("tc", "iproute2");
    if (shell("tc qdisc replace dev lo root fq 2>/dev/null") != 0)
        skip_test("this kernel has no fq queueing discipline: transmit times are ignored");
    enum { COUNT = 5 };
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender;
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message messages[COUNT];
    OK(sender_with_clock(unbound_udp(AF_INET), CLOCK_MONOTONIC, &sender));
    messages_on(messages, COUNT, &path, 100, 0);
    uint64_t start = (uint64_t)now_ns() + 50000000;
    for (uint64_t i = 0; i < COUNT; i++)
        messages[i].transmit_time_ns = start + i * 20000000;
    send_whole(sender, messages, COUNT);
    for (int i = 0; i < COUNT; i++) {
        expect_datagrams(receiver, &messages[i], 1);
        if ((uint64_t)now_ns() < messages[i].transmit_time_ns)
            FAIL("message %d left early", i);
    }
}

/* --- timestamps --------------------------------------------------------------------------- */

enum { ASKED = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY };

/* SCM_TS_OPT_ID came with Linux 6.13. */
static int has_ids(void)
{
    struct utsname name;
    int major = 0, minor = 0;
    uname(&name);
    sscanf(name.release, "%d.%d", &major, &minor);
    return major > 6 || (major == 6 && minor >= 13);
}

/* The next timestamp in the error queue comes with this id. */
static void expect_stamp(int fd, uint32_t id)
{
    union {
        char space[256];
        struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_control = &control, .msg_controllen = sizeof control};
    struct pollfd errors = {.fd = fd, .events = 0};
    struct sock_extended_err *error = NULL;
    struct timespec *stamp = NULL;
    if (poll(&errors, 1, 20000 * TEST_TIME_FACTOR) != 1)
        FAIL("no timestamp %u", id);
    EQUAL(SYS(recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT)), 0); /* OPT_TSONLY: no payload */
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING)
            stamp = (void *)CMSG_DATA(c);
        else if (c->cmsg_type == (c->cmsg_level == SOL_IP ? IP_RECVERR : IPV6_RECVERR))
            error = (void *)CMSG_DATA(c);
    }
    if (stamp == NULL || error == NULL || stamp->tv_sec == 0)
        FAIL("no timestamp in the error queue's entry");
    EQUAL(error->ee_origin, SO_EE_ORIGIN_TIMESTAMPING);
    EQUAL(error->ee_data, id);
}

static void expect_no_stamp(int fd)
{
    struct msghdr message = {0};
    sleep_ms(10);
    EQUAL(recvmsg(fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT), -1);
}

static void a_sender_sets_timestamps_beside_what_is_on(void)
{
    int fd = unbound_udp(AF_INET), pair[2];
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING, SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_CMSG);
    struct ringmsg_sender *sender = make_sender(fd);
    EQUAL(timestamping_of(fd), SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_CMSG);
    OK(ringmsg_sender_free(sender));
    sender = make_sender_with(fd, RINGMSG_SENDER_TIMESTAMPS);
    EQUAL(timestamping_of(fd), ASKED | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_CMSG);
    OK(ringmsg_sender_free(sender));
    EQUAL(timestamping_of(fd), ASKED | SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_OPT_CMSG);
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    struct ringmsg_sender_config config;
    ringmsg_sender_config_init(&config);
    config.flags = RINGMSG_SENDER_TIMESTAMPS;
    REFUSED(ringmsg_sender_new(pair[0], &config, &sender), EOPNOTSUPP);
}

static void each_message_that_asks_gets_one_with_its_id(void)
{
    int families[] = {AF_INET, AF_INET6, AF_INET6}; /* the last one to a mapped IPv4 peer */
    for (int f = 0; f < 3; f++) {
        int receiver = bound_udp(f == 2 ? AF_INET : families[f]), fd = unbound_udp(families[f]), ids = has_ids();
        struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_TIMESTAMPS);
        struct ringmsg_path path = f == 2 ? mapped_path_to(receiver) : path_to(receiver);
        struct ringmsg_message messages[8];
        messages_on(messages, 8, &path, 100, 0);
        messages[2].flags = messages[3].flags = messages[6].flags = RINGMSG_MESSAGE_TIMESTAMP;
        messages[2].timestamp_id = 4711;
        messages[3].timestamp_id = 0;
        messages[6] = message_on(&path, 1000, 6); /* a train has one */
        messages[6].segment_size = 100;
        messages[6].flags = RINGMSG_MESSAGE_TIMESTAMP;
        messages[6].timestamp_id = UINT32_MAX;
        messages[7].timestamp_id = 99; /* it does not ask */
        send_whole(sender, messages, 8);
        expect_datagrams(receiver, messages, 8);
        /* Without ids of the caller's: the socket's count, from 0. */
        expect_stamp(fd, ids ? 4711 : 0);
        expect_stamp(fd, ids ? 0 : 1);
        expect_stamp(fd, ids ? UINT32_MAX : 2);
        expect_no_stamp(fd);
        OK(ringmsg_sender_free(sender));

        /* Who set the options himself needs no flag at the sender. */
        fd = unbound_udp(families[f]);
        set_int(fd, SOL_SOCKET, SO_TIMESTAMPING, ASKED);
        sender = make_sender(fd);
        messages[3].timestamp_id = 12;
        send_whole(sender, &messages[3], 1);
        expect_stamp(fd, ids ? 12 : 0);
        OK(ringmsg_sender_free(sender));
        drain(receiver);
    }
}

/* One timestamp, also of a train that leaves in pieces. */
static void a_train_in_pieces_has_one_timestamp(void)
{
    int receiver = bound_udp(AF_INET), fd = unbound_udp(AF_INET);
    set_int(fd, SOL_SOCKET, SO_NO_CHECK, 1); /* it takes no trains */
    struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_TIMESTAMPS);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message train = message_on(&path, 10000, 1);
    train.segment_size = 100;
    train.flags = RINGMSG_MESSAGE_TIMESTAMP;
    train.timestamp_id = 5;
    send_whole(sender, &train, 1);
    expect_datagrams(receiver, &train, 1);
    EQUAL(sent_by(sender).trains, 0);
    expect_stamp(fd, has_ids() ? 5 : 0);
    expect_no_stamp(fd);
}

static void comes_back_on(uint32_t engine)
{
    const uint32_t known = RINGMSG_META_SOFTWARE_TIMESTAMP | RINGMSG_META_SOCKET_ERROR;
    int receiver = bound_udp(AF_INET), fd = unbound_udp(AF_INET), ids = has_ids();
    struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_TIMESTAMPS);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message message = message_on(&path, 100, 1);
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    struct ringmsg_record record;
    struct ringmsg_metadata meta;
    struct ringmsg_wait wait = wait_ms(20000 * TEST_TIME_FACTOR);
    ringmsg_ring_config_init(&config);
    config.engine = engine;
    OK(ringmsg_ring_new(&config, &ring));
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, fd, 8, 2048), fd, MSG_ERRQUEUE, 0, 7));
    for (int round = 0; round < 3; round++) {
        message.flags = RINGMSG_MESSAGE_TIMESTAMP;
        message.timestamp_id = 4711 + (uint32_t)round;
        send_whole(sender, &message, 1);
        EQUAL(OK(ringmsg_reap(ring, &record, &meta, 1, &wait)), 1);
        EQUAL(record.user_data, 7);
        EQUAL(record.result, 0);
        EQUAL(meta.valid & known, known);
        EQUAL(meta.socket_error, 0); /* a note, no error */
        EQUAL(meta.error_data, ids ? message.timestamp_id : (uint32_t)round);
        EQUAL(record.msg_flags & MSG_ERRQUEUE, MSG_ERRQUEUE);
        OK(ringmsg_release(ring, &record, 1));
        expect_datagrams(receiver, &message, 1);
    }
    OK(ringmsg_ring_free(ring));
}

static void it_comes_back_as_a_record(void)
{
    comes_back_on(RINGMSG_ENGINE_AUTO);
    comes_back_on(RINGMSG_ENGINE_RECVMMSG);
}

SEND_TESTS(TEST(a_sender_sets_its_clock), TEST(a_sender_that_cannot_be_made_sets_nothing),
           TEST(other_clocks_take_a_privilege), TEST(times_that_differ_end_a_group),
           TEST(fq_sends_at_the_time), TEST(a_sender_sets_timestamps_beside_what_is_on),
           TEST(each_message_that_asks_gets_one_with_its_id), TEST(a_train_in_pieces_has_one_timestamp),
           TEST(it_comes_back_as_a_record))
