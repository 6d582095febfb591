/* Full sockets: -EAGAIN, at any place, marks the messages to be sent again; RESUME sends just
 * that; WAIT waits for the edge of POLLOUT, at no CPU while the error queue is not read; a signal
 * ends it with -EINTR. Nothing is sent twice, nothing is lost, order to a peer is kept. */
#include "network.h"
#include <linux/net_tstamp.h>
#include <sys/time.h>

/* A socket with a small send buffer in front of a slow device. */
static int slow_socket(int kbit)
{
    enter_own_network();
    slow_loopback(kbit, 64 << 20);
    int fd = unbound_udp(AF_INET);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    return fd;
}

enum { PEERS = 8, EACH = 32, COUNT = PEERS * EACH, LENGTH = 400 };

/* Interleaved messages to receivers. */
static struct ringmsg_message messages[COUNT];
static struct ringmsg_path paths[PEERS];
static int receivers[PEERS];

static void make_messages(void)
{
    for (int p = 0; p < PEERS; p++) {
        receivers[p] = roomy_udp(AF_INET);
        paths[p] = path_to(receivers[p]);
    }
    for (int i = 0; i < COUNT; i++)
        messages[i] = message_on(&paths[i % PEERS], LENGTH, (uint32_t)i);
}

/* Each message has arrived once, in order. */
static void expect_all(void)
{
    expect_taken(messages, COUNT);
    for (int p = 0; p < PEERS; p++) {
        for (int i = 0; i < EACH; i++)
            expect_datagrams(receivers[p], &messages[i * PEERS + p], 1);
        expect_nothing(receivers[p]);
    }
}

static int count_result(int result)
{
    int count = 0;
    for (int i = 0; i < COUNT; i++)
        count += messages[i].result == result;
    return count;
}

/* Waits for room as a program with an event loop of its own does. */
static void wait_writable(int fd)
{
    struct pollfd writable = {.fd = fd, .events = POLLOUT};
    SYS(poll(&writable, 1, 10000));
}

static void resume_gives_again_just_what_was_left(void)
{
    int fd = slow_socket(4000), calls = 0, total;
    struct ringmsg_sender *sender = make_sender(fd);
    make_messages();
    total = OK(ringmsg_send(sender, messages, COUNT, 0));
    EQUAL(count_result(LENGTH), total);
    EQUAL(count_result(-EAGAIN), COUNT - total);
    /* Not a prefix: whole trains went, and their messages are everywhere. */
    int last_taken = 0, first_left = COUNT;
    for (int i = 0; i < COUNT; i++) {
        if (messages[i].result == LENGTH)
            last_taken = i;
        else if (first_left == COUNT)
            first_left = i;
    }
    if (first_left > last_taken)
        FAIL("the first %d messages went: nothing was grouped", total);
    while (total < COUNT) {
        wait_writable(fd);
        int n = ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_RESUME);
        if (n != -EAGAIN)
            total += OK(n);
        calls++;
    }
    EQUAL(total, COUNT);
    EQUAL(ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_RESUME), 0);
    expect_all();
    EQUAL(sent_by(sender).messages, COUNT);
    EQUAL(sent_by(sender).errors, 0);
    if (sent_by(sender).would_block == 0)
        FAIL("the socket was never full");
}

static void eagain_when_none_could_be_settled(void)
{
    int fd = slow_socket(100);
    struct ringmsg_sender *sender = make_sender(fd);
    make_messages();
    OK(ringmsg_send(sender, messages, COUNT, 0));
    for (int i = 0; i < COUNT; i++)
        messages[i].result = NO_RESULT;
    EQUAL(ringmsg_send(sender, messages, COUNT, 0), -EAGAIN);
    EQUAL(count_result(-EAGAIN), COUNT);
    EQUAL(ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_RESUME), -EAGAIN);
    EQUAL(count_result(-EAGAIN), COUNT);
    /* An error is settled, even if it is all that is. */
    messages[7].payload = NULL;
    EQUAL(ringmsg_send(sender, messages, COUNT, 0), 1);
    EQUAL(count_result(-EAGAIN), COUNT - 1);
    EQUAL(messages[7].result, -EFAULT);
}

static void resume_touches_nothing_else(void)
{
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    int results[6] = {-EAGAIN, 100, -EPERM, -EAGAIN, 0, NO_RESULT};
    struct ringmsg_message some[6];
    messages_on(some, 6, NULL, 100, 0);
    for (int i = 0; i < 6; i++)
        some[i].result = results[i];
    EQUAL(ringmsg_send(sender, some, 6, RINGMSG_SEND_RESUME), 2);
    for (int i = 0; i < 6; i++)
        EQUAL(some[i].result, results[i] == -EAGAIN ? 100 : results[i]);
    expect_datagrams(receiver, &some[0], 1);
    expect_datagrams(receiver, &some[3], 1);
    expect_nothing(receiver);

    /* In columns, back to back: what is left out keeps its place. */
    int32_t column[6];
    uint32_t lengths[6] = {1, 2, 3, 4, 5, 6};
    memcpy(column, results, sizeof column);
    const uint8_t *base = make_payload(21, 9);
    EQUAL(ringmsg_send_columns(sender, base, 21, NULL, lengths, NULL, NULL, 0, column, 6, RINGMSG_SEND_RESUME), 2);
    expect_bytes(receiver, base, 1);
    expect_bytes(receiver, base + 6, 4);
    expect_nothing(receiver);
    EQUAL(column[0], 1);
    EQUAL(column[2], -EPERM);
    EQUAL(column[3], 4);
}

/* Thread CPU time may be a quarter of the time that passes, at most; spinning it is all of it. */
static void expect_idle(int64_t wall_before, int64_t cpu_before)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    int64_t used = (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec - cpu_before, passed = now_ns() - wall_before;
    if (used * 4 > passed)
        FAIL("%lld us of CPU time in %lld us", (long long)used / 1000, (long long)passed / 1000);
}

static int64_t thread_cpu_ns(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec;
}

static void wait_sends_all_and_sleeps_meanwhile(void)
{
    int fd = slow_socket(1000);
    struct ringmsg_sender *sender = make_sender(fd);
    make_messages();
    int64_t wall = now_ns(), cpu = thread_cpu_ns();
    EQUAL(ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_WAIT), COUNT);
    expect_idle(wall, cpu);
    expect_all();
}

/* Every datagram leaves a timestamp in the unread error queue: POLLERR is always set. */
static void an_unread_error_queue_does_not_spin(void)
{
    int fd = slow_socket(1000), received = 0;
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPING,
            SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY);
    struct ringmsg_sender *sender = make_sender(fd);
    make_messages();
    struct pollfd errors = {.fd = fd, .events = 0};
    OK(ringmsg_send(sender, messages, 16, 0));
    EQUAL(SYS(poll(&errors, 1, 5000)), 1);
    EQUAL(errors.revents & POLLERR, POLLERR);
    for (int p = 0; p < PEERS; p++)
        while (receive_within(receivers[p], 100) >= 0)
            received++;
    EQUAL(received, 16);
    int64_t wall = now_ns(), cpu = thread_cpu_ns();
    EQUAL(ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_WAIT), COUNT);
    expect_idle(wall, cpu);
    expect_all();
}

static volatile sig_atomic_t signals;
static void on_signal(int signal)
{
    (void)signal;
    signals++;
}

static void a_signal_ends_the_wait(void)
{
    int fd = slow_socket(500), n, total = 0;
    struct ringmsg_sender *sender = make_sender(fd);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 50000}, {0, 50000}}, never = {{0, 0}, {0, 0}};
    make_messages();
    SYS(sigaction(SIGALRM, &action, NULL));
    SYS(setitimer(ITIMER_REAL, &often, NULL));
    n = ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_WAIT);
    EQUAL(n, -EINTR);
    int taken = count_result(LENGTH), left = count_result(-EAGAIN), interrupted = 1;
    EQUAL(taken + left, COUNT);
    if (taken == 0 || left == 0)
        FAIL("%d taken, %d left", taken, left);
    do {
        n = ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME);
        if (n == -EINTR)
            interrupted++;
        else
            total += OK(n);
    } while (n == -EINTR);
    SYS(setitimer(ITIMER_REAL, &never, NULL));
    if (interrupted > (int)signals)
        FAIL("%d interruptions by %d signals", interrupted, (int)signals);
    EQUAL(count_result(LENGTH), COUNT);
    expect_all();
}

/* AF_UNIX: full means that the peer's queue is, too. The pair's sockets are each other's peers. */
static void a_train_that_went_in_part_is_dealt_with(void)
{
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    struct ringmsg_sender *sender = make_sender(pair[0]);
    struct ringmsg_message train[3];
    train[0] = message_on(NULL, 10, 0);
    train[1] = message_on(NULL, 1000000, 1);
    train[1].segment_size = 1000;
    train[2] = message_on(NULL, 10, 2);
    EQUAL(ringmsg_send(sender, train, 3, 0), 2);
    EQUAL(train[0].result, 10);
    EQUAL(train[2].result, -EAGAIN);
    int taken = train[1].result;
    if (taken <= 0 || taken >= 1000000 || taken % 1000 != 0)
        FAIL("%d bytes of the train were taken", taken);
    expect_datagrams(pair[1], train, 1);
    for (int at = 0; at < taken; at += 1000)
        expect_bytes(pair[1], (const uint8_t *)train[1].payload + at, 1000);
    expect_nothing(pair[1]);
    EQUAL(sent_by(sender).messages, 2);
    EQUAL(sent_by(sender).datagrams, 1 + taken / 1000);
    EQUAL(sent_by(sender).payload_bytes, 10 + taken);
    EQUAL(ringmsg_send(sender, train, 3, RINGMSG_SEND_RESUME), 1);
    expect_datagrams(pair[1], &train[2], 1);
}

/* The same over UDP, where the train leaves as several: what went is not sent again. */
static void a_long_udp_train_that_went_in_part(void)
{
    int fd = slow_socket(4000), receiver = very_roomy_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_message train = message_on(&path, 1000000, 1), rest;
    train.segment_size = 1000;
    EQUAL(ringmsg_send(sender, &train, 1, 0), 1);
    int taken = train.result;
    if (taken <= 0 || taken >= 1000000 || taken % 1000 != 0)
        FAIL("%d bytes of the train were taken", taken);
    EQUAL(ringmsg_send(sender, &train, 1, RINGMSG_SEND_RESUME), 0);
    rest = train;
    rest.payload = (const uint8_t *)train.payload + taken;
    rest.payload_length = 300000;
    EQUAL(ringmsg_send(sender, &rest, 1, RINGMSG_SEND_WAIT), 1);
    EQUAL(rest.result, 300000);
    train.payload_length = (uint32_t)taken + 300000;
    expect_datagrams(receiver, &train, 1);
    expect_nothing(receiver);
}

static void *send_until_cancelled(void *sender)
{
    int n;
    do { /* the other thread asks whether this one is inside, and may be inside itself */
        n = ringmsg_send(sender, messages, COUNT, RINGMSG_SEND_WAIT);
    } while (n == -EBUSY);
    if (n != COUNT)
        FAIL("the call was torn: %d", n);
    pthread_testcancel();
    return NULL;
}

/* pthread_cancel(3) of a thread that waits in a call takes effect behind it. */
static void a_thread_that_waits_is_cancelled_after_the_call(void)
{
    struct ringmsg_sender *sender = make_sender(slow_socket(2000));
    pthread_t thread;
    void *result = NULL;
    make_messages();
    pthread_create(&thread, NULL, send_until_cancelled, sender);
    WAIT_UNTIL(ringmsg_send(sender, messages, 0, 0) == -EBUSY);
    EQUAL(pthread_cancel(thread), 0);
    pthread_join(thread, &result);
    SAME_POINTER(result, PTHREAD_CANCELED);
    expect_all();
    OK(ringmsg_sender_free(sender));
}

static void *drain_slowly(void *socket)
{
    int fd = *(int *)socket, count = 0;
    for (ssize_t n = 1; n > 0; count += n == 1000) {
        nanosleep(&(struct timespec){0, 200000}, NULL);
        n = recv(fd, inbox, sizeof inbox, 0);
    }
    return (void *)(intptr_t)count;
}

static void wait_waits_for_the_peer_of_an_af_unix_socket(void)
{
    int kinds[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int k = 0; k < 2; k++) {
        int pair[2];
        pthread_t reader;
        void *count;
        struct ringmsg_message train[2];
        SYS(socketpair(AF_UNIX, kinds[k], 0, pair));
        struct ringmsg_sender *sender = make_sender(pair[0]);
        train[0] = message_on(NULL, 1000000, 1);
        train[0].segment_size = 1000;
        train[1] = message_on(NULL, 1, 2);
        train[1].payload_length = 0;
        pthread_create(&reader, NULL, drain_slowly, &pair[1]);
        EQUAL(ringmsg_send(sender, train, 1, RINGMSG_SEND_WAIT), 1);
        EQUAL(train[0].result, 1000000);
        EQUAL(ringmsg_send(sender, &train[1], 1, RINGMSG_SEND_WAIT), 1);
        pthread_join(reader, &count);
        EQUAL((intptr_t)count, 1000);
        if (sent_by(sender).would_block == 0)
            FAIL("the socket was never full");
    }
}

/* A datagram socket that is connected to one that is not connected back: its queue has a limit
 * of its own (net.unix.max_dgram_qlen), which poll(2) knows of only while the sockets are
 * connected. */
static void wait_waits_for_a_servers_queue(void)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(sa_family_t);
    int server = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0)), client = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    memset(&address, 0, sizeof address);
    address.ss_family = AF_UNIX;
    SYS(bind(server, (struct sockaddr *)&address, length)); /* a name in no file system */
    address = address_of(server, &length);
    SYS(connect(client, (struct sockaddr *)&address, length));
    struct ringmsg_sender *sender = make_sender(client);
    struct ringmsg_message train = message_on(NULL, 200000, 1), end = message_on(NULL, 0, 2);
    pthread_t reader;
    void *count;
    train.segment_size = 1000;
    pthread_create(&reader, NULL, drain_slowly, &server);
    EQUAL(ringmsg_send(sender, &train, 1, RINGMSG_SEND_WAIT), 1);
    EQUAL(train.result, 200000);
    EQUAL(ringmsg_send(sender, &end, 1, RINGMSG_SEND_WAIT), 1);
    pthread_join(reader, &count);
    EQUAL((intptr_t)count, 200);
    if (sent_by(sender).would_block == 0)
        FAIL("the queue was never full");
}

/* No memory for what a datagram needs: each message's own result, neither "full" nor given
 * again. */
static void enobufs_is_a_result(void)
{
    int fd = slow_socket(1000);
    struct ringmsg_sender *sender = make_sender(fd);
    int receiver = roomy_udp(AF_INET);
    struct ringmsg_path path = path_to(receiver);
    /* One free slot: a datagram of 40 fragments does not fit the send buffer, a train does. */
    struct ringmsg_message single = message_on(&path, 60000, 1), train = message_on(&path, 58880, 2);
    train.segment_size = 1472;
    EQUAL(ringmsg_send(sender, &single, 1, RINGMSG_SEND_WAIT), 1);
    EQUAL(single.result, -ENOBUFS);
    send_whole(sender, &train, 1);
    expect_datagrams(receiver, &train, 1);
}

SEND_TESTS(TEST(resume_gives_again_just_what_was_left), TEST(eagain_when_none_could_be_settled),
           TEST(resume_touches_nothing_else), TEST(wait_sends_all_and_sleeps_meanwhile),
           TEST(an_unread_error_queue_does_not_spin), TEST(a_signal_ends_the_wait),
           TEST(a_train_that_went_in_part_is_dealt_with), TEST(a_long_udp_train_that_went_in_part),
           TEST(a_thread_that_waits_is_cancelled_after_the_call), TEST(wait_waits_for_the_peer_of_an_af_unix_socket),
           TEST(wait_waits_for_a_servers_queue), TEST(enobufs_is_a_result))
