/* What the measurements of sending share: answers sent as an expert does it by hand, sockets,
 * time. */
#ifndef BY_HAND_H
#define BY_HAND_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ringmsg.h>

#include <arpa/inet.h>
#include <errno.h>
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

enum { BATCH = 512, PEERS_MAX = 512, LENGTH_MAX = 1200, TRAIN_MAX = 64, SLOTS = 1024, ROUNDS_MAX = 2000 };

#define CHECK(call)                              \
    do {                                         \
        if ((long)(call) < 0) {                  \
            perror(#call);                       \
            exit(1);                             \
        }                                        \
    } while (0)

/* How much comes from whom, in what order. */
static const struct pattern {
    const char *name;
    int peers, in_a_row, length;
} patterns[] = {
    {"64 B, 128 peers x 4, interleaved", 128, 0, 64},
    {"1200 B, 32 peers x 16, interleaved", 32, 0, 1200},
    {"64 B, 16 peers x 32, in a row", 16, 1, 64},
    {"64 B, every peer once", 512, 0, 64},
};
enum { PATTERNS = sizeof patterns / sizeof *patterns };

/* The peer of the i-th datagram of a batch. */
static inline int peer_of(const struct pattern *pattern, int i)
{
    return pattern->in_a_row ? i / (BATCH / pattern->peers) : i % pattern->peers;
}

/* One datagram to send. */
struct answer {
    const void *payload;
    size_t length;
    const struct sockaddr_in *to;
};

static struct mmsghdr by_hand_headers[BATCH];
static struct iovec by_hand_parts[BATCH];
static _Alignas(struct cmsghdr) char by_hand_control[BATCH][CMSG_SPACE(sizeof(uint16_t))];

static inline void send_headers(int fd, int count, int at_once)
{
    for (int at = 0; at < count;) {
        int n = sendmmsg(fd, by_hand_headers + at, (unsigned)(count - at < at_once ? count - at : at_once), 0);
        CHECK(n);
        at += n;
    }
}

/* Each as a message of its own, this many with one system call. */
static inline void send_ungrouped(int fd, const struct answer *answers, int count, int at_once)
{
    for (int i = 0; i < count; i++) {
        by_hand_parts[i] = (struct iovec){(void *)(uintptr_t)answers[i].payload, answers[i].length};
        by_hand_headers[i].msg_hdr = (struct msghdr){
            .msg_name = (void *)(uintptr_t)answers[i].to, .msg_namelen = sizeof *answers[i].to,
            .msg_iov = &by_hand_parts[i], .msg_iovlen = 1};
    }
    send_headers(fd, count, at_once);
}

static inline int is_same(const struct sockaddr_in *a, const struct sockaddr_in *b)
{
    return a->sin_port == b->sin_port && a->sin_addr.s_addr == b->sin_addr.s_addr;
}

/* Those to one peer as one train: a table of peers with a list for each. */
static inline void send_grouped(int fd, const struct answer *answers, int count)
{
    static int head[SLOTS], slots[BATCH], first[BATCH], last[BATCH], next[BATCH], length[BATCH], ready;
    int groups = 0, used = 0;
    if (!ready)
        memset(head, -1, sizeof head);
    ready = 1;
    for (int i = 0; i < count; i++) {
        const struct sockaddr_in *to = answers[i].to;
        unsigned slot = (to->sin_port * 40503u) >> 6 & (SLOTS - 1);
        while (head[slot] >= 0 && !is_same(answers[first[head[slot]]].to, to))
            slot = (slot + 1) & (SLOTS - 1);
        int g = head[slot];
        next[i] = -1;
        if (g >= 0 && answers[first[g]].length == answers[i].length && length[g] < TRAIN_MAX &&
            (size_t)(length[g] + 1) * answers[i].length <= 65000) {
            next[last[g]] = i;
            last[g] = i;
            length[g]++;
        } else {
            slots[groups] = (int)slot;
            head[slot] = groups;
            first[groups] = last[groups] = i;
            length[groups++] = 1;
        }
    }
    for (int g = 0; g < groups; g++) {
        struct msghdr *header = &by_hand_headers[g].msg_hdr;
        const struct answer *one = &answers[first[g]];
        *header = (struct msghdr){.msg_name = (void *)(uintptr_t)one->to, .msg_namelen = sizeof *one->to,
                                  .msg_iov = &by_hand_parts[used], .msg_iovlen = (size_t)length[g]};
        for (int i = first[g]; i >= 0; i = next[i])
            by_hand_parts[used++] = (struct iovec){(void *)(uintptr_t)answers[i].payload, answers[i].length};
        if (length[g] > 1) {
            uint16_t size = (uint16_t)one->length;
            header->msg_control = by_hand_control[g];
            header->msg_controllen = sizeof by_hand_control[g];
            struct cmsghdr *control = CMSG_FIRSTHDR(header);
            control->cmsg_level = SOL_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof size);
            memcpy(CMSG_DATA(control), &size, sizeof size);
        }
        head[slots[g]] = -1;
    }
    send_headers(fd, groups, BATCH);
}

/* A socket on loopback, with buffers that nothing here fills. */
static inline int open_socket(struct sockaddr_in *address)
{
    int fd, most = 64 << 20;
    socklen_t length = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    CHECK(fd = socket(AF_INET, SOCK_DGRAM, 0));
    CHECK(bind(fd, (struct sockaddr *)address, length));
    CHECK(getsockname(fd, (struct sockaddr *)address, &length));
    int forced = setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &most, sizeof most) == 0 &&
                 setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &most, sizeof most) == 0;
    if (!forced) {
        printf("SKIPPED: buffers that hold 512 datagrams take CAP_NET_ADMIN\n");
        exit(0);
    }
    return fd;
}

/* --- the measurement: variants take turns within each round
 * --------------------------------------- */

static inline double cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static inline int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Calls `run`, which returns the CPU time a datagram has taken, for each variant in turn, and
 * prints medians and quartiles of the ratios to the first one. */
static inline void measure(const struct pattern *pattern, int rounds, int variants, const char *const *names,
                           double (*run)(const struct pattern *pattern, int variant))
{
    static double ns[8][ROUNDS_MAX], ratio[8][ROUNDS_MAX];
    for (int round = -5; round < rounds; round++) {
        double used[8];
        for (int k = 0; k < variants; k++) {
            int v = (k + round + 8) % variants;
            used[v] = run(pattern, v);
        }
        for (int v = 0; v < variants && round >= 0; v++) {
            ns[v][round] = used[v];
            ratio[v][round] = used[v] / used[0];
        }
    }
    printf("%s\n", pattern->name);
    for (int v = 0; v < variants; v++) {
        qsort(ns[v], (size_t)rounds, sizeof **ns, compare);
        qsort(ratio[v], (size_t)rounds, sizeof **ratio, compare);
        printf("  %-36s %7.0f ns %6.2f  (%.2f - %.2f)\n", names[v], ns[v][rounds / 2], ratio[v][rounds / 2],
               ratio[v][rounds / 4], ratio[v][rounds * 3 / 4]);
    }
}

/* The rounds that were asked for; the thread stays on one processor. */
static inline int begin(int count, char **arguments)
{
    int rounds = count > 1 ? atoi(arguments[1]) : 300;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    sched_setaffinity(0, sizeof one, &one);
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        fprintf(stderr, "usage: %s [ROUNDS, at most %d]\n", arguments[0], ROUNDS_MAX);
        exit(2);
    }
    return rounds;
}

#endif
