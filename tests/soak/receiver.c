/* The owner of the ring. It reaps, and between two reaps does what users do: holds everything,
 * sleeps, cancels, closes, opens, frees the ring and makes a new one in another mode. */
#include "receiver.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>

/* What the consumer holds on to. */
static struct ringmsg_record *hoard;
static uint32_t hoarded, hoard_room;
static int hoarding;

/* --- records ------------------------------------------------------------------------------------ */

static void take_data(struct life *life, const struct ringmsg_record *record, const struct ringmsg_metadata *metadata)
{
    int truncated = (record->flags & RINGMSG_RECORD_TRUNCATED) != 0;
    const uint8_t *payload = record->pool == RINGMSG_POOL_NONE
                                 ? life->space
                                 : ringmsg_pool_base(ringmsg_ring_pool(ring, record->pool)) + record->payload_offset;
    CHECK((uint32_t)record->result == record->payload_length || record->pool == RINGMSG_POOL_NONE, "result %d, payload_length %u",
          record->result, record->payload_length);
    CHECK((record->flags & RINGMSG_RECORD_CONTROL_TRUNCATED) == 0, "control messages were cut");
    if (metadata != NULL && (metadata->valid & RINGMSG_META_SOURCE))
        CHECK(metadata->source_port == life->port, "from port %u, not %u", metadata->source_port, life->port);
    if (record->flags & RINGMSG_RECORD_SEGMENT) {
        life_take(life, payload, record->payload_length, record->wire_length, truncated);
        atomic_fetch_add(&tally.segments, 1);
        if (truncated)
            life_cut_off(life, record->segments - record->segment - 1u);
    } else {
        life_take_train(life, payload, record->payload_length, record->wire_length, record->segment_size);
    }
}

static void take_record(const struct ringmsg_record *record, const struct ringmsg_metadata *metadata)
{
    struct life *life = &lives[record->user_data % 256 % SOCKETS];
    CHECK(record->user_data == name_of(life), "a record of a request that is over: %llx",
          (unsigned long long)record->user_data);
    CHECK(life->armed, "socket %u: a record after FINAL", life->index);
    life->last_record_ns = now_ns();
    if (record->result >= 0) {
        take_data(life, record, metadata);
    } else if (record->result == -ECONNREFUSED) {
        CHECK(life->errors, "socket %u: an ICMP error nobody asked for", life->index);
        atomic_fetch_add(&tally.icmp, 1);
    } else {
        CHECK(record->result == -ECANCELED && (record->flags & RINGMSG_RECORD_FINAL), "socket %u: result %d, flags %x",
              life->index, record->result, record->flags);
    }
    if (record->flags & RINGMSG_RECORD_FINAL) {
        life->armed = 0;
        life->watched = 0;
        atomic_fetch_add(&tally.finals, 1);
    }
}

static void release_hoard(void)
{
    while (hoarded > 0) {
        uint32_t count = 1 + below(&chance, BATCH);
        count = count < hoarded ? count : hoarded;
        hoarded -= count;
        if (one_in(&chance, 2) || !release_later(hoard + hoarded, count, ring_number))
            library(ringmsg_release(ring, hoard + hoarded, count), "release");
    }
    hoarding = 0;
}

/* Keeps them, passes them on, or releases them at once. */
static void part_with(const struct ringmsg_record *records, uint32_t count)
{
    if (hoarding && hoarded + count <= hoard_room) {
        memcpy(hoard + hoarded, records, count * sizeof *records);
        hoarded += count;
    } else if (!one_in(&chance, 3) || !release_later(records, count, ring_number)) {
        library(ringmsg_release(ring, records, count), "release");
    }
}

static void wait_by_poll(int timeout_ms)
{
    struct pollfd readable = {.fd = library(ringmsg_ring_fd(ring), "ring_fd"), .events = POLLIN};
    if (poll(&readable, 1, timeout_ms) < 0)
        CHECK(errno == EINTR, "poll: %s", strerror(errno));
}

/* One reap, however it waits. */
static int pump(int timeout_ms)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static const uint32_t lingers[] = {0, RINGMSG_LINGER_AUTO, RINGMSG_LINGER_AUTO, 300};
    struct ringmsg_metadata *wanted = one_in(&chance, 2) ? metadata : NULL;
    uint32_t capacity = one_in(&chance, 4) ? 1 + below(&chance, 8) : BATCH;
    struct ringmsg_wait wait = {.size = sizeof wait, .linger_us = lingers[below(&chance, 4)]};
    wait.timeout_ns = (int64_t)timeout_ms * 1000000;
    wait.spin_us = one_in(&chance, 20) ? 50 : 0;
    if (waits_by_poll) {
        wait_by_poll(timeout_ms);
        wait.timeout_ns = 0;
    }
    reaps++;
    int count = ringmsg_reap(ring, records, wanted, capacity, &wait);
    if (count == -EINTR) {
        atomic_fetch_add(&tally.interrupted, 1);
        return 0;
    }
    library(count, "reap");
    for (int i = 0; i < count; i++)
        take_record(&records[i], wanted ? &metadata[i] : NULL);
    if (count > 0)
        part_with(records, (uint32_t)count);
    return count;
}

/* --- what happens to it ----------------------------------------------------------------------- */

static void cancel(struct life *life)
{
    if (!life->armed)
        return;
    int64_t deadline = now_ns() + 5000000000;
    library(ringmsg_cancel(ring, name_of(life)), "cancel");
    while (life->armed) {
        CHECK(now_ns() < deadline, "socket %u: no FINAL within 5 s of its cancellation", life->index);
        pump(10);
    }
    int again = ringmsg_cancel(ring, name_of(life));
    CHECK(again == -ENOENT, "cancel after FINAL: %d", again);
}

static int has_data(struct life *life)
{
    struct pollfd readable = {.fd = life->receiver, .events = POLLIN};
    return life->armed && poll(&readable, 1, 0) == 1 && (readable.revents & POLLIN);
}

/* What is to be known about a request that seems deaf. */
static void describe(const struct life *life)
{
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_stats all = {.size = sizeof all}, one = {.size = sizeof one};
    library(ringmsg_ring_info(ring, &info), "ring_info");
    library(ringmsg_ring_stats(ring, &all), "ring_stats");
    int known = ringmsg_request_stats(ring, name_of(life), &one);
    fprintf(stderr,
            "\n  ring: flags %x, %u completions, by poll %d, records %llu, reaps %llu, enters %llu, held %llu, "
            "published %llu, overflows %llu, hoarded %u\n"
            "  request (%d): pool %u of %u buffers, records %llu, rearms %llu, starvations %llu, misses %llu, "
            "errors %llu, last record %lld ms ago\n",
            info.flags, info.cq_entries, waits_by_poll, (unsigned long long)all.records,
            (unsigned long long)all.reaps, (unsigned long long)all.enters, (unsigned long long)all.buffers_held,
            (unsigned long long)all.buffers_published, (unsigned long long)all.cq_overflows, hoarded, known,
            life->pool, pool_buffers[life->pool], (unsigned long long)one.records, (unsigned long long)one.rearms,
            (unsigned long long)one.starvations, (unsigned long long)one.window_misses,
            (unsigned long long)one.errors, (long long)(now_ns() - life->last_record_ns) / 1000000);
}

/* Nobody is deaf: with the sender quiet and all buffers back, every armed socket runs empty, and
 * none waits for seconds. */
static void prove_hearing(void)
{
    undisturbed_since_ns = 0;
    release_hoard();
    quiet = 1;
    for (uint32_t i = 0; i < SOCKETS; i++) {
        pthread_mutex_lock(&lives[i].lock);
        pthread_mutex_unlock(&lives[i].lock);
    }
    int64_t start = now_ns();
    for (uint32_t i = 0; i < SOCKETS; i++) {
        while (has_data(&lives[i])) {
            int64_t last = lives[i].last_record_ns > start ? lives[i].last_record_ns : start;
            if (now_ns() - last > DEAF_NS)
                describe(&lives[i]);
            CHECK(now_ns() - last <= DEAF_NS, "socket %u life %u (form %d, gro %d) is deaf: it has data, and no record comes", i,
                  lives[i].number, lives[i].form, lives[i].gro);
            pump(1);
            arm_all();
        }
    }
    quiet = 0;
    atomic_fetch_add(&tally.proofs, 1);
}

static void reopen(struct life *life)
{
    if (one_in(&chance, 4))
        prove_hearing();
    cancel(life);
    life_close(life);
    life_open(life, &chance);
    choose_pool(life);
}

static void hold_all(void)
{
    atomic_fetch_add(&tally.holds, 1);
    undisturbed_since_ns = 0;
    hoarding = 1;
    int64_t until = now_ns() + below(&chance, 60) * 1000000LL;
    while (now_ns() < until)
        pump(5);
    release_hoard();
}

static void nap(void)
{
    atomic_fetch_add(&tally.naps, 1);
    undisturbed_since_ns = 0;
    sleep_us(below(&chance, 30000));
}

/* The receiver sends to a port where nobody listens: an ICMP error comes back to it. */
static void provoke_icmp(struct life *life)
{
    struct sockaddr_storage address;
    char control[512], data[512];
    socklen_t length = sizeof address;
    getsockname(life->receiver, (struct sockaddr *)&address, &length);
    ((struct sockaddr_in *)&address)->sin_port = htons(1);
    for (int i = below(&chance, 40); i >= 0; i--)
        (void)sendto(life->receiver, "?", 1, MSG_DONTWAIT, (struct sockaddr *)&address, length);
    for (;;) {
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(life->receiver, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
    }
}

/* All that a rude end may lose is what lay in buffers. */
static void void_all(void)
{
    for (uint32_t i = 0; i < SOCKETS; i++) {
        struct life *life = &lives[i];
        life->voided = 1;
        for (uint32_t p = 0; p < POOLS; p++)
            life->void_limit += pool_buffers[p];
        life->void_limit += life->form == CALLER;
        life->armed = 0;
        life->watched = 0;
    }
    hoarded = 0;
    hoarding = 0;
}

static void free_from_another_thread(void)
{
    static struct ringmsg_record records[BATCH];
    atomic_fetch_add(&tally.afar, 1);
    free_from_afar(reaps + 1);
    int ended = ringmsg_reap(ring, records, NULL, BATCH, NULL);
    CHECK(ended >= 0 || ended == -ECANCELED || ended == -EINTR, "reap while freed: %d", ended);
    free_from_afar_wait();
    void_all();
}

static void change_ring(void)
{
    if (one_in(&chance, 2))
        prove_hearing();
    undisturbed_since_ns = 0;
    if (one_in(&chance, 4)) {
        free_from_another_thread();
    } else {
        int rude = one_in(&chance, 3);
        atomic_fetch_add(&tally.rude, rude);
        for (uint32_t i = 0; i < SOCKETS && !rude; i++)
            cancel(&lives[i]);
        if (!rude)
            release_hoard();
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
        if (rude)
            void_all();
    }
    releases_drain();
    make_ring();
}

static void disturb(void)
{
    struct life *life = &lives[below(&chance, SOCKETS)];
    uint32_t what = below(&chance, 1000);
    int64_t before = undisturbed_since_ns;
    if (what < 4)
        hold_all();
    else if (what < 10)
        nap();
    else if (what < 14)
        reopen(life);
    else if (what < 18)
        cancel(life);
    else if (what < 30 && life->errors)
        provoke_icmp(life);
    else if (what < 32)
        change_ring();
    else if (life->sent + 8192 >= LIFE_MAX)
        reopen(life);
    if (undisturbed_since_ns != before)
        undisturbed_since_ns = now_ns();
}

static void prepare(void)
{
    chance.state = seed;
    hoard_room = 1u << 18;
    hoard = malloc(hoard_room * sizeof *hoard);
    for (uint32_t i = 0; i < SOCKETS; i++) {
        struct life *life = &lives[i];
        life->index = i;
        life->seen = malloc(LIFE_MAX / 8);
        life->first = malloc(LIFE_MAX / 8);
        life->space = malloc(PAYLOAD_MAX);
        life_open(life, &chance);
        choose_pool(life);
    }
    make_ring();
}

void *receive_all(void *unused)
{
    (void)unused;
    prepare();
    undisturbed_since_ns = now_ns();
    while (!stopping) {
        arm_all();
        pump(one_in(&chance, 3) ? 100 : (int)below(&chance, 3));
        disturb();
    }
    undisturbed_since_ns = 0;
    for (uint32_t i = 0; i < SOCKETS; i++) {
        cancel(&lives[i]);
        life_close(&lives[i]);
    }
    release_hoard();
    releases_drain();
    struct ringmsg_stats stats = {.size = sizeof stats};
    library(ringmsg_ring_stats(ring, &stats), "stats");
    CHECK(stats.buffers_held == 0, "%llu buffers are held at the end", (unsigned long long)stats.buffers_held);
    pthread_rwlock_wrlock(&ring_lock);
    library(ringmsg_ring_free(ring), "ring_free");
    ring = NULL;
    pthread_rwlock_unlock(&ring_lock);
    return NULL;
}
