/* The recvmmsg engine survives system calls that fail for lack of memory, of epoll watches, or by a
 * signal. The library's calls reach the definitions in this program, which make some of them
 * fail. */
#include "test.h"

#include <sys/syscall.h>

/* How many of these calls still fail. */
static int enomem_left, eacces_left, eintr_left, enospc_left, adds;

static int fails(int *times, int with)
{
    if (*times == 0)
        return 0;
    --*times;
    errno = with;
    return 1;
}

int recvmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    if (fails(&enomem_left, ENOMEM) || fails(&eacces_left, EACCES))
        return -1;
    return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (fails(&eintr_left, EINTR))
        return -1;
    return syscall(SYS_recvmsg, fd, message, flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    adds += operation == EPOLL_CTL_ADD;
    if (operation == EPOLL_CTL_ADD && fails(&enospc_left, ENOSPC))
        return -1;
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static struct fixture {
    struct ringmsg_ring *ring;
    int receiver, sender;
} fixture;

/* Returns 0 if the mode under test is on io_uring. */
static int set_up(void)
{
    if (!is_recvmmsg())
        return 0;
    fixture.ring = make_ring();
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    OK(ringmsg_recvmsg_multishot(fixture.ring, make_pool(fixture.ring, fixture.receiver, 64, 256),
                                 fixture.receiver, 0, 0, 1));
    return 1;
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.receiver);
    close(fixture.sender);
}

/* Reaps with timeout 0, each time ring_fd becomes readable. */
static struct ringmsg_record reap_when_readable(int fd)
{
    struct pollfd ready = {fd, POLLIN, 0};
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    int64_t end = now_ns() + 2000000000ll * TEST_TIME_FACTOR;
    while (now_ns() < end)
        if (SYS(poll(&ready, 1, 100)) == 1 && OK(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait)) == 1)
            return record;
    FAIL("ring_fd did not become readable for a record");
}

static void ring_fd_is_readable_when_a_pause_ends(void)
{
    if (!set_up())
        return;
    int fd = OK(ringmsg_ring_fd(fixture.ring));
    enomem_left = 1;
    SYS(send(fixture.sender, "one", 3, 0));
    EQUAL(reap_when_readable(fd).result, -ENOMEM);
    EQUAL(reap_when_readable(fd).result, 3);
    SYS(send(fixture.sender, "four", 4, 0));
    EQUAL(reap_when_readable(fd).result, 4);
    tear_down();
}

static void ring_fd_is_readable_when_a_paused_request_is_cancelled(void)
{
    if (!set_up())
        return;
    int fd = OK(ringmsg_ring_fd(fixture.ring));
    enomem_left = 1;
    SYS(send(fixture.sender, "one", 3, 0));
    EQUAL(reap_when_readable(fd).result, -ENOMEM);
    OK(ringmsg_cancel(fixture.ring, 1));
    EQUAL(reap_when_readable(fd).result, -ECANCELED);
    tear_down();
}

/* fs.epoll.max_user_watches has the same effect. Other sockets are served, the reap does not spin,
 * and the addition is retried. */
static void a_socket_that_epoll_refuses_delays_no_other(void)
{
    if (!set_up())
        return;
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    char data[8];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    reap_nothing(fixture.ring, 5);
    enospc_left = 1 << 30;
    OK(ringmsg_recvmsg(fixture.ring, other, &message, 0, 0, 2));
    REFUSED(ringmsg_submit(fixture.ring), ENOSPC);
    SYS(send(fixture.sender, "one", 3, 0));
    EQUAL(reap_one(fixture.ring).user_data, 1);
    adds = 0;
    reap_nothing(fixture.ring, 200);
    COMPARE(adds, >, 1);
    COMPARE(adds, <, 200);
    enospc_left = 0;
    SYS(send(to_other, "hello", 5, 0));
    EQUAL(reap_one(fixture.ring).user_data, 2);
    tear_down();
}

/* A security module or a filter of system calls that refuses every receive. ICMP errors can be
 * EACCES, too, and end nothing, so the request is armed again, but not in a loop. */
static void a_receive_that_is_always_refused_is_tried_now_and_then(void)
{
    if (!set_up())
        return;
    eacces_left = 1 << 30;
    SYS(send(fixture.sender, "one", 3, 0));
    int64_t end = now_ns() + 200000000;
    int failures = 0;
    struct ringmsg_record record;
    for (; now_ns() < end; failures++) {
        record = reap_one(fixture.ring);
        EQUAL(record.result, -EACCES);
        EQUAL(record.flags & RINGMSG_RECORD_FINAL, 0);
    }
    COMPARE(failures, <, 16 + 200 + 1);
    eacces_left = 0;
    EQUAL(reap_one(fixture.ring).result, 3);
    tear_down();
}

static void an_interrupted_receive_is_retried(void)
{
    if (!set_up())
        return;
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    char data[8];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    OK(ringmsg_recvmsg(fixture.ring, other, &message, 0, 0, 2));
    reap_nothing(fixture.ring, 5);
    eintr_left = 1;
    SYS(send(to_other, "hello", 5, 0));
    EQUAL(reap_one(fixture.ring).result, 5);
    tear_down();
}

TESTS(TEST(ring_fd_is_readable_when_a_pause_ends),
      TEST(ring_fd_is_readable_when_a_paused_request_is_cancelled),
      TEST(a_socket_that_epoll_refuses_delays_no_other),
      TEST(a_receive_that_is_always_refused_is_tried_now_and_then),
      TEST(an_interrupted_receive_is_retried))
