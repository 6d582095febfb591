/* ringmsg_receive(): the records of a reap, without a ring: layout of the slab, how many, errors of
 * the socket, callers. What the records say is in receive_records.c. */
#include "receive.h"

#include <linux/errqueue.h>

static uint32_t round_up(uint32_t capacity) { return (capacity + 7) / 8 * 8; }

static size_t stride_of(const struct ringmsg_pool_config *config)
{
    return 16 + (size_t)round_up(config->name_capacity) + round_up(config->control_capacity) +
           round_up(config->payload_capacity);
}

static void an_empty_socket_is_eagain(void)
{
    int fd = bound_udp(AF_INET); /* blocking: the call does not block all the same */
    layout = layout_for(fd, 4);
    memset(records, 0xee, sizeof records);
    REFUSED(receive(fd, 4, 0), EAGAIN);
    EQUAL(records[0].user_data, 0xeeeeeeeeeeeeeeee);
    close(fd);
}

static void messages_lie_where_the_layout_puts_them(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    layout = layout_for(fd, 3); /* not a power of two */
    layout.payload_capacity = 1201;
    layout.control_capacity = 30;
    layout.name_capacity = 20;
    size_t stride = 16 + 24 + 32 + 1208;
    EQUAL(stride_of(&layout), stride);
    memset(slab, 0xcc, sizeof slab);
    for (int i = 0; i < 3; i++)
        SYS(send(sender, "abc", (size_t)i, 0)); /* the first is empty */
    EQUAL(OK(ringmsg_receive(fd, slab, 3 * stride, &layout, records, metadata, 8, 0)), 3);
    socklen_t length;
    struct sockaddr_storage address;
    length = sizeof address;
    SYS(getsockname(sender, (struct sockaddr *)&address, &length));
    for (int i = 0; i < 3; i++) {
        check_whole(i, "abc", (uint32_t)i);
        EQUAL(records[i].name_offset, (uint32_t)i * stride + 16);
        EQUAL(records[i].control_offset, (uint32_t)i * stride + 16 + 24);
        EQUAL(records[i].payload_offset, (uint32_t)i * stride + 16 + 24 + 32);
        EQUAL(records[i].name_length, sizeof(struct sockaddr_in));
        EQUAL(records[i].control_length, 0);
        EQUAL(records[i].buffer, i);
        SAME_BYTES(slab + records[i].name_offset, &address, records[i].name_length);
        EQUAL(metadata[i].valid, RINGMSG_META_SOURCE);
        EQUAL(metadata[i].family, AF_INET);
        EQUAL(metadata[i].source_port, ntohs(((struct sockaddr_in *)&address)->sin_port));
    }
    EQUAL(slab[3 * stride], 0xcc); /* nothing behind the slab was touched */
    close(fd), close(sender);
}

static void at_most_as_many_as_buffers_and_as_records(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    layout = layout_for(fd, 5);
    for (int i = 0; i < 12; i++)
        SYS(send(sender, &(char){(char)('a' + i)}, 1, 0));
    EQUAL(receive(fd, 200, 0), 5);
    check_whole(4, "e", 1);
    EQUAL(receive(fd, 3, 0), 3);
    check_whole(0, "f", 1);
    EQUAL(receive(fd, 200, 0), 4);
    check_whole(3, "l", 1);
    REFUSED(receive(fd, 200, 0), EAGAIN);
    close(fd), close(sender);
}

/* More than one system call takes. */
static void as_many_as_the_socket_holds(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    layout = layout_for(fd, BUFFERS);
    for (uint32_t count = 63; count <= 66; count++) {
        for (uint32_t i = 0; i < count; i++)
            SYS(send(sender, &i, sizeof i, 0));
        EQUAL(receive(fd, 200, 0), count);
        for (uint32_t i = 0; i < count; i++)
            check_whole((int)i, &i, sizeof i);
    }
    close(fd), close(sender);
}

static void an_error_of_the_socket_is_returned_once(void)
{
    int fd = bound_udp(AF_INET), peer = bound_udp(AF_INET);
    connect_to(fd, peer);
    refuse_senders(peer);
    layout = layout_for(fd, 4);
    SYS(send(fd, "to nobody", 9, 0));
    REFUSED(receive(fd, 4, 0), ECONNREFUSED);
    REFUSED(receive(fd, 4, 0), EAGAIN);
    close(fd), close(peer);
}

/* 64 messages fill a system call; the error is what the second one meets. */
static void an_error_behind_data_is_not_lost(void)
{
    for (int count = 1; count <= 65; count += 63) {
        int fd = bound_udp(AF_INET), peer = bound_udp(AF_INET);
        connect_to(fd, peer);
        connect_to(peer, fd);
        layout = layout_for(fd, BUFFERS);
        for (int i = 0; i < count; i++)
            SYS(send(peer, "x", 1, 0));
        refuse_senders(peer);
        SYS(send(fd, "to nobody", 9, 0));
        int came = 0, refused = 0;
        for (int n; (n = receive(fd, 200, 0)) != -EAGAIN;) {
            refused += n == -ECONNREFUSED;
            for (int i = 0; i < n; i++) {
                refused += records[i].result == -ECONNREFUSED;
                came += records[i].result == 1;
            }
        }
        EQUAL(came, count);
        EQUAL(refused, 1);
        close(fd), close(peer);
    }
}

/* Entries of the error queue neither come as data nor keep data back. */
static void the_error_queue_is_left_alone(void)
{
    int fd = bound_udp(AF_INET), peer = bound_udp(AF_INET);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SOCKET_ERROR));
    connect_to(fd, peer);
    connect_to(peer, fd);
    layout = layout_for(fd, 4);
    SYS(send(peer, "data", 4, 0));
    refuse_senders(peer);
    SYS(send(fd, "to nobody", 9, 0));
    REFUSED(receive(fd, 4, 0), ECONNREFUSED); /* what IP_RECVERR leaves pending */
    EQUAL(receive(fd, 4, 0), 1);
    check_whole(0, "data", 4);
    REFUSED(receive(fd, 4, 0), EAGAIN);
    char control[256];
    struct msghdr message = {.msg_control = control, .msg_controllen = sizeof control};
    SYS(recvmsg(fd, &message, MSG_ERRQUEUE)); /* it is still there */
    close(fd), close(peer);
}

static void it_works_in_a_forked_child(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    layout = layout_for(fd, 4);
    SYS(send(sender, "x", 1, 0));
    pid_t child = (pid_t)SYS(fork());
    if (child == 0)
        _exit(receive(fd, 4, 0) == 1 && slab[records[0].payload_offset] == 'x' ? 0 : 1);
    int status;
    SYS(waitpid(child, &status, 0));
    EQUAL(status, 0);
    close(fd), close(sender);
}

static void *take_all(void *argument)
{
    static const size_t size = 8 * 4096;
    int fd = *(int *)argument;
    uint8_t *own = malloc(size);
    struct ringmsg_record mine[8];
    struct ringmsg_pool_config small = layout_for(fd, 8);
    small.payload_capacity = 2048;
    long sum = 0;
    for (int n; (n = ringmsg_receive(fd, own, size, &small, mine, NULL, 8, 0)) > 0;)
        for (int i = 0; i < n; i++)
            sum += own[mine[i].payload_offset];
    free(own);
    return (void *)sum;
}

/* Threads share the socket and nothing else. */
static void from_any_thread(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    long sent = 0, came = 0;
    for (int i = 0; i < 150; i++, sent += i)
        SYS(send(sender, &(uint8_t){(uint8_t)(i + 1)}, 1, 0));
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        EQUAL(pthread_create(&threads[i], NULL, take_all, &fd), 0);
    for (int i = 0; i < 3; i++) {
        void *sum;
        EQUAL(pthread_join(threads[i], &sum), 0);
        came += (long)sum;
    }
    EQUAL(came, sent);
    close(fd), close(sender);
}

/* A refused call takes nothing: the datagram is there afterwards. */
static void bad_arguments(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    SYS(send(sender, "still here", 10, 0));
    layout = layout_for(fd, 4);
    struct ringmsg_pool_config good = layout;
    size_t size = 4 * stride_of(&good);
    REFUSED(ringmsg_receive(fd, NULL, size, &good, records, NULL, 4, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, NULL, records, NULL, 4, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, NULL, NULL, 4, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, 0, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, 1u << 31, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, (uint32_t)-EINTR, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size - 1, &good, records, NULL, 4, 0), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, 4, RINGMSG_RECV_POLL_FIRST), EINVAL);
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, 4, 1u << 31), EINVAL);
    struct ringmsg_pool_config bad[] = {good, good, good, good, good, good, good};
    bad[0].buffers = 0;
    bad[1].buffers = 1u << 31;
    bad[2].buffers = 100000; /* beyond 4 GiB */
    bad[3].flags = 1;
    bad[4].reserved[9] = 1;
    bad[5].size = 3;
    bad[6].payload_capacity = UINT32_MAX;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(ringmsg_receive(fd, slab, SIZE_MAX / 4, &bad[i], records, NULL, 4, 0), EINVAL);
    good.control_capacity = 16;
    REFUSED(ringmsg_receive(fd, slab, size, &good, records, NULL, 4, RINGMSG_RECV_SPLIT), EINVAL);
    REFUSED(receive(-1, 4, 0), EBADF);
    int pipes[2], ends[2];
    SYS(pipe(pipes));
    REFUSED(receive(pipes[0], 4, 0), ENOTSOCK);
    SYS(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
    SYS(send(ends[0], "stream", 6, 0));
    REFUSED(receive(ends[1], 4, 0), EOPNOTSUPP);
    char left[8];
    EQUAL(recv(ends[1], left, sizeof left, 0), 6);
    EQUAL(receive(fd, 4, 0), 1);
    check_whole(0, "still here", 10);
    close(fd), close(sender), close(pipes[0]), close(pipes[1]), close(ends[0]), close(ends[1]);
}

TESTS(TEST(an_empty_socket_is_eagain), TEST(messages_lie_where_the_layout_puts_them),
      TEST(at_most_as_many_as_buffers_and_as_records), TEST(as_many_as_the_socket_holds),
      TEST(an_error_of_the_socket_is_returned_once), TEST(an_error_behind_data_is_not_lost),
      TEST(the_error_queue_is_left_alone), TEST(it_works_in_a_forked_child), TEST(from_any_thread),
      TEST(bad_arguments))
