/* Numbered datagrams: each carries its number and a pattern that follows from it. Empty datagrams
 * are counted. When a socket is closed, the number of sent datagrams must equal those received plus
 * those that the kernel has counted as dropped. With GRO the kernel counts socket buffers, that is,
 * trains. */
#include "soak.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define STAMP ((uint32_t)sizeof(struct stamp))

struct flow flows[SOCKETS];

/* --- one datagram --------------------------------------------------------------------------- */

static uint64_t word_of(uint64_t key, uint32_t i)
{
    return key * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xd6e8feb86659fd93u;
}

static uint64_t key_of(const struct stamp *stamp)
{
    return stamp->number ^ (uint64_t)stamp->flow << 40 ^ (uint64_t)stamp->socket << 32 ^ stamp->length << 48;
}

static void make_datagram(uint8_t *to, const struct stamp *stamp)
{
    uint64_t key = key_of(stamp);
    memcpy(to, stamp, sizeof *stamp);
    for (uint32_t at = STAMP, i = 0; at < stamp->length; at += 8, i++) {
        uint64_t word = word_of(key, i);
        memcpy(to + at, &word, stamp->length - at < 8 ? stamp->length - at : 8);
    }
}

int check_datagram(const uint8_t *payload, uint32_t copied)
{
    struct stamp stamp;
    if (copied < sizeof stamp)
        return 0;
    memcpy(&stamp, payload, sizeof stamp);
    uint64_t key = key_of(&stamp), wrong = 0;
    for (uint32_t at = STAMP, i = 0; at < copied; at += 8, i++) {
        uint64_t word = word_of(key, i), seen = word;
        memcpy(&seen, payload + at, copied - at < 8 ? copied - at : 8);
        wrong |= word ^ seen;
    }
    CHECK(wrong == 0, "socket %u flow %u: datagram %llu (%llu bytes, %u copied) was altered", stamp.socket,
          stamp.flow, (unsigned long long)stamp.number, (unsigned long long)stamp.length, copied);
    return 1;
}

/* --- sending -------------------------------------------------------------------------------- */

static int get_bit(const uint8_t *bits, uint64_t at)
{
    return bits[at / 8] >> at % 8 & 1;
}

static void put_bit(uint8_t *bits, uint64_t at, int value)
{
    uint8_t bit = (uint8_t)(1u << at % 8);
    bits[at / 8] = value ? bits[at / 8] | bit : bits[at / 8] & ~bit;
}

/* Sends `count` datagrams of `size` bytes, the last one of `last` bytes, as one train if there are
 * several. */
static void send_datagrams(struct flow *flow, uint8_t *space, uint32_t count, uint16_t size, uint32_t last)
{
    union {
        char space[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {space, (size_t)(count - 1) * size + last};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (uint32_t i = 0; i < count; i++) {
        struct stamp stamp = {flow->number, flow->index, flow->sent + i, i + 1 < count ? size : last};
        make_datagram(space + (size_t)i * size, &stamp);
    }
    if (count > 1) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        control.align.cmsg_level = SOL_UDP;
        control.align.cmsg_type = UDP_SEGMENT;
        control.align.cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(&control.align), &size, sizeof size);
    }
    /* The datagrams are counted first, because they may be received before sendmsg() returns. */
    for (uint32_t i = 0; i < count; i++)
        put_bit(flow->first, flow->sent + i, i == 0 || !flow->gro);
    flow->sent += count;
    if (sendmsg(flow->sender, &message, MSG_DONTWAIT) < 0)
        flow->sent -= count;
    else
        atomic_fetch_add(&tally.sent, count);
}

static void send_some(struct flow *flow, struct rng *rng, uint8_t *space)
{
    uint32_t what = rng_below(rng, 100);
    if (what < 3) {
        if (send(flow->sender, "", 0, MSG_DONTWAIT) == 0) {
            flow->sent_empty++;
            atomic_fetch_add(&tally.sent, 1);
            atomic_fetch_add(&tally.empty, 1);
        }
    } else if (what < (flow->gro ? 80u : 10u)) {
        uint32_t size = STAMP + rng_below(rng, one_in(rng, 4) ? 1400 : 200);
        uint32_t most = 60000 / size < 120 ? 60000 / size : 120;
        uint32_t count = 2 + rng_below(rng, most - 1);
        send_datagrams(flow, space, count, (uint16_t)size, STAMP + rng_below(rng, size - STAMP + 1));
    } else {
        for (uint32_t burst = 1 + rng_below(rng, 64); burst > 0; burst--)
            send_datagrams(flow, space, 1, 0,
                           STAMP + rng_below(rng, one_in(rng, 50) && !uses_link ? 60000 : 1400));
    }
}

void *send_all(void *unused)
{
    struct rng rng = {seed ^ 0x5e4d};
    uint8_t *space = malloc(PAYLOAD_MAX + 64);
    (void)unused;
    while (!stopping) {
        struct flow *flow = &flows[rng_below(&rng, SOCKETS)];
        pthread_mutex_lock(&flow->lock);
        if (!sender_paused && flow->sender >= 0 && flow->sent + 8192 < FLOW_MAX)
            send_some(flow, &rng, space);
        pthread_mutex_unlock(&flow->lock);
        if (sender_paused || one_in(&rng, 40))
            sleep_us(rng_below(&rng, one_in(&rng, 50) ? 30000 : 300));
    }
    free(space);
    return NULL;
}

/* --- receiving ------------------------------------------------------------------------------ */

static void count_arrival(struct flow *flow, uint64_t number)
{
    CHECK(number < flow->sent, "socket %u flow %u: datagram %llu was never sent", flow->index, flow->number,
          (unsigned long long)number);
    CHECK(!get_bit(flow->seen, number), "socket %u flow %u: datagram %llu arrived twice",
          flow->index, flow->number, (unsigned long long)number);
    put_bit(flow->seen, number, 1);
}

void flow_take_datagram(struct flow *flow, const uint8_t *payload, uint32_t copied, uint32_t length,
                        int truncated)
{
    struct stamp stamp;
    CHECK(truncated == (copied < length), "%u of %u bytes, but truncated is %d", copied, length, truncated);
    atomic_fetch_add(&tally.truncated, truncated);
    atomic_fetch_add(&tally.received, 1);
    atomic_fetch_add(&tally.bytes, copied);
    if (length == 0) {
        flow->received_empty++;
        return;
    }
    if (check_datagram(payload, copied)) {
        memcpy(&stamp, payload, sizeof stamp);
        CHECK(stamp.flow == flow->number && stamp.socket == flow->index,
              "a datagram for socket %u flow %u arrived at socket %u flow %u", stamp.socket,
              stamp.flow, flow->index, flow->number);
        CHECK(stamp.length == length, "a datagram of %llu bytes arrived with %u",
              (unsigned long long)stamp.length, length);
    } else {
        stamp.number = flow->expected_next; /* a segment of a train, truncated within the stamp */
    }
    count_arrival(flow, stamp.number);
    flow->expected_next = stamp.number + 1;
    flow->received++;
    flow->truncated += (uint64_t)truncated;
}

void flow_skip_truncated(struct flow *flow, uint32_t count)
{
    atomic_fetch_add(&tally.skipped, count);
    flow->skipped += count;
    for (; count > 0; count--)
        count_arrival(flow, flow->expected_next++);
}

void flow_take_train(struct flow *flow, const uint8_t *payload, uint32_t copied, uint32_t length,
                     uint32_t segment)
{
    if (segment == 0 || length <= segment) {
        flow_take_datagram(flow, payload, copied, length, copied < length);
        return;
    }
    atomic_fetch_add(&tally.trains, 1);
    for (uint32_t at = 0; at < length; at += segment) {
        uint32_t size = length - at < segment ? length - at : segment;
        uint32_t here = copied <= at ? 0 : copied - at < size ? copied - at : size;
        if (here == 0) {
            flow_skip_truncated(flow, (length - at + segment - 1) / segment);
            return;
        }
        flow_take_datagram(flow, payload + at, here, size, here < size);
    }
}

/* --- a flow --------------------------------------------------------------------------------- */

/* Makes a bound socket at one end of loopback, or of the link between two network namespaces. */
static int socket_at(int family, int end)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (uses_link) {
        int space = open(end ? "/run/netns/" LINK_FAR : "/run/netns/" LINK_NEAR, O_RDONLY | O_CLOEXEC);
        CHECK(space >= 0 && setns(space, CLONE_NEWNET) == 0, "network namespace: %s", strerror(errno));
        close(space);
        inet_pton(AF_INET, end ? "10.213.0.2" : "10.213.0.1", &v4.sin_addr);
        inet_pton(AF_INET6, end ? "fd13::2" : "fd13::1", &v6.sin6_addr);
    }
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int bound = family == AF_INET6 ? bind(fd, (struct sockaddr *)&v6, sizeof v6)
                                   : bind(fd, (struct sockaddr *)&v4, sizeof v4);
    CHECK(fd >= 0 && bound == 0, "socket: %s", strerror(errno));
    return fd;
}

void flow_open(struct flow *flow, struct rng *rng)
{
    static uint32_t numbers;
    int family = one_in(rng, 2) ? AF_INET : AF_INET6, one = 1;
    pthread_mutex_lock(&flow->lock);
    flow->number = ++numbers;
    flow->gro = one_in(rng, 2);
    flow->split = flow->gro && !one_in(rng, 4);
    flow->errors = one_in(rng, 3);
    flow->form = one_in(rng, 6) ? (one_in(rng, 2) ? ONCE : CALLER) : MULTISHOT;
    flow->sent = flow->sent_empty = flow->received = flow->received_empty = flow->skipped =
        flow->truncated = 0;
    flow->may_lose = 0;
    flow->loss_limit = 0;
    memset(flow->seen, 0, FLOW_MAX / 8);
    memset(flow->first, 0, FLOW_MAX / 8);
    flow->sender = socket_at(family, 1);
    flow->receiver = socket_at(family, 0);
    int size = one_in(rng, 3) ? 8192 : 1 << 20;
    setsockopt(flow->receiver, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (flow->errors)
        setsockopt(flow->receiver, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
                   family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &one, sizeof one);
    uint32_t metadata = RINGMSG_META_DROPPED | (one_in(rng, 2) ? RINGMSG_META_DESTINATION : 0) |
                        (one_in(rng, 2) ? RINGMSG_META_SOFTWARE_TIMESTAMP : 0) |
                        (flow->gro ? RINGMSG_META_SEGMENT_SIZE : 0);
    int enabled = ringmsg_socket_enable(flow->receiver, metadata);
    CHECK(enabled == 0, "socket_enable: %d", enabled);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    getsockname(flow->receiver, (struct sockaddr *)&address, &length);
    CHECK(connect(flow->sender, (struct sockaddr *)&address, length) == 0, "connect: %s", strerror(errno));
    length = sizeof address;
    getsockname(flow->sender, (struct sockaddr *)&address, &length);
    flow->port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    answers_open(flow);
    atomic_fetch_add(&tally.flows, 1);
    pthread_mutex_unlock(&flow->lock);
}

/* Reads what is left in the socket. After a cancel that is everything the library has not
 * received. */
static void drain_socket(struct flow *flow)
{
    for (;;) {
        char control[256];
        struct iovec part = {flow->space, PAYLOAD_MAX};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(flow->receiver, &message, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0)
            continue; /* an ICMP error */
        struct ringmsg_metadata metadata;
        CHECK(ringmsg_control_decode(control, message.msg_controllen, &metadata) == 0, "control messages");
        flow_take_train(flow, flow->space, (uint32_t)got, (uint32_t)got, metadata.segment_size);
        atomic_fetch_add(&tally.drained, 1);
    }
}

static uint64_t kernel_drops(int fd)
{
    uint32_t info[16] = {0};
    socklen_t length = sizeof info;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) == 0, "SO_MEMINFO: %s", strerror(errno));
    return info[8];
}

/* Counts the socket buffers of which nothing arrived. Of a train every datagram arrives, or none.
 * Across a link the device cuts trains and makes others, so there it counts datagrams. */
static uint64_t missing_buffers(const struct flow *flow)
{
    uint64_t missing = flow->sent_empty - flow->received_empty;
    for (uint64_t at = 0; at < flow->sent;) {
        uint64_t end = at + 1, arrived = (uint64_t)get_bit(flow->seen, at);
        for (; end < flow->sent && !get_bit(flow->first, end); end++)
            arrived += (uint64_t)get_bit(flow->seen, end);
        if (uses_link && arrived < end - at) {
            missing += end - at - arrived - 1;
            arrived = 0;
        }
        CHECK(arrived == 0 || arrived == end - at || flow->may_lose,
              "socket %u flow %u: of the train from %llu, %llu of %llu datagrams arrived",
              flow->index, flow->number, (unsigned long long)at, (unsigned long long)arrived,
              (unsigned long long)(end - at));
        missing += arrived < end - at;
        at = end;
    }
    return missing;
}

void flow_close(struct flow *flow)
{
    pthread_mutex_lock(&flow->lock);
    answers_close(flow, kernel_drops);
    close(flow->sender);
    flow->sender = -1;
    drain_socket(flow);
    uint64_t dropped = kernel_drops(flow->receiver), missing = missing_buffers(flow);
    CHECK(missing >= dropped,
          "socket %u flow %u: the kernel dropped %llu, but only %llu are missing", flow->index,
          flow->number, (unsigned long long)dropped, (unsigned long long)missing);
    uint64_t lost = missing - dropped;
    /* The device makes trains of its own, and drops whole trains. */
    if (uses_link && lost <= dropped * TRAIN_MAX)
        lost = 0;
    CHECK(lost <= (flow->may_lose ? flow->loss_limit : 0),
          "socket %u flow %u (form %d, gro %d, split %d): %llu sent, %llu received, %llu buffers "
          "dropped, and %llu lost",
          flow->index, flow->number, flow->form, flow->gro, flow->split,
          (unsigned long long)flow->sent, (unsigned long long)flow->received,
          (unsigned long long)dropped, (unsigned long long)lost);
    atomic_fetch_add(&tally.dropped, dropped);
    atomic_fetch_add(&tally.lost, lost);
    close(flow->receiver);
    flow->receiver = -1;
    pthread_mutex_unlock(&flow->lock);
}
