/* The measurements of modes.c: threads that send, and the table of the results. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include "example.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/utsname.h>

enum { BYTES = 64, ROUND_TRIPS = 1000, RUNS_MAX = 99 };

struct sender {
    int fd;
    long rate, ms;         /* datagrams per second, 0: no limit; duration */
    uint64_t sent;
    int64_t cpu_ns;        /* the CPU time of sending */
    double round_trips_us[ROUND_TRIPS];
    atomic_int done;
};

static inline int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sends a stream at the rate. */
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

/* Sends a datagram, waits for the answer, and repeats. Sorts the round-trip times. */
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

/* The switches are per 1000 datagrams. */
enum { PER_WAKE, VOLUNTARY, INVOLUNTARY, CPU_NS, P50_US, P99_US, LOST_PERCENT, COLUMNS };
static const char *const columns[2][COLUMNS + 1] = {
    {"", "datagrams", "voluntary", "involunt.", "ns of CPU", "round trip", "round trip", "lost"},
    {"mode", "per wake-up", "switches", "switches", "each", "p50 us", "p99 us", "%"},
};

static inline void print_head(long rate, long ms, int runs)
{
    struct utsname system;
    uname(&system);
    printf("Linux %s, %ld processors; datagrams of %d bytes, ", system.release,
           sysconf(_SC_NPROCESSORS_ONLN), BYTES);
    printf(rate ? "%ld per second; " : "as many as the sender can; ", rate);
    printf("medians of %d runs of %ld ms\n\n", runs, ms);
    for (int line = 0; line < 2; line++)
        for (int c = 0; c <= COLUMNS; c++)
            printf(c == 0 ? "%-18s" : c < COLUMNS ? " %11s" : " %11s\n", columns[line][c]);
}

/* Prints one row of the table: the median of the runs for each column. */
static inline void print_medians(const char *name, double cells[][COLUMNS], int runs)
{
    printf("%-18s", name);
    for (int c = 0; c < COLUMNS; c++) {
        double column[RUNS_MAX];
        for (int i = 0; i < runs; i++)
            column[i] = cells[i][c];
        qsort(column, (size_t)runs, sizeof(double), by_value);
        printf(" %11.*f", c == CPU_NS ? 0 : 1, column[runs / 2]);
    }
    printf("\n");
}

#endif
