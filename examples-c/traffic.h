/* The traffic of modes.c: threads that send. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "example.h"
#include <pthread.h>
#include <stdatomic.h>

enum { BYTES = 64, ROUND_TRIPS = 1000 };

struct sender {
    int fd;
    long rate, ms;         /* datagrams per second, 0: no limit; for how long */
    uint64_t sent;
    int64_t cpu_ns;        /* that sending took */
    double round_trips_us[ROUND_TRIPS];
    atomic_int done;
};

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sends at the rate. */
static inline void *stream(void *argument)
{
    struct sender *sender = argument;
    char data[BYTES] = "";
    pin(1);
    sender->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    int64_t start = clock_ns(CLOCK_MONOTONIC), elapsed;
    while ((elapsed = clock_ns(CLOCK_MONOTONIC) - start) < sender->ms * 1000000)
        if (sender->rate == 0 || (int64_t)sender->sent < elapsed * sender->rate / 1000000000)
            sender->sent += send(sender->fd, data, sizeof data, 0) == BYTES;
    sender->cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - sender->cpu_ns;
    atomic_store(&sender->done, 1);
    return NULL;
}

/* Sends, waits for the answer, sends. Leaves the times sorted. */
static inline void *ping(void *argument)
{
    struct sender *sender = argument;
    char data[BYTES] = "";
    pin(1);
    for (int i = 0; i < ROUND_TRIPS; i++) {
        int64_t start = clock_ns(CLOCK_MONOTONIC);
        check_sys("send", send(sender->fd, data, sizeof data, 0));
        check_sys("recv", recv(sender->fd, data, sizeof data, 0));
        sender->round_trips_us[i] = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1000;
    }
    qsort(sender->round_trips_us, ROUND_TRIPS, sizeof(double), by_value);
    atomic_store(&sender->done, 1);
    return NULL;
}

#endif
