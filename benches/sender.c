/* The sender of the benchmark, paced by a busy loop on a processor of its own; with ONE_PROCESSOR
 * in the environment it is paced by sleeping, on the receiver's processor. */
#include "sender.h"

#include <signal.h>

enum { CHUNK_MAX = 64, TRAIN = SEGMENT * SEGMENTS };

struct sender {
    const struct run *run;
    const struct regime *regime;
    struct shared_page *shared_page;
    bool shares_processor; /* with the receiver */
    int fd;
    uint64_t sequence, sent;
    struct sockaddr_in to[SOCKETS_MAX];
    struct mmsghdr messages[CHUNK_MAX];
    struct iovec pieces[CHUNK_MAX];
    uint8_t *payloads;           /* CHUNK_MAX payloads */
    unsigned size, segment;      /* bytes of one message, and of one datagram in it */
};

static int64_t now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static _Noreturn void fail(const char *why)
{
    fprintf(stderr, "sender: %s\n", why);
    exit(1);
}

static void sleep_us(unsigned us)
{
    struct timespec time = {.tv_nsec = us * 1000L};
    nanosleep(&time, NULL);
}

static void set_up(struct sender *s)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    int traffic_class = TRAFFIC_CLASS, buffer = 8 << 20, segment = SEGMENT;
    s->fd = check("socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    check("bind", bind(s->fd, (struct sockaddr *)&own, length));
    check("getsockname", getsockname(s->fd, (struct sockaddr *)&own, &length));
    s->shared_page->source_port = own.sin_port;
    check("IP_TOS", setsockopt(s->fd, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class));
    setsockopt(s->fd, SOL_SOCKET, SO_SNDBUFFORCE, &buffer, sizeof buffer);
    if (s->regime->gro)
        check("UDP_SEGMENT", setsockopt(s->fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment));
    for (unsigned i = 0; i < s->regime->sockets; i++) {
        length = sizeof s->to[i];
        check("getsockname", getsockname(s->run->fds[i], (struct sockaddr *)&s->to[i], &length));
    }
    bool connected = s->regime->sockets == 1;
    if (connected)
        check("connect", connect(s->fd, (struct sockaddr *)&s->to[0], sizeof s->to[0]));
    s->size = s->regime->gro ? TRAIN : SMALL;
    s->segment = s->regime->gro ? SEGMENT : SMALL;
    s->payloads = calloc(CHUNK_MAX, s->size);
    for (unsigned i = 0; i < CHUNK_MAX; i++) {
        s->pieces[i] = (struct iovec){.iov_base = s->payloads + (size_t)i * s->size, .iov_len = s->size};
        s->messages[i].msg_hdr.msg_iov = &s->pieces[i];
        s->messages[i].msg_hdr.msg_iovlen = 1;
        s->messages[i].msg_hdr.msg_namelen = connected ? 0 : sizeof s->to[0];
    }
}

/* Writes the stamps of one message's datagrams. */
static void stamp_message(struct sender *s, unsigned index, unsigned each)
{
    uint8_t *payload = s->pieces[index].iov_base;
    for (unsigned offset = 0; offset < s->size; offset += s->segment) {
        struct stamp stamp = {.sequence = ++s->sequence};
        if (each != 0 && stamp.sequence % each == 0)
            stamp.sent_ns = (uint64_t)now();
        memcpy(payload + offset, &stamp, sizeof stamp);
    }
    if (s->messages[index].msg_hdr.msg_namelen != 0)
        s->messages[index].msg_hdr.msg_name = &s->to[s->sequence % s->regime->sockets];
}

static void send_chunk(struct sender *s, unsigned messages)
{
    for (unsigned i = 0; i < messages; i++)
        stamp_message(s, i, s->regime->stamp_each);
    for (unsigned done = 0; done < messages;) {
        int n = sendmmsg(s->fd, s->messages + done, messages - done, 0);
        if (n < 0) { /* a datagram that was not sent must not be counted */
            if (errno == EINTR || errno == ENOBUFS || errno == EAGAIN)
                continue;
            check("sendmmsg", n);
        }
        done += (unsigned)n;
    }
    s->sent += (uint64_t)messages * (s->size / s->segment);
}

static void send_many(struct sender *s, unsigned datagrams)
{
    unsigned messages = datagrams / (s->size / s->segment);
    for (unsigned n; messages > 0; messages -= n) {
        n = messages < s->regime->chunk ? messages : s->regime->chunk;
        send_chunk(s, n);
    }
}

/* Leaves the processor to the receiver, if both have only one, until `due`. */
static void leave_until(const struct sender *s, int64_t due)
{
    struct timespec at = {.tv_sec = due / 1000000000, .tv_nsec = due % 1000000000};
    if (s->shares_processor)
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

/* Sends at the regime's rate, in bursts. */
static void send_paced(struct sender *s, int64_t ns)
{
    unsigned piece = s->regime->burst ? s->regime->burst : s->regime->chunk * (s->size / s->segment);
    double pieces_per_ns = s->regime->rate / 1e9 / piece;
    int64_t start = now(), elapsed;
    for (uint64_t done = 0; (elapsed = now() - start) < ns;)
        if (s->regime->rate == 0 || (double)done < (double)elapsed * pieces_per_ns) {
            send_many(s, piece);
            done++;
        } else {
            leave_until(s, start + (int64_t)((double)done / pieces_per_ns));
        }
}

static void wait_until_drained(struct sender *s)
{
    uint64_t drops;
    while (queued(s->run, &drops) != 0)
        sleep_us(200);
    sleep_us(500);
}

static void stop(pid_t receiver)
{
    char path[64], text[256], *state;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)receiver);
    check("kill", kill(receiver, SIGSTOP));
    for (;;) {
        FILE *file = fopen(path, "r");
        if (file == NULL)
            fail("the receiver has exited");
        size_t length = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        text[length] = 0;
        state = strrchr(text, ')');
        if (state != NULL && state[1] != 0 && state[2] == 'T')
            return;
        sleep_us(50);
    }
}

/* Fills the receive queue while the receiver is stopped, then lets the receiver drain it. */
static void fill_and_drain(struct sender *s, int64_t ns, pid_t receiver)
{
    for (int64_t start = now(); now() - start < ns;) {
        stop(receiver);
        send_many(s, s->regime->fill);
        check("kill", kill(receiver, SIGCONT));
        wait_until_drained(s);
    }
}

/* Sends one datagram at a time and waits for its answer. The sender does not sleep, so this
 * measures how long the receiver takes to wake, read and answer. */
static void ping(struct sender *s, int64_t ns)
{
    struct shared_page *shared_page = s->shared_page;
    shared_page->round_trips = 0;
    for (int64_t start = now(), sent; (sent = now()) - start < ns;) {
        uint8_t answer[SMALL];
        send_chunk(s, 1);
        while (recv(s->fd, answer, sizeof answer, MSG_DONTWAIT) < 0)
            if (now() - sent > 5000000000)
                fail("no answer to a ping within 5 s");
        int64_t elapsed = now() - sent;
        if (shared_page->round_trips <
            sizeof shared_page->round_trip_ns / sizeof shared_page->round_trip_ns[0])
            shared_page->round_trip_ns[shared_page->round_trips++] = (uint32_t)elapsed;
        while (now() - sent - elapsed < 250000) /* until the receiver sleeps again and its linger is over */
            ;
    }
}

/* Keeps this many requests under way: each answer is followed by another request. */
static void close_loop(struct sender *s, int64_t ns)
{
    const struct timeval patience = {.tv_usec = 200000};
    uint8_t answer[SMALL];
    const int buffer = 8 << 20; /* holds all answers */
    setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
    unsigned under_way = s->regime->window;
    for (unsigned i = 0; i < under_way; i++)
        send_chunk(s, 1);
    for (int64_t start = now(); under_way > 0;) {
        if (recv(s->fd, answer, sizeof answer, 0) < 0)
            fail("no answer to a request within 200 ms");
        if (now() - start < ns)
            send_chunk(s, 1);
        else
            under_way--;
    }
}

static void send_for(struct sender *s, double seconds, pid_t receiver)
{
    int64_t ns = (int64_t)(seconds * 1e9);
    if (s->regime->window > 0)
        close_loop(s, ns);
    else if (s->regime->echo)
        ping(s, ns);
    else if (s->regime->fill > 0)
        fill_and_drain(s, ns, receiver);
    else
        send_paced(s, ns);
}

/* Sends a marker until the receiver has seen it. */
static void send_marker(struct sender *s, uint64_t what, atomic_uint *seen)
{
    uint8_t payload[SMALL] = "";
    wait_until_drained(s);
    for (int tries = 0; tries < 500; tries++) {
        struct stamp stamp = {.sequence = ++s->sequence, .sent_ns = what};
        memcpy(payload, &stamp, sizeof stamp);
        sendto(s->fd, payload, sizeof payload, 0, (struct sockaddr *)&s->to[0], sizeof s->to[0]);
        for (int64_t start = now(); now() - start < 20000000;)
            if (atomic_load(seen))
                return;
            else
                leave_until(s, now() + 50000);
    }
    fail(what == MARKER_START ? "the receiver does not see the first marker"
                              : "the receiver does not see the last marker");
}

void send_traffic(const struct run *run, struct shared_page *shared_page, double seconds, pid_t receiver)
{
    static struct sender sender;
    sender = (struct sender){.run = run, .regime = run->regime, .shared_page = shared_page};
    sender.shares_processor = getenv("ONE_PROCESSOR") != NULL;
    pin(sender.shares_processor ? 0 : 1);
    set_up(&sender);
    double warm_up = seconds < 0.5 ? seconds / 4 : 0.125;
    send_for(&sender, run->regime->warm_up > 0 ? run->regime->warm_up : warm_up, receiver);
    send_marker(&sender, MARKER_START, &shared_page->started);
    sleep_us(1000);
    uint64_t before, after;
    queued(run, &before); /* not by the receiver: it would count as its CPU time */
    sender.sent = 0;
    int64_t start = now();
    send_for(&sender, seconds, receiver);
    shared_page->elapsed_ns = now() - start;
    shared_page->sent = sender.sent;
    wait_until_drained(&sender);
    queued(run, &after);
    shared_page->drops = after - before;
    send_marker(&sender, MARKER_END, &shared_page->ended);
}
