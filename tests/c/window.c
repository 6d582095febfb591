/* A narrow window, a small array, a full completion queue and a socket's own -ENOBUFS are not
 * starvation: no datagram is lost, and the statistics tell them apart. */
#include "numbered_datagrams.h"

#include <linux/netlink.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define BUFFERS 16

/* Makes SOCKETS sockets that share a pool of this many buffers, each with EACH numbered datagrams
 * queued. */
#define SOCKETS 4
#define EACH 50
static struct shared {
    struct ringmsg_ring *ring;
    int senders[SOCKETS];
    uint32_t next[SOCKETS];
} share(uint32_t buffers)
{
    struct shared s = {.ring = make_ring()};
    struct ringmsg_pool *pool = NULL;
    for (uint64_t i = 0; i < SOCKETS; i++) {
        int receiver = bound_udp(AF_INET);
        s.senders[i] = sender_to(receiver);
        if (pool == NULL)
            pool = make_pool(s.ring, receiver, buffers, 64);
        OK(ringmsg_recvmsg_multishot(s.ring, pool, receiver, 0, 0, i));
    }
    for (uint64_t i = 0; i < SOCKETS; i++)
        send_numbers(s.senders[i], 0, EACH);
    return s;
}

/* Reaps the queued datagrams, in order for each socket, at most `at_most` records at a time.
 * Releases them after each reap if `releases` is set. */
static void reap_shared(struct shared *s, uint32_t at_most, int releases)
{
    static struct ringmsg_record records[SOCKETS * EACH];
    for (int done = 0, n; done < SOCKETS * EACH; done += n) {
        n = reap_ms(s->ring, records, at_most, 2000);
        COMPARE(n, >, 0);
        for (int i = 0; i < n; i++)
            s->next[records[i].user_data] =
                check_numbers(s->ring, records + i, 1, s->next[records[i].user_data]);
        if (releases)
            OK(ringmsg_release(s->ring, records, (uint32_t)n));
    }
}

/* In DEFER mode only several sockets together exhaust the window, because the kernel posts 33
 * completions of one socket at a time. The recvmmsg engine waits for the next buffers instead. */
static void a_narrow_window_is_a_miss_and_not_a_starvation(void)
{
    struct shared s = share(256);
    reap_shared(&s, SOCKETS * EACH, 0);
    struct ringmsg_stats stats = stats_of(s.ring);
    EQUAL(stats.starvations, 0);
    EQUAL(stats.errors, 0);
    EQUAL(stats.window_misses > 0, !is_recvmmsg());
    EQUAL(stats.buffers_held, SOCKETS * EACH);
    COMPARE(stats.buffers_held + stats.buffers_published, <=, 256);
    OK(ringmsg_ring_free(s.ring));
}

static void sockets_that_share_a_pool_all_keep_receiving(void)
{
    for (uint32_t at_most = 1; at_most <= 8; at_most++) {
        struct shared s = share(8);
        reap_shared(&s, at_most, 1);
        EQUAL(stats_of(s.ring).errors, 0);
        EQUAL(stats_of(s.ring).starvations > 0, !is_recvmmsg());
        for (uint32_t i = 0; i < SOCKETS; i++) {
            send_numbers(s.senders[i], 0, 1);
            struct ringmsg_record record = reap_one(s.ring);
            EQUAL(record.user_data, i);
            OK(ringmsg_release(s.ring, &record, 1));
        }
        OK(ringmsg_ring_free(s.ring));
    }
}

/* The kernel uses the whole pool at once, and the caller reaps and releases a few records at a
 * time. When the library sees the end of the request, the pool has free buffers again. */
static void small_arrays_cause_no_errors(void)
{
    enum { COUNT = 200 };
    for (uint32_t capacity = 1; capacity <= 32; capacity += capacity < 6 ? 1 : 13) {
        struct ringmsg_ring *ring = make_ring();
        struct ringmsg_record records[32];
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver), n;
        set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
        OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, BUFFERS, 64), receiver, 0, 0, 0));
        send_numbers(sender, 0, COUNT);
        for (uint32_t next = 0; next < COUNT; OK(ringmsg_release(ring, records, (uint32_t)n))) {
            n = reap_ms(ring, records, capacity, 2000);
            COMPARE(n, >, 0);
            next = check_numbers(ring, records, n, next);
        }
        struct ringmsg_stats stats = stats_of(ring);
        EQUAL(stats.errors, 0);
        EQUAL(stats.records, COUNT);
        EQUAL(stats.window_misses, 0); /* the whole pool is published throughout */
        OK(ringmsg_ring_free(ring));
    }
}

/* The largest number of buffers that the kernel's 16-bit counters can distinguish. All of them are
 * held, twice. */
static void every_buffer_of_the_largest_pool_can_be_held(void)
{
    enum { LARGEST = 32768 };
    static struct ringmsg_record held[LARGEST + 1];
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, LARGEST, 8), receiver, 0, 0, 0));
    for (int round = 0; round < 2; round++) {
        int n = 0;
        for (uint32_t number = 0; number < LARGEST; number += 64) {
            send_numbers(sender, number, number + 64);
            n += hold_up_to(ring, held + n, 64);
        }
        EQUAL(n, LARGEST);
        EQUAL(check_numbers(ring, held, n, 0), LARGEST);
        EQUAL(stats_of(ring).buffers_held, LARGEST);
        send_numbers(sender, 0, 1);
        EQUAL(hold_up_to(ring, held + n, 1), 0);
        EQUAL(stats_of(ring).starvations, round + 1);
        OK(ringmsg_release(ring, held, LARGEST));
        EQUAL(hold_up_to(ring, held, 1), 1);
        OK(ringmsg_release(ring, held, 1));
    }
    EQUAL(stats_of(ring).errors, 0);
    EQUAL(stats_of(ring).socket_drops, 0);
    OK(ringmsg_ring_free(ring));
}

/* Bytes of a pool that are resident, because something was written to them. */
static size_t touched_bytes(const struct ringmsg_pool *pool)
{
    static unsigned char pages[1 << 16];
    size_t page = (size_t)sysconf(_SC_PAGESIZE),
           count = (ringmsg_pool_size(pool) + page - 1) / page, touched = 0;
    COMPARE(count, <=, sizeof pages);
    SYS(mincore((void *)(uintptr_t)ringmsg_pool_base(pool), ringmsg_pool_size(pool), pages));
    for (size_t i = 0; i < count; i++)
        touched += pages[i] & 1 ? page : 0;
    return touched;
}

/* Slow traffic reuses a few buffers, however many the pool has. */
static void slow_traffic_touches_little_of_a_large_pool(void)
{
    enum { ROUNDS = 1000, AT_A_TIME = 3, LARGEST = 16384 };
    static const char bytes[LARGEST];
    /* A huge page would be resident as a whole after one write. */
    SYS(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 256, 65536);
    COMPARE(ringmsg_pool_size(pool), >=, (size_t)16 << 20);
    EQUAL(touched_bytes(pool), 0);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
    for (int round = 0; round < ROUNDS; round++) {
        struct ringmsg_record records[AT_A_TIME];
        for (int i = 0; i < AT_A_TIME; i++)
            SYS(send(sender, bytes, (size_t)(round * AT_A_TIME + i) * 7919 % LARGEST + 1, 0));
        for (int n = 0; n < AT_A_TIME;)
            n += hold_up_to(ring, records + n, AT_A_TIME - n);
        OK(ringmsg_release(ring, records, AT_A_TIME));
    }
    COMPARE(touched_bytes(pool), >, 0);
    COMPARE(touched_bytes(pool), <, 2 << 20);
    EQUAL(stats_of(ring).window_misses, 0);
    OK(ringmsg_ring_free(ring));
}

/* A window that bursts have widened narrows after one or two seconds of little traffic. */
static void an_idle_window_narrows(void)
{
    if (test_mode != 0 || is_recvmmsg())
        return; /* takes seconds and is the same in every mode; the recvmmsg engine has no wide window */
    struct shared s = share(256);
    reap_shared(&s, SOCKETS * EACH, 1);
    uint64_t wide = stats_of(s.ring).buffers_published;
    COMPARE(wide, >, 64);
    int64_t begin = now_ns();
    for (uint32_t i = 0; stats_of(s.ring).buffers_published > 64; i++) {
        if (now_ns() - begin > 8000000000)
            FAIL("%llu buffers are still published", (unsigned long long)stats_of(s.ring).buffers_published);
        send_numbers(s.senders[0], i, i + 1);
        struct ringmsg_record record = reap_one(s.ring);
        OK(ringmsg_release(s.ring, &record, 1));
        if (i % 64 == 63)
            sleep_ms(100);
    }
    OK(ringmsg_ring_free(s.ring));
}

/* --- not starvation ------------------------------------------------------------------------ */

static struct sockaddr_nl group_address = {.nl_family = AF_NETLINK, .nl_groups = 1};

static int listening_netlink(int receive_buffer)
{
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &(int){1}, sizeof(int)) != 0) {
        printf("(skipped %s: cannot join a netlink group: %s)\n", test_name, strerror(errno));
        exit(0);
    }
    set_int(fd, SOL_SOCKET, SO_RCVBUF, receive_buffer);
    return fd;
}

/* Sends to the group. sendto also fails for the missing receiver at address 0, which does not
 * matter. */
static void send_to_group(int sender, size_t size)
{
    static const char message[600];
    sendto(sender, message, size, 0, (struct sockaddr *)&group_address, sizeof group_address);
}

static void *flood(void *sender)
{
    for (int i = 0; i < 3000; i++)
        send_to_group(*(int *)sender, 600);
    return NULL;
}

static void an_overflowed_netlink_socket_reports_enobufs_and_keeps_receiving(void)
{
    int receiver = listening_netlink(1);
    int sender = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
    pthread_t thread;
    flood(&sender); /* sent before arming, so that one error is certain */
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 64, 1024);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 3));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, -ENOBUFS);
    EQUAL(record.flags, 0);
    EQUAL(record.user_data, 3);

    EQUAL(pthread_create(&thread, NULL, flood, &sender), 0);
    int quiet = 0, errors = 1, data = 0;
    while (quiet < 3) {
        if (reap_ms(ring, &record, 1, 100) == 0) {
            quiet++;
            continue;
        }
        EQUAL(record.flags & RINGMSG_RECORD_FINAL, 0);
        errors += record.result == -ENOBUFS;
        data += record.result == 600;
        ONE_OF(record.result, 600, -ENOBUFS);
        OK(ringmsg_release(ring, &record, 1));
    }
    pthread_join(thread, NULL);
    COMPARE(data, >, 0);
    struct ringmsg_stats stats = stats_of(ring);
    EQUAL(stats.errors, errors);
    EQUAL(stats.starvations, 0);
    EQUAL(stats.rearms, errors);

    send_to_group(sender, 4);
    EQUAL(reap_one(ring).result, 4);
    OK(ringmsg_ring_free(ring));
}

static void a_full_completion_queue_loses_nothing(void)
{
    enum { COUNT = 150 };
    for (uint32_t buffers = 4; buffers <= 256; buffers *= 8) {
        struct ringmsg_ring *ring = make_ring_with(0, 4);
        struct ringmsg_record records[3];
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver), n;
        set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
        OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, buffers, 64), receiver, 0, 0, 0));
        for (uint32_t round = 0; round < 3; round++) {
            send_numbers(sender, 0, COUNT);
            for (uint32_t next = 0; next < COUNT; OK(ringmsg_release(ring, records, (uint32_t)n))) {
                n = reap_ms(ring, records, 3, 2000);
                if (n == 0)
                    FAIL("no record after %u datagrams", next);
                next = check_numbers(ring, records, n, next);
            }
        }
        struct ringmsg_stats stats = stats_of(ring);
        EQUAL(stats.errors, 0);
        EQUAL(stats.records, 3 * COUNT);
        EQUAL(stats.socket_drops, 0);
        if (buffers > 4 && !is_recvmmsg()) /* the recvmmsg engine receives no more than its queue holds */
            COMPARE(stats.cq_overflows, >, 0);
        OK(ringmsg_ring_free(ring));
    }
}

/* Netlink sockets can return -ENOBUFS themselves. The library does not mistake starvation for that
 * error, whether the end of the request is seen late or comes through an overflowed completion
 * queue. */
static void starvation_is_not_reported_as_a_netlink_error(void)
{
    enum { COUNT = 100 };
    for (uint32_t cq_entries = 4; cq_entries <= 256; cq_entries *= 8) {
        for (uint32_t capacity = 1; capacity <= 5; capacity++) {
            int receiver = listening_netlink(1 << 20);
            int sender = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
            struct ringmsg_ring *ring = make_ring_with(0, cq_entries);
            struct ringmsg_record records[5];
            OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 4, 64), receiver, 0, 0, 0));
            for (uint32_t i = 0; i < COUNT; i++)
                send_to_group(sender, 1 + i % 64);
            for (uint32_t done = 0; done < COUNT;) {
                int n = reap_ms(ring, records, capacity, 2000);
                COMPARE(n, >, 0);
                for (int i = 0; i < n; i++, done++)
                    EQUAL(records[i].result, 1 + done % 64);
                OK(ringmsg_release(ring, records, (uint32_t)n));
            }
            EQUAL(stats_of(ring).errors, 0);
            if (!is_recvmmsg())
                COMPARE(stats_of(ring).starvations + stats_of(ring).cq_overflows, >, 0);
            OK(ringmsg_ring_free(ring));
            close(receiver), close(sender);
        }
    }
}

TESTS(TEST(a_narrow_window_is_a_miss_and_not_a_starvation),
      TEST(slow_traffic_touches_little_of_a_large_pool),
      TEST(an_idle_window_narrows),
      TEST(small_arrays_cause_no_errors),
      TEST(sockets_that_share_a_pool_all_keep_receiving),
      TEST(every_buffer_of_the_largest_pool_can_be_held),
      TEST(an_overflowed_netlink_socket_reports_enobufs_and_keeps_receiving),
      TEST(starvation_is_not_reported_as_a_netlink_error),
      TEST(a_full_completion_queue_loses_nothing))
