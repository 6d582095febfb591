/* The soak: what its parts share.
 *
 *   traffic.c   numbered datagrams: made, sent, recognised, and counted at the end
 *   receiver.c  the owner of the ring: reaps, and does to it what users do at their worst
 *   rings.c     the receiver's rings: made in one mode or another, and armed; receiver.h is what the two share
 *   others.c    the other threads: they release, wake, interrupt, and look for deafness
 *   soak.c      the program */
#ifndef SOAK_H
#define SOAK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ringmsg.h>

#define SOCKETS 8
#define POOLS 4
#define BATCH 256
#define LIFE_MAX (1u << 20) /* datagrams sent to one socket before it is closed */
#define PAYLOAD_MAX 65536
#define TRAIN_MAX 128
/* Whoever is deaf stays so; and on a busy machine the kernel's threads stood still for seven seconds. */
#define DEAF_NS 15000000000
/* The network namespaces that tests/netns.sh makes. */
#define LINK_NEAR "ringmsg-near"
#define LINK_FAR "ringmsg-far"

#define FAIL(...) soak_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...)      \
    do {                           \
        if (!(condition))          \
            FAIL(__VA_ARGS__);     \
    } while (0)
void soak_fail(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));

static inline int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void sleep_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        ;
}

/* --- chance: a generator for each thread, all from one seed ------------------------------- */

struct chance {
    uint64_t state;
};

static inline uint64_t draw(struct chance *chance)
{
    uint64_t x = chance->state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint32_t below(struct chance *chance, uint32_t limit)
{
    return (uint32_t)(draw(chance) % limit);
}

/* One time in so many. */
static inline int one_in(struct chance *chance, uint32_t times)
{
    return below(chance, times) == 0;
}

/* --- traffic ------------------------------------------------------------------------------ */

/* In front of every datagram that is not empty. The rest of it follows from these. */
struct stamp {
    uint32_t life;   /* of the socket it is meant for */
    uint32_t socket;
    uint64_t number; /* within that life */
    uint64_t length;
};

enum form { MULTISHOT, ONCE, CALLER };

/* A receiving socket and its sender, from opening to closing: a life. */
struct life {
    pthread_mutex_t lock; /* held to send, to open, to close */
    int receiver, sender; /* -1: closed */
    uint32_t index, number;
    int gro, split, errors, tight;
    uint16_t port; /* the sender's */
    enum form form;
    uint8_t *seen, *first; /* a bit a datagram: it came; it is the first of its socket buffer */
    _Atomic uint64_t sent;
    uint64_t sent_empty, received, received_empty, cut_off, cut;
    int voided; /* a ring was freed with its datagrams inside */
    uint64_t void_limit;
    uint64_t expected_next; /* of the train being read */

    /* The receiver's side. */
    uint32_t pool;
    int armed;
    atomic_int watched;
    _Atomic int64_t last_record_ns;
    struct msghdr message;
    struct iovec part;
    uint8_t *space, name[64], control[256];
};

extern struct life lives[SOCKETS];

void life_open(struct life *life, struct chance *chance);
void life_close(struct life *life); /* drains what is left by hand, counts, complains */
/* One datagram came. `payload` holds `copied` of its `length` bytes. */
void life_take(struct life *life, const uint8_t *payload, uint32_t copied, uint32_t length, int truncated);
/* A socket buffer came whole: one datagram, or a train of segments of `segment` bytes. */
void life_take_train(struct life *life, const uint8_t *payload, uint32_t copied, uint32_t length, uint32_t segment);
/* The next `count` datagrams of the train being read did not fit into the buffer. */
void life_cut_off(struct life *life, uint32_t count);
/* The bytes of a datagram are what its stamp says. 0: it is too short to tell. */
int datagram_is_whole(const uint8_t *payload, uint32_t copied);
void *send_all(void *);

/* --- the ring, and who may touch it --------------------------------------------------------- */

/* Read: to call it; written: to free it and to make a new one. */
extern pthread_rwlock_t ring_lock;
extern struct ringmsg_ring *ring;
extern uint32_t ring_number;

/* 1: the receiver and the sender are to end; 2: the others too. */
extern atomic_int stopping;
/* The sender is to pause. */
extern atomic_int quiet;
extern pthread_t receiver_thread;
extern uint64_t seed;
extern const char *only_mode;
extern int link_is_used; /* RINGMSG_SOAK_LINK is set: across a link, not loopback */
/* Since when nothing keeps datagrams from being received; 0: something does. */
extern _Atomic int64_t undisturbed_since_ns;

void *receive_all(void *);

/* Records to be checked again and released by another thread; a full queue is 0. */
int release_later(const struct ringmsg_record *records, uint32_t count, uint32_t number);
void releases_drain(void);
/* Has another thread free the ring once a reap is inside. */
void free_from_afar(uint64_t reaps);
void free_from_afar_wait(void);
void *release_all(void *);
void *interrupt_all(void *);
void *watch_all(void *);

/* --- counters ------------------------------------------------------------------------------- */

struct tally {
    atomic_ullong sent, received, bytes, dropped, cut_off, voided, by_hand, empty, segments, trains, truncated;
    atomic_ullong rings, lives, finals, icmp, signals, interrupted, wakes, holds, naps, rude, afar, starvations,
        misses, overflows, rearms, stale, kills, proofs;
};
extern struct tally tally;

#endif
