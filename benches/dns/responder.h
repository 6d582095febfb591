/* What the DNS responders written by hand share: a socket, as examples-c/dns_responder.c opens it,
 * and Ctrl-C. They answer with the same code as the example: examples-c/dns.h.
 *
 * They are bound to one address, which is then the source of every answer, so they need no control
 * messages. The example also serves a wildcard address, for which it asks the kernel for each
 * query's destination. */
#ifndef RESPONDER_H
#define RESPONDER_H

#define _GNU_SOURCE
#include "../../examples-c/dns.h"

#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUERY_MAX = 2048 };

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

static inline int check(const char *what, long value)
{
    if (value >= 0)
        return (int)value;
    perror(what);
    exit(1);
}

/* The socket of `PROGRAM ADDRESS PORT`. Says its port once queries can come. */
static inline int open_responder(int argc, char **argv)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found;
    struct sockaddr_in6 own; /* sockaddr_in has the port at the same offset */
    socklen_t length = sizeof own;
    if (argc != 3 || getaddrinfo(argv[1], argv[2], &hints, &found) != 0) {
        fprintf(stderr, "usage: %s ADDRESS PORT\n", argv[0]);
        exit(2);
    }
    int fd = check("socket", socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    check("bind", bind(fd, found->ai_addr, found->ai_addrlen));
    freeaddrinfo(found);
    struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART: it ends a receive call */
    check("sigaction", sigaction(SIGINT, &action, NULL));
    check("sigaction", sigaction(SIGTERM, &action, NULL));
    check("getsockname", getsockname(fd, (struct sockaddr *)&own, &length));
    printf("port %u\n", ntohs(own.sin6_port));
    fflush(stdout);
    return fd;
}

/* What dns_responder prints at its end. */
static inline int
report(unsigned long long packets, unsigned long long queries, unsigned long long unsent)
{
    printf("%llu packets, %llu of them no queries; %llu answers not sent\n", packets, packets - queries,
           unsent);
    return 0;
}

#endif
