/* The owner of the ring. It reaps, and between two reaps does what users do: it holds every record,
 * sleeps, cancels, closes and opens sockets, frees the ring, and makes a new one in another
 * mode. */
#include "receiver.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>

/* The records that the consumer holds. */
static struct ringmsg_record *held;
static uint32_t held_count, held_capacity;
static int holding;

/* --- records --------------------------------------------------------------------------- */

static void take_data(struct flow *flow, const struct ringmsg_record *record,
                      const struct ringmsg_metadata *metadata)
{
    int truncated = (record->flags & RINGMSG_RECORD_TRUNCATED) != 0;
    const uint8_t *payload =
        record->pool == RINGMSG_POOL_NONE
            ? flow->space
            : ringmsg_pool_base(ringmsg_ring_pool(ring, record->pool)) + record->payload_offset;
    CHECK((uint32_t)record->result == record->payload_length || record->pool == RINGMSG_POOL_NONE,
          "result %d, payload_length %u", record->result, record->payload_length);
    CHECK((record->flags & RINGMSG_RECORD_CONTROL_TRUNCATED) == 0, "control messages were truncated");
    if (metadata != NULL && (metadata->valid & RINGMSG_META_SOURCE))
        CHECK(metadata->source_port == flow->port, "from port %u, not %u", metadata->source_port, flow->port);
    answer_record(flow, record, payload, metadata);
    if (record->flags & RINGMSG_RECORD_SEGMENT) {
        flow_take_datagram(flow, payload, record->payload_length, record->wire_length, truncated);
        atomic_fetch_add(&tally.segments, 1);
        if (truncated)
            flow_skip_truncated(flow, record->segments - record->segment - 1u);
    } else {
        flow_take_train(flow, payload, record->payload_length, record->wire_length, record->segment_size);
    }
}

static void take_record(const struct ringmsg_record *record, const struct ringmsg_metadata *metadata)
{
    struct flow *flow = &flows[record->user_data % 256 % SOCKETS];
    CHECK(record->user_data == user_data_of(flow), "a record of a request that has ended: %llx",
          (unsigned long long)record->user_data);
    CHECK(flow->armed, "socket %u: a record after FINAL", flow->index);
    flow->last_record_ns = now_ns();
    if (record->result >= 0) {
        take_data(flow, record, metadata);
    } else if (record->result == -ECONNREFUSED) {
        CHECK(flow->errors, "socket %u: an ICMP error without IP_RECVERR", flow->index);
        atomic_fetch_add(&tally.icmp, 1);
    } else {
        CHECK(record->result == -ECANCELED && (record->flags & RINGMSG_RECORD_FINAL),
              "socket %u: result %d, flags %x", flow->index, record->result, record->flags);
    }
    if (record->flags & RINGMSG_RECORD_FINAL) {
        flow->armed = 0;
        flow->monitored = 0;
        atomic_fetch_add(&tally.finals, 1);
    }
}

static void release_held(void)
{
    while (held_count > 0) {
        uint32_t count = 1 + rng_below(&rng, BATCH);
        count = count < held_count ? count : held_count;
        held_count -= count;
        if (one_in(&rng, 2) || !release_later(held + held_count, count, ring_number))
            library(ringmsg_release(ring, held + held_count, count), "release");
    }
    holding = 0;
}

/* Holds the records, passes them to another thread, or releases them. */
static void keep_or_release(const struct ringmsg_record *records, uint32_t count)
{
    if (holding && held_count + count <= held_capacity) {
        memcpy(held + held_count, records, count * sizeof *records);
        held_count += count;
    } else if (!one_in(&rng, 3) || !release_later(records, count, ring_number)) {
        library(ringmsg_release(ring, records, count), "release");
    }
}

static void wait_by_poll(int timeout_ms)
{
    struct pollfd readable = {.fd = library(ringmsg_ring_fd(ring), "ring_fd"), .events = POLLIN};
    if (poll(&readable, 1, timeout_ms) < 0)
        CHECK(errno == EINTR, "poll: %s", strerror(errno));
}

/* One reap, in the call or after a poll of ring_fd. */
static int reap_once(int timeout_ms)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static const uint32_t lingers[] = {0, RINGMSG_LINGER_AUTO, RINGMSG_LINGER_AUTO, 300};
    struct ringmsg_metadata *metadata_or_null = one_in(&rng, 2) ? metadata : NULL;
    uint32_t capacity = one_in(&rng, 4) ? 1 + rng_below(&rng, 8) : BATCH;
    struct ringmsg_wait wait = {.size = sizeof wait, .linger_us = lingers[rng_below(&rng, 4)]};
    wait.timeout_ns = (int64_t)timeout_ms * 1000000;
    wait.spin_us = one_in(&rng, 20) ? 50 : 0;
    if (waits_by_poll) {
        wait_by_poll(timeout_ms);
        wait.timeout_ns = 0;
    }
    reaps++;
    int count = ringmsg_reap(ring, records, metadata_or_null, capacity, &wait);
    if (count == -EINTR) {
        atomic_fetch_add(&tally.interrupted, 1);
        return 0;
    }
    library(count, "reap");
    for (int i = 0; i < count; i++)
        take_record(&records[i], metadata_or_null ? &metadata[i] : NULL);
    if (count > 0)
        send_all_answers();
    if (count > 0)
        keep_or_release(records, (uint32_t)count);
    return count;
}

/* --- faults ----------------------------------------------------------------------------------- */

static void cancel(struct flow *flow)
{
    if (!flow->armed)
        return;
    int64_t deadline = now_ns() + 5000000000;
    library(ringmsg_cancel(ring, user_data_of(flow)), "cancel");
    while (flow->armed) {
        CHECK(now_ns() < deadline, "socket %u: no FINAL record within 5 s of its cancel", flow->index);
        reap_once(10);
    }
    int again = ringmsg_cancel(ring, user_data_of(flow));
    CHECK(again == -ENOENT, "cancel after FINAL: %d", again);
}

static int has_data(struct flow *flow)
{
    struct pollfd readable = {.fd = flow->receiver, .events = POLLIN};
    return flow->armed && poll(&readable, 1, 0) == 1 && (readable.revents & POLLIN);
}

/* Prints what is known about a request that seems to have stalled. */
static void describe(const struct flow *flow)
{
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_stats all = {.size = sizeof all}, one = {.size = sizeof one};
    library(ringmsg_ring_info(ring, &info), "ring_info");
    library(ringmsg_ring_stats(ring, &all), "ring_stats");
    int known = ringmsg_request_stats(ring, user_data_of(flow), &one);
    fprintf(stderr,
            "\n  ring: flags %x, %u completions, by poll %d, records %llu, reaps %llu, "
            "enters %llu, held %llu, published %llu, overflows %llu, held by the consumer %u\n"
            "  request (%d): pool %u of %u buffers, records %llu, rearms %llu, starvations %llu, "
            "misses %llu, errors %llu, last record %lld ms ago\n",
            info.flags, info.cq_entries, waits_by_poll, (unsigned long long)all.records,
            (unsigned long long)all.reaps, (unsigned long long)all.enters,
            (unsigned long long)all.buffers_held, (unsigned long long)all.buffers_published,
            (unsigned long long)all.cq_overflows, held_count, known, flow->pool,
            pool_buffers[flow->pool], (unsigned long long)one.records,
            (unsigned long long)one.rearms, (unsigned long long)one.starvations,
            (unsigned long long)one.window_misses, (unsigned long long)one.errors,
            (long long)(now_ns() - flow->last_record_ns) / 1000000);
}

/* Checks that no request has stalled: while the sender is paused and all buffers are released,
 * every armed socket runs empty without a long pause between records. */
static void check_sockets_drain(void)
{
    no_fault_since_ns = 0;
    release_held();
    sender_paused = 1;
    for (uint32_t i = 0; i < SOCKETS; i++) {
        pthread_mutex_lock(&flows[i].lock);
        pthread_mutex_unlock(&flows[i].lock);
    }
    int64_t start = now_ns();
    for (uint32_t i = 0; i < SOCKETS; i++) {
        while (has_data(&flows[i])) {
            int64_t last = flows[i].last_record_ns > start ? flows[i].last_record_ns : start;
            if (now_ns() - last > STALL_NS)
                describe(&flows[i]);
            CHECK(now_ns() - last <= STALL_NS,
                  "socket %u flow %u (form %d, gro %d) stalled: it has data, and no record arrives",
                  i, flows[i].number, flows[i].form, flows[i].gro);
            reap_once(1);
            arm_all();
        }
    }
    sender_paused = 0;
    atomic_fetch_add(&tally.drain_checks, 1);
}

static void reopen(struct flow *flow)
{
    if (one_in(&rng, 4))
        check_sockets_drain();
    cancel(flow);
    flow_close(flow);
    flow_open(flow, &rng);
    choose_pool(flow);
}

static void hold_all(void)
{
    atomic_fetch_add(&tally.holds, 1);
    no_fault_since_ns = 0;
    holding = 1;
    int64_t until = now_ns() + rng_below(&rng, 60) * 1000000LL;
    while (now_ns() < until)
        reap_once(5);
    release_held();
}

static void pause_reaping(void)
{
    atomic_fetch_add(&tally.pauses, 1);
    no_fault_since_ns = 0;
    sleep_us(rng_below(&rng, 30000));
}

/* The receiver sends to a port without a socket, so that an ICMP error comes back to it. */
static void provoke_icmp(struct flow *flow)
{
    struct sockaddr_storage address;
    char control[512], data[512];
    socklen_t length = sizeof address;
    getsockname(flow->receiver, (struct sockaddr *)&address, &length);
    ((struct sockaddr_in *)&address)->sin_port = htons(1);
    for (int i = rng_below(&rng, 40); i >= 0; i--)
        (void)sendto(flow->receiver, "?", 1, MSG_DONTWAIT, (struct sockaddr *)&address, length);
    for (;;) {
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        if (recvmsg(flow->receiver, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
    }
}

/* A ring that is freed without cancelling may lose what is in its buffers, and no more. */
static void expect_losses(void)
{
    for (uint32_t i = 0; i < SOCKETS; i++) {
        struct flow *flow = &flows[i];
        flow->may_lose = 1;
        for (uint32_t p = 0; p < POOLS; p++)
            flow->loss_limit += pool_buffers[p];
        flow->loss_limit += flow->form == CALLER;
        flow->armed = 0;
        flow->monitored = 0;
    }
    held_count = 0;
    holding = 0;
}

static void end_ring_from_another_thread(void)
{
    static struct ringmsg_record records[BATCH];
    atomic_fetch_add(&tally.other_thread, 1);
    free_by_other_thread(reaps + 1);
    int ended = ringmsg_reap(ring, records, NULL, BATCH, NULL);
    CHECK(ended >= 0 || ended == -ECANCELED || ended == -EINTR, "reap during ring_free: %d", ended);
    wait_for_free();
    expect_losses();
}

static void change_ring(void)
{
    if (one_in(&rng, 2))
        check_sockets_drain();
    no_fault_since_ns = 0;
    if (one_in(&rng, 4)) {
        end_ring_from_another_thread();
    } else {
        int abrupt = one_in(&rng, 3);
        atomic_fetch_add(&tally.abrupt, abrupt);
        for (uint32_t i = 0; i < SOCKETS && !abrupt; i++)
            cancel(&flows[i]);
        if (!abrupt)
            release_held();
        struct ringmsg_stats stats = {.size = sizeof stats};
        library(ringmsg_ring_stats(ring, &stats), "stats");
        atomic_fetch_add(&tally.starvations, stats.starvations);
        atomic_fetch_add(&tally.misses, stats.window_misses);
        atomic_fetch_add(&tally.overflows, stats.cq_overflows);
        atomic_fetch_add(&tally.rearms, stats.rearms);
        pthread_rwlock_wrlock(&ring_lock);
        library(ringmsg_ring_free(ring), "ring_free");
        ring = NULL;
        pthread_rwlock_unlock(&ring_lock);
        if (abrupt)
            expect_losses();
    }
    releases_drain();
    make_ring();
}

static void inject_fault(void)
{
    struct flow *flow = &flows[rng_below(&rng, SOCKETS)];
    uint32_t what = rng_below(&rng, 1000);
    int64_t before = no_fault_since_ns;
    if (what < 4)
        hold_all();
    else if (what < 10)
        pause_reaping();
    else if (what < 14)
        reopen(flow);
    else if (what < 18)
        cancel(flow);
    else if (what < 30 && flow->errors)
        provoke_icmp(flow);
    else if (what < 32)
        change_ring();
    else if (flow->sent + 8192 >= FLOW_MAX)
        reopen(flow);
    if (no_fault_since_ns != before)
        no_fault_since_ns = now_ns();
}

static void prepare(void)
{
    rng.state = seed;
    held_capacity = 1u << 18;
    held = malloc(held_capacity * sizeof *held);
    for (uint32_t i = 0; i < SOCKETS; i++) {
        struct flow *flow = &flows[i];
        flow->index = i;
        flow->seen = malloc(FLOW_MAX / 8);
        flow->first = malloc(FLOW_MAX / 8);
        flow->awaited = malloc(FLOW_MAX / 8);
        flow->space = malloc(PAYLOAD_MAX);
        flow_open(flow, &rng);
        choose_pool(flow);
    }
    make_ring();
}

void *receive_all(void *unused)
{
    (void)unused;
    prepare();
    no_fault_since_ns = now_ns();
    while (!stopping) {
        arm_all();
        reap_once(one_in(&rng, 3) ? 100 : (int)rng_below(&rng, 3));
        inject_fault();
    }
    no_fault_since_ns = 0;
    for (uint32_t i = 0; i < SOCKETS; i++) {
        cancel(&flows[i]);
        flow_close(&flows[i]);
    }
    release_held();
    releases_drain();
    struct ringmsg_stats stats = {.size = sizeof stats};
    library(ringmsg_ring_stats(ring, &stats), "stats");
    CHECK(stats.buffers_held == 0, "%llu buffers are held at the end",
          (unsigned long long)stats.buffers_held);
    pthread_rwlock_wrlock(&ring_lock);
    library(ringmsg_ring_free(ring), "ring_free");
    ring = NULL;
    pthread_rwlock_unlock(&ring_lock);
    return NULL;
}
