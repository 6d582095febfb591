/* ringmsg_recvmsg() leaves the same bytes and the same result as recvmsg(2) with the same datagram
 * and flags. */
#include "test.h"

/* Everything that a receive can write to. */
struct buffers {
    struct msghdr message;
    struct iovec parts[3];
    unsigned char name[128], control[512], payload[3][3000];
};

/* The flags of a receive, and the sizes of its buffers. */
struct shape {
    int flags;
    size_t name, control; /* 0: a NULL pointer */
    size_t parts[3];
};

static void lay_out(struct buffers *buffers, const struct shape *shape)
{
    memset(buffers, 0xa5, sizeof *buffers);
    memset(&buffers->message, 0, sizeof buffers->message);
    buffers->message.msg_name = shape->name ? buffers->name : NULL;
    buffers->message.msg_namelen = (socklen_t)shape->name;
    buffers->message.msg_control = shape->control ? buffers->control : NULL;
    buffers->message.msg_controllen = shape->control;
    buffers->message.msg_flags = -1;
    buffers->message.msg_iov = buffers->parts;
    buffers->message.msg_iovlen = 3;
    for (int i = 0; i < 3; i++)
        buffers->parts[i] = (struct iovec){buffers->payload[i], shape->parts[i]};
}

/* Checks that the kernel wrote the same into both, and nothing else. */
static void check_same(const struct buffers *actual, const struct buffers *expected, int result,
                       int expected_result)
{
    EQUAL(result, expected_result);
    EQUAL(actual->message.msg_flags, expected->message.msg_flags);
    EQUAL(actual->message.msg_namelen, expected->message.msg_namelen);
    EQUAL(actual->message.msg_controllen, expected->message.msg_controllen);
    SAME_BYTES(actual->name, expected->name, sizeof actual->name);
    SAME_BYTES(actual->control, expected->control, sizeof actual->control);
    SAME_BYTES(actual->payload, expected->payload, sizeof actual->payload);
}

/* Calls recvmsg(2). Returns bytes or -errno. */
static int system_receive(int fd, struct buffers *buffers, const struct shape *shape)
{
    lay_out(buffers, shape);
    ssize_t received = recvmsg(fd, &buffers->message, shape->flags);
    return received < 0 ? -errno : (int)received;
}

/* Checks that the record of a single-shot agrees with the msghdr. Returns its result. */
static int reap_single(struct ringmsg_ring *ring, const struct buffers *buffers, const struct shape *shape)
{
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.user_data, 77);
    EQUAL(record.pool, RINGMSG_POOL_NONE);
    HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
    CHECK(!(record.flags & RINGMSG_RECORD_BUFFER));
    if (record.result >= 0) {
        size_t room = shape->parts[0] + shape->parts[1] + shape->parts[2];
        size_t length = (size_t)record.result < room ? (size_t)record.result : room;
        EQUAL(record.payload_length, length);
        EQUAL(record.msg_flags, buffers->message.msg_flags);
        EQUAL(record.control_length, buffers->message.msg_controllen);
        EQUAL(record.name_length, buffers->message.msg_namelen < shape->name
                                      ? buffers->message.msg_namelen
                                      : shape->name);
        EQUAL(!(record.flags & RINGMSG_RECORD_TRUNCATED), !(record.msg_flags & MSG_TRUNC));
        EQUAL(!(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED), !(record.msg_flags & MSG_CTRUNC));
    }
    OK(ringmsg_release(ring, &record, 1)); /* the record holds no buffer, and releasing it is no error */
    return record.result;
}

static int ring_receive(struct ringmsg_ring *ring, int fd, struct buffers *buffers, const struct shape *shape)
{
    lay_out(buffers, shape);
    OK(ringmsg_recvmsg(ring, fd, &buffers->message, shape->flags, 0, 77));
    return reap_single(ring, buffers, shape);
}

/* Enables every option that adds control messages. */
static void enable_all_options(int fd, int family)
{
    OK(ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS |
                                     RINGMSG_META_HOP_LIMIT | RINGMSG_META_DROPPED |
                                     RINGMSG_META_SOFTWARE_TIMESTAMP |
                                     RINGMSG_META_DESTINATION_PORT | RINGMSG_META_SEGMENT_SIZE |
                                     (family == AF_INET6 ? RINGMSG_META_FLOW_LABEL : 0)));
    set_int(fd, SOL_SOCKET, SO_TIMESTAMPNS, 1);
    sleep_ms(20); /* the kernel enables timestamps in the background */
}

static struct buffers expected, actual;

/* One datagram, received with this shape by the system call and by the ring, at first with
 * MSG_PEEK. */
static void compare(struct ringmsg_ring *ring, int fd, int sender, const struct shape *shape,
                    size_t size, uint16_t segment)
{
    static char data[60000];
    struct shape peek = *shape;
    peek.flags |= MSG_PEEK;
    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 7);
    if (segment)
        send_train(sender, data, size, segment);
    else
        EQUAL(SYS(send(sender, data, size, 0)), size);
    int result = system_receive(fd, &expected, &peek);
    COMPARE(result, >=, 0);
    check_same(&actual, &expected, ring_receive(ring, fd, &actual, &peek), result);
    check_same(&actual, &expected, ring_receive(ring, fd, &actual, shape), result);
    EQUAL(recv(fd, data, 1, MSG_DONTWAIT), -1); /* it has left the queue */

    /* The same with the request armed before the datagram arrives. */
    lay_out(&actual, &peek);
    OK(ringmsg_recvmsg(ring, fd, &actual.message, peek.flags, 0, 77));
    OK(ringmsg_submit(ring));
    if (segment)
        send_train(sender, data, size, segment);
    else
        EQUAL(SYS(send(sender, data, size, 0)), size);
    result = reap_single(ring, &actual, &peek);
    check_same(&actual, &expected, result, system_receive(fd, &expected, shape));
}

static void compare_all(int family)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(family), sender = sender_to(receiver);
    enable_all_options(receiver, family);
    const size_t names[] = {0, 4, 16, 28, 128};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        compare(ring, receiver, sender, &(struct shape){0, names[i], 512, {10, 0, 1000}}, 500, 0);
    for (size_t control = 0; control <= 320; control += 5)
        compare(ring, receiver, sender, &(struct shape){0, 128, control, {3000, 0, 0}}, 500, 0);
    const int flags[] = {0, MSG_TRUNC, MSG_TRUNC | MSG_CMSG_CLOEXEC, MSG_WAITALL};
    const size_t sizes[] = {0, 1, 99, 100, 101, 1200, 5000};
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
            compare(ring, receiver, sender, &(struct shape){flags[f], 128, 512, {33, 33, 34}}, sizes[s], 0);
    compare(ring, receiver, sender, &(struct shape){0, 128, 512, {3000, 3000, 3000}}, 6000, 1000);
    compare(ring, receiver, sender, &(struct shape){MSG_TRUNC, 128, 512, {3000, 0, 100}}, 6000, 1000);
    OK(ringmsg_ring_free(ring));
    close(receiver);
    close(sender);
}

static void results_equal_those_of_the_system_call(void)
{
    compare_all(AF_INET);
    compare_all(AF_INET6);
}

/* A datagram to a port without a socket comes back through the error queue. One socket is read by
 * the system call, one by the ring; both get errors from the same peer. */
static void the_error_queue_equals_that_of_the_system_call(void)
{
    const int families[] = {AF_INET, AF_INET6}, flags[] = {0, MSG_TRUNC, MSG_DONTWAIT};
    struct ringmsg_ring *ring = make_ring();
    for (int f = 0; f < 2; f++) {
        int closed = bound_udp(families[f]), sockets[2];
        for (int i = 0; i < 2; i++) {
            sockets[i] = sender_to(closed);
            set_int(sockets[i], families[f] == AF_INET ? SOL_IP : SOL_IPV6,
                    families[f] == AF_INET ? IP_RECVERR : IPV6_RECVERR, 1);
        }
        close(closed);
        for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
            for (size_t room = 0; room <= 96; room += 8) {
                struct shape shape = {flags[i] | MSG_ERRQUEUE, 28, room, {2, 0, 4}};
                int early = room % 16 == 0 && !(flags[i] & MSG_DONTWAIT);
                lay_out(&actual, &shape);
                if (early) { /* the request waits, which the system call would not do */
                    OK(ringmsg_recvmsg(ring, sockets[1], &actual.message, shape.flags, 0, 77));
                    OK(ringmsg_submit(ring));
                }
                for (int s = 0; s < 2; s++) {
                    /* The previous error may still be pending on the socket; it does not matter
                     * here. */
                    if (send(sockets[s], "refused!", 8, 0) < 0)
                        SYS(send(sockets[s], "refused!", 8, 0));
                    struct pollfd queue = {.fd = sockets[s]};
                    if (s == 0 || !early)
                        EQUAL(SYS(poll(&queue, 1, 2000)), 1);
                }
                int result = system_receive(sockets[0], &expected, &shape);
                COMPARE(result, >, 0);
                if (!early)
                    OK(ringmsg_recvmsg(ring, sockets[1], &actual.message, shape.flags, 0, 77));
                check_same(&actual, &expected, reap_single(ring, &actual, &shape), result);
            }
        }
        struct shape shape = {MSG_ERRQUEUE | MSG_DONTWAIT, 28, 96, {8, 8, 8}};
        EQUAL(system_receive(sockets[0], &expected, &shape), -EAGAIN);
        EQUAL(ring_receive(ring, sockets[1], &actual, &shape), -EAGAIN);
        close(sockets[0]);
        close(sockets[1]);
    }
    OK(ringmsg_ring_free(ring));
}

/* Makes the msghdr invalid in one of four ways. */
static void spoil(struct buffers *buffers, int how)
{
    static struct iovec too_many[2000];
    if (how == 0) {
        buffers->message.msg_namelen = (socklen_t)-1;
    } else if (how == 1) {
        buffers->message.msg_iov = too_many;
        buffers->message.msg_iovlen = 2000;
    } else if (how == 2) {
        buffers->message.msg_iovlen = SIZE_MAX / 2; /* nothing may read the last of them */
    } else {
        buffers->parts[0].iov_len = buffers->parts[1].iov_len = SIZE_MAX;
    }
}

static void failures_equal_those_of_the_system_call(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct shape shape = {MSG_DONTWAIT, 128, 512, {100, 100, 100}};
    int result = system_receive(receiver, &expected, &shape);
    EQUAL(result, -EAGAIN);
    check_same(&actual, &expected, ring_receive(ring, receiver, &actual, &shape), result);

    for (int i = 0; i < 2; i++) {
        SYS(send(sender, "x", 1, 0));
        struct buffers *buffers = i == 0 ? &expected : &actual;
        lay_out(buffers, &shape);
        buffers->parts[0].iov_base = (void *)16;
        if (i == 0) {
            EQUAL(recvmsg(receiver, &buffers->message, 0), -1);
            result = -errno;
        } else {
            OK(ringmsg_recvmsg(ring, receiver, &buffers->message, 0, 0, 77));
            check_same(&actual, &expected, reap_single(ring, &actual, &shape), result);
        }
    }
    EQUAL(result, -EFAULT);

    struct ringmsg_support support = {.size = sizeof support};
    OK(ringmsg_query_support(&support));
    int old_kernel = !is_recvmmsg() && support.kernel_version < (6u << 16 | 18u << 8);
    /* The kernel refuses the request at submission. The requests submitted before and after it are
     * not affected. */
    for (int i = 0; i < 4; i++) {
        struct buffers around[2];
        for (int n = 0; n < 2; n++) {
            lay_out(&around[n], &shape);
            lay_out(n == 0 ? &expected : &actual, &shape);
        }
        spoil(&expected, i);
        spoil(&actual, i);
        EQUAL(recvmsg(receiver, &expected.message, 0), -1);
        EQUAL(errno, i == 1 || i == 2 ? EMSGSIZE : EINVAL);
        result = -errno;
        OK(ringmsg_recvmsg(ring, receiver, &around[0].message, 0, 0, 1));
        OK(ringmsg_recvmsg(ring, receiver, &actual.message, 0, 0, 77));
        OK(ringmsg_recvmsg(ring, receiver, &around[1].message, 0, 0, 1));
        int answer = reap_single(ring, &actual, &shape);
        if (answer == -EINVAL && result == -EMSGSIZE && old_kernel)
            result = -EINVAL; /* io_uring of older kernels has another errno for this */
        check_same(&actual, &expected, answer, result);
        for (int n = 0; n < 2; n++) {
            SYS(send(sender, "x", 1, 0));
            struct ringmsg_record record = reap_one(ring);
            EQUAL(record.user_data, 1);
            EQUAL(record.result, 1);
        }
    }

    int connected = (int)SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    result = system_receive(connected, &expected, &shape);
    EQUAL(result, -ENOTCONN);
    check_same(&actual, &expected, ring_receive(ring, connected, &actual, &shape), result);
    close(connected);
    OK(ringmsg_ring_free(ring));
}

/* The metadata is decoded from the caller's own buffers. */
static void metadata_comes_with_the_record(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET6), sender = sender_to(receiver);
    struct shape shape = {0, 28, 512, {100, 0, 0}};
    struct ringmsg_record record;
    struct ringmsg_metadata metadata;
    struct ringmsg_wait wait = wait_ms(2000);
    enable_all_options(receiver, AF_INET6);
    lay_out(&actual, &shape);
    OK(ringmsg_recvmsg(ring, receiver, &actual.message, 0, 0, 77));
    SYS(send(sender, "x", 1, 0));
    EQUAL(ringmsg_reap(ring, &record, &metadata, 1, &wait), 1);
    socklen_t length;
    struct sockaddr_storage from = address_of(sender, &length);
    const uint32_t expected = RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION |
                              RINGMSG_META_INTERFACE | RINGMSG_META_TRAFFIC_CLASS |
                              RINGMSG_META_HOP_LIMIT | RINGMSG_META_DESTINATION_PORT;
    EQUAL(metadata.valid & expected, expected);
    EQUAL(metadata.family, AF_INET6);
    EQUAL(metadata.source_port, ntohs(((struct sockaddr_in6 *)&from)->sin6_port));
    EQUAL(metadata.hop_limit, 64);
    OK(ringmsg_ring_free(ring));
}

static void *free_ring(void *ring)
{
    OK(ringmsg_ring_free(ring));
    return NULL;
}

/* After ring_free, from whatever thread, the kernel writes nothing to the buffers of a request. */
static void after_ring_free_the_msghdr_is_not_written(void)
{
    for (int from_elsewhere = 0; from_elsewhere < 2; from_elsewhere++) {
        struct ringmsg_ring *ring = make_ring();
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        struct shape shape = {0, 128, 512, {100, 100, 100}};
        pthread_t thread;
        lay_out(&actual, &shape);
        lay_out(&expected, &shape);
        OK(ringmsg_recvmsg(ring, receiver, &actual.message, 0, 0, 77));
        OK(ringmsg_submit(ring));
        if (from_elsewhere) {
            EQUAL(pthread_create(&thread, NULL, free_ring, ring), 0);
            pthread_join(thread, NULL);
        } else {
            free_ring(ring);
        }
        SYS(send(sender, "x", 1, 0));
        sleep_ms(10);
        check_same(&actual, &expected, 0, 0);
        EQUAL(system_receive(receiver, &expected, &shape), 1);
        close(receiver);
        close(sender);
    }
}

/* One kernel entry submits many requests, and more can be queued than the submission queue
 * holds. */
static void many_requests_are_submitted_with_one_entry(void)
{
    enum { MANY = 1000 };
    static struct buffers buffer_sets[MANY];
    static int seen_before[MANY];
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_ring_info info = {.size = sizeof info};
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct shape shape = {0, 16, 0, {4, 0, 0}};
    OK(ringmsg_ring_info(ring, &info));
    const int fits = (int)info.sq_entries;
    COMPARE(fits, >=, 8);
    COMPARE(fits, <, MANY);
    uint64_t before = stats_of(ring).enters;
    for (int i = 0; i < MANY; i++) {
        if (i == fits) {
            EQUAL(stats_of(ring).enters, before);
            OK(ringmsg_submit(ring));
            EQUAL(stats_of(ring).enters, before + 1);
        }
        lay_out(&buffer_sets[i], &shape);
        OK(ringmsg_recvmsg(ring, receiver, &buffer_sets[i].message, 0, 0, (uint64_t)i));
    }
    OK(ringmsg_submit(ring));
    COMPARE(stats_of(ring).enters - before, <=, (uint64_t)(MANY / fits + 2));
    OK(ringmsg_submit(ring));
    for (int n = 0; n < MANY; n++) {
        EQUAL(SYS(send(sender, &n, sizeof n, 0)), sizeof n);
        struct ringmsg_record record = reap_one(ring);
        int number;
        CHECK(record.user_data < MANY && !seen_before[record.user_data]++);
        memcpy(&number, buffer_sets[record.user_data].payload[0], sizeof number);
        EQUAL(number, n);
    }
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(results_equal_those_of_the_system_call),
      TEST(the_error_queue_equals_that_of_the_system_call),
      TEST(failures_equal_those_of_the_system_call),
      TEST(metadata_comes_with_the_record),
      TEST(after_ring_free_the_msghdr_is_not_written),
      TEST(many_requests_are_submitted_with_one_entry))
