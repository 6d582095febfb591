/* Sends every datagram back, from the address it was sent to. A GRO train goes back with one
 * sendmsg(2), which the kernel cuts into the same datagrams again (UDP_SEGMENT), straight from
 * the pool: nothing is copied here.
 *
 *   udp_echo ADDRESS PORT        0.0.0.0 or ::, and port 0 for a free one */
#include "example.h"
#include <signal.h>

enum { BATCH = 256 };

static struct ringmsg_ring *ring;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    ringmsg_wake(ring);
}

/* Appends a control message to those of `message`. */
static void add_control(struct msghdr *message, int level, int type, const void *data, size_t length)
{
    struct cmsghdr *cmsg = (struct cmsghdr *)((char *)message->msg_control + message->msg_controllen);
    cmsg->cmsg_level = level;
    cmsg->cmsg_type = type;
    cmsg->cmsg_len = CMSG_LEN(length);
    memcpy(CMSG_DATA(cmsg), data, length);
    message->msg_controllen += CMSG_SPACE(length);
}

/* On a host with several addresses an answer must come from the one that was asked. */
static void add_source(struct msghdr *message, const struct ringmsg_metadata *meta)
{
    if (meta->family == AF_INET6 && meta->valid & RINGMSG_META_DESTINATION) {
        struct in6_pktinfo from = {.ipi6_ifindex = meta->interface_index};
        memcpy(&from.ipi6_addr, meta->destination, sizeof from.ipi6_addr);
        add_control(message, IPPROTO_IPV6, IPV6_PKTINFO, &from, sizeof from);
    } else if (meta->valid & RINGMSG_META_LOCAL_V4) {
        struct in_pktinfo from = {.ipi_ifindex = 0};
        memcpy(&from.ipi_spec_dst, meta->local_v4, sizeof from.ipi_spec_dst);
        add_control(message, IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
    }
}

static int echo(int fd, const uint8_t *base, const struct ringmsg_record *record,
                const struct ringmsg_metadata *meta)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)(base + record->payload_offset),
                         .iov_len = record->payload_length};
    struct msghdr message = {.msg_name = (void *)(uintptr_t)(base + record->name_offset),
                             .msg_namelen = record->name_length,
                             .msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
    add_source(&message, meta);
    if (record->segment_size != 0) {
        uint16_t segment = (uint16_t)record->segment_size;
        add_control(&message, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    }
    return sendmsg(fd, &message, 0) == (ssize_t)record->payload_length;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: udp_echo ADDRESS PORT\n");
        return 2;
    }
    int fd = udp_socket(argv[1], argv[2], bind);
    check("socket", ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION));
    check("ring", ringmsg_ring_new(NULL, &ring));
    struct ringmsg_pool *pool = pool_for(ring, fd);
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("port %u\n", port_of(fd));
    fflush(stdout);

    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    unsigned long long unsent = 0;
    for (int n = 0; !stopped;) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, NULL);
        if (n == -EINTR)
            n = 0;
        check("receive", n);
        for (int i = 0; i < n; i++)
            if (records[i].result < 0) /* an ICMP error, say; the request goes on */
                fprintf(stderr, "receive: %s\n", ringmsg_strerror(records[i].result));
            else if (!echo(fd, ringmsg_pool_base(pool), &records[i], &metadata[i]))
                unsent++;
    }
    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    printf("%llu datagrams in %llu records; %llu records not sent back; %llu dropped before\n",
           (unsigned long long)stats.datagrams, (unsigned long long)stats.records, unsent,
           (unsigned long long)stats.socket_drops);
    check("free", ringmsg_ring_free(ring));
    return 0;
}
