/* Sends ROUNDS batches through measured_send, for callgrind to count what ringmsg_send() does of
 * its own:   send CASE ROUNDS. Prints how many messages that were. Every message has a source
 * address, as an answer has, and every result is checked.
 *
 *   row       32 peers, 32 messages in a row to each, which share a path
 *   one       one peer
 *   pointer   32 peers in turn, whose messages share a path
 *   few       256 peers in turn, 4 messages to each, which share a path
 *   content   32 peers in turn; every message has a path struct of its own
 *   singles   1024 peers, each once
 *   columns   as content, by ringmsg_send_columns()
 *   index     as pointer, by ringmsg_send_columns() with offsets and indices of paths
 *   v6        as singles, over IPv6 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ringmsg.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { BATCH = 1024, LENGTH = 64 };

static const struct how {
    const char *name;
    int peers, in_a_row, own_paths, columns, v6;
} hows[] = {
    {"row", 32, 1, 0, 0, 0},     {"one", 1, 1, 0, 0, 0},      {"pointer", 32, 0, 0, 0, 0},    {"few", 256, 0, 0, 0, 0},
    {"content", 32, 0, 1, 0, 0}, {"columns", 32, 0, 1, 1, 0}, {"index", 32, 0, 0, 1, 0},
    {"singles", BATCH, 0, 0, 0, 0}, {"v6", BATCH, 0, 0, 0, 1},
};

static uint8_t payloads[BATCH * LENGTH];
static struct ringmsg_path paths[BATCH], own_paths[BATCH];
static struct ringmsg_message messages[BATCH];
static uint64_t offsets[BATCH];
static uint32_t lengths[BATCH], path_index[BATCH];
static int32_t results[BATCH];

int measured_send(struct ringmsg_sender *sender, const struct how *how);
__attribute__((noinline)) int measured_send(struct ringmsg_sender *sender, const struct how *how)
{
    if (!how->columns)
        return ringmsg_send(sender, messages, BATCH, 0);
    if (how->own_paths)
        return ringmsg_send_columns(sender, payloads, sizeof payloads, NULL, lengths, NULL, own_paths, BATCH, results,
                                    BATCH, 0);
    return ringmsg_send_columns(sender, payloads, sizeof payloads, offsets, lengths, path_index, paths, BATCH, results,
                                BATCH, 0);
}

/* Nothing receives the datagrams: the kernel drops them when this socket is full. */
static int open_receiver(int v6)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET}; /* any of 127/8 */
    socklen_t length = v6 ? sizeof six : sizeof four;
    struct sockaddr *address = v6 ? (struct sockaddr *)&six : (struct sockaddr *)&four;
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, address, length) != 0 || getsockname(fd, address, &length) != 0) {
        perror("receiver");
        exit(1);
    }
    return ntohs(v6 ? six.sin6_port : four.sin_port);
}

static void make_messages(const struct how *how, int port)
{
    for (int p = 0; p < how->peers; p++) {
        struct ringmsg_path *path = &paths[p];
        path->valid = RINGMSG_PATH_REMOTE | RINGMSG_PATH_LOCAL;
        path->family = how->v6 ? AF_INET6 : AF_INET;
        path->remote_port = (uint16_t)port;
        if (how->v6) {
            path->remote_port = (uint16_t)(1024 + p); /* peers differ by port, where no socket is bound */
            path->remote[15] = path->local[15] = 1;
        } else {
            memcpy(path->remote, (uint8_t[]){127, 1, (uint8_t)(p >> 8), (uint8_t)p}, 4);
            memcpy(path->local, (uint8_t[]){127, 0, 0, 1}, 4);
        }
    }
    for (int i = 0; i < BATCH; i++) {
        const struct ringmsg_path *path = &paths[how->in_a_row ? i / (BATCH / how->peers) : i % how->peers];
        own_paths[i] = *path;
        messages[i].payload = payloads + i * LENGTH;
        messages[i].payload_length = LENGTH;
        messages[i].path = how->own_paths ? &own_paths[i] : path;
        offsets[i] = (uint64_t)i * LENGTH;
        lengths[i] = LENGTH;
        path_index[i] = (uint32_t)(path - paths);
    }
}

static void check(const struct how *how, int settled)
{
    int taken = 0;
    for (int i = 0; i < BATCH; i++)
        taken += (how->columns ? results[i] : messages[i].result) == LENGTH;
    if (settled != BATCH || taken != BATCH) {
        fprintf(stderr, "%d settled, %d taken\n", settled, taken);
        exit(1);
    }
}

int main(int count_arguments, char **arguments)
{
    const struct how *how = hows, *end = hows + sizeof hows / sizeof *hows;
    while (count_arguments == 3 && how < end && strcmp(how->name, arguments[1]) != 0)
        how++;
    if (count_arguments != 3 || how == end) {
        fprintf(stderr, "usage: %s CASE ROUNDS\n", arguments[0]);
        return 2;
    }
    struct ringmsg_sender *sender;
    make_messages(how, open_receiver(how->v6));
    if (ringmsg_sender_new(socket(how->v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), NULL, &sender) < 0) {
        fprintf(stderr, "no sender\n");
        return 1;
    }
    for (int round = 0; round < atoi(arguments[2]); round++)
        check(how, measured_send(sender, how));
    printf("%d\n", BATCH * atoi(arguments[2]));
    return ringmsg_sender_free(sender);
}
