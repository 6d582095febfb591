/* The clients of the answering cells. */
#ifndef CLIENTS_H
#define CLIENTS_H

#include "server.h"

enum { CHUNK = 64, SAMPLES_MAX = 1 << 20 };

struct clients {
    int near, far; /* where questions leave, and where answers arrive: one socket for an echo */
    const struct server *server;
    pid_t child;
    uint64_t sequence, answers, questions;
    uint64_t last_of_peer[CLIENTS_MAX]; /* the sequence of its last answer */
    const char *fault;
    uint32_t *samples; /* round trips in ns */
    size_t sample_count;
};

/* 127.1.0.1 and following, in network byte order. */
static inline uint32_t address_of_peer(unsigned peer)
{
    return htonl(0x7f010001u + peer + peer / 250);
}

/* Sends requests for this many seconds and prints the results. Returns 1 if they are wrong. */
int ask(struct clients *clients, const struct server *server, pid_t child, double seconds);

#endif
