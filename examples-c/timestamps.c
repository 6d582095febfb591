/* Measures a round trip over loopback as NTP and PTP do, with the times at which the kernel sent
 * and received, not those at which the program did. A transmit time comes back through the
 * socket's error queue, which is received from like any other: with MSG_ERRQUEUE, on the same
 * ring. The id of a message identifies its timestamp.
 *
 *     timestamps [ROUNDS]
 *
 *     client  t1 ---- request ---> t2  server
 *             t4 <--- answer ----- t3
 *
 * The round trip is (t4 - t1) - (t3 - t2), and the clocks are ((t2 - t1) + (t3 - t4)) / 2 apart. (A
 * real server would send t2 in the answer, and t3 in a second one.) */
#include "example.h"

enum { BATCH = 16, REQUEST_SENT, REQUEST_CAME, ANSWER_SENT, ANSWER_CAME, STAMPS };

/* One end: a socket, and a sender that asks for transmit timestamps. */
struct end {
    int fd;
    struct ringmsg_sender *sender;
};

static struct ringmsg_ring *ring;
static int64_t stamps[STAMPS];

static void open_end(struct end *end)
{
    struct ringmsg_sender_config config;
    check("socket", ringmsg_socket_enable(end->fd, RINGMSG_META_SOFTWARE_TIMESTAMP));
    ringmsg_sender_config_init(&config);
    config.flags = RINGMSG_SENDER_TIMESTAMPS;
    check("sender", ringmsg_sender_new(end->fd, &config, &end->sender));
}

/* Receives datagrams and transmit timestamps; user_data distinguishes them. */
static void arm(const struct end *end, struct ringmsg_pool *pool, uint64_t came, uint64_t sent)
{
    check("arm", ringmsg_recvmsg_multishot(ring, pool, end->fd, 0, 0, came));
    check("arm", ringmsg_recvmsg_multishot(ring, pool, end->fd, MSG_ERRQUEUE, 0, sent));
}

static void send_stamped(struct end *end, uint32_t id)
{
    struct ringmsg_message message = {.payload = &id, .payload_length = sizeof id,
                                      .flags = RINGMSG_MESSAGE_TIMESTAMP, .timestamp_id = id};
    check("send", ringmsg_send(end->sender, &message, 1, RINGMSG_SEND_WAIT));
    check("send", message.result);
}

/* Waits until all wanted records of a round have arrived. */
static void collect(uint32_t id, unsigned wanted)
{
    struct ringmsg_record records[BATCH];
    struct ringmsg_metadata metadata[BATCH];
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 2000000000};
    for (unsigned seen = 0; (seen & wanted) != wanted;) {
        int n = ringmsg_reap(ring, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            continue;
        if (check("receive", n) == 0) {
            fprintf(stderr, "no timestamp within two seconds\n");
            exit(1);
        }
        for (int i = 0; i < n; i++) {
            uint64_t which = records[i].user_data;
            check("receive", records[i].result);
            /* Before Linux 6.13 the kernel takes no id; it counts from 0, as this program does. */
            int was_sent = (metadata[i].valid & RINGMSG_META_SOCKET_ERROR) != 0;
            if (was_sent && metadata[i].error_data != id)
                continue;
            /* The kernel may not have begun yet to add timestamps. */
            int has_stamp = (metadata[i].valid & RINGMSG_META_SOFTWARE_TIMESTAMP) != 0;
            stamps[which] = has_stamp ? metadata[i].software_timestamp_ns : 0;
            seen |= 1u << which;
        }
        check("release", ringmsg_release(ring, records, (uint32_t)n));
    }
}

int main(int argc, char **argv)
{
    uint32_t rounds = argc > 1 ? (uint32_t)atoi(argv[1]) : 5;
    char port[8];
    struct end client, server = {.fd = udp_socket("127.0.0.1", "0", bind)};
    snprintf(port, sizeof port, "%u", port_of(server.fd));
    client.fd = udp_socket("127.0.0.1", port, connect);
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    check_sys("getsockname", getsockname(client.fd, (struct sockaddr *)&address, &length));
    check_sys("connect", connect(server.fd, (struct sockaddr *)&address, length));
    check("ring", ringmsg_ring_new(NULL, &ring));
    open_end(&client);
    open_end(&server);
    struct ringmsg_pool *pool = pool_for(ring, server.fd); /* with space for all that was switched on */
    arm(&client, pool, ANSWER_CAME, REQUEST_SENT);
    arm(&server, pool, REQUEST_CAME, ANSWER_SENT);
    for (uint32_t id = 0, round = 0; round < rounds; id++) {
        send_stamped(&client, id);
        collect(id, 1u << REQUEST_SENT | 1u << REQUEST_CAME);
        send_stamped(&server, id);
        collect(id, 1u << ANSWER_SENT | 1u << ANSWER_CAME);
        if (stamps[REQUEST_CAME] == 0 || stamps[ANSWER_CAME] == 0)
            continue;
        int64_t there = stamps[REQUEST_CAME] - stamps[REQUEST_SENT];
        int64_t back = stamps[ANSWER_CAME] - stamps[ANSWER_SENT];
        printf("round %u: round trip %lld ns, in the program %lld ns; clocks %+lld ns apart\n", round++,
               (long long)(there + back), (long long)(stamps[ANSWER_SENT] - stamps[REQUEST_CAME]),
               (long long)(there - back) / 2);
    }
    ringmsg_sender_free(client.sender);
    ringmsg_sender_free(server.sender);
    check("free", ringmsg_ring_free(ring));
    return 0;
}
