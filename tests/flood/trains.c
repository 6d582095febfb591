/* Checks whether the receiving end of the link has GRO: then datagrams that cross it separately
 * arrive together, in records with a segment size.
 *
 *   trains on|off single|cut     whether it must; exit status 0 if it does
 *
 * single: datagrams are sent one by one; cut: in trains, which the sender's device must cut. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ringmsg.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

enum { BURST = 64, BURSTS = 500, SIZE = 1200 };

#define CHECK(condition)                                                            \
    do {                                                                           \
        if (!(condition)) {                                                        \
            fprintf(stderr, "%s:%d: is false: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                               \
        }                                                                          \
    } while (0)

/* Makes a socket bound to `address` in a network namespace of tests/netns.sh. */
static int socket_in(const char *path, const char *address)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(namespace >= 0 && setns(namespace, CLONE_NEWNET) == 0);
    close(namespace);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, address, &here.sin_addr);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&here, sizeof here) == 0);
    return fd;
}

static void send_burst(int sender, int as_train)
{
    static char data[BURST * SIZE];
    if (as_train) {
        for (int half = 0; half < 2; half++) /* a train has at most 64 KiB */
            CHECK(send(sender, data, sizeof data / 2, 0) == sizeof data / 2);
        return;
    }
    struct iovec part = {data, SIZE};
    struct mmsghdr messages[BURST];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < BURST; i++)
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &part, .msg_iovlen = 1};
    CHECK(sendmmsg(sender, messages, BURST, 0) == BURST);
}

int main(int argc, char **argv)
{
    int expected = argc > 1 && strcmp(argv[1], "on") == 0;
    int as_train = argc > 2 && strcmp(argv[2], "cut") == 0, segment = SIZE;
    int receiver = socket_in("/run/netns/ringmsg-near", "10.213.0.1"), size = 4 << 20;
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    CHECK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE) == 0);
    struct sockaddr_storage to;
    socklen_t length = sizeof to;
    CHECK(getsockname(receiver, (struct sockaddr *)&to, &length) == 0);
    int sender = socket_in("/run/netns/ringmsg-far", "10.213.0.2");
    CHECK(connect(sender, (struct sockaddr *)&to, length) == 0);
    CHECK(!as_train || setsockopt(sender, SOL_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0);

    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    CHECK(ringmsg_ring_new(NULL, &ring) == 0);
    CHECK(ringmsg_pool_config_for_socket(&config, receiver) == 0);
    CHECK(ringmsg_pool_new(ring, &config, &pool) == 0);
    CHECK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1) == 0);

    unsigned long records = 0, trains = 0, datagrams = 0, longest = 0;
    for (int burst = 0; burst < BURSTS; burst++) {
        struct ringmsg_record batch[BURST];
        struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 20 * 1000000};
        send_burst(sender, as_train);
        for (unsigned long until = datagrams + BURST; datagrams < until;) {
            int count = ringmsg_reap(ring, batch, NULL, BURST, &wait);
            CHECK(count >= 0);
            if (count == 0)
                break; /* the other datagrams were dropped */
            for (int i = 0; i < count; i++) {
                CHECK(batch[i].result > 0 && batch[i].result % SIZE == 0);
                unsigned long segments = (unsigned long)batch[i].result / SIZE;
                CHECK(segments == 1 || batch[i].segment_size == SIZE);
                records++;
                trains += segments > 1;
                datagrams += segments;
                longest = segments > longest ? segments : longest;
            }
            CHECK(ringmsg_release(ring, batch, (uint32_t)count) == 0);
        }
    }
    printf("%d datagrams: %lu arrived in %lu records, %lu of them trains, the longest of %lu\n",
           BURST * BURSTS, datagrams, records, trains, longest);
    CHECK(ringmsg_ring_free(ring) == 0);
    CHECK(datagrams > BURST * BURSTS / 2);
    if ((trains > 0) != expected) {
        fprintf(stderr, "the device %s trains\n", expected ? "makes no" : "must not make");
        return 1;
    }
    return 0;
}
