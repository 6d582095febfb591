/* The sender, and the page of memory that it shares with the receiver. */
#ifndef SENDER_H
#define SENDER_H

#include "harness.h"

struct shared_page {
    atomic_uint started, ended;  /* the receiver has seen the marker */
    uint64_t sent;               /* datagrams between the markers */
    uint64_t drops;              /* socket buffers dropped meanwhile */
    int64_t elapsed_ns;
    uint32_t source_port;        /* network byte order */
    uint64_t round_trips;
    uint32_t round_trip_ns[1 << 17];
};

/* Sends the regime's traffic, between two markers, to the inherited sockets run->fds. */
void send_traffic(const struct run *run, struct shared_page *shared_page, double seconds, pid_t receiver);

void pin(int processor);
/* The bytes in the receive queues. Stores the socket buffers dropped so far in *drops. */
uint64_t queued(const struct run *run, uint64_t *drops);

#endif
