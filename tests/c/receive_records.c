/* ringmsg_receive(): what its records say: metadata, trains, truncation, descriptors, ends. */
#include "receive.h"

#include <sys/un.h>

static void metadata_are_those_of_a_reap(void)
{
    int families[] = {AF_INET, AF_INET6};
    uint32_t wanted = RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE |
                      RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_HOP_LIMIT | RINGMSG_META_DESTINATION_PORT;
    for (int f = 0; f < 2; f++) {
        struct ringmsg_ring *ring = make_ring();
        int fd = bound_udp(families[f]), sender = sender_to(fd);
        OK(ringmsg_socket_enable(fd, wanted));
        if (families[f] == AF_INET)
            set_int(sender, IPPROTO_IP, IP_TOS, 0x2e);
        else
            set_int(sender, IPPROTO_IPV6, IPV6_TCLASS, 0x2e);
        struct ringmsg_pool *pool = make_pool(ring, fd, 8, 0);
        SYS(send(sender, "one", 3, 0));
        OK(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 0));
        struct ringmsg_wait wait = wait_ms(2000);
        struct ringmsg_record theirs;
        struct ringmsg_metadata reaped;
        EQUAL(OK(ringmsg_reap(ring, &theirs, &reaped, 1, &wait)), 1);
        OK(ringmsg_cancel(ring, 0));
        struct ringmsg_record final;
        EQUAL(OK(ringmsg_reap(ring, &final, NULL, 1, &wait)), 1);

        SYS(send(sender, "one", 3, 0));
        layout = layout_for(fd, 4);
        EQUAL(receive(fd, 4, 0), 1);
        EQUAL(metadata[0].valid & wanted, wanted);
        EQUAL(metadata[0].traffic_class, 0x2e);
        SAME_BYTES(&metadata[0], &reaped, sizeof reaped);
        EQUAL(records[0].control_length, theirs.control_length);
        EQUAL(records[0].name_length, theirs.name_length);
        EQUAL(records[0].msg_flags, theirs.msg_flags);
        EQUAL(records[0].control_offset % 8, 0);
        OK(ringmsg_release(ring, &theirs, 1));
        OK(ringmsg_ring_free(ring));
        close(fd), close(sender);
    }
}

/* `metadata` NULL: the segment size of a train is known all the same. */
static void without_metadata(void)
{
    static const uint8_t train[1000];
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE));
    layout = layout_for(fd, 4);
    send_train(sender, train, sizeof train, 300);
    EQUAL(ringmsg_receive(fd, slab, sizeof slab, &layout, records, NULL, 9, 0), 1);
    EQUAL(records[0].segment_size, 300);
    send_train(sender, train, sizeof train, 300);
    EQUAL(ringmsg_receive(fd, slab, sizeof slab, &layout, records, NULL, 9, RINGMSG_RECV_SPLIT), 4);
    EQUAL(records[3].payload_length, 100);
    close(fd), close(sender);
}

static uint8_t bytes[65000];

static void check_train(int first, uint32_t total, uint32_t size)
{
    uint32_t count = (total + size - 1) / size;
    for (uint32_t i = 0; i < count; i++) {
        const struct ringmsg_record *record = &records[(uint32_t)first + i];
        uint32_t length = i + 1 < count ? size : total - i * size;
        EQUAL(record->flags, RINGMSG_RECORD_SEGMENT);
        EQUAL(record->result, length);
        EQUAL(record->payload_length, length);
        EQUAL(record->wire_length, length);
        EQUAL(record->segment, i);
        EQUAL(record->segments, count);
        EQUAL(record->segment_size, size);
        EQUAL(record->pool, RINGMSG_POOL_NONE);
        EQUAL(metadata[(uint32_t)first + i].segment_size, size);
        EQUAL(metadata[(uint32_t)first + i].valid & RINGMSG_META_SOURCE, RINGMSG_META_SOURCE);
        SAME_BYTES(slab + record->payload_offset, bytes + i * size, length);
    }
}

static void check_kept_whole(int i, uint32_t total, uint32_t size)
{
    check_whole(i, bytes, total);
    EQUAL(records[i].segment_size, size);
    EQUAL(metadata[i].segment_size, size);
}

static void trains(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE));
    layout = layout_for(fd, 8);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    /* Whole, without SPLIT. */
    send_train(sender, bytes, 2500, 1200);
    EQUAL(receive(fd, 200, 0), 1);
    check_kept_whole(0, 2500, 1200);
    /* Split, between others. */
    SYS(send(sender, bytes, 7, 0));
    send_train(sender, bytes, 2500, 1200);
    SYS(send(sender, bytes, 9, 0));
    EQUAL(receive(fd, 200, RINGMSG_RECV_SPLIT), 5);
    check_whole(0, bytes, 7);
    check_train(1, 2500, 1200);
    check_whole(4, bytes, 9);
    /* The longest train. */
    send_train(sender, bytes, 128 * 500, 500);
    EQUAL(receive(fd, 200, RINGMSG_RECV_SPLIT), 128);
    check_train(0, 128 * 500, 500);
    /* A capacity that is just enough, and one less. */
    send_train(sender, bytes, 4000, 100);
    EQUAL(receive(fd, 40, RINGMSG_RECV_SPLIT), 40);
    check_train(0, 4000, 100);
    send_train(sender, bytes, 4000, 100);
    EQUAL(receive(fd, 39, RINGMSG_RECV_SPLIT), 1);
    check_kept_whole(0, 4000, 100);
    /* What comes behind keeps its place: of 45 records one is the last datagram's. */
    send_train(sender, bytes, 4000, 100);
    send_train(sender, bytes, 600, 100);
    SYS(send(sender, bytes, 9, 0));
    EQUAL(receive(fd, 45, RINGMSG_RECV_SPLIT), 42);
    check_train(0, 4000, 100);
    check_kept_whole(40, 600, 100);
    check_whole(41, bytes, 9);
    close(fd), close(sender);
}

static void what_is_cut_says_so(void)
{
    int fd = bound_udp(AF_INET6), sender = sender_to(fd);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION | RINGMSG_META_HOP_LIMIT));
    layout = layout_for(fd, 4);
    layout.payload_capacity = 104;
    layout.name_capacity = 16;
    layout.control_capacity = 32;
    for (size_t i = 0; i < sizeof slab; i++)
        slab[i] = 0xcc;
    SYS(send(sender, bytes, 1000, 0));
    SYS(send(sender, bytes, 104, 0));
    EQUAL(receive(fd, 4, 0), 2);
    EQUAL(records[0].flags, RINGMSG_RECORD_TRUNCATED | RINGMSG_RECORD_CONTROL_TRUNCATED |
                                RINGMSG_RECORD_NAME_TRUNCATED);
    EQUAL(records[0].result, 104);
    EQUAL(records[0].payload_length, 104);
    EQUAL(records[0].wire_length, 1000);
    EQUAL(records[0].name_length, 16);
    COMPARE(records[0].control_length, <=, 32);
    EQUAL(records[1].flags, RINGMSG_RECORD_CONTROL_TRUNCATED | RINGMSG_RECORD_NAME_TRUNCATED);
    EQUAL(metadata[0].valid & RINGMSG_META_SOURCE, 0);
    /* No room at all for names and control messages: none were requested. */
    layout.name_capacity = layout.control_capacity = 0;
    SYS(send(sender, bytes, 100, 0));
    EQUAL(receive(fd, 4, 0), 1);
    EQUAL(records[0].name_length, 0);
    EQUAL(records[0].control_length, 0);
    EQUAL(records[0].payload_offset, 16);
    close(fd), close(sender);
}

/* A cut train ends with the datagram that was cut. */
static void a_cut_train(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE));
    layout = layout_for(fd, 4);
    layout.payload_capacity = 4000;
    send_train(sender, bytes, 12000, 1200);
    EQUAL(receive(fd, 20, RINGMSG_RECV_SPLIT), 4);
    EQUAL(records[2].flags, RINGMSG_RECORD_SEGMENT);
    EQUAL(records[3].flags, RINGMSG_RECORD_SEGMENT | RINGMSG_RECORD_TRUNCATED);
    EQUAL(records[3].payload_length, 400);
    EQUAL(records[3].wire_length, 1200);
    EQUAL(records[3].segments, 10);
    close(fd), close(sender);
}

/* The kernel steps over the padding behind a control message; what was there before
 * is not shown. */
static void nothing_older_shows_in_control_messages(void)
{
    int fd = bound_udp(AF_INET), sender = sender_to(fd);
    OK(ringmsg_socket_enable(fd, RINGMSG_META_TRAFFIC_CLASS));
    set_int(sender, IPPROTO_IP, IP_TOS, 3);
    layout = layout_for(fd, 1);
    memset(slab, 0xcc, sizeof slab);
    SYS(send(sender, "x", 1, 0));
    EQUAL(receive(fd, 1, 0), 1);
    EQUAL(records[0].control_length, 24); /* IP_TOS: a header, one byte, seven of padding */
    for (int i = 17; i < 24; i++)
        EQUAL(slab[records[0].control_offset + (uint32_t)i], 0);
    close(fd), close(sender);
}

static int received_descriptor(const struct ringmsg_record *record)
{
    struct ringmsg_cmsg cursor = {0};
    const uint8_t *control = slab + record->control_offset;
    int fd = -1;
    EQUAL(ringmsg_control_next(control, record->control_length, &cursor), 1);
    EQUAL(cursor.type, SCM_RIGHTS);
    memcpy(&fd, control + cursor.offset, sizeof fd);
    return fd;
}

static void descriptors_are_the_callers(void)
{
    int ends[2], pipes[2];
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
    SYS(pipe(pipes));
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {.iov_base = "fd", .iov_len = 2};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET, cmsg->cmsg_type = SCM_RIGHTS, cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &pipes[1], sizeof(int));
    SYS(sendmsg(ends[0], &message, 0));
    layout = layout_for(ends[1], 4);
    EQUAL(receive(ends[1], 4, 0), 1);
    EQUAL(records[0].msg_flags & MSG_CMSG_CLOEXEC, 0);
    int fd = received_descriptor(&records[0]);
    EQUAL(fcntl(fd, F_GETFD), FD_CLOEXEC);
    char c = 0;
    EQUAL(write(fd, "!", 1), 1);
    EQUAL(read(pipes[0], &c, 1), 1);
    EQUAL(c, '!');
    close(fd), close(pipes[0]), close(pipes[1]), close(ends[0]), close(ends[1]);
}

static void unix_datagrams_have_names(void)
{
    int fd = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0)), sender = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "\0ringmsg-receive"};
    socklen_t length = (socklen_t)(sizeof to.sun_family + 16 + (size_t)sprintf(to.sun_path + 16, "%d", getpid()));
    SYS(bind(fd, (struct sockaddr *)&to, length));
    layout = layout_for(fd, 4);
    int nameless = (int)SYS(socket(AF_UNIX, SOCK_DGRAM, 0));
    SYS(sendto(nameless, "anonymous", 9, 0, (struct sockaddr *)&to, length));
    struct sockaddr_un from = to;
    from.sun_path[1] = 'R';
    SYS(bind(sender, (struct sockaddr *)&from, length));
    SYS(sendto(sender, "named", 5, 0, (struct sockaddr *)&to, length));
    EQUAL(receive(fd, 4, 0), 2);
    EQUAL(records[0].name_length, 0);
    EQUAL(records[1].name_length, length);
    SAME_BYTES(slab + records[1].name_offset, &from, length);
    check_whole(1, "named", 5);
    close(fd), close(sender), close(nameless);
}

/* The end of a seqpacket socket is one empty record, behind the data, and comes again. */
static void seqpacket(void)
{
    int ends[2];
    SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
    layout = layout_for(ends[1], BUFFERS);
    layout.payload_capacity = 4096;
    SYS(send(ends[0], "one", 3, 0));
    SYS(send(ends[0], "two", 3, 0));
    EQUAL(receive(ends[1], 200, 0), 2);
    check_whole(1, "two", 3);
    REFUSED(receive(ends[1], 200, 0), EAGAIN);
    SYS(send(ends[0], "last", 4, 0));
    close(ends[0]);
    EQUAL(receive(ends[1], 200, 0), 2);
    check_whole(0, "last", 4);
    check_whole(1, "", 0);
    EQUAL(receive(ends[1], 200, 0), 1);
    check_whole(0, "", 0);
    close(ends[1]);
}

/* Sends an empty message that brings a descriptor. */
static void send_descriptor(int to, int fd)
{
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {{0}};
    struct msghdr message = {.msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET, cmsg->cmsg_type = SCM_RIGHTS, cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    SYS(sendmsg(to, &message, 0));
}

/* Empty messages of a peer that is still there are messages, each with its descriptor: none of them
 * is taken for the end, as many as there are and whatever room they leave. Behind the end of the
 * peer those without anything are one with the end. */
static void empty_packets_are_no_end(void)
{
    for (uint32_t capacity = 3; capacity <= 4; capacity++) {
        int ends[2];
        SYS(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
        layout = layout_for(ends[1], BUFFERS);
        layout.payload_capacity = 4096;
        for (int i = 0; i < 3; i++)
            SYS(send(ends[0], "", 0, 0));
        EQUAL(receive(ends[1], capacity, 0), 3);
        check_whole(2, "", 0);
        for (int i = 0; i < 3; i++)
            send_descriptor(ends[0], ends[0]);
        EQUAL(receive(ends[1], capacity, 0), 3);
        for (int i = 0; i < 3; i++)
            close(received_descriptor(&records[i]));
        for (int i = 0; i < 2; i++)
            send_descriptor(ends[0], ends[1]);
        close(ends[0]);
        EQUAL(receive(ends[1], capacity, 0), 3);
        for (int i = 0; i < 2; i++)
            close(received_descriptor(&records[i]));
        EQUAL(records[2].control_length, 0);
        EQUAL(receive(ends[1], capacity, 0), 1);
        close(ends[1]);
    }
}

TESTS(TEST(metadata_are_those_of_a_reap), TEST(without_metadata), TEST(trains), TEST(what_is_cut_says_so),
      TEST(a_cut_train), TEST(nothing_older_shows_in_control_messages), TEST(descriptors_are_the_callers),
      TEST(unix_datagrams_have_names), TEST(seqpacket), TEST(empty_packets_are_no_end))
