/* Numbered datagrams: each carries its number and a pattern that follows from it; empty ones are
 * counted. At the end of a socket's life what was sent must be what came plus what the kernel
 * says it dropped. With GRO the kernel counts socket buffers, that is trains. */
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

struct life lives[SOCKETS];

/* --- one datagram --------------------------------------------------------------------------- */

static uint64_t word_of(uint64_t key, uint32_t i)
{
    return key * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xd6e8feb86659fd93u;
}

static uint64_t key_of(const struct stamp *stamp)
{
    return stamp->number ^ (uint64_t)stamp->life << 40 ^ (uint64_t)stamp->socket << 32 ^ stamp->length << 48;
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

int datagram_is_whole(const uint8_t *payload, uint32_t copied)
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
    CHECK(wrong == 0, "socket %u life %u: datagram %llu (%llu bytes, %u copied) was altered", stamp.socket,
          stamp.life, (unsigned long long)stamp.number, (unsigned long long)stamp.length, copied);
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

/* Sends `count` datagrams of `size` bytes, the last of `last`, as one train if there are more. */
static void send_datagrams(struct life *life, uint8_t *space, uint32_t count, uint16_t size, uint32_t last)
{
    union {
        char space[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control = {{0}};
    struct iovec part = {space, (size_t)(count - 1) * size + last};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (uint32_t i = 0; i < count; i++) {
        struct stamp stamp = {life->number, life->index, life->sent + i, i + 1 < count ? size : last};
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
    /* Counted first: it may be received before sendmsg() returns. */
    for (uint32_t i = 0; i < count; i++)
        put_bit(life->first, life->sent + i, i == 0 || !life->gro);
    life->sent += count;
    if (sendmsg(life->sender, &message, MSG_DONTWAIT) < 0)
        life->sent -= count;
    else
        atomic_fetch_add(&tally.sent, count);
}

static void send_some(struct life *life, struct chance *chance, uint8_t *space)
{
    uint32_t what = below(chance, 100);
    if (what < 3) {
        if (send(life->sender, "", 0, MSG_DONTWAIT) == 0) {
            life->sent_empty++;
            atomic_fetch_add(&tally.sent, 1);
            atomic_fetch_add(&tally.empty, 1);
        }
    } else if (what < (life->gro ? 80u : 10u)) {
        uint32_t size = STAMP + below(chance, one_in(chance, 4) ? 1400 : 200);
        uint32_t most = 60000 / size < 120 ? 60000 / size : 120;
        uint32_t count = 2 + below(chance, most - 1);
        send_datagrams(life, space, count, (uint16_t)size, STAMP + below(chance, size - STAMP + 1));
    } else {
        for (uint32_t burst = 1 + below(chance, 64); burst > 0; burst--)
            send_datagrams(life, space, 1, 0, STAMP + below(chance, one_in(chance, 50) && !link_is_used ? 60000 : 1400));
    }
}

void *send_all(void *unused)
{
    struct chance chance = {seed ^ 0x5e4d};
    uint8_t *space = malloc(PAYLOAD_MAX + 64);
    (void)unused;
    while (!stopping) {
        struct life *life = &lives[below(&chance, SOCKETS)];
        pthread_mutex_lock(&life->lock);
        if (!quiet && life->sender >= 0 && life->sent + 8192 < LIFE_MAX)
            send_some(life, &chance, space);
        pthread_mutex_unlock(&life->lock);
        if (quiet || one_in(&chance, 40))
            sleep_us(below(&chance, one_in(&chance, 50) ? 30000 : 300));
    }
    free(space);
    return NULL;
}

/* --- receiving ------------------------------------------------------------------------------ */

static void mark(struct life *life, uint64_t number)
{
    CHECK(number < life->sent, "socket %u life %u: datagram %llu was never sent", life->index, life->number,
          (unsigned long long)number);
    CHECK(!get_bit(life->seen, number), "socket %u life %u: datagram %llu came twice", life->index, life->number,
          (unsigned long long)number);
    put_bit(life->seen, number, 1);
}

void life_take(struct life *life, const uint8_t *payload, uint32_t copied, uint32_t length, int truncated)
{
    struct stamp stamp;
    CHECK(truncated == (copied < length), "%u of %u bytes, but truncated is %d", copied, length, truncated);
    atomic_fetch_add(&tally.truncated, truncated);
    atomic_fetch_add(&tally.received, 1);
    atomic_fetch_add(&tally.bytes, copied);
    if (length == 0) {
        life->received_empty++;
        return;
    }
    if (datagram_is_whole(payload, copied)) {
        memcpy(&stamp, payload, sizeof stamp);
        CHECK(stamp.life == life->number && stamp.socket == life->index,
              "a datagram for socket %u life %u came to socket %u life %u", stamp.socket, stamp.life, life->index,
              life->number);
        CHECK(stamp.length == length, "a datagram of %llu bytes came as %u", (unsigned long long)stamp.length, length);
    } else {
        stamp.number = life->expected_next; /* cut inside the stamp: one of a train */
    }
    mark(life, stamp.number);
    life->expected_next = stamp.number + 1;
    life->received++;
    life->cut += (uint64_t)truncated;
}

void life_cut_off(struct life *life, uint32_t count)
{
    atomic_fetch_add(&tally.cut_off, count);
    life->cut_off += count;
    for (; count > 0; count--)
        mark(life, life->expected_next++);
}

void life_take_train(struct life *life, const uint8_t *payload, uint32_t copied, uint32_t length, uint32_t segment)
{
    if (segment == 0 || length <= segment) {
        life_take(life, payload, copied, length, copied < length);
        return;
    }
    atomic_fetch_add(&tally.trains, 1);
    for (uint32_t at = 0; at < length; at += segment) {
        uint32_t size = length - at < segment ? length - at : segment;
        uint32_t here = copied <= at ? 0 : copied - at < size ? copied - at : size;
        if (here == 0) {
            life_cut_off(life, (length - at + segment - 1) / segment);
            return;
        }
        life_take(life, payload + at, here, size, here < size);
    }
}

/* --- a life --------------------------------------------------------------------------------- */

/* A bound socket at one end: of loopback, or of the link between two network namespaces. */
static int socket_at(int family, int end)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (link_is_used) {
        int space = open(end ? "/run/netns/" LINK_FAR : "/run/netns/" LINK_NEAR, O_RDONLY | O_CLOEXEC);
        CHECK(space >= 0 && setns(space, CLONE_NEWNET) == 0, "network namespace: %s", strerror(errno));
        close(space);
        inet_pton(AF_INET, end ? "10.213.0.2" : "10.213.0.1", &four.sin_addr);
        inet_pton(AF_INET6, end ? "fd13::2" : "fd13::1", &six.sin6_addr);
    }
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int bound = family == AF_INET6 ? bind(fd, (struct sockaddr *)&six, sizeof six)
                                   : bind(fd, (struct sockaddr *)&four, sizeof four);
    CHECK(fd >= 0 && bound == 0, "socket: %s", strerror(errno));
    return fd;
}

void life_open(struct life *life, struct chance *chance)
{
    static uint32_t numbers;
    int family = one_in(chance, 2) ? AF_INET : AF_INET6, one = 1;
    pthread_mutex_lock(&life->lock);
    life->number = ++numbers;
    life->gro = one_in(chance, 2);
    life->split = life->gro && !one_in(chance, 4);
    life->errors = one_in(chance, 3);
    life->form = one_in(chance, 6) ? (one_in(chance, 2) ? ONCE : CALLER) : MULTISHOT;
    life->sent = life->sent_empty = life->received = life->received_empty = life->cut_off = life->cut = 0;
    life->voided = 0;
    life->void_limit = 0;
    memset(life->seen, 0, LIFE_MAX / 8);
    memset(life->first, 0, LIFE_MAX / 8);
    life->sender = socket_at(family, 1);
    life->receiver = socket_at(family, 0);
    int size = one_in(chance, 3) ? 8192 : 1 << 20;
    setsockopt(life->receiver, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (life->errors)
        setsockopt(life->receiver, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
                   family == AF_INET ? IP_RECVERR : IPV6_RECVERR, &one, sizeof one);
    uint32_t metadata = RINGMSG_META_DROPPED | (one_in(chance, 2) ? RINGMSG_META_DESTINATION : 0) |
                        (one_in(chance, 2) ? RINGMSG_META_SOFTWARE_TIMESTAMP : 0) |
                        (life->gro ? RINGMSG_META_SEGMENT_SIZE : 0);
    int enabled = ringmsg_socket_enable(life->receiver, metadata);
    CHECK(enabled == 0, "socket_enable: %d", enabled);
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    getsockname(life->receiver, (struct sockaddr *)&address, &length);
    CHECK(connect(life->sender, (struct sockaddr *)&address, length) == 0, "connect: %s", strerror(errno));
    length = sizeof address;
    getsockname(life->sender, (struct sockaddr *)&address, &length);
    life->port = ntohs(((struct sockaddr_in *)&address)->sin_port);
    atomic_fetch_add(&tally.lives, 1);
    pthread_mutex_unlock(&life->lock);
}

/* Reads what the library has left in the socket, which after a cancellation is all there is. */
static void drain_by_hand(struct life *life)
{
    for (;;) {
        char control[256];
        struct iovec part = {life->space, PAYLOAD_MAX};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        ssize_t got = recvmsg(life->receiver, &message, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0)
            continue; /* an ICMP error */
        struct ringmsg_metadata metadata;
        CHECK(ringmsg_control_decode(control, message.msg_controllen, &metadata) == 0, "control messages");
        life_take_train(life, life->space, (uint32_t)got, (uint32_t)got, metadata.segment_size);
        atomic_fetch_add(&tally.by_hand, 1);
    }
}

static uint64_t kernel_drops(int fd)
{
    uint32_t info[16] = {0};
    socklen_t length = sizeof info;
    CHECK(getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) == 0, "SO_MEMINFO: %s", strerror(errno));
    return info[8];
}

/* Socket buffers of which nothing came. Of a train either all came, or nothing; across a link,
 * where the device cuts trains and makes others, datagrams that did not come. */
static uint64_t missing_buffers(const struct life *life)
{
    uint64_t missing = life->sent_empty - life->received_empty;
    for (uint64_t at = 0; at < life->sent;) {
        uint64_t end = at + 1, came = (uint64_t)get_bit(life->seen, at);
        for (; end < life->sent && !get_bit(life->first, end); end++)
            came += (uint64_t)get_bit(life->seen, end);
        if (link_is_used && came < end - at) {
            missing += end - at - came - 1;
            came = 0;
        }
        CHECK(came == 0 || came == end - at || life->voided,
              "socket %u life %u: of the train from %llu, %llu of %llu datagrams came", life->index, life->number,
              (unsigned long long)at, (unsigned long long)came, (unsigned long long)(end - at));
        missing += came < end - at;
        at = end;
    }
    return missing;
}

void life_close(struct life *life)
{
    pthread_mutex_lock(&life->lock);
    close(life->sender);
    life->sender = -1;
    drain_by_hand(life);
    uint64_t dropped = kernel_drops(life->receiver), missing = missing_buffers(life);
    CHECK(missing >= dropped, "socket %u life %u: the kernel dropped %llu, but only %llu are missing", life->index,
          life->number, (unsigned long long)dropped, (unsigned long long)missing);
    uint64_t lost = missing - dropped;
    /* The device makes trains of its own, and drops by train. */
    if (link_is_used && lost <= dropped * TRAIN_MAX)
        lost = 0;
    CHECK(lost <= (life->voided ? life->void_limit : 0),
          "socket %u life %u (form %d, gro %d, split %d): %llu sent, %llu came, %llu buffers dropped, and %llu lost",
          life->index, life->number, life->form, life->gro, life->split, (unsigned long long)life->sent,
          (unsigned long long)life->received, (unsigned long long)dropped, (unsigned long long)lost);
    atomic_fetch_add(&tally.dropped, dropped);
    atomic_fetch_add(&tally.voided, lost);
    close(life->receiver);
    life->receiver = -1;
    pthread_mutex_unlock(&life->lock);
}
