/* The servers of this library: the loop of docs/sending.md. */
#include "server.h"

#include <ringmsg.h>

enum { BATCH = 512, RECVMMSG = 1, ROOM = 2048 /* for a datagram, as the other servers have */ };

static int done(const char *what, int value)
{
    char why[512];
    if (value >= 0)
        return value;
    ringmsg_last_error(why, sizeof why);
    if (value == -EOPNOTSUPP || value == -ENOSYS || value == -EPERM)
        not_supported(why);
    fprintf(stderr, "%s: %s (%s)\n", what, why, ringmsg_strerror(value));
    exit(1);
}

static struct ringmsg_path flows[CLIENTS_MAX];

static void make_paths(const struct server *server)
{
    for (unsigned i = 0; i < server->traffic->peers; i++)
        done("path", ringmsg_path_to(&flows[i], (const struct sockaddr *)&server->flows[i], sizeof server->flows[i]));
}

static void by_ringmsg(struct server *server, const struct variant *self)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static struct ringmsg_path paths[BATCH];
    static struct ringmsg_message messages[BATCH];
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config shape;
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_sender *sender;
    bool relay = server->traffic->relay;
    if (server->traffic->train > 1)
        done("socket", ringmsg_socket_enable(server->in, RINGMSG_META_SEGMENT_SIZE));
    ringmsg_ring_config_init(&config);
    config.flags = self->flags;
    config.engine = self->batch == RECVMMSG ? RINGMSG_ENGINE_RECVMMSG : RINGMSG_ENGINE_IO_URING;
    done("ring", ringmsg_ring_new(&config, &ring));
    ringmsg_pool_config_init(&shape);
    done("pool", ringmsg_pool_config_for_socket(&shape, server->in));
    shape.buffers = 2048;
    if (server->traffic->train == 1)
        shape.payload_capacity = ROOM;
    done("pool", ringmsg_pool_new(ring, &shape, &pool));
    done("sender", ringmsg_sender_new(server->out, NULL, &sender));
    done("arm", ringmsg_recvmsg_multishot(ring, pool, server->in, 0, 0, 0));
    make_paths(server);
    const uint8_t *base = ringmsg_pool_base(pool);
    const struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = -1, .linger_us = self->linger_us};
    for (int n = 0;;) {
        unsigned unsent = 0, datagrams = 0;
        n = ringmsg_next(ring, records, (uint32_t)n, records, relay ? NULL : metadata, BATCH, &wait);
        if (n == -EINTR)
            n = 0;
        done("next", n);
        for (int i = 0; i < n; i++) {
            const struct ringmsg_record *record = &records[i];
            const uint8_t *payload = base + record->payload_offset;
            done("record", record->result);
            if (!relay)
                done("path", ringmsg_path_reply(&paths[i], &metadata[i]));
            messages[i] = (struct ringmsg_message){
                .payload = payload,
                .payload_length = record->payload_length,
                .segment_size = record->segment_size,
                .path = relay ? &flows[flow_of(payload) % CLIENTS_MAX] : &paths[i]};
        }
        if (n == 0)
            continue;
        done("send", ringmsg_send(sender, messages, (uint32_t)n, 0));
        for (int i = 0; i < n; i++) {
            unsigned of_message = (messages[i].payload_length + server->traffic->size - 1) / server->traffic->size;
            *(messages[i].result < 0 ? &unsent : &datagrams) += of_message;
        }
        count(server, datagrams, unsent);
    }
}

const struct variant variants[] = {
    {"ringmsg-answer-auto", by_ringmsg, .flags = RINGMSG_SETUP_AUTO, .linger_us = RINGMSG_LINGER_AUTO},
    {"ringmsg-answer-0", by_ringmsg, .flags = RINGMSG_SETUP_DEFER_TASKRUN},
    {"ringmsg-answer-recvmmsg", by_ringmsg, .batch = RECVMMSG, .flags = RINGMSG_SETUP_AUTO,
     .linger_us = RINGMSG_LINGER_AUTO},
    {NULL, NULL, 0, 0, 0},
};
