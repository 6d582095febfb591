/* A pending error of an earlier datagram is never a message's result, also while another thread
 * reads the socket's error queue: each read raises the error of the next entry again, so one
 * message may meet all of them. How often a message is tried is bounded by what is in the queue,
 * and an error of the message's own is found at once, whatever is unread. */
#include "sendmmsg.h"

#include "icmp.h"
#include "send.h"
#include <linux/sock_diag.h>

enum { ERRORS = 60 };

static int raw, fd, good;
static struct sockaddr_storage from, to; /* what the ICMP errors quote */
static int attempts;

/* A socket that gets the ICMP errors of all peers, and a peer that takes everything. */
static void open_sockets(int family)
{
    int on = 1;
    socklen_t length;
    raw = icmp_socket(family);
    fd = bound_udp(family);
    good = bound_udp(family);
    set_int(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_RECVERR : IPV6_RECVERR, on);
    from = address_of(fd, &length);
    to = address_of(good, &length);
}

static uint32_t queued(void)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t length = sizeof info;
    SYS(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length));
    return info[SK_MEMINFO_RMEM_ALLOC];
}

static int read_error(void) { return recv(fd, inbox, sizeof inbox, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0; }

/* The error queue gets `count` entries, and nothing else is pending. */
static void fill_error_queue(const struct icmp_error *error, int count)
{
    uint32_t before = queued(), each = 0;
    int value;
    socklen_t length = sizeof value;
    for (int i = 0; i < count; i++) {
        send_icmp(raw, error, &from, &to);
        if (i == 0)
            WAIT_UNTIL((each = queued() - before) != 0);
    }
    WAIT_UNTIL(queued() - before == each * (uint32_t)count);
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length));
}

/* What another thread does that is quick: it reads an entry before each attempt. */
static int read_one_error(const struct mmsghdr *headers, long *count)
{
    (void)headers, (void)count;
    attempts++;
    read_error();
    return 0;
}

static void a_reader_that_is_always_quicker(void)
{
    int families[] = {AF_INET, AF_INET6};
    for (int f = 0; f < 2; f++) {
        open_sockets(families[f]);
        const struct icmp_error *error = families[f] == AF_INET ? icmp_errors : icmpv6_errors;
        struct ringmsg_path path = path_to(good);
        struct ringmsg_message messages[4];
        messages_on(messages, 4, &path, 100, 0);
        for (; error->error != 0; error++) {
            if (error->error == EMSGSIZE)
                continue; /* the errno of a datagram that is too long as well: tried once again */
            for (int grouping = 0; grouping < 2; grouping++) {
                struct ringmsg_sender *sender = make_sender_with(fd, grouping ? 0 : RINGMSG_SENDER_NO_GROUPING);
                fill_error_queue(error, ERRORS);
                before_sendmmsg = read_one_error;
                attempts = 0;
                send_whole(sender, messages, 4);
                before_sendmmsg = NULL;
                expect_datagrams(good, messages, 4);
                /* The first read raises the second entry's error, and so on. */
                if (attempts < ERRORS)
                    FAIL("the kernel raised %d errors of %d", attempts, ERRORS);
                EQUAL(sent_by(sender).errors, 0);
                EQUAL(sent_by(sender).socket_errors, ERRORS - 1);
                EQUAL(sent_by(sender).last_socket_error, error->error);
                EQUAL(sent_by(sender).trains, grouping); /* pending errors tell nothing of trains */
                EQUAL(sent_by(sender).fallbacks, 0);
                OK(ringmsg_sender_free(sender));
            }
        }
        expect_nothing(good);
    }
}

static volatile int reading;

static void *read_errors(void *unused)
{
    while (reading)
        read_error();
    return unused;
}

static void a_thread_that_reads_at_its_own_pace(void)
{
    const struct icmp_error errors[] = {{3, 3, ECONNREFUSED, 1}, {3, 1, EHOSTUNREACH, 0}};
    struct ringmsg_message messages[8];
    open_sockets(AF_INET);
    struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_NO_GROUPING);
    struct ringmsg_path path = path_to(good);
    messages_on(messages, 8, &path, 100, 0);
    for (int round = 0; round < 40; round++) {
        pthread_t reader;
        fill_error_queue(&errors[round % 2], 20);
        reading = 1;
        pthread_create(&reader, NULL, read_errors, NULL);
        while (queued() > 0)
            send_whole(sender, messages, 8);
        reading = 0;
        pthread_join(reader, NULL);
        drain(good);
    }
    EQUAL(sent_by(sender).errors, 0);
}

/* As many errors as attempts. */
static int raise_another(const struct mmsghdr *headers, long *count)
{
    (void)headers, (void)count;
    attempts++;
    send_icmp(raw, &icmp_errors[3], &from, &to);
    send_icmp(raw, &icmp_errors[3], &from, &to);
    read_error();
    return 0;
}

static void a_flood_of_errors_keeps_no_call_for_ever(void)
{
    open_sockets(AF_INET);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path path = path_to(good);
    struct ringmsg_message message = message_on(&path, 100, 0);
    EQUAL(icmp_errors[3].error, ECONNREFUSED);
    attempts = 0;
    before_sendmmsg = raise_another;
    EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
    before_sendmmsg = NULL;
    EQUAL(message.result, -ECONNREFUSED);
    COMPARE(attempts, <=, 257);
    COMPARE(attempts, >, 100); /* fewer than 257 where the socket's buffer holds no more errors */
    expect_nothing(good);
    send_whole(sender, &message, 1); /* as docs/sending.md says */
    expect_datagrams(good, &message, 1);
}

/* Counts, and lets a datagram arrive: the socket holds more than before, its error queue does
 * not. */
static int receive_another(const struct mmsghdr *headers, long *count)
{
    (void)headers, (void)count;
    attempts++;
    SYS(sendto(good, "data", 4, 0, (struct sockaddr *)&from, sizeof(struct sockaddr_in)));
    return 0;
}

static void an_error_of_the_messages_own_is_found_at_once(void)
{
    open_sockets(AF_INET);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path broadcast = path_to(good);
    memcpy(broadcast.remote, "\377\377\377\377", 4); /* and SO_BROADCAST is off: -EACCES */
    struct ringmsg_message message = message_on(&broadcast, 100, 0);
    fill_error_queue(&icmp_errors[13], ERRORS);
    before_sendmmsg = receive_another;
    for (int round = 0; round < 10; round++) {
        attempts = 0;
        EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
        EQUAL(message.result, -EACCES);
        EQUAL(attempts, 2);
    }
    before_sendmmsg = NULL;
    EQUAL(sent_by(sender).socket_errors, 0);
    EQUAL(sent_by(sender).errors, 10);
}

/* A datagram that is too long leaves an entry in the error queue itself, with each try. */
static void a_datagram_that_is_too_long_fills_no_error_queue(void)
{
    open_sockets(AF_INET);
    set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path path = path_to(good);
    struct ringmsg_message message = message_on(&path, 65508, 0);
    fill_error_queue(&icmp_errors[3], 1);
    EQUAL(ringmsg_send(sender, &message, 1, 0), 1);
    EQUAL(message.result, -EMSGSIZE);
    EQUAL(sent_by(sender).calls, 2);
}

SEND_TESTS(TEST(a_reader_that_is_always_quicker), TEST(a_thread_that_reads_at_its_own_pace),
           TEST(a_flood_of_errors_keeps_no_call_for_ever), TEST(an_error_of_the_messages_own_is_found_at_once),
           TEST(a_datagram_that_is_too_long_fills_no_error_queue))
