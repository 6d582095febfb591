/* Every request ends with exactly one FINAL record, whatever ended it: a cancel, the kernel, or
 * NO_REARM. */
#include "test.h"

/* Reaps until `finals` FINAL records of `user_data` have arrived, releases every record, and checks
 * that no more arrive. Stores the last FINAL record in `last`; returns the number of messages. */
static int reap_finals(struct ringmsg_ring *ring, uint64_t user_data, int finals, struct ringmsg_record *last)
{
    struct ringmsg_record records[8];
    int messages = 0, seen = 0;
    while (seen < finals) {
        int count = reap_ms(ring, records, 8, 2000);
        if (count == 0)
            FAIL("%d FINAL records arrived, not %d", seen, finals);
        for (int i = 0; i < count; i++) {
            EQUAL(records[i].user_data, user_data);
            messages += records[i].result >= 0;
            if (records[i].flags & RINGMSG_RECORD_FINAL) {
                seen++;
                *last = records[i];
            }
        }
        OK(ringmsg_release(ring, records, (uint32_t)count));
    }
    EQUAL(seen, finals);
    reap_nothing(ring, 10);
    return messages;
}

/* Counts the datagrams left in the socket's receive queue, by receiving them. */
static int left_in(int fd)
{
    char byte;
    int count = 0;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0)
        count++;
    EQUAL(errno, EAGAIN);
    return count;
}

static void a_cancel_with_data_queued_loses_no_datagram(void)
{
    enum { SENT = 10 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    struct ringmsg_record final;
    for (int round = 0; round < 50; round++) {
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        for (int i = 0; i < SENT; i++)
            SYS(send(sender, "x", 1, 0));
        if (round % 2) {
            struct ringmsg_record record = reap_one(ring);
            OK(ringmsg_release(ring, &record, 1));
        }
        OK(ringmsg_cancel(ring, 1));
        int received = reap_finals(ring, 1, 1, &final);
        EQUAL(received + left_in(receiver) + round % 2, SENT);
        REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    }
    EQUAL(stats_of(ring).buffers_held, 0);
    EQUAL(stats_of(ring).buffers_published, 0);
    OK(ringmsg_ring_free(ring));
}

/* A zero-length datagram has ended the request in the kernel, and no reap has seen that yet. */
static void a_cancel_after_the_kernel_ended_the_request_gives_one_final(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    struct ringmsg_record final;
    for (int round = 0; round < 50; round++) {
        if (round % 2) /* under DEFER only arming runs task work at once */
            SYS(send(sender, "", 0, 0));
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        if (round % 2 == 0)
            SYS(send(sender, "", 0, 0));
        OK(ringmsg_cancel(ring, 1));
        int received = reap_finals(ring, 1, 1, &final);
        EQUAL(received + left_in(receiver), 1);
        EQUAL(final.result, received ? 0 : -ECANCELED);
        EQUAL(final.flags, RINGMSG_RECORD_FINAL | (received ? RINGMSG_RECORD_BUFFER : 0));
    }
    EQUAL(stats_of(ring).buffers_held, 0);
    OK(ringmsg_ring_free(ring));
}

static void a_cancel_ends_every_request_with_the_user_data(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receivers[2] = {bound_udp(AF_INET), bound_udp(AF_INET6)};
    int sender = sender_to(receivers[1]);
    struct ringmsg_pool *pool = make_pool(ring, receivers[1], 16, 2048);
    struct ringmsg_pool *singles = make_pool(ring, receivers[1], 16, 2048);
    char into[16];
    struct iovec part = {into, sizeof into};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    for (int i = 0; i < 2; i++)
        OK(ringmsg_recvmsg_multishot(ring, pool, receivers[i], 0, 0, 5));
    OK(ringmsg_recvmsg_once(ring, singles, receivers[0], 0, 0, 5));
    OK(ringmsg_recvmsg(ring, receivers[0], &message, 0, 0, 5));
    OK(ringmsg_recvmsg_multishot(ring, pool, receivers[1], 0, 0, 6));
    OK(ringmsg_cancel(ring, 5));
    struct ringmsg_record final;
    EQUAL(reap_finals(ring, 5, 4, &final), 0);
    EQUAL(final.result, -ECANCELED);
    SYS(send(sender, "x", 1, 0));
    EQUAL(reap_one(ring).user_data, 6);
    OK(ringmsg_ring_free(ring));
}

static void a_cancel_ends_a_starved_request(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 2, 2048);
    struct ringmsg_record held[2], final;
    for (int armed_starved = 0; armed_starved < 2; armed_starved++) {
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        for (int i = 0; i < 3; i++)
            SYS(send(sender, "x", 1, 0));
        for (int i = 0; i < 2; i++)
            held[i] = reap_one(ring);
        reap_nothing(ring, 10);
        EQUAL(stats_of(ring).starvations, 1 + 2 * armed_starved);
        OK(ringmsg_cancel(ring, 1));
        OK(ringmsg_cancel(ring, 1));
        EQUAL(reap_finals(ring, 1, 1, &final), 0);
        EQUAL(final.result, -ECANCELED);
        if (armed_starved == 0) {
            /* This request is starved from the start. */
            OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
            OK(ringmsg_cancel(ring, 1));
            EQUAL(reap_finals(ring, 1, 1, &final), 0);
        }
        OK(ringmsg_release(ring, held, 2));
        reap_nothing(ring, 10);
        EQUAL(left_in(receiver), 1);
    }
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

static void a_second_cancel_succeeds_and_one_of_no_request_is_refused(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    struct ringmsg_record final;
    REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    REFUSED(ringmsg_cancel(ring, 2), ENOENT);
    OK(ringmsg_cancel(ring, 1));
    OK(ringmsg_cancel(ring, 1));
    EQUAL(reap_finals(ring, 1, 1, &final), 0);
    EQUAL(final.result, -ECANCELED);
    REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    OK(ringmsg_ring_free(ring));
}

/* Some segments of a train are reaped before the cancel. The others arrive before the FINAL record
 * or with it. */
static void a_cancel_in_the_middle_of_a_train_delivers_the_rest(void)
{
    enum { SEGMENT = 100, SEGMENTS = 10 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_socket_enable(receiver, RINGMSG_META_SEGMENT_SIZE));
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 0);
    struct ringmsg_record records[4], final;
    char train[SEGMENTS * SEGMENT] = {0};
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(sender, train, sizeof train, SEGMENT);
    EQUAL(reap_ms(ring, records, 4, 2000), 4);
    OK(ringmsg_cancel(ring, 1));
    EQUAL(reap_finals(ring, 1, 1, &final), SEGMENTS - 4);
    OK(ringmsg_release(ring, records, 4));
    EQUAL(stats_of(ring).buffers_held, 0);
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

static void a_cancel_ends_a_queued_single_shot(void)
{
    enum { QUEUED = 10 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 16, 2048);
    struct ringmsg_record final;
    uint64_t enters = stats_of(ring).enters;
    for (int i = 0; i < QUEUED; i++)
        OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, (uint64_t)i));
    EQUAL(stats_of(ring).enters, enters); /* so they are queued, not submitted */
    OK(ringmsg_cancel(ring, 3));
    EQUAL(reap_finals(ring, 3, 1, &final), 0);
    EQUAL(final.result, -ECANCELED);

    int seen[QUEUED] = {0};
    for (int i = 0; i < QUEUED - 1; i++)
        SYS(send(sender, "x", 1, 0));
    for (int i = 0; i < QUEUED - 1; i++) {
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_FINAL);
        CHECK(record.user_data < QUEUED && record.user_data != 3 && !seen[record.user_data]++);
        OK(ringmsg_release(ring, &record, 1));
    }
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

static void *reap_the_final(void *argument)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(10000);
    int count;
    do
        count = ringmsg_reap(argument, &record, NULL, 1, &wait);
    while (count == -EINTR);
    EQUAL(count, 1);
    EQUAL(record.flags, RINGMSG_RECORD_FINAL);
    EQUAL(record.result, -ECANCELED);
    return NULL;
}

/* The reaper sleeps while another thread cancels an armed multishot, a starved one, or a
 * single-shot. */
static void a_cancel_by_another_thread_wakes_the_reaper(void)
{
    for (int state = 0; state < 3 && !is_bound(); state++) {
        struct ringmsg_ring *ring = make_ring();
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        struct ringmsg_pool *pool = make_pool(ring, receiver, 1, 2048);
        pthread_t reaper;
        if (state == 2)
            OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
        else
            OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
        if (state == 1) {
            SYS(send(sender, "xx", 2, 0));
            reap_one(ring);
            SYS(send(sender, "x", 1, 0));
        }
        EQUAL(pthread_create(&reaper, NULL, reap_the_final, ring), 0);
        sleep_ms(30);
        int64_t start = now_ns();
        OK(ringmsg_cancel(ring, 1));
        EQUAL(pthread_join(reaper, NULL), 0);
        COMPARE(now_ns() - start, <, 3000000000);
        EQUAL(stats_of(ring).starvations, state == 1);
        OK(ringmsg_ring_free(ring));
    }
}

/* Returns the FINAL record by which NO_REARM reports an end instead of arming again. */
static struct ringmsg_record end_of_one(struct ringmsg_ring *ring, int messages)
{
    struct ringmsg_record final;
    EQUAL(reap_finals(ring, 1, 1, &final), messages);
    REFUSED(ringmsg_cancel(ring, 1), ENOENT);
    EQUAL(stats_of(ring).rearms, 0);
    return final;
}

static void no_rearm_reports_every_end(void)
{
    enum { WINDOW = 64, CQ_ENTRIES = 256 };
    struct ringmsg_ring *ring = make_ring_with(0, CQ_ENTRIES);
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    struct ringmsg_pool *small = make_pool(ring, receiver, 2, 2048);
    struct ringmsg_pool *big = make_pool(ring, receiver, 1024, 2048);
    const uint32_t flags = RINGMSG_RECV_NO_REARM;

    OK(ringmsg_recvmsg_multishot(ring, small, receiver, 0, flags, 1));
    SYS(send(sender, "", 0, 0));
    EQUAL(end_of_one(ring, 1).result, 0);

    /* The recvmmsg engine ends a request only if it finds no buffer when it receives the next
     * message. */
    if (!is_recvmmsg()) {
        OK(ringmsg_recvmsg_multishot(ring, small, receiver, 0, flags, 1));
        for (int i = 0; i < 3; i++)
            SYS(send(sender, "x", 1, 0));
        EQUAL(end_of_one(ring, 2).result, -ENOBUFS);
        EQUAL(left_in(receiver), 1);
    }

    /* The window is narrower than the pool, so the kernel runs out of published buffers. (Under
     * DEFER a reap receives 33 messages at a time, with recvmmsg 64, and widens the window before
     * that.) */
    const int misses = !is_bound() && !is_recvmmsg();
    for (int i = 0; i < WINDOW + 1 && misses; i++)
        SYS(send(sender, "x", 1, 0));
    if (misses) {
        OK(ringmsg_recvmsg_multishot(ring, big, receiver, 0, flags, 1));
        EQUAL(end_of_one(ring, WINDOW).result, -ENOBUFS);
        EQUAL(left_in(receiver), 1);
    }

    int peer = bound_udp(AF_INET);
    refuse_senders(peer);
    connect_to(receiver, peer);
    OK(ringmsg_recvmsg_multishot(ring, small, receiver, 0, flags, 1));
    SYS(send(receiver, "x", 1, 0));
    EQUAL(end_of_one(ring, 0).result, -ECONNREFUSED);
    OK(ringmsg_ring_free(ring));
}

static void no_rearm_reports_a_full_completion_queue(void)
{
    enum { CQ_ENTRIES = 8, SENT = 32 };
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = config.cq_entries = CQ_ENTRIES;
    OK(ringmsg_ring_new(&config, &ring));
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 64, 2048);
    for (int i = 0; i < SENT; i++)
        SYS(send(sender, "x", 1, 0));
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, RINGMSG_RECV_NO_REARM, 1));
    struct ringmsg_record final;
    /* This engine stops receiving while its queue is full, so the request does not end. */
    if (is_recvmmsg()) {
        for (int seen = 0; seen < SENT; seen++) {
            final = reap_one(ring);
            EQUAL(final.flags, RINGMSG_RECORD_BUFFER);
            OK(ringmsg_release(ring, &final, 1));
        }
        OK(ringmsg_ring_free(ring));
        return;
    }
    int received = reap_finals(ring, 1, 1, &final);
    COMPARE(received, <, SENT);
    EQUAL(received + left_in(receiver), SENT);
    EQUAL(final.result, 1);
    EQUAL(final.flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_FINAL);
    OK(ringmsg_ring_free(ring));
}

static void a_pool_in_use_is_not_freed(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    struct ringmsg_pool *pool = make_pool(ring, receiver, 1, 2048);
    struct ringmsg_record record, final;
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* the request is armed */
    SYS(send(sender, "x", 1, 0));
    record = reap_one(ring);
    SYS(send(sender, "x", 1, 0));
    reap_nothing(ring, 10);
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* the request is starved */
    OK(ringmsg_cancel(ring, 1));
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* the FINAL record is not reaped yet */
    EQUAL(reap_finals(ring, 1, 1, &final), 0);
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* a record is held */
    OK(ringmsg_release(ring, &record, 1));
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 2));
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* a single-shot is queued */
    record = reap_one(ring);
    EQUAL(record.flags, RINGMSG_RECORD_BUFFER | RINGMSG_RECORD_FINAL);
    REFUSED(ringmsg_pool_free(pool), EBUSY); /* a single-shot's record is held */
    OK(ringmsg_release(ring, &record, 1));
    OK(ringmsg_pool_free(pool));
    REFUSED(ringmsg_pool_free(pool), EINVAL);
    OK(ringmsg_ring_free(ring));
}

/* Slots, buffers and descriptors are reused. */
static void repeated_arming_and_cancelling_leaks_nothing(void)
{
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), before = open_descriptors();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 2048);
    struct ringmsg_record final;
    for (int i = 0; i < 500; i++) {
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, (uint64_t)i));
        SYS(send(sender, "x", 1, 0));
        struct ringmsg_record record = reap_one(ring);
        EQUAL(record.user_data, i);
        OK(ringmsg_cancel(ring, (uint64_t)i));
        OK(ringmsg_release(ring, &record, 1));
        struct ringmsg_record end = reap_one(ring);
        EQUAL(end.user_data, i);
        EQUAL(end.flags, RINGMSG_RECORD_FINAL);
    }
    reap_nothing(ring, 1);
    EQUAL(open_descriptors(), before);
    OK(ringmsg_recvmsg_once(ring, pool, receiver, 0, 0, 1));
    OK(ringmsg_cancel(ring, 1));
    reap_finals(ring, 1, 1, &final);
    OK(ringmsg_pool_free(pool));
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(a_cancel_with_data_queued_loses_no_datagram),
      TEST(a_cancel_after_the_kernel_ended_the_request_gives_one_final),
      TEST(a_cancel_ends_every_request_with_the_user_data),
      TEST(a_cancel_ends_a_starved_request),
      TEST(a_second_cancel_succeeds_and_one_of_no_request_is_refused),
      TEST(a_cancel_in_the_middle_of_a_train_delivers_the_rest),
      TEST(a_cancel_ends_a_queued_single_shot),
      TEST(a_cancel_by_another_thread_wakes_the_reaper),
      TEST(no_rearm_reports_every_end),
      TEST(no_rearm_reports_a_full_completion_queue),
      TEST(a_pool_in_use_is_not_freed),
      TEST(repeated_arming_and_cancelling_leaks_nothing))
