/* Shared by the examples: error handling, a socket, a pool for it, the name of a mode, pinning,
 * clocks. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <ringmsg.h>

#ifndef UDP_SEGMENT /* older C libraries */
#define UDP_SEGMENT 103
#endif

/* Returns the value of a library call. A failure ends the program with the library's
 * explanation. */
static inline int check(const char *what, int value)
{
    char why[512];
    if (value >= 0)
        return value;
    ringmsg_last_error(why, sizeof why);
    fprintf(stderr, "%s: %s (%s)\n", what, why, ringmsg_strerror(value));
    exit(1);
}

/* Returns the value of a system call. A failure ends the program. */
static inline int check_sys(const char *what, long value)
{
    if (value >= 0)
        return (int)value;
    perror(what);
    exit(1);
}

/* Makes a UDP socket that is bound or connected to a numeric address and port. Exit status 77: this
 * machine has no such address. */
static inline int udp_socket(const char *address, const char *port,
                             int (*attach)(int, const struct sockaddr *, socklen_t))
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found;
    int error = getaddrinfo(address, port, &hints, &found);
    if (error != 0) {
        fprintf(stderr, "%s port %s: %s\n", address, port, gai_strerror(error));
        exit(2);
    }
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || attach(fd, found->ai_addr, found->ai_addrlen) != 0) {
        fprintf(stderr, "%s port %s: %s\n", address, port, strerror(errno));
        exit(errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL ? 77 : 1);
    }
    freeaddrinfo(found);
    return fd;
}

/* The port that a socket is bound to. */
static inline unsigned port_of(int fd)
{
    struct sockaddr_in6 address; /* sockaddr_in has the port at the same offset */
    socklen_t length = sizeof address;
    check_sys("getsockname", getsockname(fd, (struct sockaddr *)&address, &length));
    return ntohs(address.sin6_port);
}

/* Makes a pool with room for everything that the socket's options add to a datagram. */
static inline struct ringmsg_pool *pool_for(struct ringmsg_ring *ring, int fd)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    check("pool", ringmsg_pool_config_for_socket(&config, fd));
    check("pool", ringmsg_pool_new(ring, &config, &pool));
    return pool;
}

/* The task-work mode in ringmsg_ring_info.flags. */
static inline const char *mode_name(uint32_t flags)
{
    return flags & RINGMSG_SETUP_DEFER_TASKRUN  ? "DEFER_TASKRUN"
           : flags & RINGMSG_SETUP_COOP_TASKRUN ? "COOP_TASKRUN"
           : flags & RINGMSG_SETUP_SQPOLL       ? "SQPOLL"
                                                : "plain";
}

/* Pins the calling thread to one processor. */
static inline void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    sched_setaffinity(0, sizeof set, &set); /* on failure the scheduler chooses */
}

/* CLOCK_MONOTONIC, or CLOCK_THREAD_CPUTIME_ID for the CPU time of the calling thread. */
static inline int64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

#endif
