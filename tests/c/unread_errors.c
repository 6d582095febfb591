/* A socket with an unread error queue always polls as ready. io_uring then tries a receive
 * 128 times in task work, and leaves it to a worker thread, which waits for data. A request on such
 * a socket still receives, is cancelled at whatever moment, with -ECANCELED, and does not delay the
 * end of its ring. (Kinds of request, and moments, times modes.) */
#include "test.h"

enum form { MULTISHOT, ONCE, OWN };

static struct msghdr own;
static struct iovec own_part;
static char own_payload[64];

/* A socket with an ICMP error in its error queue, whose SO_ERROR was read. */
static int socket_with_unread_error(void)
{
    int fd = bound_udp(AF_INET), gone = bound_udp(AF_INET);
    socklen_t length;
    struct sockaddr_storage nobody = address_of(gone, &length);
    refuse_senders(gone);
    set_int(fd, SOL_IP, IP_RECVERR, 1);
    SYS(sendto(fd, "x", 1, 0, (struct sockaddr *)&nobody, length));
    /* A busy kernel delivers the error later. */
    struct pollfd error = {.fd = fd, .events = POLLIN};
    EQUAL(poll(&error, 1, 10000 * TEST_TIME_FACTOR), 1);
    char byte;
    EQUAL(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    EQUAL(errno, ECONNREFUSED);
    EQUAL(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    EQUAL(errno, EAGAIN);
    SYS(close(gone));
    return fd;
}

static void arm(struct ringmsg_ring *ring, struct ringmsg_pool *pool, int fd, enum form form)
{
    own_part = (struct iovec){own_payload, sizeof own_payload};
    own = (struct msghdr){.msg_iov = &own_part, .msg_iovlen = 1};
    OK(form == MULTISHOT ? ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1)
       : form == ONCE    ? ringmsg_recvmsg_once(ring, pool, fd, 0, 0, 1)
                         : ringmsg_recvmsg(ring, fd, &own, 0, 0, 1));
}

static void a_cancel_ends_a_request_at_any_moment(void)
{
    static const int moments_ms[] = {-1, 0, 1, 20};
    for (int form = MULTISHOT; form <= OWN; form++) {
        for (int i = 0; i < 4; i++) {
            struct ringmsg_ring *ring = make_ring();
            int fd = socket_with_unread_error();
            arm(ring, make_pool(ring, fd, 8, 64), fd, form);
            if (moments_ms[i] >= 0)
                reap_nothing(ring, moments_ms[i]);
            OK(ringmsg_cancel(ring, 1));
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.result, -ECANCELED);
            EQUAL(record.flags, RINGMSG_RECORD_FINAL);
            OK(ringmsg_ring_free(ring));
            SYS(close(fd));
        }
    }
}

static void data_arrives(void)
{
    for (int form = MULTISHOT; form <= OWN; form++) {
        struct ringmsg_ring *ring = make_ring();
        int fd = socket_with_unread_error(), sender = sender_to(fd);
        arm(ring, make_pool(ring, fd, 8, 64), fd, form);
        for (int i = 0; i < (form == MULTISHOT ? 5 : 1); i++) {
            reap_nothing(ring, 5);
            SYS(send(sender, "data", 4, 0));
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.result, 4);
            OK(ringmsg_release(ring, &record, 1));
        }
        OK(ringmsg_ring_free(ring));
        SYS(close(fd));
    }
}

/* ring_free would return after five seconds if the kernel kept a request. */
static void a_ring_ends_at_once(void)
{
    for (int form = MULTISHOT; form <= OWN; form++) {
        for (int wait_ms = -1; wait_ms <= 20; wait_ms += 21) {
            struct ringmsg_ring *ring = make_ring();
            int fd = socket_with_unread_error();
            arm(ring, make_pool(ring, fd, 8, 64), fd, form);
            if (wait_ms >= 0)
                reap_nothing(ring, wait_ms);
            OK(ringmsg_ring_free(ring));
            SYS(close(fd));
        }
    }
}

TESTS(TEST(a_cancel_ends_a_request_at_any_moment), TEST(data_arrives), TEST(a_ring_ends_at_once))
