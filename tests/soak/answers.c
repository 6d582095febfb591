/* Answers: what a flow's socket receives goes back to the flow's sender with ringmsg_send(), and is
 * accounted for on that way as well. When a flow is closed, the datagrams that the socket took =
 * those that came back + those that the kernel dropped. None comes back twice or altered, and none
 * that the socket did not take. ICMP errors that are pending on the socket are no answer's. */
#include "receiver.h"

#include <netinet/in.h>
#include <poll.h>

static struct ringmsg_message messages[SOCKETS][BATCH];
static struct ringmsg_path paths[SOCKETS][BATCH];
static uint32_t counts[SOCKETS];

void answers_open(struct flow *flow)
{
    struct ringmsg_sender_config config;
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int size = one_in(&rng, 3) ? 8192 : 1 << 20;
    setsockopt(flow->sender, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    ringmsg_sender_config_init(&config);
    config.flags = one_in(&rng, 4) ? RINGMSG_SENDER_NO_GROUPING : 0;
    config.batch = one_in(&rng, 4) ? 1 + rng_below(&rng, BATCH) : 0;
    library(ringmsg_sender_new(flow->receiver, &config, &flow->answerer), "sender_new");
    getsockname(flow->sender, (struct sockaddr *)&address, &length);
    memset(&flow->back, 0, sizeof flow->back);
    flow->back.valid = RINGMSG_PATH_REMOTE;
    flow->back.family = address.ss_family;
    flow->back.remote_port = flow->port;
    if (address.ss_family == AF_INET)
        memcpy(flow->back.remote, &((struct sockaddr_in *)&address)->sin_addr, 4);
    else
        memcpy(flow->back.remote, &((struct sockaddr_in6 *)&address)->sin6_addr, 16);
    memset(flow->awaited, 0, FLOW_MAX / 8);
    flow->answered = flow->came_back = 0;
}

/* Notes an answer to this record. A datagram that was cut is not answered. */
void answer_record(struct flow *flow, const struct ringmsg_record *record, const uint8_t *payload,
                   const struct ringmsg_metadata *metadata)
{
    uint32_t i = counts[flow->index];
    if (record->payload_length < sizeof(struct stamp) || (record->flags & RINGMSG_RECORD_TRUNCATED) || i == BATCH)
        return;
    if (metadata == NULL || ringmsg_path_reply(&paths[flow->index][i], metadata) != 0)
        paths[flow->index][i] = flow->back;
    uint32_t segment = record->flags & RINGMSG_RECORD_SEGMENT ? 0 : record->segment_size;
    messages[flow->index][i] = (struct ringmsg_message){.payload = payload,
                                                        .payload_length = record->payload_length,
                                                        .segment_size = segment,
                                                        .path = &paths[flow->index][i]};
    counts[flow->index]++;
}

/* Every datagram of a message that the socket took is awaited. */
static void await(struct flow *flow, const struct ringmsg_message *message, uint32_t taken)
{
    uint32_t step = message->segment_size != 0 ? message->segment_size : message->payload_length;
    for (uint32_t at = 0; at < taken; at += step) {
        struct stamp stamp;
        memcpy(&stamp, (const uint8_t *)message->payload + at, sizeof stamp);
        flow->awaited[stamp.number / 8] |= (uint8_t)(1u << stamp.number % 8);
        flow->answered++;
        atomic_fetch_add(&tally.answered, 1);
    }
}

static void collect_answers(struct flow *flow)
{
    static uint8_t space[PAYLOAD_MAX];
    for (;;) {
        ssize_t got = recv(flow->sender, space, sizeof space, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got < 0) {
            CHECK(errno != EBADF, "flow %u is closed", flow->number);
            continue; /* an ICMP error */
        }
        struct stamp stamp;
        CHECK(check_datagram(space, (uint32_t)got), "an answer of %zd bytes", got);
        memcpy(&stamp, space, sizeof stamp);
        CHECK(stamp.flow == flow->number && stamp.length == (uint64_t)got,
              "an answer of %zd bytes to flow %u, which is %llu bytes to flow %u", got, flow->number,
              (unsigned long long)stamp.length, stamp.flow);
        uint8_t bit = (uint8_t)(1u << stamp.number % 8);
        CHECK(flow->awaited[stamp.number / 8] & bit, "flow %u: answer %llu came twice, or the socket did not take it",
              flow->number, (unsigned long long)stamp.number);
        flow->awaited[stamp.number / 8] &= (uint8_t)~bit;
        flow->came_back++;
        atomic_fetch_add(&tally.came_back, 1);
    }
}

static void send_answers(struct flow *flow, uint32_t count)
{
    struct ringmsg_message *all = messages[flow->index];
    uint32_t flags = one_in(&rng, 4) ? RINGMSG_SEND_WAIT : 0;
    int settled = ringmsg_send(flow->answerer, all, count, flags);
    for (int again = 0; (settled == -EINTR || settled == -EAGAIN) && again < 3; again++)
        settled = ringmsg_send(flow->answerer, all, count, flags | RINGMSG_SEND_RESUME);
    if (settled != -EINTR && settled != -EAGAIN)
        library(settled, "send");
    for (uint32_t i = 0; i < count; i++) {
        if (all[i].result == -EAGAIN) {
            atomic_fetch_add(&tally.unanswered, 1);
            continue;
        }
        CHECK(all[i].result >= 0, "answer %u of %u, %u bytes: %d", i, count, all[i].payload_length, all[i].result);
        await(flow, &all[i], (uint32_t)all[i].result);
    }
}

void send_all_answers(void)
{
    for (uint32_t i = 0; i < SOCKETS; i++) {
        if (counts[i] > 0)
            send_answers(&flows[i], counts[i]);
        if (flows[i].sender >= 0 && (counts[i] > 0 || one_in(&rng, 16)))
            collect_answers(&flows[i]);
        counts[i] = 0;
    }
}

/* Waits for the last answers. A kernel thread may deliver them, later. */
void answers_close(struct flow *flow, uint64_t (*drops_of)(int fd))
{
    int64_t deadline = now_ns() + STALL_NS;
    struct ringmsg_sender_stats stats = {.size = sizeof stats};
    uint64_t dropped;
    for (;; sleep_us(1000)) {
        collect_answers(flow);
        dropped = drops_of(flow->sender);
        if (flow->came_back + dropped >= flow->answered)
            break;
        CHECK(now_ns() < deadline, "flow %u: %llu answers, of which %llu came back and %llu were dropped", flow->number,
              (unsigned long long)flow->answered, (unsigned long long)flow->came_back, (unsigned long long)dropped);
    }
    CHECK(flow->came_back + dropped == flow->answered || uses_link,
          "flow %u: %llu answers, but %llu came back and %llu were dropped", flow->number,
          (unsigned long long)flow->answered, (unsigned long long)flow->came_back, (unsigned long long)dropped);
    library(ringmsg_sender_stats(flow->answerer, &stats), "sender_stats");
    CHECK(stats.datagrams == flow->answered && stats.errors == 0, "flow %u: %llu answers, by the statistics %llu, %llu errors",
          flow->number, (unsigned long long)flow->answered, (unsigned long long)stats.datagrams,
          (unsigned long long)stats.errors);
    atomic_fetch_add(&tally.answers_dropped, dropped);
    atomic_fetch_add(&tally.answer_trains, stats.trains);
    atomic_fetch_add(&tally.pending_errors, stats.socket_errors);
    library(ringmsg_sender_free(flow->answerer), "sender_free");
}
