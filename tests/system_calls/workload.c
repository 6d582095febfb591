/* Calls every function of the library, between two calls of getppid(2), which the library does not
 * use: the test traces what lies between them. The argument is the engine. Another process sends,
 * so that all system calls in between are the library's. */
#include <ringmsg.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CHECK(call)                                                                \
    do {                                                                           \
        long value_ = (long)(call);                                                \
        if (value_ < 0) {                                                          \
            fprintf(stderr, "line %d: %s is %ld\n", __LINE__, #call, value_);      \
            _exit(1);                                                              \
        }                                                                          \
    } while (0)

static int receiver, sender, shards[2], local[2], local_sender, slow[2], answering, refused;
static uint16_t port; /* of `receiver` */
static struct iovec part;
static struct msghdr message;
static char payload[64];

static void make_sockets(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    CHECK(receiver = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(bind(receiver, (struct sockaddr *)&address, length));
    CHECK(getsockname(receiver, (struct sockaddr *)&address, &length));
    CHECK(sender = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(connect(sender, (struct sockaddr *)&address, length));
    for (int i = 0; i < 2; i++) {
        CHECK(shards[i] = socket(AF_INET, SOCK_DGRAM, 0));
        CHECK(setsockopt(shards[i], SOL_SOCKET, SO_REUSEPORT, &(int){1}, sizeof(int)));
    }
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, local));
    local_sender = local[1];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, slow));
    port = ntohs(address.sin_port);
    CHECK(answering = socket(AF_INET, SOCK_DGRAM, 0));
    /* No socket has this port, so an ICMP message comes back for each datagram. */
    struct sockaddr_in6 nobody = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
    memcpy(&nobody.sin6_addr, &(struct in6_addr){{{[10] = 0xff, 0xff, 127, 0, 0, 1}}}, 16);
    CHECK(refused = socket(AF_INET6, SOCK_DGRAM, 0));
    CHECK(connect(refused, (struct sockaddr *)&nobody, sizeof nobody));
}

/* Sends a datagram to each socket every two milliseconds, the second one with a descriptor, and
 * receives what has come to a third. */
static void send_for_ever(void)
{
    struct timespec pause = {0, 2000000};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec byte = {payload, 1};
    struct msghdr descriptor = {
        .msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    memcpy(CMSG_DATA(&control.header), &(int){0}, sizeof(int));
    CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL));
    for (;; nanosleep(&pause, NULL)) {
        (void)!send(sender, payload, 32, 0);
        (void)!sendmsg(local_sender, &descriptor, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (recv(slow[1], payload, sizeof payload, MSG_DONTWAIT) >= 0)
            ;
    }
}

static struct ringmsg_ring *make_ring(uint32_t engine, uint32_t flags)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.engine = engine;
    config.flags = flags;
    CHECK(ringmsg_ring_new(&config, &ring));
    if (flags & RINGMSG_SETUP_R_DISABLED)
        CHECK(ringmsg_ring_enable(ring));
    return ring;
}

/* One of the program's own memories after the other: a ring has three pools here. */
static struct ringmsg_pool *make_pool(struct ringmsg_ring *ring, int fd)
{
    static _Alignas(64) char memories[3][4 * 70016];
    static unsigned made;
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    CHECK(ringmsg_pool_config_for_socket(&config, fd));
    config.buffers = 4;
    CHECK(ringmsg_pool_new(ring, &config, &pool));
    CHECK(ringmsg_pool_free(pool));
    CHECK(ringmsg_pool_new_in(ring, &config, memories[made++ % 3], sizeof *memories, &pool));
    return pool;
}

/* Takes the descriptors of every other record, and steps through the control messages. */
static void look_at(struct ringmsg_ring *ring, const struct ringmsg_record *records, int count)
{
    for (int i = 0; i < count; i++) {
        struct ringmsg_pool *pool = ringmsg_ring_pool(ring, records[i].pool);
        struct ringmsg_cmsg cursor = {0};
        struct ringmsg_metadata metadata;
        int fd;
        if (pool == NULL || !(records[i].flags & RINGMSG_RECORD_BUFFER))
            continue;
        const uint8_t *control = ringmsg_pool_base(pool) + records[i].control_offset;
        while (ringmsg_control_next(control, records[i].control_length, &cursor) == 1)
            ;
        CHECK(ringmsg_control_decode(control, records[i].control_length, &metadata));
        if (i % 2 == 0)
            CHECK(ringmsg_take_fds(ring, &records[i], &fd, 1));
    }
}

/* Reaps `times` times, each in another way: with room for one record, for several, spinning,
 * lingering, without waiting. */
static void reap(struct ringmsg_ring *ring, int times)
{
    struct ringmsg_record records[4];
    struct ringmsg_metadata metadata[4];
    for (int i = 0; i < times; i++) {
        struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = i % 5 == 4 ? 0 : 20000000};
        wait.spin_us = i % 5 == 1 ? 3000 : 0;
        wait.linger_us = i % 5 == 2 ? 3000 : 0;
        int n = ringmsg_reap(ring, records, metadata, i % 2 ? 4 : 1, &wait);
        CHECK(n);
        look_at(ring, records, n);
        if (i % 3 != 0)
            CHECK(ringmsg_release(ring, records, (uint32_t)n));
        else if ((n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, 4, &wait)) > 0)
            CHECK(ringmsg_release(ring, records, (uint32_t)n));
    }
}

static void use_ring(uint32_t engine, uint32_t flags)
{
    struct ringmsg_ring *ring = make_ring(engine, flags);
    struct ringmsg_pool *pool = make_pool(ring, receiver), *once = make_pool(ring, receiver);
    struct ringmsg_pool *of_local = make_pool(ring, local[0]);
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_stats stats = {.size = sizeof stats};

    CHECK(ringmsg_ring_info(ring, &info));
    CHECK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    CHECK(ringmsg_recvmsg_once(ring, once, receiver, 0, 0, 2));
    CHECK(ringmsg_recvmsg(ring, receiver, &message, 0, 0, 3));
    CHECK(ringmsg_recvmsg_multishot(ring, of_local, local[0], 0, 0, 4));
    CHECK(ringmsg_writable(ring, local[0], 5));
    CHECK(ringmsg_submit(ring));
    reap(ring, 10);
    if (!(flags & RINGMSG_SETUP_DEFER_TASKRUN))
        CHECK(ringmsg_wake(ring));
    CHECK(ringmsg_ring_fd(ring));
    reap(ring, 10);
    CHECK(ringmsg_request_stats(ring, 1, &stats));
    CHECK(ringmsg_ring_stats(ring, &stats));
    CHECK(ringmsg_cancel(ring, 1));
    reap(ring, 2);
    (void)ringmsg_pool_id(pool);
    (void)ringmsg_pool_size(pool);
    CHECK(ringmsg_pool_free(pool));
    CHECK(ringmsg_ring_free(ring));
}

/* The sockets are unbound, which the kernel allows too. */
static void steer_sockets(void)
{
    struct ringmsg_steering steering = {.size = sizeof steering, .by = RINGMSG_STEER_QUIC, .length = 2};
    CHECK(ringmsg_socket_steer(shards, 2, &steering));
}

static void use_what_needs_no_ring(void)
{
    char text[2048];
    struct ringmsg_support support = {.size = sizeof support};
    struct ringmsg_pool_config layout;
    struct ringmsg_record records[4];
    static uint8_t slab[1 << 20];
    (void)ringmsg_version();
    (void)ringmsg_abi_version();
    (void)ringmsg_sizeof_record();
    (void)ringmsg_sizeof_metadata();
    (void)ringmsg_strerror(EBADF);
    CHECK(ringmsg_query_support(&support));
    CHECK(ringmsg_describe_support(text, sizeof text));
    (void)ringmsg_last_error(text, sizeof text);
    CHECK(ringmsg_socket_enable(receiver, RINGMSG_META_DESTINATION | RINGMSG_META_SEGMENT_SIZE));
    (void)ringmsg_socket_disable(receiver, RINGMSG_META_SEGMENT_SIZE); /* -EAGAIN while datagrams are queued */
    steer_sockets();
    ringmsg_pool_config_init(&layout);
    CHECK(ringmsg_pool_config_for_socket(&layout, receiver));
    layout.buffers = 4;
    int n = ringmsg_receive(receiver, slab, sizeof slab, &layout, records, NULL, 4, 0);
    if (n != -EAGAIN)
        CHECK(n);
}

/* Sends `count` messages on `path`, in every form. */
static void send_on(struct ringmsg_sender *from, const struct ringmsg_path *path, int count)
{
    struct ringmsg_message messages[8];
    uint32_t lengths[8], indices[8];
    int32_t results[8];
    for (int i = 0; i < count; i++) {
        messages[i] = (struct ringmsg_message){.payload = payload, .payload_length = 8, .path = path};
        lengths[i] = 8;
        indices[i] = path == NULL ? UINT32_MAX : 0;
    }
    CHECK(ringmsg_send(from, messages, (uint32_t)count, RINGMSG_SEND_WAIT));
    for (int i = 0; i < count; i++) {
        messages[i].payload = NULL;
        messages[i].path = path == NULL ? (const void *)UINTPTR_MAX : NULL;
    }
    uint32_t paths = path != NULL;
    CHECK(ringmsg_send_from(from, payload, sizeof payload, path, paths, messages, (uint32_t)count, RINGMSG_SEND_WAIT));
    CHECK(ringmsg_send_columns(from, payload, sizeof payload, NULL, lengths, indices, path, paths, results,
                               (uint32_t)count, RINGMSG_SEND_WAIT));
}

/* Replies, with transmit times and timestamps; and datagrams that an ICMP message refuses, whose
 * errors are pending when the next ones are sent. */
static void send_by_udp(void)
{
    struct ringmsg_sender_config config;
    struct ringmsg_sender *from;
    struct ringmsg_metadata asked = {.valid = RINGMSG_META_SOURCE, .family = AF_INET, .source_port = port};
    struct ringmsg_path path = {0};
    memcpy(asked.source, &(struct in_addr){htonl(INADDR_LOOPBACK)}, 4);
    CHECK(ringmsg_path_reply(&path, &asked));
    struct sockaddr_in there = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(ringmsg_path_to(&path, (struct sockaddr *)&there, sizeof there));
    ringmsg_sender_config_init(&config);
    config.transmit_clock = CLOCK_MONOTONIC;
    config.flags = RINGMSG_SENDER_TIMESTAMPS;
    CHECK(ringmsg_sender_new(answering, &config, &from));
    send_on(from, &path, 8);
    CHECK(ringmsg_sender_free(from));

    CHECK(ringmsg_sender_new(refused, NULL, &from));
    path = (struct ringmsg_path){.valid = RINGMSG_PATH_INTERFACE, .interface_index = 1};
    for (int i = 0; i < 4; i++)
        send_on(from, &path, 2);
    struct ringmsg_message apart[2] = {{.payload = payload, .payload_length = 8},
                                       {.payload = payload, .payload_length = 9}};
    for (int i = 0; i < 4; i++)
        CHECK(ringmsg_send(from, apart, 2, 0));
    CHECK(ringmsg_sender_free(from));
}

static void use_senders(void)
{
    struct ringmsg_sender_stats stats = {.size = sizeof stats};
    struct ringmsg_sender *from;
    send_by_udp();
    /* More than the queue of a local socket holds, so that it waits. */
    CHECK(ringmsg_sender_new(slow[0], NULL, &from));
    for (int i = 0; i < 100; i++)
        send_on(from, NULL, 8);
    CHECK(ringmsg_sender_stats(from, &stats));
    CHECK(stats.would_block > 0 ? 0 : -1);
    CHECK(ringmsg_sender_free(from));
}

int main(int argc, char **argv)
{
    uint32_t engine = argc > 1 && strcmp(argv[1], "recvmmsg") == 0 ? RINGMSG_ENGINE_RECVMMSG : RINGMSG_ENGINE_IO_URING;
    part = (struct iovec){payload, sizeof payload};
    message = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    make_sockets();
    pid_t child;
    CHECK(child = fork());
    if (child == 0)
        send_for_ever();
    syscall(SYS_getppid);
    if (argc > 1 && strcmp(argv[1], "senders") == 0) {
        use_senders();
        syscall(SYS_getppid);
        kill(child, SIGKILL);
        return 0;
    }
    if (argc > 2)
        use_what_needs_no_ring();
    use_ring(engine, 0);
    use_ring(engine, RINGMSG_SETUP_AUTO | RINGMSG_SETUP_R_DISABLED);
    if (engine == RINGMSG_ENGINE_IO_URING) {
        use_ring(engine, RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG);
        use_ring(engine, RINGMSG_SETUP_SQPOLL);
    }
    syscall(SYS_getppid);
    kill(child, SIGKILL);
    return 0;
}
