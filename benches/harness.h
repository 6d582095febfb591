/* What every receiver of the benchmark shares: the run it is given, and what it must take out of
 * each datagram. A receiver is a function that receives until run->over; harness.c makes the
 * sockets, forks the sender and keeps the books.
 *
 * Everyone calls batch() after each receive call, and note() (or note_train()) for each datagram
 * with all that is in struct datagram. The sums are checked against what was sent, so nobody
 * saves work by leaving something out. */
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
    SOCKETS_MAX = 128,
    SEGMENT = 1200,      /* bytes of a datagram in a train */
    SEGMENTS = 32,       /* datagrams in a train */
    SMALL = 64,          /* bytes of any other datagram */
    TRAFFIC_CLASS = 2,   /* ECT(0): what quinn-udp shows, too */
    SAMPLES_MAX = 1 << 20,
    NOT_SUPPORTED = 77,  /* exit status */
};

/* The traffic of a cell. */
struct regime {
    const char *name;
    double rate;         /* datagrams per second; 0: as fast as it goes */
    unsigned sockets;
    unsigned chunk;      /* datagrams (trains with gro) of one sendmmsg(2) */
    unsigned burst;      /* datagrams sent at once, at the rate on average; 0: one chunk */
    unsigned fill;       /* datagrams sent while the receiver is stopped; 0: it runs */
    unsigned stamp_each; /* every how manieth datagram carries the time; 0: none */
    int receive_buffer;  /* bytes, of which the kernel makes twice as many */
    bool gro, echo;
};

/* In front of every payload. */
struct stamp {
    uint64_t sequence;
    uint64_t sent_ns;    /* CLOCK_MONOTONIC; 0: not told; or a mark */
};
enum { MARK_START = 1, MARK_END = 2 };

/* A datagram, or a train of them, taken apart. Addresses and ports in network byte order. */
struct datagram {
    const uint8_t *payload;
    uint32_t length;
    uint32_t source, destination;
    uint16_t port;
    uint8_t traffic_class;
    uint32_t dropped;
    uint32_t segment;    /* 0: no train */
};

struct tally {
    uint64_t datagrams, bytes, sources, ports, destinations, classes, trains, batches;
    uint64_t disorder, dropped, marks;
};

/* The receiver's state, and what the harness wants to know of it in the end. */
struct run {
    const struct regime *regime;
    int fds[SOCKETS_MAX];
    bool over;
    struct tally tally;
    uint64_t last_sequence;
    int64_t batch_ns;    /* when the batch was received; 0: the clock was not read yet */
    uint32_t *samples;   /* latencies in ns */
    size_t sampled;
};

/* One row: a function and its parameters. */
struct variant {
    const char *name;
    void (*receive)(struct run *run, const struct variant *self);
    unsigned batch, sleep_us, flags, spin_us;
};
extern const struct variant variants[]; /* ends with a NULL name */

_Noreturn void not_supported(const char *why);
void note_stamped(struct run *run, const struct datagram *datagram, const struct stamp *stamp);

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

/* The same for what returns -errno. */
static inline int check_errno(const char *what, int value)
{
    if (value < 0)
        errno = -value, value = -1;
    return check(what, value);
}

/* A receive call has returned. */
static inline void batch(struct run *run)
{
    run->tally.batches++;
    run->batch_ns = 0;
}

static inline void note(struct run *run, const struct datagram *datagram)
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
        note_stamped(run, datagram, &stamp);
}

/* A train is noted datagram by datagram. */
static inline void note_train(struct run *run, const struct datagram *train)
{
    if (train->segment == 0) {
        note(run, train);
        return;
    }
    struct datagram datagram = *train;
    run->tally.trains++;
    for (uint32_t offset = 0; offset < train->length; offset += train->segment) {
        uint32_t left = train->length - offset;
        datagram.payload = train->payload + offset;
        datagram.length = left < train->segment ? left : train->segment;
        note(run, &datagram);
    }
}

/* Takes what one control message says. */
static inline void take_message(const struct cmsghdr *message, struct datagram *datagram)
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

static inline void take_source(const struct sockaddr_in *source, struct datagram *datagram)
{
    datagram->source = source->sin_addr.s_addr;
    datagram->port = source->sin_port;
}

#endif
