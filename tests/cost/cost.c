/* Measures the CPU time that a datagram costs the processor that receives it under load, and that
 * its answer costs; docs/scaling.md computes with these figures. One thread, pinned to one
 * processor, sends a burst to itself over loopback, receives it, and answers it, repeatedly. A
 * shard whose network card interrupts its processor works like this.
 *
 *   receive   ringmsg_next(), including the kernel, with metadata, every batch released
 *   send      sending the burst by send(2). On loopback this includes what the kernel does before a
 *             receiver reaps (IP, UDP, the socket's queue), and the sender's own part: an upper
 *             bound for it
 *   answer    ringmsg_path_reply() and ringmsg_send(): each datagram goes back to its source, with
 *             its own length. On loopback this includes its delivery to the peer's socket
 *
 * None includes a network card's driver, the GRO of single datagrams (loopback passes trains on as
 * they were sent), or wake-ups, of which a loaded server has few.
 *
 *   cost [ROUNDS]     medians, in ns of CPU per datagram, as rows for docs/scaling.md */
#include "../../examples-c/example.h"

enum { BURST = 256, BURSTS = 250, PEERS_MAX = 256, ROUNDS_MAX = 99 };

/* The peers send in turn, a datagram or a train each. */
static const struct load {
    const char *name;
    int bytes, train, peers;
} loads[] = {
    {"64 bytes, every peer once", 64, 1, 256},
    {"DNS, 300 bytes, every peer once", 300, 1, 256},
    {"QUIC, 1200 bytes, 16 peers in turn", 1200, 1, 16},
    {"QUIC, 1200 bytes, GRO trains", 1200, 32, 8},
};
enum { LOADS = sizeof loads / sizeof *loads };
enum { RECEIVE, SEND, ANSWER, PARTS };

struct server {
    int fd, peers[PEERS_MAX];
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_sender *sender;
};

static int with_buffer(int fd, const struct sockaddr *address, socklen_t length)
{
    int size = 4 << 20;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return bind(fd, address, length);
}

static int with_buffer_connected(int fd, const struct sockaddr *address, socklen_t length)
{
    int size = 1 << 20;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return connect(fd, address, length);
}

static void open_server(struct server *server, const struct load *load)
{
    char port[8];
    server->fd = udp_socket("127.0.0.1", "0", with_buffer);
    snprintf(port, sizeof port, "%u", port_of(server->fd));
    for (int i = 0; i < load->peers; i++) {
        server->peers[i] = udp_socket("127.0.0.1", port, with_buffer_connected);
        if (load->train > 1)
            check_sys("UDP_SEGMENT", setsockopt(server->peers[i], IPPROTO_UDP, UDP_SEGMENT, &load->bytes,
                                                sizeof load->bytes));
    }
    check("socket", ringmsg_socket_enable(server->fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION |
                                                          RINGMSG_META_TRAFFIC_CLASS));
    check("ring", ringmsg_ring_new(NULL, &server->ring));
    server->pool = pool_for(server->ring, server->fd);
    check("arm", ringmsg_recvmsg_multishot(server->ring, server->pool, server->fd, 0, RINGMSG_RECV_SPLIT, 0));
    check("sender", ringmsg_sender_new(server->fd, NULL, &server->sender));
}

static void close_server(struct server *server, const struct load *load)
{
    check("free", ringmsg_sender_free(server->sender));
    check("free", ringmsg_ring_free(server->ring));
    for (int i = 0; i < load->peers; i++)
        close(server->peers[i]);
    close(server->fd);
}

static void answer(const struct server *server, const struct ringmsg_record *records,
                   const struct ringmsg_metadata *metadata, int count)
{
    static struct ringmsg_path paths[BURST];
    static struct ringmsg_message messages[BURST];
    const uint8_t *base = ringmsg_pool_base(server->pool);
    for (int i = 0; i < count; i++) {
        check("reply", ringmsg_path_reply(&paths[i], &metadata[i]));
        messages[i] = (struct ringmsg_message){.payload = base + records[i].payload_offset,
                                               .payload_length = records[i].payload_length,
                                               .path = &paths[i]};
    }
    if (check("send", ringmsg_send(server->sender, messages, (uint32_t)count, 0)) != count) {
        fprintf(stderr, "the socket is full\n");
        exit(1);
    }
}

/* Receives and answers one burst. */
static void serve(const struct server *server, int64_t spent[PARTS])
{
    static struct ringmsg_record records[BURST];
    static struct ringmsg_metadata metadata[BURST];
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 1000000000};
    int64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int n, got = 0; got < BURST; got += n) {
        n = check("receive", ringmsg_reap(server->ring, records, metadata, BURST, &wait));
        if (n == 0) {
            fprintf(stderr, "%d of %d datagrams arrived\n", got, BURST);
            exit(1);
        }
        int64_t received = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        answer(server, records, metadata, n);
        int64_t answered = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        check("release", ringmsg_release(server->ring, records, (uint32_t)n));
        spent[RECEIVE] += received - start;
        spent[ANSWER] += answered - received;
        start = answered;
    }
    spent[RECEIVE] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
}

static void measure(const struct load *load, double cost[PARTS])
{
    static char data[65536];
    struct server server;
    int64_t spent[PARTS] = {0};
    open_server(&server, load);
    for (int i = 0; i < BURSTS; i++) {
        int64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (int sent = 0, peer = 0; sent < BURST; sent += load->train, peer++)
            check_sys("send", send(server.peers[peer % load->peers], data, (size_t)(load->bytes * load->train), 0));
        spent[SEND] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        serve(&server, spent);
        int answers = 0;
        for (int peer = 0; peer < load->peers; peer++)
            while (recv(server.peers[peer], data, sizeof data, MSG_DONTWAIT) == load->bytes)
                answers++;
        if (answers != BURST) {
            fprintf(stderr, "%s: %d of %d answers arrived\n", load->name, answers, BURST);
            exit(1);
        }
    }
    close_server(&server, load);
    for (int part = 0; part < PARTS; part++)
        cost[part] = (double)spent[part] / BURSTS / BURST;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static double results[LOADS][PARTS][ROUNDS_MAX];
    int rounds = argc > 1 ? atoi(argv[1]) : 15;
    if (rounds < 1 || rounds > ROUNDS_MAX)
        return 2;
    pin(0);
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < LOADS; i++) {
            double cost[PARTS];
            measure(&loads[i], cost);
            for (int part = 0; part < PARTS; part++)
                results[i][part][round] = cost[part];
        }
    printf("| traffic | payload, bytes | datagrams in a train | receive, ns | send, ns | answer, ns |\n"
           "|---|--:|--:|--:|--:|--:|\n");
    for (int i = 0; i < LOADS; i++) {
        printf("| %s | %d | %d |", loads[i].name, loads[i].bytes, loads[i].train);
        for (int part = 0; part < PARTS; part++) {
            qsort(results[i][part], (size_t)rounds, sizeof(double), by_value);
            printf(" %.0f |", results[i][part][rounds / 2]);
        }
        printf("\n");
    }
    return 0;
}
