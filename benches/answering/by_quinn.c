/* A server on epoll(7) and quinn-udp. As quinn's connections do, it writes answers to one peer that
 * come in a row and are of one length into one piece of memory, and sends them as one train. */
#include "server.h"

#include <sys/epoll.h>

struct quinn_datagram { /* Datagram in quinn/src/lib.rs */
    const uint8_t *payload;
    uint32_t length, source, destination, segment;
    uint16_t port;
    uint8_t ecn;
};
struct quinn_receiver *quinn_new(const int *fds, size_t count, size_t room);
int quinn_receive(struct quinn_receiver *receiver, size_t index, const struct quinn_datagram **out);
int quinn_batch(void);
int quinn_send(struct quinn_receiver *receiver, size_t index, uint32_t address, uint16_t port, const void *contents,
               size_t length, size_t segment);
size_t quinn_segments(const struct quinn_receiver *receiver, size_t index);

static struct quinn_receiver *quinn;
static size_t out_index;

/* The train that is being gathered. */
static struct {
    uint8_t contents[65536];
    size_t length, segment, segments;
    struct sockaddr_in to;
} train;

static bool joins(const struct sockaddr_in *to, size_t length)
{
    return train.segments > 0 && train.segments < quinn_segments(quinn, out_index) && length == train.segment &&
           train.length + length <= 65000 && to->sin_addr.s_addr == train.to.sin_addr.s_addr &&
           to->sin_port == train.to.sin_port;
}

static void flush(unsigned *unsent)
{
    size_t segment = train.segments > 1 ? train.segment : 0;
    if (train.segments > 0 && quinn_send(quinn, out_index, train.to.sin_addr.s_addr, ntohs(train.to.sin_port),
                                         train.contents, train.length, segment) != 0)
        *unsent += (unsigned)train.segments;
    train.length = train.segments = 0;
}

static void answer(struct server *server, const struct quinn_datagram *from, unsigned *unsent)
{
    struct sockaddr_in source = {.sin_family = AF_INET, .sin_port = htons(from->port), .sin_addr.s_addr = from->source};
    const struct sockaddr_in *to = destination(server, from->payload, &source);
    if (from->segment > 0) { /* a train goes back as it came */
        flush(unsent);
        if (quinn_send(quinn, out_index, to->sin_addr.s_addr, ntohs(to->sin_port), from->payload, from->length,
                       from->segment) != 0)
            *unsent += (from->length + from->segment - 1) / from->segment;
        return;
    }
    if (!joins(to, from->length))
        flush(unsent);
    memcpy(train.contents + train.length, from->payload, from->length);
    train.length += from->length;
    train.segment = from->length;
    train.to = *to;
    train.segments++;
}

/* Receives and answers a batch. Returns whether more may be queued. */
static bool serve_batch(struct server *server)
{
    const struct quinn_datagram *datagrams;
    unsigned all = 0, unsent = 0, size = server->traffic->size;
    int n = check("quinn-udp", quinn_receive(quinn, 0, &datagrams));
    for (int i = 0; i < n; i++) {
        all += (datagrams[i].length + size - 1) / size;
        answer(server, &datagrams[i], &unsent);
    }
    flush(&unsent);
    if (n > 0)
        count(server, all - unsent, unsent);
    return n == quinn_batch();
}

static void by_quinn(struct server *server, const struct variant *self)
{
    struct epoll_event event = {.events = EPOLLIN};
    int poll = check("epoll_create1", epoll_create1(EPOLL_CLOEXEC)), fds[2] = {server->in, server->out};
    (void)self;
    out_index = server->in != server->out;
    check("epoll_ctl", epoll_ctl(poll, EPOLL_CTL_ADD, server->in, &event));
    quinn = quinn_new(fds, 1 + out_index, server->traffic->train > 1 ? 65536 : 2048);
    for (;;) {
        if (epoll_wait(poll, &event, 1, -1) < 0 && errno != EINTR)
            check("epoll_wait", -1);
        while (serve_batch(server))
            ;
    }
}

const struct variant variants[] = {
    {"answer-quinn-udp", by_quinn, 0, 0, 0},
    {NULL, NULL, 0, 0, 0},
};
