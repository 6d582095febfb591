/* Measures the same traffic in each task-work mode, and with plain recvfrom(2).
 *
 *   modes [RATE [MILLISECONDS [RUNS]]]     datagrams per second, 0: as many as the sender can
 *
 * Two threads, sender and receiver, run on a processor each if there are two. The sender sends a
 * stream of datagrams at the rate, then round trips one at a time. Each run measures every mode
 * once, so that a slow minute of the machine affects all of them. The table shows the medians. */
#include "traffic.h"

enum { BATCH = 256 };

static const struct mode {
    const char *name;
    uint32_t flags, linger_us;
    uint32_t spin_us, engine; /* AUTO: no ring */
} modes[] = {
    {"recvfrom(2)", 0, 0, 0, 0},
    {"recvmmsg engine", 0, RINGMSG_LINGER_AUTO, 0, RINGMSG_ENGINE_RECVMMSG},
    {"plain", 0, 0, 0, RINGMSG_ENGINE_IO_URING},
    {"COOP", RINGMSG_SETUP_COOP_TASKRUN, 0, 0, RINGMSG_ENGINE_IO_URING},
    {"COOP, flag", RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, 0, 0, RINGMSG_ENGINE_IO_URING},
    {"DEFER, linger 0", RINGMSG_SETUP_DEFER_TASKRUN, 0, 0, RINGMSG_ENGINE_IO_URING},
    {"DEFER, linger AUTO", RINGMSG_SETUP_DEFER_TASKRUN, RINGMSG_LINGER_AUTO, 0, RINGMSG_ENGINE_IO_URING},
    {"DEFER, spin", RINGMSG_SETUP_DEFER_TASKRUN, 0, 100, RINGMSG_ENGINE_IO_URING},
    {"SQPOLL", RINGMSG_SETUP_SQPOLL, 0, 0, RINGMSG_ENGINE_IO_URING},
};
enum { MODES = sizeof modes / sizeof *modes, WITHOUT_IO_URING = 2 };

struct receiver {
    int fd;
    struct ringmsg_ring *ring; /* NULL: recvfrom(2) */
    struct ringmsg_pool *pool;
    struct ringmsg_wait wait;
    struct ringmsg_record records[BATCH];
    int held;
};

/* Receives one batch, and sends it back if `echo` is set. Returns the number of datagrams, or 0 if
 * none arrives within 50 ms. */
static int receive(struct receiver *to, int echo)
{
    struct sockaddr_in source;
    socklen_t length = sizeof source;
    char data[BYTES];
    if (to->ring == NULL) {
        if (recvfrom(to->fd, data, sizeof data, 0, (struct sockaddr *)&source, &length) < 0)
            return 0;
        if (echo)
            sendto(to->fd, data, sizeof data, 0, (struct sockaddr *)&source, length);
        return 1;
    }
    int n = ringmsg_next(to->ring, to->records, (uint32_t)to->held, to->records, NULL, BATCH, &to->wait);
    to->held = n = n == -EINTR ? 0 : check("receive", n);
    const uint8_t *base = ringmsg_pool_base(to->pool);
    for (int i = 0; echo && i < n; i++)
        sendto(to->fd, base + to->records[i].payload_offset, to->records[i].payload_length, 0,
               (const struct sockaddr *)(base + to->records[i].name_offset), to->records[i].name_length);
    return n;
}

static uint64_t wakes(const struct receiver *receiver, const struct rusage *usage)
{
    struct ringmsg_stats stats = {.size = sizeof stats};
    if (receiver->ring == NULL)
        return (uint64_t)usage->ru_nvcsw; /* recvfrom(2) sleeps once per datagram */
    check("stats", ringmsg_ring_stats(receiver->ring, &stats));
    return stats.wakes;
}

static void open_receiver(struct receiver *receiver, const struct mode *mode)
{
    struct timeval timeout = {0, 50000};
    int buffer = 4 << 20;
    memset(receiver, 0, sizeof *receiver);
    receiver->fd = udp_socket("127.0.0.1", "0", bind);
    setsockopt(receiver->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    setsockopt(receiver->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (mode->engine == RINGMSG_ENGINE_AUTO)
        return;
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config pool;
    ringmsg_ring_config_init(&config);
    config.flags = mode->flags;
    config.engine = mode->engine;
    check("ring", ringmsg_ring_new(&config, &receiver->ring));
    ringmsg_pool_config_init(&pool);
    pool.buffers = 1024;
    pool.payload_capacity = 2048;
    check("pool", ringmsg_pool_new(receiver->ring, &pool, &receiver->pool));
    check("arm", ringmsg_recvmsg_multishot(receiver->ring, receiver->pool, receiver->fd, 0, 0, 0));
    receiver->wait = (struct ringmsg_wait){.size = sizeof receiver->wait, .linger_us = mode->linger_us,
                                           .timeout_ns = 50000000, .spin_us = mode->spin_us};
}

static void run(const struct mode *mode, long rate, long ms, double cell[COLUMNS])
{
    static struct receiver receiver;
    static struct sender sender;
    struct rusage before, after;
    pthread_t thread;
    char port[8];
    uint64_t datagrams = 0;
    open_receiver(&receiver, mode);
    snprintf(port, sizeof port, "%u", port_of(receiver.fd));
    sender = (struct sender){.fd = udp_socket("127.0.0.1", port, connect), .rate = rate, .ms = ms};

    getrusage(RUSAGE_THREAD, &before);
    uint64_t wakes_before = wakes(&receiver, &before);
    int64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID); /* includes SQPOLL's kernel thread */
    pthread_create(&thread, NULL, stream, &sender);
    for (int n = 1; n > 0 || !atomic_load(&sender.done);)
        datagrams += (uint64_t)(n = receive(&receiver, 0));
    getrusage(RUSAGE_THREAD, &after);
    pthread_join(thread, NULL);
    cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns - sender.cpu_ns;
    double received = (double)(datagrams > 0 ? datagrams : 1);
    cell[PER_WAKE] = received / (double)(wakes(&receiver, &after) - wakes_before + 1);
    cell[VOLUNTARY] = (double)(after.ru_nvcsw - before.ru_nvcsw) / received * 1000;
    cell[INVOLUNTARY] = (double)(after.ru_nivcsw - before.ru_nivcsw) / received * 1000;
    cell[CPU_NS] = (double)cpu_ns / received;
    cell[LOST_PERCENT] = (double)(sender.sent - datagrams) / (double)(sender.sent + 1) * 100;

    atomic_store(&sender.done, 0);
    pthread_create(&thread, NULL, ping, &sender);
    while (!atomic_load(&sender.done))
        receive(&receiver, 1);
    pthread_join(thread, NULL);
    cell[P50_US] = sender.round_trips_us[ROUND_TRIPS / 2];
    cell[P99_US] = sender.round_trips_us[ROUND_TRIPS * 99 / 100];
    check("free", ringmsg_ring_free(receiver.ring));
    close(receiver.fd);
    close(sender.fd);
}

int main(int argc, char **argv)
{
    long rate = argc > 1 ? atol(argv[1]) : 50000, ms = argc > 2 ? atol(argv[2]) : 500;
    int runs = argc > 3 ? atoi(argv[3]) : 5;
    if (rate < 0 || ms < 1 || runs < 1 || runs > RUNS_MAX) {
        fprintf(stderr, "usage: modes [RATE [MILLISECONDS [RUNS]]]\n");
        return 2;
    }
    pin(0);
    struct ringmsg_support support = {.size = sizeof support};
    check("support", ringmsg_query_support(&support));
    const int available = support.create_error == 0 ? MODES : WITHOUT_IO_URING;
    static double cells[MODES][RUNS_MAX][COLUMNS];
    for (int i = 0; i < runs; i++)
        for (int m = 0; m < available; m++)
            run(&modes[m], rate, ms, cells[m][i]);
    print_head(rate, ms, runs);
    for (int m = 0; m < available; m++)
        print_medians(modes[m].name, cells[m], runs);
    if (available < MODES)
        printf("The other modes need io_uring, which is unavailable here.\n");
    return 0;
}
