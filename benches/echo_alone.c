/* What an echo costs without its wake-ups: one thread is the clients and the echo in turn, and
 * the CPU time of the echo's part counts: receiving 512 datagrams that are queued at its socket,
 * and sending them back. The variants take turns within each round.
 *
 * echo_alone [ROUNDS]        prints medians, and of the ratios to the first variant the
 * quartiles */
#include "by_hand.h"

enum { SPACE = 2048 };
enum { SMALL = 64 };
enum { PLAIN, LARGE, BY_HAND_SMALL, BY_HAND, LIBRARY_SMALL, LIBRARY, LIBRARY_RECVMMSG, VARIANTS };
static const char *const names[] = {
    "recvmmsg(64), sendmmsg", "recvmmsg(512), sendmmsg", "recvmmsg(64), grouped by hand",
    "recvmmsg(512), grouped by hand", "ringmsg_next(64), ringmsg_send", "ringmsg_next(512), ringmsg_send",
    "the same, recvmmsg engine",
};

static int clients[PEERS_MAX], fd;
static struct sockaddr_in client_addresses[PEERS_MAX], address;
static struct ringmsg_sender *sender;

/* --- by hand ---------------------------------------------------------------------------------- */

static uint8_t space[BATCH][SPACE];
static struct sockaddr_in sources[BATCH];
static struct answer answers[BATCH];

static int receive_by_hand(int at_once)
{
    static struct mmsghdr headers[BATCH];
    static struct iovec parts[BATCH];
    for (int i = 0; i < at_once; i++) {
        parts[i] = (struct iovec){space[i], SPACE};
        headers[i].msg_hdr = (struct msghdr){
            .msg_name = &sources[i], .msg_namelen = sizeof *sources, .msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, headers, (unsigned)at_once, MSG_DONTWAIT, NULL);
    CHECK(n);
    for (int i = 0; i < n; i++)
        answers[i] = (struct answer){space[i], headers[i].msg_len, &sources[i]};
    return n;
}

static void echo_by_hand(int variant)
{
    for (int done = 0; done < BATCH;) {
        int n = receive_by_hand(variant == PLAIN || variant == BY_HAND_SMALL ? SMALL : BATCH);
        if (variant == BY_HAND || variant == BY_HAND_SMALL)
            send_grouped(fd, answers, n);
        else
            send_ungrouped(fd, answers, n, BATCH);
        done += n;
    }
}

/* --- by the library --------------------------------------------------------------------------- */

/* A ring with what it last returned. */
struct receiver {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_record records[BATCH];
    uint32_t held;
    unsigned long reaps;
};
static struct receiver receivers[2];

static void open_receiver(struct receiver *receiver, uint32_t engine)
{
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config pool;
    ringmsg_ring_config_init(&config);
    config.engine = engine;
    int made = ringmsg_ring_new(&config, &receiver->ring);
    if (made < 0) {
        printf("SKIPPED: engine %u: %s\n", engine, ringmsg_strerror(made));
        exit(0);
    }
    ringmsg_pool_config_init(&pool);
    CHECK(ringmsg_pool_config_for_socket(&pool, fd));
    pool.buffers = 2048;
    pool.payload_capacity = SPACE;
    CHECK(ringmsg_pool_new(receiver->ring, &pool, &receiver->pool));
}

static void echo_by_library(struct receiver *receiver, uint32_t batch)
{
    static struct ringmsg_metadata metadata[BATCH];
    static struct ringmsg_path paths[BATCH];
    static struct ringmsg_message messages[BATCH];
    struct ringmsg_wait now = {.size = sizeof now};
    for (int done = 0; done < BATCH;) {
        int n = ringmsg_next(receiver->ring, receiver->records, receiver->held, receiver->records, metadata, batch,
                             &now);
        CHECK(n);
        receiver->reaps += batch == BATCH;
        const uint8_t *base = ringmsg_pool_base(receiver->pool);
        for (int i = 0; i < n; i++) {
            CHECK(ringmsg_path_reply(&paths[i], &metadata[i]));
            messages[i] = (struct ringmsg_message){.payload = base + receiver->records[i].payload_offset,
                                                   .payload_length = receiver->records[i].payload_length,
                                                   .path = &paths[i]};
        }
        receiver->held = (uint32_t)n;
        if (ringmsg_send(sender, messages, (uint32_t)n, 0) != n)
            exit(1);
        done += n;
    }
}

/* --- the clients ------------------------------------------------------------------------------ */

static void ask(const struct pattern *pattern)
{
    static uint8_t question[LENGTH_MAX];
    for (int i = 0; i < BATCH; i++)
        CHECK(send(clients[peer_of(pattern, i)], question, (size_t)pattern->length, 0));
}

static void expect_answers(const struct pattern *pattern, const char *who)
{
    static char bytes[65536];
    int count = 0;
    for (int p = 0; p < pattern->peers; p++)
        while (recv(clients[p], bytes, sizeof bytes, MSG_DONTWAIT) == pattern->length)
            count++;
    if (count != BATCH) {
        fprintf(stderr, "%s: %d of %d answers came\n", who, count, BATCH);
        exit(1);
    }
}

static double run(const struct pattern *pattern, int variant)
{
    struct receiver *receiver = variant == LIBRARY_RECVMMSG ? &receivers[1] : &receivers[0];
    if (variant >= LIBRARY_SMALL)
        CHECK(ringmsg_recvmsg_multishot(receiver->ring, receiver->pool, fd, 0, 0, 1));
    ask(pattern);
    double start = cpu_ns();
    if (variant >= LIBRARY_SMALL)
        echo_by_library(receiver, variant == LIBRARY_SMALL ? SMALL : BATCH);
    else
        echo_by_hand(variant);
    double used = (cpu_ns() - start) / BATCH;
    if (variant >= LIBRARY_SMALL) { /* the others find their socket as it was */
        CHECK(ringmsg_cancel(receiver->ring, 1));
        CHECK(ringmsg_release(receiver->ring, receiver->records, receiver->held));
        receiver->held = 0;
        CHECK(ringmsg_reap(receiver->ring, receiver->records, NULL, BATCH, NULL));
    }
    expect_answers(pattern, names[variant]);
    return used;
}

int main(int count, char **arguments)
{
    int rounds = begin(count, arguments);
    fd = open_socket(&address);
    for (int p = 0; p < PEERS_MAX; p++) {
        clients[p] = open_socket(&client_addresses[p]);
        CHECK(connect(clients[p], (struct sockaddr *)&address, sizeof address));
    }
    CHECK(ringmsg_sender_new(fd, NULL, &sender));
    open_receiver(&receivers[0], RINGMSG_ENGINE_IO_URING);
    open_receiver(&receivers[1], RINGMSG_ENGINE_RECVMMSG);
    for (int p = 0; p < PATTERNS; p++) {
        unsigned long before[2] = {receivers[0].reaps, receivers[1].reaps};
        measure(&patterns[p], rounds, VARIANTS, names, run);
        printf("  records per ringmsg_next: %.0f, recvmmsg engine %.0f\n",
               BATCH * (rounds + 5.0) / (double)(receivers[0].reaps - before[0]),
               BATCH * (rounds + 5.0) / (double)(receivers[1].reaps - before[1]));
    }
    return 0;
}
