/* Measures the CPU time that a datagram costs the processor that receives it under load;
 * docs/scaling.md computes with these figures. One thread, pinned to one processor, sends a burst
 * to itself over loopback and then receives it, repeatedly. A shard whose network card interrupts
 * its processor works like this.
 *
 *   receive   ringmsg_next(), including the kernel, with metadata, every batch released
 *   send      sending. On loopback this includes what the kernel does before a receiver reaps
 *             (IP, UDP, the socket's queue), and the sender's own part: an upper bound for it
 *
 * Neither includes a network card's driver, the GRO of single datagrams (loopback passes trains on
 * as they were sent), or wake-ups, of which a loaded receiver has few.
 *
 *   cost [ROUNDS]     medians, in ns of CPU per datagram */
#include "../../examples-c/example.h"

enum { BATCH = 256, BURSTS = 1000, ROUNDS_MAX = 99 };

static const struct load {
    const char *name;
    int bytes, train, sends; /* bytes of a datagram; datagrams per send; sends per burst */
} loads[] = {
    {"64 bytes", 64, 1, 64},
    {"300 bytes", 300, 1, 64},
    {"1200 bytes", 1200, 1, 64},
    {"1200 bytes, trains of 32", 1200, 32, 4},
};
enum { LOADS = sizeof loads / sizeof *loads };
enum { RECEIVE, SEND, PARTS };

static void measure(const struct load *load, double cost[PARTS])
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static char data[65536];
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 1000000000};
    struct ringmsg_ring *ring;
    char port[8];
    int64_t spent[PARTS] = {0};
    int burst = load->sends * load->train, to, at = udp_socket("127.0.0.1", "0", bind);
    snprintf(port, sizeof port, "%u", port_of(at));
    to = udp_socket("127.0.0.1", port, connect);
    if (load->train > 1)
        check_sys("UDP_SEGMENT", setsockopt(to, IPPROTO_UDP, UDP_SEGMENT, &load->bytes, sizeof load->bytes));
    check("socket", ringmsg_socket_enable(at, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION |
                                                  RINGMSG_META_TRAFFIC_CLASS));
    check("ring", ringmsg_ring_new(NULL, &ring));
    check("arm", ringmsg_recvmsg_multishot(ring, pool_for(ring, at), at, 0, RINGMSG_RECV_SPLIT, 0));
    for (int i = 0; i < BURSTS; i++) {
        int64_t start = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (int sends = 0; sends < load->sends; sends++)
            check_sys("send", send(to, data, (size_t)(load->bytes * load->train), 0));
        int64_t sent = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        for (int n, got = 0; got < burst; got += n) {
            n = check("receive", ringmsg_reap(ring, records, metadata, BATCH, &wait));
            if (n == 0) {
                fprintf(stderr, "%s: %d of %d datagrams arrived\n", load->name, got, burst);
                exit(1);
            }
            check("release", ringmsg_release(ring, records, (uint32_t)n));
        }
        spent[SEND] += sent - start;
        spent[RECEIVE] += clock_ns(CLOCK_THREAD_CPUTIME_ID) - sent;
    }
    check("free", ringmsg_ring_free(ring));
    close(to);
    close(at);
    for (int part = 0; part < PARTS; part++)
        cost[part] = (double)spent[part] / BURSTS / burst;
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
    printf("%-26s %9s %9s\n", "ns per datagram", "receive", "send");
    for (int i = 0; i < LOADS; i++) {
        printf("%-26s", loads[i].name);
        for (int part = 0; part < PARTS; part++) {
            qsort(results[i][part], (size_t)rounds, sizeof(double), by_value);
            printf(" %9.0f", results[i][part][rounds / 2]);
        }
        printf("\n");
    }
    return 0;
}
