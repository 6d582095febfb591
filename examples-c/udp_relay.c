/* Relays UDP between clients and one server, as a NAT does: each client gets a socket of its own
 * towards the server, so that the server can distinguish them. A flow table finds that socket by
 * the client's address; idle flows are removed after a while.
 *
 * Payloads are not copied: they are sent straight from the pool that they were received into,
 * and GRO trains as the trains that they were.
 *
 * udp_relay ADDRESS PORT SERVER-ADDRESS SERVER-PORT [IDLE-SECONDS]   port 0 selects a free one */
#include "server.h"

enum { BATCH = 512, FLOWS = 1024, NONE = -1, LISTENING = FLOWS /* user_data of the clients' side */ };
enum { SECOND_NS = 1000000000, RECEIVE_BUFFER = 8 << 20 };

struct flow {
    struct ringmsg_path client; /* where its datagrams come from, and go to */
    struct ringmsg_sender *to_server;
    int fd;         /* NONE: the place is vacant */
    int next;       /* in the chain of its bucket, or of the vacant places */
    int first_sent; /* the messages of this batch that go to the server */
    int last_sent;
    int64_t used_ns;
};

static struct flow flows[FLOWS];
static int buckets[FLOWS], vacant, closing;
static struct sockaddr_storage server;
static socklen_t server_length = sizeof server;
static struct ringmsg_pool *pool;

static struct ringmsg_record records[BATCH];
static struct ringmsg_metadata metadata[BATCH];
static struct ringmsg_message to_clients[BATCH], to_servers[BATCH];
static int after[BATCH]; /* the flow's next record in this batch */

static void make_table(void)
{
    for (int i = 0; i < FLOWS; i++) {
        flows[i] = (struct flow){.fd = NONE, .next = i + 1 < FLOWS ? i + 1 : NONE};
        buckets[i] = NONE;
    }
}

static int *bucket_of(const struct ringmsg_path *client)
{
    uint32_t words[6], hash = client->remote_port;
    memcpy(words, client->remote, 16);
    memcpy(words + 4, client->local, 4);
    words[5] = client->remote_scope;
    for (int i = 0; i < 6; i++)
        hash = (hash ^ words[i]) * 2654435761u;
    return &buckets[(hash >> 16) % FLOWS];
}

/* Makes a flow's socket, sender and request towards the server. Returns 0 if a limit is reached. */
static int open_side(int number)
{
    struct flow *flow = &flows[number];
    flow->fd = socket(server.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (flow->fd >= 0 && connect(flow->fd, (const struct sockaddr *)&server, server_length) == 0 &&
        ringmsg_socket_enable(flow->fd, RINGMSG_META_SEGMENT_SIZE) == 0 &&
        ringmsg_sender_new(flow->fd, NULL, &flow->to_server) == 0) {
        if (ringmsg_recvmsg_multishot(ring, pool, flow->fd, 0, 0, (uint64_t)number) == 0)
            return 1;
        ringmsg_sender_free(flow->to_server);
    }
    if (flow->fd >= 0)
        close(flow->fd);
    flow->fd = NONE;
    return 0;
}

/* Returns the flow of a client, which is made if the client is new; NONE if there is no room. */
static int flow_of(const struct ringmsg_path *client)
{
    int *bucket = bucket_of(client), number = *bucket;
    while (number != NONE && memcmp(&flows[number].client, client, sizeof *client) != 0)
        number = flows[number].next;
    if (number != NONE || vacant == NONE)
        return number;
    number = vacant;
    struct flow *flow = &flows[number];
    if (!open_side(number))
        return NONE;
    vacant = flow->next;
    flow->client = *client;
    flow->next = *bucket;
    flow->first_sent = NONE;
    *bucket = number;
    return number;
}

/* Ends the flow's request; its final record follows. */
static void close_flow(int number)
{
    int *link = bucket_of(&flows[number].client);
    while (*link != number)
        link = &flows[*link].next;
    *link = flows[number].next;
    check("cancel", ringmsg_cancel(ring, (uint64_t)number));
    closing++;
}

/* The flow's request has ended: its place is vacant again. */
static void forget_flow(int number)
{
    ringmsg_sender_free(flows[number].to_server);
    close(flows[number].fd);
    flows[number] = (struct flow){.fd = NONE, .next = vacant};
    vacant = number;
    closing--;
}

static void close_idle_flows(int64_t now_ns, int64_t idle_ns)
{
    for (int bucket = 0; bucket < FLOWS; bucket++)
        for (int number = buckets[bucket], next; number != NONE; number = next) {
            next = flows[number].next;
            if (now_ns - flows[number].used_ns > idle_ns)
                close_flow(number);
        }
}

/* The clients share one socket, whose default buffer holds less than a hundred full datagrams.
 * Without CAP_NET_ADMIN the kernel cuts the size to net.core.rmem_max. */
static void enlarge_buffer(int fd)
{
    int size = RECEIVE_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        check_sys("SO_RCVBUF", setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size));
}

static struct ringmsg_message relayed(const struct ringmsg_record *record, const struct ringmsg_path *path)
{
    return (struct ringmsg_message){
        .payload = ringmsg_pool_base(pool) + record->payload_offset,
        .payload_length = record->payload_length,
        .segment_size = record->segment_size,
        .path = path,
    };
}

/* Sends the datagrams of a batch: those to clients with one call, which groups them by client, and
 * those to the server flow by flow. Returns how many could not be sent. */
static unsigned relay(struct ringmsg_sender *sender, int n, int64_t now_ns)
{
    int touched[BATCH], touched_count = 0;
    uint32_t answers = 0;
    unsigned unsent = 0;
    for (int i = 0; i < n; i++) {
        const struct ringmsg_record *record = &records[i];
        int number = (int)record->user_data;
        if (record->result < 0) { /* an ICMP error: the client's or the server's port is closed */
            if (record->flags & RINGMSG_RECORD_FINAL && number != LISTENING)
                forget_flow(number);
            continue;
        }
        if (number != LISTENING) {
            flows[number].used_ns = now_ns;
            to_clients[answers++] = relayed(record, &flows[number].client);
            continue;
        }
        struct ringmsg_path client;
        check("path", ringmsg_path_reply(&client, &metadata[i]));
        if ((number = flow_of(&client)) == NONE) {
            unsent++;
            continue;
        }
        struct flow *flow = &flows[number];
        after[i] = NONE;
        if (flow->first_sent == NONE) {
            touched[touched_count++] = number;
            flow->first_sent = i;
        } else {
            after[flow->last_sent] = i;
        }
        flow->last_sent = i;
        flow->used_ns = now_ns;
    }
    unsent += send_all(sender, to_clients, answers);
    for (int t = 0; t < touched_count; t++) {
        struct flow *flow = &flows[touched[t]];
        uint32_t count = 0;
        for (int i = flow->first_sent; i != NONE; i = after[i])
            to_servers[count++] = relayed(&records[i], NULL);
        flow->first_sent = NONE;
        unsent += send_all(flow->to_server, to_servers, count);
    }
    return unsent;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: udp_relay ADDRESS PORT SERVER-ADDRESS SERVER-PORT [IDLE-SECONDS]\n");
        return 2;
    }
    int64_t idle_ns = (argc == 6 ? atoi(argv[5]) : 60) * (int64_t)SECOND_NS;
    int probe = udp_socket(argv[3], argv[4], connect);
    check_sys("getpeername", getpeername(probe, (struct sockaddr *)&server, &server_length));
    close(probe);
    make_table();
    raise_descriptor_limit(); /* each flow has three: its socket, the ring's and the sender's references */
    int fd = udp_socket(argv[1], argv[2], bind);
    enlarge_buffer(fd);
    check("socket", ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION));
    open_ring();
    pool = pool_for(ring, fd);
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, LISTENING));
    struct ringmsg_sender *sender = sender_on(fd);
    printf("port %u\n", port_of(fd));
    fflush(stdout);

    struct ringmsg_wait wait = {
        .size = sizeof wait, .linger_us = RINGMSG_LINGER_AUTO, .timeout_ns = SECOND_NS};
    unsigned long long unsent = 0;
    int64_t swept_ns = clock_ns(CLOCK_MONOTONIC);
    for (int n = 0; !stopped;) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            continue;
        check("receive", n);
        int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
        unsent += relay(sender, n, now_ns);
        if (now_ns - swept_ns >= SECOND_NS) {
            close_idle_flows(now_ns, idle_ns);
            swept_ns = now_ns;
        }
    }
    int open_flows = -closing;
    for (int i = 0; i < FLOWS; i++)
        open_flows += flows[i].fd != NONE;
    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    printf("%llu datagrams relayed, in %d flows at last; %llu messages not sent\n",
           (unsigned long long)stats.datagrams, open_flows, unsent);
    check("free", ringmsg_ring_free(ring));
    return 0;
}
