/* Declarations that the parts of the soak share.
 *
 *   traffic.c   makes, sends and recognises numbered datagrams, and accounts for them at the end
 *   receiver.c  the owner of the ring: reaps, and injects faults
 *   rings.c     makes and arms the receiver's rings; receiver.h is its interface for receiver.c
 *   answers.c   sends back what is received, and accounts for it
 *   others.c    the other threads: they release, wake, interrupt, and monitor for stalls
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
#define FLOW_MAX (1u << 20) /* datagrams sent to one socket before it is closed */
#define PAYLOAD_MAX 65536
#define TRAIN_MAX 128
/* A request without a record for this long has stalled. On a busy machine the kernel's threads have
 * been seen not to run for seven seconds. */
#define STALL_NS 15000000000
/* The network namespaces that tests/netns.sh makes. */
#define LINK_NEAR "ringmsg-near"
#define LINK_FAR "ringmsg-far"

#define FAIL(...) soak_fail(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition, ...)      \
    do {                           \
        if (!(condition))          \
            FAIL(__VA_ARGS__);     \
    } while (0)
void soak_fail(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

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

/* --- random numbers: a generator for each thread, all from one seed --------------------------- */

struct rng {
    uint64_t state;
};

static inline uint64_t rng_next(struct rng *rng)
{
    uint64_t x = rng->state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint32_t rng_below(struct rng *rng, uint32_t limit)
{
    return (uint32_t)(rng_next(rng) % limit);
}

/* True once in `times` calls, on average. */
static inline int one_in(struct rng *rng, uint32_t times)
{
    return rng_below(rng, times) == 0;
}

/* --- traffic ------------------------------------------------------------------------------ */

/* The head of every datagram that is not empty. The other bytes follow from it. */
struct stamp {
    uint32_t flow;   /* the number of the receiving flow */
    uint32_t socket;
    uint64_t number; /* within that flow */
    uint64_t length;
};

enum form { MULTISHOT, ONCE, CALLER };

/* A flow: one receiving socket and its sender, from opening to closing. */
struct flow {
    pthread_mutex_t lock; /* held to send, open and close */
    int receiver, sender; /* -1: closed */
    uint32_t index, number;
    int gro, split, errors;
    uint16_t port; /* the sender's */
    enum form form;
    uint8_t *seen, *first; /* one bit per datagram: it arrived; it is the first of its socket buffer */
    _Atomic uint64_t sent;
    uint64_t sent_empty, received, received_empty, skipped, truncated;
    int may_lose; /* a ring was freed with datagrams of this flow in its buffers */
    uint64_t loss_limit;
    uint64_t expected_next; /* the next number of the train being read */

    /* Fields of the receiver. */
    uint32_t pool;
    int armed;
    atomic_int monitored;
    _Atomic int64_t last_record_ns;
    struct msghdr message;
    struct iovec part;
    uint8_t *space, name[64], control[256];

    /* Answers: see answers.c. */
    struct ringmsg_sender *answerer;
    struct ringmsg_path back;
    uint8_t *awaited; /* one bit per datagram: the socket took its answer, which has not come yet */
    uint64_t answered, came_back;
};

extern struct flow flows[SOCKETS];

void flow_open(struct flow *flow, struct rng *rng);
void flow_close(struct flow *flow); /* reads what is left in the socket, and checks the counts */
/* Accounts for one datagram. `payload` holds `copied` of its `length` bytes. */
void flow_take_datagram(struct flow *flow, const uint8_t *payload, uint32_t copied, uint32_t length,
                        int truncated);
/* Accounts for one socket buffer: a datagram, or a train of segments of `segment` bytes. */
void flow_take_train(struct flow *flow, const uint8_t *payload, uint32_t copied, uint32_t length,
                     uint32_t segment);
/* Accounts for the next `count` datagrams of the train being read, which truncation cut off. */
void flow_skip_truncated(struct flow *flow, uint32_t count);
/* Checks the bytes of a datagram against its stamp. Returns 0 if it is too short to have one. */
int check_datagram(const uint8_t *payload, uint32_t copied);
void *send_all(void *);

void answers_open(struct flow *flow);
void answer_record(struct flow *flow, const struct ringmsg_record *record, const uint8_t *payload,
                   const struct ringmsg_metadata *metadata);
void send_all_answers(void);
/* Checks the counts; `drops_of` returns what the kernel has dropped at a socket. */
void answers_close(struct flow *flow, uint64_t (*drops_of)(int fd));

/* --- the ring and its lock
 * ---------------------------------------------------------------------- */

/* Held for reading during calls, and for writing to free the ring and make a new one. */
extern pthread_rwlock_t ring_lock;
extern struct ringmsg_ring *ring;
extern uint32_t ring_number;

/* 1: the receiver and the sender must end; 2: the other threads as well. */
extern atomic_int stopping;
/* The sender must pause. */
extern atomic_int sender_paused;
extern pthread_t receiver_thread;
extern uint64_t seed;
extern const char *only_mode;
extern int uses_link; /* RINGMSG_SOAK_LINK is set: the traffic crosses a veth link, not loopback */
/* Since when no injected fault keeps datagrams from being received; 0: one does. */
extern _Atomic int64_t no_fault_since_ns;

void *receive_all(void *);

/* Passes records to another thread, which checks and releases them. Returns 0 if the queue is
 * full. */
int release_later(const struct ringmsg_record *records, uint32_t count, uint32_t number);
void releases_drain(void);
/* Makes another thread free the ring once this many reaps have begun. */
void free_by_other_thread(uint64_t reaps);
void wait_for_free(void);
void *release_all(void *);
void *interrupt_all(void *);
void *monitor_all(void *);

/* --- counters ------------------------------------------------------------------------------- */

struct tally {
    atomic_ullong answered, came_back, answers_dropped, unanswered, answer_trains, pending_errors;
    atomic_ullong sent, received, bytes, dropped, skipped, lost, drained, empty, segments, trains, truncated;
    atomic_ullong rings, flows, finals, icmp, signals, interrupted, wakes, holds, pauses, abrupt,
        other_thread, starvations, misses, overflows, rearms, stale, exited_armers, drain_checks;
};
extern struct tally tally;

#endif
