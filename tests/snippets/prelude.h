/* What a piece of C in the documents is compiled and run with, unless it has a main() of its own: a
 * socket with datagrams in it, a ring, a pool and a sender. tests/snippets.rs puts the piece into
 * snippet(). After a moment `stopped` is set and the ring woken, so that a loop ends. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <ringmsg.h>

#pragma GCC diagnostic ignored "-Wunused-variable"
#pragma GCC diagnostic ignored "-Wunused-function"

enum { BATCH = 256 };
static struct ringmsg_record records[BATCH];
static struct ringmsg_metadata metadata[BATCH];
static struct ringmsg_path paths[BATCH];
static struct ringmsg_message messages[BATCH];
static struct ringmsg_ring *ring;
static struct ringmsg_pool *pool;
static struct ringmsg_sender *sender;
static volatile sig_atomic_t stopped;
static int fd, peer;
static unsigned long handled;

static void handle(const void *payload, size_t length)
{
    (void)payload, (void)length;
    handled++;
}

static int check(int value)
{
    char why[256];
    if (value >= 0 || value == -EINTR || value == -EAGAIN || value == -ECANCELED)
        return value;
    ringmsg_last_error(why, sizeof why);
    fprintf(stderr, "%d: %s\n", value, why);
    exit(1);
}

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    ringmsg_wake(ring);
    alarm(1); /* again, should the loop have begun its next wait in between */
}

static int snippet(void);

int main(void)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof here;
    struct ringmsg_pool_config config;
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) != 0 ||
        getsockname(fd, (struct sockaddr *)&here, &length) != 0 ||
        connect(peer, (struct sockaddr *)&here, sizeof here) != 0)
        return perror("socket"), 1;
    check(ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION | RINGMSG_META_SEGMENT_SIZE));
    check(ringmsg_ring_new(NULL, &ring));
    ringmsg_pool_config_init(&config);
    check(ringmsg_pool_config_for_socket(&config, fd));
    check(ringmsg_pool_new(ring, &config, &pool));
    check(ringmsg_sender_new(fd, NULL, &sender));
    for (int i = 0; i < 5; i++)
        send(peer, "hello", 5, 0);
    signal(SIGALRM, stop);
    alarm(1);
    return snippet();
}
