/* A link on the way that takes less than the first one: its router drops what is too long, tells so
 * by ICMP, and the socket learns it while it sends. What fits arrives, whatever the kernel was told
 * to do with what does not (IP_MTU_DISCOVER), and the ICMP errors are no message's result. */
#include "network.h"

enum { LONG = 1400, SHORT = 1000, LAST = 10, LONG_ONES = 9, COUNT = LONG_ONES + 1 };

static struct ringmsg_message messages[COUNT];

/* Three networks in a row; the thread is in the first. Returns a receiver in the last, whose link
 * has an MTU of 1300. */
static int receiver_behind_a_router(void)
{
    static const char *const set_up[] = {
        "ip addr add 10.213.1.2/24 dev eth && ip link set eth up && ip route add default via 10.213.1.1",
        "ip addr add 10.213.1.1/24 dev r0 && ip addr add 10.213.2.1/24 dev r2 && ip link set r0 up && "
        "ip link set r2 mtu 1300 up",
        "ip addr add 10.213.2.2/24 dev eth && ip link set eth mtu 1300 up && ip route add default via 10.213.2.1",
    };
    int networks[3];
    cpu_set_t one;
    enter_own_network();
    /* What is sent on one processor is forwarded in its order. */
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    SYS(sched_setaffinity(0, sizeof one, &one));
    for (int n = 0; n < 3; n++) {
        SYS(unshare(CLONE_NEWNET));
        networks[n] = (int)SYS(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
    }
    SYS(setns(networks[1], CLONE_NEWNET));
    for (int n = 0; n < 3; n += 2)
        if (shell("ip link add r%d type veth peer name eth netns /proc/%d/fd/%d", n, getpid(), networks[n]) != 0)
            skip_test("this kernel has no veth");
    for (int n = 0; n < 3; n++) {
        SYS(setns(networks[n], CLONE_NEWNET));
        EQUAL(shell("ip link set lo up && %s", set_up[n]), 0);
        if (n == 1 && shell("echo 1 >/proc/sys/net/ipv4/ip_forward") != 0)
            skip_test("forwarding cannot be switched on: /proc/sys is read-only here");
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0ad50202), .sin_port = htons(7000)};
    int receiver = unbound_udp(AF_INET);
    SYS(bind(receiver, (struct sockaddr *)&address, sizeof address));
    SYS(setns(networks[0], CLONE_NEWNET));
    return receiver;
}

/* A sender in the first network that knows nothing of the way yet. */
static struct ringmsg_sender *newcomer(int policy, int fd)
{
    EQUAL(shell("ip route flush cache"), 0);
    set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, policy);
    set_int(fd, IPPROTO_IP, IP_RECVERR, 1);
    return make_sender(fd);
}

/* Sends long ones and a short one, and counts what arrives of each, until a last one comes, which
 * is behind them all the way. */
static void send_all(struct ringmsg_sender *sender, const struct ringmsg_path *path, int receiver, int arrived[2])
{
    struct ringmsg_message last = message_on(path, LAST, 0);
    messages_on(messages, LONG_ONES, path, LONG, 0);
    messages[LONG_ONES] = message_on(path, SHORT, LONG_ONES);
    EQUAL(ringmsg_send(sender, messages, COUNT, 0), COUNT);
    EQUAL(messages[LONG_ONES].result, SHORT);
    send_whole(sender, &last, 1);
    arrived[0] = arrived[1] = 0;
    for (ssize_t n; (n = receive_within(receiver, 20000 * TEST_TIME_FACTOR)) != LAST; arrived[n == SHORT]++)
        if (n != LONG && n != SHORT)
            FAIL("a datagram of %zd bytes arrived, or none", n);
}

/* What is too long is fragmented, once the socket knows. */
static void datagrams_that_may_be_fragmented(void)
{
    int receiver = receiver_behind_a_router(), arrived[2];
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = newcomer(IP_PMTUDISC_WANT, unbound_udp(AF_INET));
    for (int round = 0; round < 4; round++) {
        send_all(sender, &path, receiver, arrived);
        expect_taken(messages, COUNT);
        if (round > 0) {
            EQUAL(arrived[0], LONG_ONES);
            EQUAL(arrived[1], 1);
        }
    }
    EQUAL(sent_by(sender).errors, 0);
}

/* Each that is too long is refused, once the socket knows, and no other. */
static void datagrams_that_may_not(void)
{
    int receiver = receiver_behind_a_router(), arrived[2];
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = newcomer(IP_PMTUDISC_DO, unbound_udp(AF_INET));
    for (int round = 0; round < 4; round++) {
        send_all(sender, &path, receiver, arrived);
        for (int i = 0; i < LONG_ONES && round > 0; i++)
            EQUAL(messages[i].result, -EMSGSIZE);
        EQUAL(arrived[0], 0);
        EQUAL(arrived[1], round > 0);
    }
}

/* A program that finds the MTU itself: the socket learns nothing, so a probe that is too long is
 * taken and lost each time. Alone, as probes should be, it takes nothing with it; and the ICMP
 * error that it causes is the result of no message. */
static void a_probe_that_is_alone(void)
{
    int receiver = receiver_behind_a_router();
    struct ringmsg_path path = path_to(receiver);
    struct ringmsg_sender *sender = newcomer(IP_PMTUDISC_PROBE, unbound_udp(AF_INET));
    for (int round = 0; round < 4; round++) {
        messages[0] = message_on(&path, LONG, 0);
        messages[0].flags = RINGMSG_MESSAGE_ALONE;
        messages_on(&messages[1], COUNT - 1, &path, SHORT, 1);
        send_whole(sender, messages, COUNT);
        expect_datagrams(receiver, &messages[1], COUNT - 1);
        expect_nothing(receiver);
    }
    EQUAL(sent_by(sender).trains, 4);
    EQUAL(sent_by(sender).errors, 0);
    if (sent_by(sender).socket_errors == 0)
        FAIL("no ICMP error came: the test shows nothing");
}

SEND_TESTS(TEST(datagrams_that_may_be_fragmented), TEST(datagrams_that_may_not), TEST(a_probe_that_is_alone))
