/* examples-c/udp_relay.c by hand, on epoll, recvmmsg(2) and sendmmsg(2): the same flow table, one
 * connected socket for each client, and payloads that are sent from where they were received. A
 * program defines BATCH and GROUPED before it includes this file.
 *
 * It serves IPv4 only, and its listening socket is bound to one address, so it asks for no control
 * messages except UDP_GRO, and that only if it is GROUPED. It never removes a flow. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_SEGMENT /* older C libraries */
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { FLOWS = 1024, NONE = -1, LISTENING = FLOWS, EVENTS = 256, RECEIVE_BUFFER = 8 << 20 };
enum { ROOM = GROUPED ? 65536 : 2048, TRAIN_MAX = 64, TRAIN_BYTES_MAX = 65000 };
enum side { TO_SERVER, TO_CLIENT, SIDES };

struct flow {
    struct sockaddr_in client;
    int fd;
    int next;                       /* in the chain of its bucket */
    int first[SIDES], last[SIDES];  /* the datagrams of this batch */
};

struct control {
    _Alignas(struct cmsghdr) char bytes[CMSG_SPACE(sizeof(int))];
};

static struct flow flows[FLOWS];
static int buckets[FLOWS], flow_count, listening, poll_fd;
static struct sockaddr_in server;
static volatile sig_atomic_t stopped;
static unsigned long long unsent;

static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_parts[BATCH], out_parts[BATCH];
static struct sockaddr_in sources[BATCH];
static struct control in_control[BATCH], out_control[BATCH];
static int from[BATCH];  /* the flow whose socket a datagram came from, or LISTENING */
static int after[BATCH]; /* the next datagram of the same flow and side */

/* The group of datagrams that is being made: the last of the headers in `out`. */
static unsigned header_count, part_count, group_segment, group_bytes;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static int check(const char *what, long value)
{
    if (value >= 0)
        return (int)value;
    perror(what);
    exit(1);
}

/* --- receiving ------------------------------------------------------------------------------- */

static void set_up_receiving(void)
{
    char *space = aligned_alloc(4096, (size_t)BATCH * ROOM);
    check("memory", space == NULL ? -1 : 0);
    for (int i = 0; i < BATCH; i++) {
        in_parts[i] = (struct iovec){space + (size_t)i * ROOM, ROOM};
        in[i].msg_hdr = (struct msghdr){
            .msg_name = &sources[i], .msg_namelen = sizeof *sources, .msg_iov = &in_parts[i], .msg_iovlen = 1,
            .msg_control = GROUPED ? &in_control[i] : NULL, .msg_controllen = GROUPED ? sizeof *in_control : 0};
    }
}

static void watch(int fd, int number)
{
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)number};
    if (GROUPED)
        check("UDP_GRO", setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on));
    check("epoll_ctl", epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event));
}

/* Receives what a socket holds, behind the n datagrams of the batch. Returns how many it has
 * then. */
static int receive(int number, int n)
{
    int fd = number == LISTENING ? listening : flows[number].fd;
    int count = recvmmsg(fd, in + n, (unsigned)(BATCH - n), MSG_DONTWAIT, NULL);
    for (int i = n; i < n + count; i++)
        from[i] = number;
    return count > 0 ? n + count : n; /* the rest is an ICMP error, or another reader was faster */
}

/* The length of each datagram in a train; a single one's own. Resets what the kernel changed. */
static unsigned take_segment(int i)
{
    struct msghdr *header = &in[i].msg_hdr;
    int size = 0;
    header->msg_namelen = sizeof *sources;
    if (header->msg_controllen >= CMSG_LEN(sizeof size) && header->msg_control != NULL)
        memcpy(&size, CMSG_DATA((struct cmsghdr *)header->msg_control), sizeof size);
    header->msg_controllen = GROUPED ? sizeof *in_control : 0;
    return size > 0 && (unsigned)size < in[i].msg_len ? (unsigned)size : in[i].msg_len;
}

/* --- sending --------------------------------------------------------------------------------- */

/* Whether a datagram, or a train of datagrams of this length, can join the group. */
static int joins(unsigned length, unsigned segment)
{
    unsigned total = group_bytes + length;
    return GROUPED && header_count > 0 && segment == group_segment && group_bytes % group_segment == 0 &&
           total <= TRAIN_BYTES_MAX && (total + segment - 1) / segment <= TRAIN_MAX;
}

/* Tells the kernel that the last message is a train. */
static void set_segment(void)
{
    struct msghdr *header = &out[header_count - 1].msg_hdr;
    uint16_t size = (uint16_t)group_segment;
    header->msg_control = &out_control[header_count - 1];
    header->msg_controllen = CMSG_SPACE(sizeof size);
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(control), &size, sizeof size);
}

/* Adds the datagrams of a flow for one side; `to` is NULL on a connected socket. */
static void add_all(int first, struct sockaddr_in *to)
{
    group_segment = 0; /* a group has datagrams of one flow */
    for (int i = first; i != NONE; i = after[i]) {
        unsigned length = in[i].msg_len, segment = take_segment(i);
        out_parts[part_count] = (struct iovec){in_parts[i].iov_base, length};
        if (joins(length, segment)) {
            out[header_count - 1].msg_hdr.msg_iovlen++;
            group_bytes += length;
        } else {
            out[header_count++].msg_hdr = (struct msghdr){
                .msg_name = to, .msg_namelen = to != NULL ? sizeof *to : 0,
                .msg_iov = &out_parts[part_count], .msg_iovlen = 1};
            group_segment = segment;
            group_bytes = length;
        }
        part_count++;
        if (group_bytes > group_segment)
            set_segment();
    }
}

/* Sends what was added. */
static void send_all(int fd)
{
    for (unsigned done = 0; done < header_count;) {
        int sent = sendmmsg(fd, out + done, header_count - done, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        unsent += sent < 0; /* the first one of the rest; the others are tried */
        done += sent < 0 ? 1 : (unsigned)sent;
    }
    header_count = part_count = 0;
}

/* --- the relay ------------------------------------------------------------------------------- */

/* The flow of a client: one that is there, or a new one; NONE: there can be no more. */
static int flow_of(const struct sockaddr_in *client)
{
    uint32_t hash = (client->sin_port ^ client->sin_addr.s_addr) * 2654435761u;
    int *bucket = &buckets[(hash >> 16) % FLOWS], number = *bucket;
    while (number != NONE && memcmp(&flows[number].client, client, sizeof *client) != 0)
        number = flows[number].next;
    if (number != NONE || flow_count == FLOWS)
        return number;
    number = flow_count++;
    int fd = check("socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    check("connect", connect(fd, (const struct sockaddr *)&server, sizeof server));
    flows[number] = (struct flow){.client = *client, .fd = fd, .next = *bucket, .first = {NONE, NONE}};
    *bucket = number;
    watch(fd, number);
    return number;
}

static void relay(int n)
{
    static int touched[SIDES][BATCH];
    int counts[SIDES] = {0, 0};
    for (int i = 0; i < n; i++) {
        enum side side = from[i] == LISTENING ? TO_SERVER : TO_CLIENT;
        int number = side == TO_SERVER ? flow_of(&sources[i]) : from[i];
        after[i] = NONE;
        if (number == NONE) {
            take_segment(i);
            unsent++;
            continue;
        }
        struct flow *flow = &flows[number];
        if (flow->first[side] == NONE) {
            touched[side][counts[side]++] = number;
            flow->first[side] = i;
        } else {
            after[flow->last[side]] = i;
        }
        flow->last[side] = i;
    }
    for (enum side side = TO_SERVER; side < SIDES; side++)
        for (int t = 0; t < counts[side]; t++) {
            struct flow *flow = &flows[touched[side][t]];
            add_all(flow->first[side], side == TO_CLIENT ? &flow->client : NULL);
            flow->first[side] = NONE;
            if (side == TO_SERVER)
                send_all(flow->fd);
        }
    send_all(listening);
}

static struct sockaddr_in address_of(const char *address, const char *port)
{
    struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    if (inet_pton(AF_INET, address, &found.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", address);
        exit(2);
    }
    return found;
}

static void open_listening(const char *address, const char *port)
{
    struct sockaddr_in own = address_of(address, port);
    socklen_t length = sizeof own;
    int size = RECEIVE_BUFFER;
    listening = check("socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (setsockopt(listening, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        check("SO_RCVBUF", setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
    check("bind", bind(listening, (struct sockaddr *)&own, sizeof own));
    check("getsockname", getsockname(listening, (struct sockaddr *)&own, &length));
    poll_fd = check("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
    watch(listening, LISTENING);
    printf("port %u\n", ntohs(own.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static struct epoll_event events[EVENTS];
    if (argc != 5) {
        fprintf(stderr, "usage: %s ADDRESS PORT SERVER-ADDRESS SERVER-PORT\n", argv[0]);
        return 2;
    }
    memset(buckets, NONE, sizeof buckets);
    server = address_of(argv[3], argv[4]);
    set_up_receiving();
    signal(SIGTERM, stop);
    open_listening(argv[1], argv[2]);
    while (!stopped) {
        int count = epoll_wait(poll_fd, events, EVENTS, -1), n = 0;
        if (count < 0 && errno == EINTR)
            continue;
        check("epoll_wait", count);
        for (int e = 0; e < count; e++) {
            n = receive((int)events[e].data.u32, n);
            if (n == BATCH || e == count - 1) {
                relay(n);
                n = 0;
            }
        }
    }
    printf("%llu messages not sent\n", unsent);
    return 0;
}
