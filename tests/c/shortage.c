/* The recvmmsg engine where the kernel is short of something: its system calls come here first, and some fail. */
#include "test.h"

#include <sys/syscall.h>

/* How often these still fail. */
static int receives_without_memory, receives_interrupted, adds_refused, adds;

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
    if (fails(&receives_without_memory, ENOMEM))
        return -1;
    return (int)syscall(SYS_recvmmsg, fd, messages, count, flags, timeout);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    if (fails(&receives_interrupted, EINTR))
        return -1;
    return syscall(SYS_recvmsg, fd, message, flags);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    adds += operation == EPOLL_CTL_ADD;
    if (operation == EPOLL_CTL_ADD && fails(&adds_refused, ENOSPC))
        return -1;
    return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static struct setup {
    struct ringmsg_ring *ring;
    int receiver, sender;
} it;

/* 0: the test is not about this engine. */
static int set_up(void)
{
    if (!is_recvmmsg())
        return 0;
    it.ring = make_ring();
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    OK(ringmsg_recvmsg_multishot(it.ring, make_pool(it.ring, it.receiver, 64, 256), it.receiver, 0, 0, 1));
    return 1;
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(it.ring));
    close(it.receiver);
    close(it.sender);
}

/* A reap with timeout 0, once ring_fd says that it is worth it. */
static struct ringmsg_record announced(int fd)
{
    struct pollfd ready = {fd, POLLIN, 0};
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    int64_t end = now_ns() + 2000000000ll * TEST_PATIENCE;
    while (now_ns() < end)
        if (SYS(poll(&ready, 1, 100)) == 1 && OK(ringmsg_reap(it.ring, &record, NULL, 1, &wait)) == 1)
            return record;
    FAIL("ring_fd tells of nothing");
}

static void the_end_of_a_pause_is_announced(void)
{
    if (!set_up())
        return;
    int fd = OK(ringmsg_ring_fd(it.ring));
    receives_without_memory = 1;
    SYS(send(it.sender, "one", 3, 0));
    EQUAL(announced(fd).result, -ENOMEM);
    EQUAL(announced(fd).result, 3);
    SYS(send(it.sender, "four", 4, 0));
    EQUAL(announced(fd).result, 4);
    tear_down();
}

static void the_end_of_a_cancelled_pause_is_announced(void)
{
    if (!set_up())
        return;
    int fd = OK(ringmsg_ring_fd(it.ring));
    receives_without_memory = 1;
    SYS(send(it.sender, "one", 3, 0));
    EQUAL(announced(fd).result, -ENOMEM);
    OK(ringmsg_cancel(it.ring, 1));
    EQUAL(announced(fd).result, -ECANCELED);
    tear_down();
}

/* As with fs.epoll.max_user_watches. The others are served, nobody spins, and it is tried again. */
static void a_socket_that_epoll_refuses_holds_up_nobody(void)
{
    if (!set_up())
        return;
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    char data[8];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    reap_nothing(it.ring, 5);
    adds_refused = 1 << 30;
    OK(ringmsg_recvmsg(it.ring, other, &message, 0, 0, 2));
    REFUSED(ringmsg_submit(it.ring), ENOSPC);
    SYS(send(it.sender, "one", 3, 0));
    EQUAL(reap_one(it.ring).user_data, 1);
    adds = 0;
    reap_nothing(it.ring, 200);
    CHECK(adds > 1 && adds < 200);
    adds_refused = 0;
    SYS(send(to_other, "hello", 5, 0));
    EQUAL(reap_one(it.ring).user_data, 2);
    tear_down();
}

static void an_interrupted_receive_is_tried_again(void)
{
    if (!set_up())
        return;
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    char data[8];
    struct iovec part = {data, sizeof data};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    OK(ringmsg_recvmsg(it.ring, other, &message, 0, 0, 2));
    reap_nothing(it.ring, 5);
    receives_interrupted = 1;
    SYS(send(to_other, "hello", 5, 0));
    EQUAL(reap_one(it.ring).result, 5);
    tear_down();
}

TESTS(TEST(the_end_of_a_pause_is_announced), TEST(the_end_of_a_cancelled_pause_is_announced),
      TEST(a_socket_that_epoll_refuses_holds_up_nobody), TEST(an_interrupted_receive_is_tried_again))
