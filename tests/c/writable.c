/* ringmsg_writable() reports with one record that a socket takes data again: at once where it does,
 * after the edge of POLLOUT where it is full, and not because of an unread error queue, which costs
 * no processor time. It can be cancelled, and is counted, like any request. */
#include "network.h"
#include <linux/net_tstamp.h>

enum { USER_DATA = 0x1234 };

/* The record of a request that found room. */
static void expect_writable(const struct ringmsg_record *record, uint64_t user_data)
{
    EQUAL(record->flags, RINGMSG_RECORD_WRITABLE | RINGMSG_RECORD_FINAL);
    EQUAL(record->result, 0);
    EQUAL(record->user_data, user_data);
    EQUAL(record->pool, RINGMSG_POOL_NONE);
    EQUAL(record->payload_length, 0);
    EQUAL(record->wire_length, 0);
}

static struct ringmsg_record reap_soon(struct ringmsg_ring *ring)
{
    struct ringmsg_record record;
    EQUAL(reap_ms(ring, &record, 1, 5000 * TEST_TIME_FACTOR), 1);
    return record;
}

/* Two connected local sockets, of which the first is full. */
static void make_full_pair(int type, int pair[2])
{
    static const char payload[1000];
    SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair));
    while (send(pair[0], payload, sizeof payload, MSG_DONTWAIT) > 0)
        ;
    EQUAL(errno, EAGAIN);
}

/* Reads all that a socket has. */
static void empty(int fd)
{
    while (recv(fd, inbox, sizeof inbox, MSG_DONTWAIT) > 0)
        ;
}

static void a_socket_with_room_is_reported_at_once(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), pair[2];
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    int sockets[] = {sender_to(receiver), receiver, pair[0]};
    for (int i = 0; i < 3; i++) {
        OK(ringmsg_writable(ring, sockets[i], USER_DATA + i));
        struct ringmsg_record record = reap_soon(ring);
        expect_writable(&record, USER_DATA + i);
        EQUAL(ringmsg_cancel(ring, USER_DATA + i), -ENOENT);
    }
    reap_nothing(ring, 20);
    OK(ringmsg_ring_free(ring));
}

/* The first reap after it has the record, without a wait. (A kernel thread runs it with SQPOLL.) */
static void a_reap_that_does_not_wait_has_the_record(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_record record;
    int fd = unbound_udp(AF_INET);
    for (int i = 0; i < 100; i++) {
        OK(ringmsg_writable(ring, fd, i));
        EQUAL(reap_ms(ring, &record, 1, 0), 1);
        expect_writable(&record, i);
    }
}

static void a_full_socket_is_reported_once_it_has_room(void)
{
    const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
    for (int t = 0; t < 3; t++) {
        struct ringmsg_ring *ring = make_ring();
        int pair[2];
        make_full_pair(types[t], pair);
        OK(ringmsg_writable(ring, pair[0], USER_DATA));
        reap_nothing(ring, 30);
        empty(pair[1]);
        struct ringmsg_record record = reap_soon(ring);
        expect_writable(&record, USER_DATA);
        COMPARE(SYS(send(pair[0], "x", 1, MSG_DONTWAIT)), ==, 1);
        reap_nothing(ring, 10);
        OK(ringmsg_ring_free(ring));
    }
}

/* A server that answers with an event loop: send, wait for room by the ring, resume. */
static void a_batch_is_sent_whole_by_resuming(void)
{
    enum { COUNT = 256, LENGTH = 400 };
    static struct ringmsg_message messages[COUNT];
    enter_own_network();
    slow_loopback(2000, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver), rounds = 0;
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_sender *sender = make_sender(fd);
    messages_on(messages, COUNT, NULL, LENGTH, 0);
    int total = OK(ringmsg_send(sender, messages, COUNT, 0));
    for (; total < COUNT; rounds++) {
        OK(ringmsg_writable(ring, fd, USER_DATA));
        struct ringmsg_record record = reap_soon(ring);
        expect_writable(&record, USER_DATA);
        int n = ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_RESUME);
        total += n == -EAGAIN ? 0 : OK(n);
    }
    expect_taken(messages, COUNT);
    expect_datagrams(receiver, messages, COUNT);
    COMPARE(rounds, >, 0);
    COMPARE(rounds, <, COUNT);
}

static int64_t process_cpu_ns(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec;
}

/* Unread transmit timestamps: POLLERR is always set, and more of them come. */
static void an_unread_error_queue_ends_no_wait_and_costs_nothing(void)
{
    enum { COUNT = 64, LENGTH = 400, MS = 300 };
    static struct ringmsg_message messages[COUNT];
    enter_own_network();
    slow_loopback(100, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver);
    struct pollfd errors = {.fd = fd, .events = 0}, room = {.fd = fd, .events = POLLOUT};
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING,
            SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY);
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_NO_GROUPING);
    messages_on(messages, COUNT, NULL, LENGTH, 0);
    OK(ringmsg_send(sender, messages, COUNT, 0));
    EQUAL(SYS(poll(&errors, 1, 5000)), 1);
    EQUAL(errors.revents, POLLERR);
    while (ringmsg_send(sender, messages, COUNT, 0) != -EAGAIN)
        ;

    OK(ringmsg_writable(ring, fd, USER_DATA));
    uint64_t enters = stats_of(ring).enters;
    int64_t start = now_ns(), cpu = process_cpu_ns();
    struct ringmsg_record record;
    int n = 0;
    do {
        n = reap_ms(ring, &record, 1, MS);
    } while (n == 0);
    expect_writable(&record, USER_DATA);
    EQUAL(SYS(poll(&room, 1, 0)), 1);
    HAS_FLAG(room.revents, POLLOUT);
    int64_t passed = now_ns() - start, used = process_cpu_ns() - cpu;
    COMPARE(passed, >, 200000000); /* at 100 kbit/s half a send buffer takes longer */
    COMPARE(used * (TEST_TIME_FACTOR > 1 ? 1 : 4), <, passed);
    /* Each timestamp may wake the reaper once; nothing else does. */
    COMPARE(stats_of(ring).enters - enters, <, 40 + 5 * (uint64_t)passed / (MS * 1000000));
}

static void it_can_be_cancelled(void)
{
    struct ringmsg_ring *ring = make_ring();
    int pair[2];
    make_full_pair(SOCK_DGRAM, pair);
    for (int i = 0; i < 20; i++) {
        OK(ringmsg_writable(ring, pair[0], USER_DATA));
        OK(ringmsg_writable(ring, pair[0], USER_DATA));
        if (i % 2 == 0)
            reap_nothing(ring, 1);
        OK(ringmsg_cancel(ring, USER_DATA));
        for (int k = 0; k < 2; k++) {
            struct ringmsg_record record = reap_soon(ring);
            EQUAL(record.flags, RINGMSG_RECORD_FINAL);
            EQUAL(record.result, -ECANCELED);
            EQUAL(record.user_data, USER_DATA);
            EQUAL(record.pool, RINGMSG_POOL_NONE);
        }
        EQUAL(ringmsg_cancel(ring, USER_DATA), -ENOENT);
    }
    reap_nothing(ring, 10);
}

/* A request that polls for edges (POLLERR was set when it was armed) can be cancelled, too. */
static void it_can_be_cancelled_beside_an_error_queue(void)
{
    enter_own_network();
    slow_loopback(16, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver);
    struct pollfd errors = {.fd = fd, .events = 0};
    struct ringmsg_ring *ring = make_ring();
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING,
            SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY);
    while (send(fd, inbox, 400, MSG_DONTWAIT) > 0)
        ;
    EQUAL(SYS(poll(&errors, 1, 5000)), 1);
    while (send(fd, inbox, 400, MSG_DONTWAIT) > 0)
        ;
    OK(ringmsg_writable(ring, fd, USER_DATA));
    reap_nothing(ring, 20);
    OK(ringmsg_cancel(ring, USER_DATA));
    struct ringmsg_record record = reap_soon(ring);
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    EQUAL(record.result, -ECANCELED);
    reap_nothing(ring, 10);
    OK(ringmsg_writable(ring, fd, USER_DATA));
    reap_nothing(ring, 20);
    OK(ringmsg_ring_free(ring));
}

/* Several requests wait on one socket, which also has a multishot. */
static void requests_share_a_socket(void)
{
    enum { WAITING = 5, ROUNDS = 20 };
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_record records[16];
    int pair[2];
    make_full_pair(SOCK_DGRAM, pair);
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, pair[0], 8, 64), pair[0], 0, 0, USER_DATA));
    for (int round = 0; round < ROUNDS; round++) {
        int writable = 0, received = 0;
        while (send(pair[0], inbox, 100, MSG_DONTWAIT) > 0)
            ;
        for (int i = 0; i < WAITING; i++)
            OK(ringmsg_writable(ring, pair[0], i));
        EQUAL(SYS(send(pair[1], "data", 4, 0)), 4);
        while (received == 0) {
            int n = reap_ms(ring, records, 16, 20000 * TEST_TIME_FACTOR);
            for (int i = 0; i < n; i++) {
                EQUAL(records[i].user_data, USER_DATA);
                EQUAL(records[i].result, 4);
                received++;
            }
            OK(ringmsg_release(ring, records, (uint32_t)n));
        }
        empty(pair[1]);
        uint64_t seen = 0;
        while (writable < WAITING) {
            int n = reap_ms(ring, records, 16, 20000 * TEST_TIME_FACTOR);
            COMPARE(n, >, 0);
            for (int i = 0; i < n; i++) {
                expect_writable(&records[i], records[i].user_data);
                seen |= 1u << records[i].user_data;
            }
            writable += n;
        }
        EQUAL(writable, WAITING);
        EQUAL(seen, (1u << WAITING) - 1);
        EQUAL(SYS(send(pair[1], "more", 4, 0)), 4);
        struct ringmsg_record record = reap_soon(ring);
        EQUAL(record.user_data, USER_DATA);
        OK(ringmsg_release(ring, &record, 1));
    }
    EQUAL(stats_of(ring).errors, 0);
    EQUAL(stats_of(ring).zero_length, 0);
}

/* The number is used again, for a socket that has room: the request is the first socket's. */
static void the_descriptor_may_be_closed_and_used_again(void)
{
    struct ringmsg_ring *ring = make_ring();
    int pair[2];
    make_full_pair(SOCK_STREAM, pair);
    OK(ringmsg_writable(ring, pair[0], USER_DATA));
    close(pair[0]);
    EQUAL(dup2(sender_to(bound_udp(AF_INET)), pair[0]), pair[0]);
    reap_nothing(ring, 30);
    empty(pair[1]);
    struct ringmsg_record record = reap_soon(ring);
    expect_writable(&record, USER_DATA);
    /* That was the last reference: the peer sees the end. */
    EQUAL(SYS(recv(pair[1], inbox, sizeof inbox, 0)), 0);
}

static void a_peer_that_hangs_up_ends_the_wait(void)
{
    struct ringmsg_ring *ring = make_ring();
    int pair[2];
    make_full_pair(SOCK_STREAM, pair);
    OK(ringmsg_writable(ring, pair[0], USER_DATA));
    reap_nothing(ring, 10);
    close(pair[1]);
    struct ringmsg_record record = reap_soon(ring);
    expect_writable(&record, USER_DATA);
    EQUAL(send(pair[0], "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), -1);
}

static void it_is_counted_and_is_no_datagram(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_stats stats = {.size = sizeof stats};
    int pair[2];
    make_full_pair(SOCK_STREAM, pair);
    EQUAL(ringmsg_request_stats(ring, USER_DATA, &stats), -ENOENT);
    OK(ringmsg_writable(ring, pair[0], USER_DATA));
    OK(ringmsg_request_stats(ring, USER_DATA, &stats));
    EQUAL(stats.records, 0);
    EQUAL(stats.buffers_held, 0);
    empty(pair[1]);
    struct ringmsg_record record = reap_soon(ring);
    expect_writable(&record, USER_DATA);
    struct ringmsg_stats all = stats_of(ring);
    EQUAL(all.records, 1);
    EQUAL(all.datagrams, 0);
    EQUAL(all.payload_bytes, 0);
    EQUAL(all.zero_length, 0);
    EQUAL(all.errors, 0);
    EQUAL(all.rearms, 0);
}

static void ring_fd_tells_of_it(void)
{
    struct ringmsg_ring *ring = make_ring();
    int pair[2];
    struct pollfd ready = {.fd = OK(ringmsg_ring_fd(ring)), .events = POLLIN};
    make_full_pair(SOCK_DGRAM, pair);
    for (int round = 0; round < 5; round++) {
        while (send(pair[0], inbox, 100, MSG_DONTWAIT) > 0)
            ;
        OK(ringmsg_writable(ring, pair[0], USER_DATA));
        reap_nothing(ring, 0);
        EQUAL(SYS(poll(&ready, 1, 20)), 0);
        empty(pair[1]);
        EQUAL(SYS(poll(&ready, 1, 5000)), 1);
        struct ringmsg_record record;
        EQUAL(reap_ms(ring, &record, 1, 0), 1);
        expect_writable(&record, USER_DATA);
    }
}

struct arming {
    struct ringmsg_ring *ring;
    int fd, result;
};

static void *arm_and_exit(void *argument)
{
    struct arming *arming = argument;
    arming->result = ringmsg_writable(arming->ring, arming->fd, USER_DATA);
    return NULL;
}

/* In plain and COOP mode the kernel ends a poll when the thread that armed it exits. */
static void it_outlives_the_thread_that_armed_it(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct arming arming = {.ring = ring};
    int pair[2];
    pthread_t thread;
    make_full_pair(SOCK_STREAM, pair);
    arming.fd = pair[0];
    pthread_create(&thread, NULL, arm_and_exit, &arming);
    pthread_join(thread, NULL);
    if (is_bound()) {
        EQUAL(arming.result, -EPERM);
        return;
    }
    EQUAL(arming.result, 0);
    reap_nothing(ring, 50);
    empty(pair[1]);
    struct ringmsg_record record = reap_soon(ring);
    expect_writable(&record, USER_DATA);
}

static void what_cannot_be_waited_for_is_refused(void)
{
    struct ringmsg_ring *ring = make_ring(), *disabled = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    int pair[2], file[2], fds = open_descriptors();
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    SYS(pipe(file));
    int types[] = {SOCK_DGRAM, SOCK_STREAM, SOCK_SEQPACKET};
    for (int t = 0; t < 3; t++) {
        int unconnected = (int)SYS(socket(AF_UNIX, types[t], 0));
        REFUSED(ringmsg_writable(ring, unconnected, USER_DATA), EOPNOTSUPP);
        close(unconnected);
    }
    REFUSED(ringmsg_writable(NULL, pair[0], USER_DATA), EINVAL);
    REFUSED(ringmsg_writable(ring, -1, USER_DATA), EBADF);
    REFUSED(ringmsg_writable(ring, file[1], USER_DATA), ENOTSOCK);
    REFUSED(ringmsg_writable(disabled, pair[0], USER_DATA), EBADFD);
    EQUAL(ringmsg_cancel(ring, USER_DATA), -ENOENT);
    EQUAL(open_descriptors(), fds + 4);
    OK(ringmsg_ring_free(disabled));
    pid_t child = (pid_t)SYS(fork());
    if (child == 0)
        _exit(ringmsg_writable(ring, pair[0], USER_DATA) != -EPERM);
    int status;
    SYS(waitpid(child, &status, 0));
    EQUAL(status, 0);
}

/* Requests that wait keep no descriptor alive behind ring_free. */
static void freeing_the_ring_ends_them(void)
{
    int before = open_descriptors();
    struct ringmsg_ring *ring = make_ring();
    for (int i = 0; i < 50; i++) {
        int pair[2];
        make_full_pair(SOCK_STREAM, pair);
        OK(ringmsg_writable(ring, pair[0], i));
        OK(ringmsg_writable(ring, pair[0], i));
        close(pair[0]);
        close(pair[1]);
    }
    OK(ringmsg_ring_free(ring));
    EQUAL(open_descriptors(), before);
}

TESTS(TEST_SQPOLL_TOO(a_socket_with_room_is_reported_at_once), TEST(a_reap_that_does_not_wait_has_the_record),
      TEST_SQPOLL_TOO(a_full_socket_is_reported_once_it_has_room), TEST_SQPOLL_TOO(a_batch_is_sent_whole_by_resuming),
      TEST_SQPOLL_TOO(an_unread_error_queue_ends_no_wait_and_costs_nothing), TEST_SQPOLL_TOO(it_can_be_cancelled),
      TEST_SQPOLL_TOO(it_can_be_cancelled_beside_an_error_queue), TEST_SQPOLL_TOO(requests_share_a_socket),
      TEST_SQPOLL_TOO(the_descriptor_may_be_closed_and_used_again), TEST_SQPOLL_TOO(a_peer_that_hangs_up_ends_the_wait),
      TEST_SQPOLL_TOO(it_is_counted_and_is_no_datagram), TEST_SQPOLL_TOO(ring_fd_tells_of_it),
      TEST_SQPOLL_TOO(it_outlives_the_thread_that_armed_it), TEST_SQPOLL_TOO(what_cannot_be_waited_for_is_refused),
      TEST_SQPOLL_TOO(freeing_the_ring_ends_them))
