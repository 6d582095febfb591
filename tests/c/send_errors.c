/* Whose error it is: every message's own errno is its result, in any place, and hides no other
 * message; a pending error of an earlier datagram belongs to none, is taken off the socket, and
 * counted. */
#include "sendmmsg.h"

#include "icmp.h"
#include "send.h"

/* The first attempts fail with these errnos. */
static struct {
    int errnos[40];
    int count, attempts;
} injected;

static int fail_first(const struct mmsghdr *headers, long *count)
{
    (void)headers, (void)count;
    return injected.attempts++ < injected.count ? injected.errnos[injected.attempts - 1] : 0;
}

static void inject(int error, int count)
{
    before_sendmmsg = fail_first;
    injected.count = count;
    injected.attempts = 0;
    for (int i = 0; i < count; i++)
        injected.errnos[i] = error;
}

/* 64 messages of which some are impossible, each in its way. */
static void errors_are_found_wherever_they_are(void)
{
    enum { COUNT = 64 };
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
    struct ringmsg_path path = path_to(receiver), no_port = path, no_route = path, source = path, limit = path, six = path;
    struct ringmsg_message messages[COUNT];
    int wanted[COUNT];
    no_port.remote_port = 0;
    memcpy(no_route.remote, "\377\377\377\377", 4); /* broadcast, and SO_BROADCAST is off */
    source.valid |= RINGMSG_PATH_LOCAL;
    memcpy(source.local, "\12\1\2\3", 4); /* no address of this machine */
    limit.valid |= RINGMSG_PATH_HOP_LIMIT; /* 0 */
    six.family = AF_INET6;
    messages_on(messages, COUNT, &path, 64, 0);
    for (int i = 0; i < COUNT; i++)
        wanted[i] = 64;
    messages[0].path = &no_port, wanted[0] = -EINVAL;
    messages[20] = message_on(&path, 70000, 20), wanted[20] = -EMSGSIZE;
    messages[21].path = &no_route, wanted[21] = -EACCES;
    messages[30].path = &source, wanted[30] = -ENETUNREACH; /* -EINVAL on older kernels */
    messages[31].path = &limit, wanted[31] = -EINVAL;
    messages[40].payload = NULL, wanted[40] = -EFAULT;
    messages[41].payload = (void *)(uintptr_t)16, wanted[41] = -EFAULT;
    messages[42].path = &six, wanted[42] = -EAFNOSUPPORT;
    messages[43].path = NULL, wanted[43] = -EDESTADDRREQ;
    messages[44].flags = 1u << 3, wanted[44] = -EINVAL;
    messages[45].reserved = 1, wanted[45] = -EINVAL;
    messages[46].reserved8[2] = 1, wanted[46] = -EINVAL;
    messages[47].transmit_time_ns = 1, wanted[47] = -EINVAL; /* the sender has no clock */
    messages[48].payload_length = 1u << 31, wanted[48] = -EMSGSIZE;
    messages[63].path = &no_port, wanted[63] = -EINVAL;
    for (int grouping = 0; grouping < 2; grouping++) {
        if (!grouping)
            sender = make_sender_with(unbound_udp(AF_INET), RINGMSG_SENDER_NO_GROUPING);
        EQUAL(ringmsg_send(sender, messages, COUNT, 0), COUNT);
        int errors = 0;
        for (int i = 0; i < COUNT; i++) {
            if (i == 30 && messages[i].result == -EINVAL)
                messages[i].result = wanted[i];
            if (messages[i].result != wanted[i])
                FAIL("message %d: %d, not %d", i, messages[i].result, wanted[i]);
            errors += wanted[i] < 0;
            if (wanted[i] > 0)
                expect_datagrams(receiver, &messages[i], 1);
            messages[i].result = NO_RESULT;
        }
        expect_nothing(receiver);
        EQUAL(sent_by(sender).errors, errors);
        EQUAL(sent_by(sender).messages, COUNT - errors);
        EQUAL(sent_by(sender).socket_errors, 0);
        sender = make_sender(unbound_udp(AF_INET));
    }
}

/* A payload that is not there spoils the train it is in, and no other message of it. */
static void a_bad_payload_in_a_train_is_its_own(void)
{
    enum { COUNT = 10 };
    int receiver = bound_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    for (int bad = 0; bad < COUNT; bad++) {
        struct ringmsg_sender *sender = make_sender(unbound_udp(AF_INET));
        struct ringmsg_message messages[COUNT];
        messages_on(messages, COUNT, &path, 100, 0);
        messages[bad].payload = (void *)(uintptr_t)16;
        EQUAL(ringmsg_send(sender, messages, COUNT, 0), COUNT);
        for (int i = 0; i < COUNT; i++) {
            EQUAL(messages[i].result, i == bad ? -EFAULT : 100);
            if (i != bad)
                expect_datagrams(receiver, &messages[i], 1);
        }
        /* It says nothing about the path: the next ones are a train. */
        messages[bad] = message_on(&path, 100, 0);
        uint64_t trains = sent_by(sender).trains;
        send_whole(sender, messages, COUNT);
        EQUAL(sent_by(sender).trains, trains + 1);
        expect_datagrams(receiver, messages, COUNT);
        OK(ringmsg_sender_free(sender));
    }
}

static void a_socket_that_is_shut_down(void)
{
    int receiver = bound_udp(AF_INET), fd = sender_to(receiver);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_message messages[3];
    messages_on(messages, 3, NULL, 100, 0);
    SYS(shutdown(fd, SHUT_WR));
    EQUAL(ringmsg_send(sender, messages, 3, 0), 3);
    for (int i = 0; i < 3; i++)
        EQUAL(messages[i].result, -EPIPE);
}

/* Whatever other sockets send to `receiver` is refused. */
static void accept_only_from(int receiver, int sender) { connect_to(receiver, sender); }

static void a_pending_refusal_is_not_the_next_messages(void)
{
    int receiver = bound_udp(AF_INET), fd = sender_to(receiver);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_message messages[4];
    messages_on(messages, 4, NULL, 100, 0);
    refuse_senders(receiver);
    send_whole(sender, messages, 1); /* and an ICMP message comes back */
    accept_only_from(receiver, fd);
    send_whole(sender, messages, 4);
    expect_datagrams(receiver, messages, 4);
    expect_nothing(receiver);
    EQUAL(sent_by(sender).socket_errors, 1);
    EQUAL(sent_by(sender).last_socket_error, ECONNREFUSED);
    EQUAL(sent_by(sender).errors, 0);
    EQUAL(sent_by(sender).trains, 1); /* it went as one: an error that was pending tells nothing of trains */
    EQUAL(sent_by(sender).fallbacks, 0);
}

/* Each datagram is refused as it comes: sendmmsg(2) stops after each, and returns no errno. */
static void a_peer_that_refuses_all_is_sent_all(void)
{
    enum { COUNT = 20 };
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender_with(sender_to(receiver), RINGMSG_SENDER_NO_GROUPING);
    struct ringmsg_message messages[COUNT];
    messages_on(messages, COUNT, NULL, 100, 0);
    refuse_senders(receiver);
    send_whole(sender, messages, COUNT);
    struct ringmsg_sender_stats stats = sent_by(sender);
    EQUAL(stats.messages, COUNT);
    EQUAL(stats.errors, 0);
    EQUAL(stats.would_block, 0);
    /* One for each but the last, whose refusal is pending now, or held back by the kernel's rate
     * limit. */
    if (stats.socket_errors == 0 || stats.socket_errors > COUNT)
        FAIL("%llu errors were consumed", (unsigned long long)stats.socket_errors);
}

/* With IP_RECVERR an unconnected socket gets the errors of every peer: a good one is never blamed,
 * whatever the ICMP message was. */
static void no_icmp_error_is_a_good_peers(void)
{
    int families[] = {AF_INET, AF_INET6};
    for (int f = 0; f < 2; f++) {
        const struct icmp_error *errors = families[f] == AF_INET ? icmp_errors : icmpv6_errors;
        int raw = icmp_socket(families[f]);
        if (raw < 0)
            return;
        int fd = bound_udp(families[f]), good = bound_udp(families[f]), bad = bound_udp(families[f]);
        set_int(fd, families[f] == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, families[f] == AF_INET ? IP_RECVERR : IPV6_RECVERR, 1);
        struct ringmsg_sender *sender = make_sender(fd);
        struct ringmsg_path path = path_to(good);
        socklen_t length;
        struct sockaddr_storage from = address_of(fd, &length), to = address_of(bad, &length);
        uint64_t seen = 0;
        for (const struct icmp_error *error = errors; error->error != 0; error++) {
            struct ringmsg_message messages[3];
            struct pollfd pending = {.fd = fd, .events = 0};
            messages_on(messages, 3, &path, 100, 0);
            send_icmp(raw, error, &from, &to);
            EQUAL(SYS(poll(&pending, 1, 5000)), 1);
            send_whole(sender, messages, 3);
            expect_datagrams(good, messages, 3);
            EQUAL(sent_by(sender).last_socket_error, error->error);
            EQUAL(sent_by(sender).socket_errors, ++seen);
            while (recv(fd, inbox, sizeof inbox, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0)
                ; /* which may raise it again until the queue is empty */
            int value;
            length = sizeof value;
            SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length));
        }
        EQUAL(sent_by(sender).errors, 0);
        expect_nothing(good);
    }
}

static void it_is_tried_again_eight_times(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_message message = message_on(NULL, 100, 1);
    inject(ECONNREFUSED, 8);
    send_whole(sender, &message, 1);
    EQUAL(injected.attempts, 9);
    EQUAL(sent_by(sender).socket_errors, 8);
    expect_datagrams(receiver, &message, 1);

    inject(ECONNREFUSED, 9);
    EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
    EQUAL(message.result, -ECONNREFUSED);
    EQUAL(injected.attempts, 9);
    EQUAL(sent_by(sender).socket_errors, 16);
    EQUAL(sent_by(sender).errors, 1);
    expect_nothing(receiver);
}

static void what_comes_again_at_once_is_the_messages_own(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_message message = message_on(NULL, 100, 1);
    struct {
        int first, second, attempts, result, counted;
    } cases[] = {
        {EHOSTUNREACH, EHOSTUNREACH, 2, -EHOSTUNREACH, 0}, /* SO_ERROR was 0 in between */
        {EHOSTUNREACH, 0, 2, 100, 1},                      /* it was pending */
        {EHOSTUNREACH, EACCES, 3, 100, 2},                 /* both were */
        {EACCES, EACCES, 2, -EACCES, 0},
        {EHOSTUNREACH, ECONNREFUSED, 3, 100, 2},
        {EPERM, EPERM, 1, -EPERM, 0}, /* a firewall's, and never pending: it is not asked again */
        {EHOSTUNREACH, EPERM, 2, -EPERM, 1},
        {ENOBUFS, ENOBUFS, 1, -ENOBUFS, 0},
        {ENOMEM, ENOMEM, 1, -ENOMEM, 0},
        {EINVAL, EINVAL, 1, -EINVAL, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ringmsg_sender *sender = make_sender(sender_to(receiver));
        inject(cases[i].first, 2);
        injected.errnos[1] = cases[i].second;
        injected.count = cases[i].second == 0 ? 1 : 2;
        EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
        EQUAL(message.result, cases[i].result);
        EQUAL(injected.attempts, cases[i].attempts);
        EQUAL(sent_by(sender).socket_errors, cases[i].counted);
        OK(ringmsg_sender_free(sender));
        drain(receiver);
    }
}

/* What becomes of a train of four that is refused with one errno, and whose first datagram alone is
 * refused with another, or goes (0): how many system calls it takes, and the results. */
static void a_train_that_is_refused_is_tried_by_its_first(void)
{
    static const struct {
        int train, single, attempts, first, others;
    } cases[] = {
        {EPERM, EPERM, 2, -EPERM, -EPERM},                         /* the others are not tried */
        {ENETUNREACH, ENETUNREACH, 4, -ENETUNREACH, -ENETUNREACH}, /* each twice: it may be pending */
        {EPERM, 0, 3, 100, 100},
        {EPERM, EACCES, 4, 100, 100},      /* EACCES was pending: the datagram goes after it */
        {EPERM, EINVAL, 3, -EINVAL, 100},  /* another errno: the others are tried */
        {EPERM, EAFNOSUPPORT, 3, -EAFNOSUPPORT, 100},
        {EINVAL, EINVAL, 3, -EINVAL, 100}, /* these may concern one message only */
        {EIO, EIO, 3, -EIO, 100},
        {EINVAL, 0, 3, 100, 100},
        {EFAULT, EFAULT, 3, -EFAULT, 100},
        {ENOBUFS, ENOBUFS, 1, -ENOBUFS, -ENOBUFS}, /* every member's result, and not tried again */
        {ENOMEM, ENOMEM, 1, -ENOMEM, -ENOMEM},
    };
    int receiver = bound_udp(AF_INET);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct ringmsg_sender *sender = make_sender(sender_to(receiver));
        struct ringmsg_message messages[4];
        int each = cases[c].train == ENETUNREACH ? 2 : 1;
        messages_on(messages, 4, NULL, 100, 0);
        inject(cases[c].train, each);
        for (int i = 0; i < each && cases[c].single != 0; i++)
            injected.errnos[injected.count++] = cases[c].single;
        EQUAL(ringmsg_send(sender, messages, 4, 0), 4);
        for (int i = 0; i < 4; i++) {
            if (messages[i].result != (i == 0 ? cases[c].first : cases[c].others))
                FAIL("case %zu, message %d: %d", c, i, messages[i].result);
            if (messages[i].result > 0)
                expect_datagrams(receiver, &messages[i], 1);
        }
        expect_nothing(receiver);
        EQUAL(injected.attempts, cases[c].attempts);
        EQUAL(sent_by(sender).calls, cases[c].attempts);
        EQUAL(sent_by(sender).would_block, 0);
        OK(ringmsg_sender_free(sender));
    }
}

/* AF_UNIX: refused means that no socket has that name now. */
static void a_refusal_over_af_unix_is_the_messages_own(void)
{
    int pair[2];
    struct ringmsg_message messages[5];
    messages_on(messages, 5, NULL, 100, 0);
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    struct ringmsg_sender *sender = make_sender(pair[0]);
    close(pair[1]);
    EQUAL(ringmsg_send(sender, messages, 5, RINGMSG_SEND_WAIT), 5);
    /* The kernel takes the peer off the socket with the first. */
    EQUAL(messages[0].result, -ECONNREFUSED);
    for (int i = 1; i < 5; i++)
        EQUAL(messages[i].result, -ENOTCONN);
    EQUAL(sent_by(sender).calls, 5);
    EQUAL(sent_by(sender).socket_errors, 0);

    /* Without SIGPIPE. */
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    sender = make_sender(pair[0]);
    close(pair[1]);
    EQUAL(ringmsg_send(sender, messages, 5, RINGMSG_SEND_WAIT), 5);
    for (int i = 0; i < 5; i++)
        EQUAL(messages[i].result, -EPIPE);

    /* It cannot name a peer, nor set what IP has. */
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    sender = make_sender(pair[0]);
    int receiver = bound_udp(AF_INET);
    struct ringmsg_path remote = path_to(receiver), class = {.valid = RINGMSG_PATH_TRAFFIC_CLASS};
    messages[0].path = &remote;
    messages[1].path = &class;
    messages[2].flags = RINGMSG_MESSAGE_TRAFFIC_CLASS;
    messages[3].flags = RINGMSG_MESSAGE_TIMESTAMP;
    EQUAL(ringmsg_send(sender, messages, 5, 0), 5);
    EQUAL(messages[0].result, -EAFNOSUPPORT);
    for (int i = 1; i < 4; i++)
        EQUAL(messages[i].result, -EOPNOTSUPP);
    EQUAL(messages[4].result, 100);
}

SEND_TESTS(TEST(errors_are_found_wherever_they_are), TEST(a_bad_payload_in_a_train_is_its_own),
           TEST(a_socket_that_is_shut_down), TEST(a_pending_refusal_is_not_the_next_messages),
           TEST(a_peer_that_refuses_all_is_sent_all), TEST(no_icmp_error_is_a_good_peers),
           TEST(it_is_tried_again_eight_times), TEST(what_comes_again_at_once_is_the_messages_own),
           TEST(a_train_that_is_refused_is_tried_by_its_first),
           TEST(a_refusal_over_af_unix_is_the_messages_own))
