/* Shared by all receivers of the benchmark: the parameters of a run, and what a receiver must
 * decode of each datagram. A receiver is a function that receives until run->stopped. harness.c
 * makes the sockets, forks the sender, and accounts for the datagrams.
 *
 * Every receiver calls count_batch() after each receive call, and account() or account_train() for
 * each datagram, with every field of struct datagram. The sums are compared with what was sent, so
 * that no receiver can save work by decoding less. */
#ifndef HARNESS_H
#define HARNESS_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <stdbool.h>
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

enum {
    SOCKETS_MAX = 10000,
    SEGMENT = 1200,      /* bytes of a datagram in a train */
    SEGMENTS = 32,       /* datagrams in a train */
    SMALL = 64,          /* bytes of a datagram outside trains */
    TRAFFIC_CLASS = 2,   /* ECT(0), because quinn-udp shows only the ECN bits */
    SAMPLES_MAX = 1 << 20,
    NOT_SUPPORTED = 77,  /* exit status */
};

/* The traffic of a cell. */
struct regime {
    const char *name;
    double rate;         /* datagrams per second; 0: as fast as possible */
    unsigned sockets;
    unsigned chunk;      /* datagrams (trains with gro) of one sendmmsg(2) */
    unsigned burst;      /* datagrams sent at once, at the average rate; 0: one chunk */
    unsigned fill;       /* datagrams sent while the receiver is stopped; 0: it is not stopped */
    unsigned stamp_each; /* one datagram in this many carries the time; 0: none */
    int receive_buffer;  /* bytes; the kernel doubles them */
    bool gro, echo;
    unsigned window;     /* with echo: requests under way; 0: one, with a rest after each answer */
    bool bare;           /* no control messages: payload and source only */
    double warm_up;      /* seconds before counting starts; 0: a quarter of the run, 125 ms at most */
};

/* The head of every payload. */
struct stamp {
    uint64_t sequence;
    uint64_t sent_ns;    /* CLOCK_MONOTONIC; 0: no time; or a marker */
};
enum { MARKER_START = 1, MARKER_END = 2 };

/* A decoded datagram or train. Addresses and ports are in network byte order. */
struct datagram {
    const uint8_t *payload;
    uint32_t length;
    uint32_t source, destination;
    uint16_t port;
    uint8_t traffic_class;
    uint32_t dropped;
    uint32_t segment;    /* 0: not a train */
};

struct tally {
    uint64_t datagrams, bytes, sources, ports, destinations, classes, trains, batches;
    uint64_t disorder, dropped, markers;
};

/* The state of the receiver, and the results that the harness reads at the end. */
struct run {
    const struct regime *regime;
    int fds[SOCKETS_MAX];
    bool stopped;
    struct tally tally;
    uint64_t last_sequence;
    int64_t batch_ns;    /* when the batch was received; 0: the clock has not been read yet */
    uint32_t *samples;   /* latencies in ns */
    size_t sample_count;
};

/* One receiver: a function and its parameters. */
struct variant {
    const char *name;
    void (*receive)(struct run *run, const struct variant *self);
    unsigned batch, sleep_us, flags, spin_us;
};
extern const struct variant variants[]; /* the last one has a NULL name */

_Noreturn void not_supported(const char *why);
void account_stamp(struct run *run, const struct datagram *datagram, const struct stamp *stamp);

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

/* Counts a receive call that has returned. */
static inline void count_batch(struct run *run)
{
    run->tally.batches++;
    run->batch_ns = 0;
}

static inline void account(struct run *run, const struct datagram *datagram)
{
    struct stamp stamp;
    memcpy(&stamp, datagram->payload, sizeof stamp);
    run->tally.datagrams++;
    run->tally.bytes += datagram->length;
    run->tally.sources += datagram->source;
    run->tally.ports += datagram->port;
    run->tally.destinations += datagram->destination;
    run->tally.classes += datagram->traffic_class;
    run->tally.disorder += stamp.sequence <= run->last_sequence;
    run->last_sequence = stamp.sequence;
    if (datagram->dropped != 0)
        run->tally.dropped = datagram->dropped;
    if (stamp.sent_ns != 0)
        account_stamp(run, datagram, &stamp);
}

/* Accounts for a train, datagram by datagram. */
static inline void account_train(struct run *run, const struct datagram *train)
{
    if (train->segment == 0) {
        account(run, train);
        return;
    }
    struct datagram datagram = *train;
    run->tally.trains++;
    for (uint32_t offset = 0; offset < train->length; offset += train->segment) {
        uint32_t left = train->length - offset;
        datagram.payload = train->payload + offset;
        datagram.length = left < train->segment ? left : train->segment;
        account(run, &datagram);
    }
}

/* Decodes one control message. */
static inline void decode_message(const struct cmsghdr *message, struct datagram *datagram)
{
    const void *data = CMSG_DATA(message);
    if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_PKTINFO)
        datagram->destination = ((const struct in_pktinfo *)data)->ipi_addr.s_addr;
    else if (message->cmsg_level == IPPROTO_IP && message->cmsg_type == IP_TOS)
        datagram->traffic_class = *(const uint8_t *)data;
    else if (message->cmsg_level == IPPROTO_UDP && message->cmsg_type == UDP_GRO)
        datagram->segment = (uint32_t)*(const int *)data;
    else if (message->cmsg_level == SOL_SOCKET && message->cmsg_type == SO_RXQ_OVFL)
        datagram->dropped = *(const uint32_t *)data;
}

static inline void decode_source(const struct sockaddr_in *source, struct datagram *datagram)
{
    datagram->source = source->sin_addr.s_addr;
    datagram->port = source->sin_port;
}

#endif
