/* MSG_WAITALL. io_uring, and the recvmmsg engine like it, receives again until the payload is full.
 * A stream that ends, or is cancelled, before that delivers the bytes that arrived, and no stale
 * control message. Where receiving again would be wrong, the flag does what it does to recvmsg(2),
 * or is refused: after MSG_PEEK the same bytes would come again, on a socket with messages the next
 * message would be appended. With room for control messages io_uring takes what is there. */
#include "test.h"

static struct fixture {
    struct ringmsg_ring *ring;
    int pair[2];
    char data[100];
    struct iovec part;
    struct msghdr message;
} fixture;

static void set_up(void)
{
    fixture.ring = make_ring();
    SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fixture.pair));
    fixture.part = (struct iovec){fixture.data, sizeof fixture.data};
    fixture.message = (struct msghdr){.msg_iov = &fixture.part, .msg_iovlen = 1};
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.pair[0]);
    close(fixture.pair[1]);
}

static void send_ten(void)
{
    EQUAL(SYS(send(fixture.pair[1], "0123456789", 10, 0)), 10);
}

/* Nothing, or what Linux 6.17 adds to every receive on a local stream. */
static void expect_nothing_stale(const void *control, uint32_t length)
{
    enum { MESSAGE_INQ = 84 /* SCM_INQ */ };
    struct ringmsg_cmsg cursor = {0};
    while (OK(ringmsg_control_next(control, length, &cursor)) == 1) {
        EQUAL(cursor.level, SOL_SOCKET);
        EQUAL(cursor.type, MESSAGE_INQ);
    }
}

/* The control area holds an old SCM_RIGHTS message, whose descriptor is closed. */
static void end_of_stream_yields_no_stale_control_messages(void)
{
    union {
        char bytes[64];
        struct cmsghdr header;
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    set_up();
    fixture.message.msg_control = &control;
    fixture.message.msg_controllen = sizeof control;
    OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, MSG_WAITALL, 0, 1));
    send_ten();
    SYS(shutdown(fixture.pair[1], SHUT_WR));
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, 10);
    EQUAL(fixture.message.msg_controllen, record.control_length);
    expect_nothing_stale(&control, record.control_length);
    tear_down();
}

/* The buffer has carried a message with credentials before. */
static void end_of_stream_yields_no_stale_control_messages_of_the_pool(void)
{
    set_up();
    set_int(fixture.pair[0], SOL_SOCKET, SO_PASSCRED, 1);
    struct ringmsg_pool *pool = make_pool(fixture.ring, fixture.pair[0], 1, 256);
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], 0, 0, 1));
    send_ten();
    struct ringmsg_record record = reap_one(fixture.ring);
    COMPARE(record.control_length, >, 0);
    OK(ringmsg_release(fixture.ring, &record, 1));
    set_int(fixture.pair[0], SOL_SOCKET, SO_PASSCRED, 0);
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], MSG_WAITALL, 0, 2));
    send_ten();
    SYS(shutdown(fixture.pair[1], SHUT_WR));
    record = reap_one(fixture.ring);
    EQUAL(record.result, 10);
    expect_nothing_stale(ringmsg_pool_base(pool) + record.control_offset, record.control_length);
    tear_down();
}

/* These bytes have left the stream: a plain -ECANCELED would lose them. */
static void a_cancel_delivers_the_bytes_that_arrived(void)
{
    set_up();
    OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, MSG_WAITALL, 0, 1));
    send_ten();
    reap_nothing(fixture.ring, 30);
    OK(ringmsg_cancel(fixture.ring, 1));
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, 10);
    /* Linux 6.17 has a control message that there is no room for. */
    EQUAL(record.flags & ~RINGMSG_RECORD_CONTROL_TRUNCATED, RINGMSG_RECORD_FINAL);
    SAME_BYTES(fixture.data, "0123456789", 10);

    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    config.buffers = 4;
    config.control_capacity = 0; /* see with_room_for_control_messages_it_takes_what_is_there */
    config.payload_capacity = 100;
    OK(ringmsg_pool_new(fixture.ring, &config, &pool));
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], MSG_WAITALL, 0, 2));
    send_ten();
    reap_nothing(fixture.ring, 30);
    OK(ringmsg_cancel(fixture.ring, 2));
    record = reap_one(fixture.ring);
    EQUAL(record.result, 10);
    SAME_BYTES(payload_of(fixture.ring, &record), "0123456789", 10);
    tear_down();
}

static void more_parts_than_the_kernel_takes_are_an_error(void)
{
    set_up();
    fixture.message.msg_iovlen = 1u << 30;
    OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, MSG_WAITALL, 0, 1));
    struct ringmsg_record record = reap_one(fixture.ring);
    ONE_OF(record.result, -EMSGSIZE, -EINVAL); /* from io_uring of Linux 6.1 */
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    tear_down();
}

static struct ringmsg_pool *small_pool(uint32_t control_capacity)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    config.buffers = 4;
    config.control_capacity = control_capacity;
    config.payload_capacity = 100;
    OK(ringmsg_pool_new(fixture.ring, &config, &pool));
    return pool;
}

/* io_uring would deliver "01234567890123456789..." of which the sender sent ten bytes. */
static void peeking_for_all_of_a_stream_is_refused(void)
{
    set_up();
    struct ringmsg_pool *pool = small_pool(0);
    int both = MSG_WAITALL | MSG_PEEK;
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, both, 0, 1), EINVAL);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], both, 0, 1), EINVAL);
    OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, MSG_PEEK, 0, 1));
    send_ten();
    EQUAL(reap_one(fixture.ring).result, 10);
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], MSG_PEEK, 0, 1));
    EQUAL(reap_one(fixture.ring).result, 10);
    tear_down();
}

/* recvmsg(2) ignores the flag there. MSG_PEEK has its usual effect beside it. */
static void messages_are_not_merged(int type)
{
    fixture.ring = make_ring();
    SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fixture.pair));
    fixture.part = (struct iovec){fixture.data, sizeof fixture.data};
    fixture.message = (struct msghdr){.msg_iov = &fixture.part, .msg_iovlen = 1};
    struct ringmsg_pool *pool = small_pool(0);
    for (int round = 0; round < 2; round++) {
        int flags = round ? MSG_WAITALL : MSG_WAITALL | MSG_PEEK;
        OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, flags, 0, 1));
        if (round == 0)
            send_ten();
        send_ten();
        struct ringmsg_record record = reap_one(fixture.ring);
        EQUAL(record.user_data, 1);
        EQUAL(record.result, 10);
    }
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], MSG_WAITALL, 0, 2));
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, 10);
    tear_down();
}

static void packets_are_not_merged(void)
{
    messages_are_not_merged(SOCK_SEQPACKET);
}

static void datagrams_are_not_merged(void)
{
    messages_are_not_merged(SOCK_DGRAM);
}

static void with_room_for_control_messages_it_takes_what_is_there(void)
{
    char control[64];
    set_up();
    fixture.message.msg_control = control;
    fixture.message.msg_controllen = sizeof control;
    OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &fixture.message, MSG_WAITALL, 0, 1));
    send_ten();
    EQUAL(reap_one(fixture.ring).result, 10);
    struct ringmsg_pool *pool = small_pool(64);
    OK(ringmsg_recvmsg_once(fixture.ring, pool, fixture.pair[0], MSG_WAITALL, 0, 2));
    send_ten();
    EQUAL(reap_one(fixture.ring).result, 10);
    tear_down();
}

TESTS(TEST(peeking_for_all_of_a_stream_is_refused), TEST(packets_are_not_merged),
      TEST(datagrams_are_not_merged), TEST(with_room_for_control_messages_it_takes_what_is_there),
      TEST(end_of_stream_yields_no_stale_control_messages),
      TEST(end_of_stream_yields_no_stale_control_messages_of_the_pool),
      TEST(a_cancel_delivers_the_bytes_that_arrived),
      TEST(more_parts_than_the_kernel_takes_are_an_error))
