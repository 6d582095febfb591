/* What the examples that serve until Ctrl-C share. */
#ifndef SERVER_H
#define SERVER_H

#include "example.h"
#include <signal.h>

static struct ringmsg_ring *ring;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    ringmsg_wake(ring); /* async-signal-safe */
}

/* Makes the ring. SIGINT and SIGTERM end its reap. */
static inline void open_ring(void)
{
    check("ring", ringmsg_ring_new(NULL, &ring));
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
}

/* Raises the limit on descriptors as far as this process may. */
static inline void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static inline struct ringmsg_sender *sender_on(int fd)
{
    struct ringmsg_sender *sender;
    check("sender", ringmsg_sender_new(fd, NULL, &sender));
    return sender;
}

/* Sends messages, counts those that the socket did not take, and says why, at most once a
 * second. What does not fit into its buffer is lost, as in any full queue of a
 * network. */
static inline unsigned
send_all(struct ringmsg_sender *sender, struct ringmsg_message *messages, uint32_t count)
{
    static int64_t said_ns;
    unsigned unsent = 0;
    int32_t why = 0;
    int settled = ringmsg_send(sender, messages, count, 0);
    if (settled != -EAGAIN)
        check("send", settled);
    for (uint32_t i = 0; i < count; i++)
        if (messages[i].result < 0) {
            unsent++;
            why = messages[i].result;
        }
    if (unsent > 0 && clock_ns(CLOCK_MONOTONIC) - said_ns > 1000000000) {
        said_ns = clock_ns(CLOCK_MONOTONIC);
        fprintf(stderr, "send: %u of %u messages: %s\n", unsent, count, ringmsg_strerror(why));
    }
    return unsent;
}

#endif
