/* SO_SNDTIMEO bounds the wait of RINGMSG_SEND_WAIT as it bounds that of a blocking send: once the
 * socket has taken nothing for that long the call returns, and what is left has -EAGAIN. Each time
 * that something is taken the time begins again; without the option there is no limit. It costs no
 * processor time. */
#include "network.h"
#include <sys/time.h>

enum { MANY = 200, LENGTH = 1000 };

static struct ringmsg_message messages[MANY];

static void limit_sends(int fd, int ms)
{
    struct timeval limit = {ms / 1000, ms % 1000 * 1000};
    SYS(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit));
}

static int64_t cpu_ns(void)
{
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (int64_t)cpu.tv_sec * 1000000000 + cpu.tv_nsec;
}

static int left(void)
{
    int count = 0;
    for (int i = 0; i < MANY; i++)
        count += messages[i].result == -EAGAIN;
    return count;
}

/* A call that waits in vain takes as long as the option says, asleep. */
static int wait_in_vain(struct ringmsg_sender *sender, uint32_t flags, int ms)
{
    int64_t start = now_ns(), cpu = cpu_ns();
    int n = ringmsg_send(sender, messages, MANY, RINGMSG_SEND_WAIT | flags);
    int64_t passed = now_ns() - start;
    if (passed < (int64_t)ms * 1000000)
        FAIL("it waited %lld us of %d ms", (long long)passed / 1000, ms);
    if (ms > 0 && (cpu_ns() - cpu) * 2 > passed)
        FAIL("it used a processor while it waited");
    return n;
}

/* Nobody reads. The three kinds differ in who is full, and in whether poll(2) knows of it. */
static void it_ends_a_wait_in_vain(void)
{
    int kinds[] = {SOCK_DGRAM, SOCK_SEQPACKET};
    for (int k = 0; k < 2; k++) {
        int pair[2];
        SYS(socketpair(AF_UNIX, kinds[k], 0, pair));
        set_int(pair[0], SOL_SOCKET, SO_SNDBUF, 16384);
        limit_sends(pair[0], 100);
        struct ringmsg_sender *sender = make_sender(pair[0]);
        messages_on(messages, MANY, NULL, LENGTH, 0);
        int n = wait_in_vain(sender, 0, 100);
        if (n <= 0 || n != MANY - left())
            FAIL("it returned %d, and left %d", n, left());
        EQUAL(wait_in_vain(sender, RINGMSG_SEND_RESUME, 100), -EAGAIN);
        EQUAL(MANY - left(), n);
        /* There is room again: the same array goes on where it stopped. */
        EQUAL(recv(pair[1], inbox, sizeof inbox, 0), LENGTH);
        int more = OK(wait_in_vain(sender, RINGMSG_SEND_RESUME, 100));
        EQUAL(MANY - left(), n + more);
        EQUAL(sent_by(sender).messages, n + more);
        EQUAL(sent_by(sender).errors, 0);
    }
}

/* Netlink sockets always say that they are writable, whatever a reader's queue holds. */
static void it_ends_pauses_as_well(void)
{
    int reader = (int)SYS(socket(AF_NETLINK, SOCK_RAW, 2 /* NETLINK_USERSOCK */));
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW, 2));
    struct sockaddr_storage address = {.ss_family = AF_NETLINK};
    SYS(bind(reader, (struct sockaddr *)&address, 12));
    socklen_t length;
    address = address_of(reader, &length);
    SYS(connect(fd, (struct sockaddr *)&address, length));
    set_int(reader, SOL_SOCKET, SO_RCVBUF, 8192);
    limit_sends(fd, 100);
    messages_on(messages, MANY, NULL, LENGTH, 0);
    int n = wait_in_vain(make_sender(fd), 0, 100);
    if (n <= 0 || n != MANY - left())
        FAIL("it returned %d, and left %d", n, left());
}

/* A link that takes a datagram every ten milliseconds: all go, although it takes longer than the
 * option says. */
static void what_is_taken_begins_it_again(void)
{
    enter_own_network();
    slow_loopback(800, 100000);
    int receiver = roomy_udp(AF_INET), fd = unbound_udp(AF_INET);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    limit_sends(fd, 300);
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = make_sender_with(fd, RINGMSG_SENDER_NO_GROUPING);
    messages_on(messages, MANY / 2, &path, LENGTH, 0);
    int64_t start = now_ns();
    EQUAL(ringmsg_send(sender, messages, MANY / 2, RINGMSG_SEND_WAIT), MANY / 2);
    if (now_ns() - start < 300 * 1000000)
        FAIL("the link was not slow enough to show anything");
    expect_taken(messages, MANY / 2);
    expect_datagrams(receiver, messages, MANY / 2);
}

static void on_signal(int signal)
{
    (void)signal;
}

/* The option is read when a wait begins: one that is set later counts, and 0 is no limit. */
static void it_is_what_the_socket_says_now(void)
{
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    set_int(pair[0], SOL_SOCKET, SO_SNDBUF, 16384);
    struct ringmsg_sender *sender = make_sender(pair[0]);
    messages_on(messages, MANY, NULL, LENGTH, 0);
    OK(ringmsg_send(sender, messages, MANY, 0));
    limit_sends(pair[0], 50);
    EQUAL(wait_in_vain(sender, RINGMSG_SEND_RESUME, 50), -EAGAIN);
    limit_sends(pair[0], 100);
    EQUAL(wait_in_vain(sender, RINGMSG_SEND_RESUME, 100), -EAGAIN);
    limit_sends(pair[0], 0);
    struct sigaction action = {.sa_handler = on_signal};
    /* It repeats: the first may come before the call. */
    struct itimerval every_250_ms = {{0, 250000}, {0, 250000}}, never = {0};
    SYS(sigaction(SIGALRM, &action, NULL));
    int64_t start = now_ns();
    SYS(setitimer(ITIMER_REAL, &every_250_ms, NULL));
    EQUAL(wait_in_vain(sender, RINGMSG_SEND_RESUME, 0), -EINTR);
    COMPARE(now_ns() - start, >=, 250000000);
    SYS(setitimer(ITIMER_REAL, &never, NULL));
}

SEND_TESTS(TEST(it_ends_a_wait_in_vain), TEST(it_ends_pauses_as_well), TEST(what_is_taken_begins_it_again),
           TEST(it_is_what_the_socket_says_now))
