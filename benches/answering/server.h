/* Shared by all servers of the benchmark's answering cells: what a server is given, and what it has
 * to do. A server is a function that receives on `in` and sends an answer to each datagram on
 * `out`, until it is killed: an echo sends it back to its source, a relay sends it on to the
 * address of its flow.
 * harness.c makes the sockets and the clients, forks the server, and accounts for every datagram.
 *
 * The sockets are bound to one address, so an answer needs no source address of its own, and no
 * server asks for control messages except UDP_GRO, where trains come. */
#ifndef SERVER_H
#define SERVER_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT /* older C libraries */
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { NOT_SUPPORTED = 77 /* exit status */, CLIENTS_MAX = 4096 };

/* The traffic of a cell. */
struct traffic {
    const char *name;
    double rate;      /* datagrams per second; 0: `fill` of them while the server is stopped */
    unsigned fill;    /* datagrams */
    unsigned peers;
    unsigned in_a_row; /* datagrams of one peer, one after the other */
    unsigned size;    /* bytes of a datagram */
    unsigned train;   /* datagrams that leave the client as one UDP_SEGMENT train */
    bool relay;
};

/* The head of every payload. */
struct question {
    uint64_t sequence; /* of all datagrams */
    uint64_t sent_ns;
    uint32_t peer;
};

/* What the server shows the clients. */
struct progress {
    atomic_ullong answered, unsent; /* datagrams that the socket took, and refused */
    atomic_ullong calls;            /* receive calls that returned something */
};

struct server {
    const struct traffic *traffic;
    int in, out;
    struct progress *progress;
    struct sockaddr_in flows[CLIENTS_MAX]; /* where a relay sends, by question.peer */
};

/* One server: a function and its parameters. */
struct variant {
    const char *name;
    void (*serve)(struct server *server, const struct variant *self);
    unsigned batch, flags, linger_us;
};
extern const struct variant variants[]; /* the last one has a NULL name */

static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static inline int check(const char *what, long value)
{
    if (value >= 0)
        return (int)value;
    perror(what);
    exit(1);
}

/* Like check(), for functions that return -errno. */
static inline int check_errno(const char *what, int value)
{
    if (value < 0)
        errno = -value, value = -1;
    return check(what, value);
}

static inline _Noreturn void not_supported(const char *why)
{
    printf("{\"not_supported\": \"%s\"}\n", why);
    fflush(stdout);
    _exit(NOT_SUPPORTED);
}

/* Counts a batch: the clients wait for `answered`. */
static inline void count(struct server *server, unsigned answered, unsigned unsent)
{
    struct progress *progress = server->progress;
    atomic_fetch_add_explicit(&progress->calls, 1, memory_order_relaxed);
    if (unsent > 0)
        atomic_fetch_add_explicit(&progress->unsent, unsent, memory_order_relaxed);
    atomic_fetch_add_explicit(&progress->answered, answered, memory_order_release);
}

static inline uint32_t flow_of(const void *payload)
{
    uint32_t peer;
    memcpy(&peer, (const uint8_t *)payload + offsetof(struct question, peer), sizeof peer);
    return peer;
}

/* Where the answer to a datagram goes. */
static inline const struct sockaddr_in *
destination(const struct server *server, const void *payload, const struct sockaddr_in *source)
{
    return server->traffic->relay ? &server->flows[flow_of(payload) % CLIENTS_MAX] : source;
}

static inline void enable_gro(int fd)
{
    int on = 1;
    check("UDP_GRO", setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on));
}

#endif
