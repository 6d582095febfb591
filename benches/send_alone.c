/* What sending costs, receiving left out: batches of 512 answers on one socket, by
 * ringmsg_send(), by a hand-written loop that groups them with UDP_SEGMENT, and by sendmmsg(2)
 * of 64 at a time without grouping. The variants take turns within each round, on the same
 * messages; what counts is the thread's CPU time, in which the kernel delivers over loopback as
 * well. Receivers are emptied, and what came is counted, outside the measurement.
 *
 * send_alone [ROUNDS]        prints the medians of the ratios to the first variant, with
 * quartiles */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ringmsg.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { BATCH = 512, PEERS_MAX = 512, LENGTH_MAX = 1200, TRAIN_MAX = 64, ROUNDS_MAX = 2000 };

#define CHECK(call)                              \
    do {                                         \
        if ((long)(call) < 0) {                  \
            perror(#call);                       \
            exit(1);                             \
        }                                        \
    } while (0)

static const struct pattern {
    const char *name;
    int peers, in_a_row, length;
} patterns[] = {
    {"64 B, 128 peers x 4, interleaved", 128, 0, 64},
    {"1200 B, 32 peers x 16, interleaved", 32, 0, 1200},
    {"64 B, 16 peers x 32, in a row", 16, 1, 64},
    {"64 B, every peer once", 512, 0, 64},
};

static int sockets[PEERS_MAX], socket_fd;
static struct sockaddr_in peers[PEERS_MAX];
static struct ringmsg_path paths[PEERS_MAX];
static struct ringmsg_message messages[BATCH];
static uint8_t payloads[BATCH][LENGTH_MAX];
static int peer_of[BATCH];

/* --- the variants ------------------------------------------------------------------------- */

static struct mmsghdr headers[BATCH];
static struct iovec parts[BATCH];
static union {
    char space[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr align;
} control[BATCH];

static void send_headers(int count, int at_once)
{
    for (int at = 0; at < count;) {
        int n = sendmmsg(socket_fd, headers + at, (unsigned)(count - at < at_once ? count - at : at_once), 0);
        CHECK(n);
        at += n;
    }
}

static void ungrouped(int length)
{
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){payloads[i], (size_t)length};
        headers[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[peer_of[i]], .msg_namelen = sizeof *peers, .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    send_headers(BATCH, 64);
}

/* What an expert writes for one kind of message: a table of peers by port, a list for each. */
static void grouped(int length)
{
    static int head[1024], ready, tail[BATCH], next[BATCH], count[BATCH], first_of[BATCH];
    int groups = 0, used = 0;
    if (!ready)
        memset(head, -1, sizeof head);
    ready = 1;
    for (int i = 0; i < BATCH; i++) {
        const struct sockaddr_in *to = &peers[peer_of[i]];
        int *slot = &head[(to->sin_port * 40503u) >> 6 & 1023], g = *slot;
        next[i] = -1;
        if (g >= 0 && peers[peer_of[g]].sin_port == to->sin_port &&
            peers[peer_of[g]].sin_addr.s_addr == to->sin_addr.s_addr && count[g] < TRAIN_MAX &&
            (count[g] + 1) * length <= 65000) {
            next[tail[g]] = i;
            tail[g] = i;
            count[g]++;
        } else {
            *slot = first_of[groups++] = tail[i] = i;
            count[i] = 1;
        }
    }
    for (int k = 0; k < groups; k++) {
        int g = first_of[k];
        struct msghdr *header = &headers[k].msg_hdr;
        *header = (struct msghdr){.msg_name = &peers[peer_of[g]], .msg_namelen = sizeof *peers,
                                  .msg_iov = &parts[used], .msg_iovlen = (size_t)count[g]};
        for (int i = g; i >= 0; i = next[i])
            parts[used++] = (struct iovec){payloads[i], (size_t)length};
        if (count[g] > 1) {
            uint16_t size = (uint16_t)length;
            header->msg_control = &control[k];
            header->msg_controllen = sizeof control[k];
            control[k].align.cmsg_level = SOL_UDP;
            control[k].align.cmsg_type = UDP_SEGMENT;
            control[k].align.cmsg_len = CMSG_LEN(sizeof size);
            memcpy(CMSG_DATA(&control[k].align), &size, sizeof size);
        }
        head[(peers[peer_of[g]].sin_port * 40503u) >> 6 & 1023] = -1;
    }
    send_headers(groups, BATCH);
}

static struct ringmsg_sender *sender;

static void library(int length)
{
    (void)length;
    if (ringmsg_send(sender, messages, BATCH, 0) != BATCH || messages[BATCH - 1].result != length) {
        fprintf(stderr, "ringmsg_send: %d\n", messages[BATCH - 1].result);
        exit(1);
    }
}

static const struct variant {
    const char *name;
    void (*send)(int length);
} variants[] = {{"grouped by hand", grouped}, {"ringmsg_send", library}, {"sendmmsg(64), not grouped", ungrouped}};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* --- the measurement ---------------------------------------------------------------------- */

static double cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void open_sockets(void)
{
    int most = 64 << 20;
    for (int p = 0; p < PEERS_MAX; p++) {
        socklen_t length = sizeof *peers;
        peers[p] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        CHECK(sockets[p] = socket(AF_INET, SOCK_DGRAM, 0));
        CHECK(bind(sockets[p], (struct sockaddr *)&peers[p], length));
        CHECK(getsockname(sockets[p], (struct sockaddr *)&peers[p], &length));
        setsockopt(sockets[p], SOL_SOCKET, SO_RCVBUFFORCE, &most, sizeof most);
        paths[p].valid = RINGMSG_PATH_REMOTE;
        paths[p].family = AF_INET;
        paths[p].remote_port = ntohs(peers[p].sin_port);
        memcpy(paths[p].remote, &peers[p].sin_addr, 4);
    }
    CHECK(socket_fd = socket(AF_INET, SOCK_DGRAM, 0));
    setsockopt(socket_fd, SOL_SOCKET, SO_SNDBUFFORCE, &most, sizeof most);
    CHECK(ringmsg_sender_new(socket_fd, NULL, &sender));
}

static void make_messages(const struct pattern *pattern)
{
    for (int i = 0; i < BATCH; i++) {
        peer_of[i] = pattern->in_a_row ? i / (BATCH / pattern->peers) : i % pattern->peers;
        messages[i] = (struct ringmsg_message){.payload = payloads[i], .path = &paths[peer_of[i]],
                                               .payload_length = (uint32_t)pattern->length};
    }
}

/* Every datagram has arrived. */
static void empty_receivers(const struct pattern *pattern, const char *who)
{
    static char bytes[65536];
    int count = 0;
    for (int p = 0; p < pattern->peers; p++)
        while (recv(sockets[p], bytes, sizeof bytes, MSG_DONTWAIT) == pattern->length)
            count++;
    if (count != BATCH) {
        fprintf(stderr, "%s: %d of %d datagrams arrived\n", who, count, BATCH);
        exit(1);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const struct pattern *pattern, int rounds)
{
    static double ns[VARIANTS][ROUNDS_MAX], ratio[VARIANTS][ROUNDS_MAX];
    make_messages(pattern);
    for (int round = -5; round < rounds; round++) {
        double used[VARIANTS];
        for (int k = 0; k < VARIANTS; k++) {
            int v = (k + round + 6) % VARIANTS;
            double start = cpu_ns();
            variants[v].send(pattern->length);
            used[v] = (cpu_ns() - start) / BATCH;
            empty_receivers(pattern, variants[v].name);
        }
        for (int v = 0; v < VARIANTS && round >= 0; v++) {
            ns[v][round] = used[v];
            ratio[v][round] = used[v] / used[0];
        }
    }
    printf("%s\n", pattern->name);
    for (int v = 0; v < VARIANTS; v++) {
        qsort(ns[v], (size_t)rounds, sizeof **ns, compare);
        qsort(ratio[v], (size_t)rounds, sizeof **ratio, compare);
        printf("  %-28s %7.0f ns %6.2f  (%.2f - %.2f)\n", variants[v].name, ns[v][rounds / 2], ratio[v][rounds / 2],
               ratio[v][rounds / 4], ratio[v][rounds * 3 / 4]);
    }
}

int main(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 300;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: send_alone [ROUNDS, at most %d]\n", ROUNDS_MAX);
        return 2;
    }
    open_sockets();
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++)
        measure(&patterns[p], rounds);
    return ringmsg_sender_free(sender);
}
