/* A receiver on epoll(7) and quinn-udp. quinn-udp does not show the drop counter, and only the ECN
 * bits of the traffic class. Otherwise this decodes what the other receivers decode. */
#include "harness.h"

#include <sys/epoll.h>

enum { EVENTS = 64 };

struct quinn_datagram { /* Datagram in quinn/src/lib.rs */
    const uint8_t *payload;
    uint32_t length, source, destination, segment;
    uint16_t port;
    uint8_t ecn;
};
struct quinn_receiver *quinn_new(const int *fds, size_t count, size_t room);
int quinn_receive(struct quinn_receiver *receiver, size_t index, const struct quinn_datagram **out);
int quinn_batch(void);

/* Receives a batch. Returns whether more may be queued. */
static bool receive(struct run *run, struct quinn_receiver *quinn, unsigned socket)
{
    const struct quinn_datagram *datagrams;
    int n = check("quinn-udp", quinn_receive(quinn, socket, &datagrams));
    if (n > 0)
        count_batch(run);
    for (int i = 0; i < n; i++) {
        const struct quinn_datagram *from = &datagrams[i];
        struct datagram datagram = {.payload = from->payload, .length = from->length, .source = from->source,
                                    .port = htons(from->port), .destination = from->destination,
                                    .traffic_class = from->ecn, .segment = from->segment};
        account_train(run, &datagram);
    }
    return n == quinn_batch();
}

static void by_quinn(struct run *run, const struct variant *self)
{
    struct epoll_event events[EVENTS];
    int poll = check("epoll_create1", epoll_create1(EPOLL_CLOEXEC)), off = 0;
    (void)self;
    for (unsigned i = 0; i < run->regime->sockets; i++) {
        /* quinn-udp leaves no control space for the drop counter: after the first drop the traffic
         * class would be cut off. */
        check("SO_RXQ_OVFL", setsockopt(run->fds[i], SOL_SOCKET, SO_RXQ_OVFL, &off, sizeof off));
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        check("epoll_ctl", epoll_ctl(poll, EPOLL_CTL_ADD, run->fds[i], &event));
    }
    struct quinn_receiver *quinn = quinn_new(run->fds, run->regime->sockets, run->regime->gro ? 65536 : 2048);
    while (!run->stopped) {
        int n = epoll_wait(poll, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            check("epoll_wait", n);
        for (int i = 0; i < n; i++)
            while (receive(run, quinn, events[i].data.u32))
                ;
    }
}

const struct variant variants[] = {
    {"quinn-udp", by_quinn, 0, 0, 0, 0},
    {NULL, NULL, 0, 0, 0, 0},
};
