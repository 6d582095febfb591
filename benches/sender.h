/* The sender, and the page of memory that it shares with the receiver. */
#ifndef SENDER_H
#define SENDER_H

#include "harness.h"

struct board {
    atomic_uint started, ended;  /* the receiver has seen the mark */
    uint64_t sent;               /* datagrams between the marks */
    int64_t elapsed_ns;
    uint32_t source_port;        /* network byte order */
    uint64_t round_trips;
    uint32_t round_trip_ns[1 << 17];
};

/* Sends the regime's traffic to run->fds, which it has inherited, between two marks. */
void send_traffic(const struct run *run, struct board *board, double seconds, pid_t receiver);

void pin(int processor);
/* Bytes in the receive queues; *drops: socket buffers dropped so far. */
uint64_t queued(const struct run *run, uint64_t *drops);

#endif
