/* A socket error is one record, and the request keeps receiving. */
#include "icmp.h"

static void expect_error(struct ringmsg_ring *ring, uint64_t user_data, int error)
{
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.user_data, user_data);
    EQUAL(record.result, -error);
    EQUAL(record.flags, 0);
    EQUAL(record.payload_length, 0);
    EQUAL(record.control_length, 0);
    EQUAL(record.name_length, 0);
}

/* Checks that the next record holds this text. */
static void expect_text(struct ringmsg_ring *ring, uint64_t user_data, const char *text)
{
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.user_data, user_data);
    EQUAL(record.result, strlen(text));
    EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
    SAME_BYTES(payload_of(ring, &record), text, strlen(text));
    OK(ringmsg_release(ring, &record, 1));
}

static void send_to(int from, int to, const char *text)
{
    socklen_t length;
    struct sockaddr_storage address = address_of(to, &length);
    EQUAL(SYS(sendto(from, text, strlen(text), 0, (struct sockaddr *)&address, length)), strlen(text));
}

/* At first no socket is bound to the peer's port; then one sends from it. */
static void refused_connection(int family)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(family), peer = bound_udp(family);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    connect_to(receiver, peer);
    refuse_senders(peer);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 7));
    SYS(send(receiver, "anyone?", 7, 0));
    expect_error(ring, 7, ECONNREFUSED);
    reap_nothing(ring, 30);

    connect_to(peer, receiver);
    send_to(peer, receiver, "here");
    expect_text(ring, 7, "here");
    EQUAL(stats_of(ring).errors, 1);
    OK(ringmsg_ring_free(ring));
    close(receiver);
    close(peer);
}

static void connection_refused_is_one_record_and_data_flows_again(void)
{
    refused_connection(AF_INET);
    refused_connection(AF_INET6);
}

/* Sends every ICMP error, each followed by a datagram. */
static void each_icmp_error(int family, int connected, int with_recverr)
{
    int raw = icmp_socket(family);
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(family), peer = bound_udp(family);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    socklen_t length;
    struct sockaddr_storage ours = address_of(receiver, &length), theirs = address_of(peer, &length);
    if (connected)
        connect_to(receiver, peer);
    if (with_recverr && family == AF_INET)
        set_int(receiver, SOL_IP, IP_RECVERR, 1);
    if (with_recverr && family == AF_INET6)
        set_int(receiver, SOL_IPV6, IPV6_RECVERR, 1);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 9));

    const struct icmp_error *error = family == AF_INET ? icmp_errors : icmpv6_errors;
    for (; error->type != 0; error++) {
        send_icmp(raw, error, &ours, &theirs);
        if (with_recverr || error->fatal)
            expect_error(ring, 9, error->error);
        send_to(peer, receiver, "still there");
        expect_text(ring, 9, "still there");
    }
    if (with_recverr) {
        /* Nothing reads the socket's error queue. A full one makes the reap neither spin nor
         * block. */
        uint64_t enters = stats_of(ring).enters;
        reap_nothing(ring, 50);
        COMPARE(stats_of(ring).enters - enters, <, 10);
    }
    OK(ringmsg_cancel(ring, 9));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    EQUAL(record.result, -ECANCELED);
    OK(ringmsg_ring_free(ring));
    close(raw);
    close(receiver);
    close(peer);
}

static void no_icmp_error_ends_a_request(void)
{
    for (int i = 0; i < 2; i++) {
        int family = i == 0 ? AF_INET : AF_INET6;
        each_icmp_error(family, 1, 0);
        each_icmp_error(family, 1, 1);
        each_icmp_error(family, 0, 1);
    }
}

/* Sixteen failures within 10 ms end a request, but a peer can send ICMP errors at that rate, so
 * they do not count. */
static void a_flood_of_icmp_errors_does_not_end_a_request(void)
{
    enum { ERRORS = 400, LIMIT = 16 };
    int raw = icmp_socket(AF_INET), fast = 0;
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), peer = bound_udp(AF_INET);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    socklen_t length;
    struct sockaddr_storage ours = address_of(receiver, &length), theirs = address_of(peer, &length);
    connect_to(receiver, peer);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 3));
    static int64_t at[ERRORS];
    for (int i = 0; i < ERRORS; i++) {
        send_icmp(raw, &icmp_errors[3], &ours, &theirs);
        expect_error(ring, 3, ECONNREFUSED);
        at[i] = now_ns();
        fast |= i >= 2 * LIMIT && at[i] - at[i - 2 * LIMIT] < 10 * 1000000;
    }
    send_to(peer, receiver, "alive");
    expect_text(ring, 3, "alive");
    OK(ringmsg_ring_free(ring));
    if (!fast)
        skip_test("this machine never had 32 errors within 10 ms");
}

/* A request with MSG_ERRQUEUE receives each error with its sock_extended_err. */
static void the_error_queue_is_received_like_data(void)
{
    int raw = icmp_socket(AF_INET);
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), peer = bound_udp(AF_INET);
    set_int(receiver, SOL_IP, IP_RECVERR, 1);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    socklen_t length;
    struct sockaddr_storage ours = address_of(receiver, &length), theirs = address_of(peer, &length);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, MSG_ERRQUEUE, 0, 5));
    for (const struct icmp_error *error = icmp_errors; error->type != 0; error++) {
        send_icmp(raw, error, &ours, &theirs);
        struct ringmsg_record record;
        struct ringmsg_metadata metadata;
        struct ringmsg_wait wait = wait_ms(2000);
        EQUAL(ringmsg_reap(ring, &record, &metadata, 1, &wait), 1);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        EQUAL(record.result, 0);
        EQUAL(record.msg_flags, MSG_ERRQUEUE);
        HAS_FLAG(metadata.valid, RINGMSG_META_SOCKET_ERROR);
        EQUAL(metadata.socket_error, error->error);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_ring_free(ring));
}

/* What the error queue holds was sent, not received: in the statistics it is records, but neither
 * datagrams nor bytes, and an entry without a payload is no empty datagram. */
static void entries_of_the_error_queue_are_no_datagrams(void)
{
    enum { SENT = 40, EMPTY = 5 };
    struct ringmsg_ring *ring = make_ring();
    int fd = bound_udp(AF_INET), peer = bound_udp(AF_INET), sender = sender_to(fd);
    set_int(fd, SOL_IP, IP_RECVERR, 1);
    struct ringmsg_pool *pool = make_pool(ring, fd, 64, 2048);
    socklen_t length;
    struct sockaddr_storage theirs = address_of(peer, &length);
    refuse_senders(peer);
    for (int i = 0; i < SENT + EMPTY; i++) /* the error of one is what the next send returns first */
        while (sendto(fd, "lost", i < SENT ? 4 : 0, 0, (struct sockaddr *)&theirs, length) < 0)
            EQUAL(errno, ECONNREFUSED);
    char into[16];
    struct iovec part = {into, sizeof into};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    OK(ringmsg_recvmsg(ring, fd, &message, MSG_ERRQUEUE, 0, 1));
    EQUAL(reap_one(ring).result, 4);
    OK(ringmsg_recvmsg_once(ring, pool, fd, MSG_ERRQUEUE, 0, 2));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, 4);
    OK(ringmsg_release(ring, &record, 1));
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, MSG_ERRQUEUE, 0, 3));
    for (int i = 2; i < SENT + EMPTY; i++) {
        record = reap_one(ring);
        EQUAL(record.result, i < SENT ? 4 : 0);
        HAS_FLAG(record.msg_flags, MSG_ERRQUEUE);
        OK(ringmsg_release(ring, &record, 1));
    }
    struct ringmsg_stats request = {.size = sizeof request}, all = stats_of(ring);
    OK(ringmsg_request_stats(ring, 3, &request));
    EQUAL(request.records, SENT + EMPTY - 2);
    EQUAL(request.datagrams, 0);
    EQUAL(request.payload_bytes, 0);
    EQUAL(request.zero_length, 0);
    EQUAL(all.records, SENT + EMPTY);
    EQUAL(all.datagrams, 0);
    EQUAL(all.payload_bytes, 0);
    EQUAL(all.zero_length, 0);

    OK(ringmsg_cancel(ring, 3));
    HAS_FLAG(reap_one(ring).flags, RINGMSG_RECORD_FINAL);
    int pending;
    length = sizeof pending;
    SYS(getsockopt(fd, SOL_SOCKET, SO_ERROR, &pending, &length));
    OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 4));
    SYS(send(sender, "here", 4, 0));
    expect_text(ring, 4, "here");
    EQUAL(stats_of(ring).datagrams, 1);
    EQUAL(stats_of(ring).payload_bytes, 4);
    OK(ringmsg_ring_free(ring));
}

/* Another socket takes the descriptor number of an armed socket, and has data. The request is then
 * armed again many times, and must stay with its own socket. */
static void a_reused_descriptor_number_does_not_redirect_a_request(void)
{
    enum { ROUNDS = 50 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    int stranger = bound_udp(AF_INET), strange_sender = sender_to(stranger);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 2048);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    char into[16];
    struct iovec part = {into, sizeof into};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    OK(ringmsg_recvmsg(ring, receiver, &message, MSG_DONTWAIT, 0, 2)); /* queued, not submitted yet */

    EQUAL(SYS(dup2(stranger, receiver)), receiver); /* closes the old socket first */
    SYS(close(stranger));
    for (int i = 0; i < ROUNDS; i++)
        SYS(send(strange_sender, "strange", 7, 0));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.user_data, 2);
    EQUAL(record.result, -EAGAIN);

    for (int i = 0; i < ROUNDS; i++) {
        SYS(send(sender, "", 0, 0));
        record = reap_one(ring);
        EQUAL(record.user_data, 1);
        EQUAL(record.result, 0);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER);
        OK(ringmsg_release(ring, &record, 1));
        SYS(send(sender, "mine", 4, 0));
        expect_text(ring, 1, "mine");
    }
    if (!is_recvmmsg()) /* in the recvmmsg engine an empty datagram does not end a request */
        COMPARE(stats_of(ring).rearms, >=, ROUNDS);

    /* The request is armed again after starvation as well. */
    struct ringmsg_record held[4];
    for (int i = 0; i < 5; i++)
        SYS(send(sender, "mine", 4, 0));
    for (int i = 0; i < 4; i++)
        held[i] = reap_one(ring);
    reap_nothing(ring, 10);
    OK(ringmsg_release(ring, held, 4));
    expect_text(ring, 1, "mine");
    reap_nothing(ring, 10);
    for (int i = 0; i < ROUNDS; i++)
        EQUAL(SYS(recv(receiver, into, sizeof into, MSG_DONTWAIT)), 7);
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(connection_refused_is_one_record_and_data_flows_again),
      TEST(no_icmp_error_ends_a_request),
      TEST(a_flood_of_icmp_errors_does_not_end_a_request),
      TEST(the_error_queue_is_received_like_data),
      TEST(entries_of_the_error_queue_are_no_datagrams),
      TEST(a_reused_descriptor_number_does_not_redirect_a_request))
