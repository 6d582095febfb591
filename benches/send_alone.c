/* What sending costs, receiving left out: batches of 512 answers on one socket, by a
 * hand-written loop that groups them with UDP_SEGMENT, by ringmsg_send(), and by sendmmsg(2) of
 * 64 at a time without grouping. The variants take turns within each round, on the same
 * messages; what counts is the thread's CPU time, in which the kernel delivers over loopback as
 * well. Receivers are emptied, and what came is counted, outside the measurement.
 *
 * send_alone [ROUNDS]        prints medians, and of the ratios to the first variant the
 * quartiles */
#include "by_hand.h"

static int sockets[PEERS_MAX], fd;
static struct sockaddr_in peers[PEERS_MAX], own;
static struct ringmsg_path paths[PEERS_MAX];
static struct ringmsg_message messages[BATCH];
static struct ringmsg_sender *sender;
static struct answer answers[BATCH];
static uint8_t payloads[BATCH][LENGTH_MAX];

enum { GROUPED, LIBRARY, UNGROUPED, VARIANTS };
static const char *const names[] = {"grouped by hand", "ringmsg_send", "sendmmsg(64), not grouped"};

static void open_sockets(void)
{
    for (int p = 0; p < PEERS_MAX; p++) {
        sockets[p] = open_socket(&peers[p]);
        CHECK(ringmsg_path_to(&paths[p], (struct sockaddr *)&peers[p], sizeof peers[p]));
    }
    fd = open_socket(&own);
    CHECK(ringmsg_sender_new(fd, NULL, &sender));
}

static void make_messages(const struct pattern *pattern)
{
    for (int i = 0; i < BATCH; i++) {
        int peer = peer_of(pattern, i);
        answers[i] = (struct answer){payloads[i], (size_t)pattern->length, &peers[peer]};
        messages[i] = (struct ringmsg_message){.payload = payloads[i], .path = &paths[peer],
                                               .payload_length = (uint32_t)pattern->length};
    }
}

/* Every datagram has arrived. */
static void empty_receivers(const struct pattern *pattern, const char *who)
{
    static char bytes[65536];
    int count = 0;
    for (int p = 0; p < pattern->peers; p++)
        while (recv(sockets[p], bytes, sizeof bytes, MSG_DONTWAIT) == pattern->length)
            count++;
    if (count != BATCH) {
        fprintf(stderr, "%s: %d of %d datagrams arrived\n", who, count, BATCH);
        exit(1);
    }
}

static double run(const struct pattern *pattern, int variant)
{
    double start = cpu_ns();
    if (variant == GROUPED)
        send_grouped(fd, answers, BATCH);
    else if (variant == UNGROUPED)
        send_ungrouped(fd, answers, BATCH, 64);
    else if (ringmsg_send(sender, messages, BATCH, 0) != BATCH)
        exit(1);
    double used = (cpu_ns() - start) / BATCH;
    empty_receivers(pattern, names[variant]);
    return used;
}

int main(int count, char **arguments)
{
    int rounds = begin(count, arguments);
    open_sockets();
    for (int p = 0; p < PATTERNS; p++) {
        make_messages(&patterns[p]);
        measure(&patterns[p], rounds, VARIANTS, names, run);
    }
    return ringmsg_sender_free(sender);
}
