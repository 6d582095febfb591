/* Faults that the kernel produces only under memory pressure: io_uring_enter fails, completions are
 * -ENOMEM or dropped, and a ring cannot be torn down. No datagram that the kernel has delivered is
 * lost, no request stops without an error, and the ring can be freed. */
#include "fault_injection.h"

#include "test.h"

#define CAPACITY 16

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} fixture;

static void set_up(uint32_t sq_entries)
{
    struct ringmsg_ring_config config;
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = sq_entries;
    OK(ringmsg_ring_new(&config, &fixture.ring));
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, CAPACITY, 2048);
}

static void tear_down(void)
{
    memset(&inject, 0, sizeof inject);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    close(fixture.receiver);
    close(fixture.sender);
}

static void arm(void)
{
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
}

static void fail_enters(int kinds, int times, int error)
{
    inject.kinds = kinds;
    inject.times = times;
    inject.error = error;
    inject.failed = 0;
}

/* Checks that the next record has this payload, and releases it. */
static void expect_text(const char *text)
{
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, (long)strlen(text));
    SAME_BYTES(payload_of(fixture.ring, &record), text, strlen(text));
    OK(ringmsg_release(fixture.ring, &record, 1));
}

static void send_text(const char *text)
{
    SYS(send(fixture.sender, text, strlen(text), 0));
}

static const int transient[] = {EAGAIN, EBUSY, ENOMEM, EBADR};
#define TRANSIENT (sizeof transient / sizeof *transient)

/* --- failing enters ------------------------------------------------------------------------ */

/* -EBADR without dropped completions is transient as well. */
static void a_wait_that_fails_transiently_is_retried(void)
{
    if (is_recvmmsg())
        return;
    set_up(0);
    arm();
    for (size_t i = 0; i < TRANSIENT; i++) {
        struct ringmsg_record record;
        struct ringmsg_wait wait = wait_ms(30);
        fail_enters(WAITING_ENTERS, 5, transient[i]);
        send_text("first");
        expect_text("first");
        expect_text((send_text("second"), "second"));
        /* While the enters fail, the timeout still holds and a wake still ends the reap. */
        fail_enters(WAITING_ENTERS | NONBLOCKING_ENTERS, -1, transient[i]);
        int64_t start = now_ns();
        EQUAL(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), 0);
        COMPARE(now_ns() - start, >=, 30 * 1000000);
        COMPARE(inject.failed, >, 0);
        OK(ringmsg_wake(fixture.ring));
        EQUAL(ringmsg_reap(fixture.ring, &record, NULL, 1, NULL), 0);
        send_text("third");
        fail_enters(0, 0, 0);
        expect_text("third");
    }
    tear_down();
}

/* A permanent error is returned, and the ring works again once the call succeeds. */
static void a_wait_that_fails_permanently_is_an_error(void)
{
    if (is_recvmmsg())
        return;
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(1000);
    set_up(0);
    arm();
    fail_enters(WAITING_ENTERS, 1, EPERM);
    REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), EPERM);
    send_text("data");
    expect_text("data");
    tear_down();
}

static void arming_survives_failing_submissions(void)
{
    if (is_recvmmsg())
        return;
    for (size_t i = 0; i < 3; i++) {
        struct ringmsg_stats before;
        set_up(0);
        fail_enters(SUBMITTING_ENTERS, 6, transient[i]);
        arm();
        COMPARE(inject.failed, >, 0);
        send_text("data");
        expect_text("data");
        EQUAL(inject.times, 0);
        /* The library also arms again after the kernel has ended the request: an empty datagram
         * does that. */
        before = stats_of(fixture.ring);
        send_text("");
        fail_enters(SUBMITTING_ENTERS, 6, transient[i]);
        expect_text("");
        send_text("after");
        expect_text("after");
        EQUAL(inject.times, 0);
        EQUAL(stats_of(fixture.ring).rearms - before.rearms, 1);
        /* A cancel survives failing submissions as well. */
        fail_enters(SUBMITTING_ENTERS, 6, transient[i]);
        OK(ringmsg_cancel(fixture.ring, 1));
        struct ringmsg_record record = reap_one(fixture.ring);
        EQUAL(record.result, -ECANCELED);
        HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
        OK(ringmsg_pool_free(fixture.pool));
        tear_down();
    }
}

/* A loop on ring_fd that reaps with timeout 0 is woken as long as something is left to submit. */
static void ring_fd_stays_readable_until_all_is_submitted(void)
{
    if (is_recvmmsg())
        return;
    set_up(0);
    struct pollfd ready = {.fd = OK(ringmsg_ring_fd(fixture.ring)), .events = POLLIN};
    fail_enters(SUBMITTING_ENTERS, 4, EAGAIN);
    arm();
    send_text("data");
    struct ringmsg_record record;
    for (int rounds = 0; reap_ms(fixture.ring, &record, 1, 0) == 0; rounds++) {
        COMPARE(rounds, <, 20);
        EQUAL(SYS(poll(&ready, 1, 2000)), 1);
    }
    EQUAL(record.result, 4);
    EQUAL(inject.times, 0);
    OK(ringmsg_release(fixture.ring, &record, 1));
    tear_down();
}

/* The submission queue is full and the kernel does not take it: a call returns -EAGAIN and changes
 * nothing. */
static void a_full_submission_queue_refuses_requests_and_loses_none(void)
{
    if (is_recvmmsg())
        return;
    set_up(4);
    int made, again;
    fail_enters(SUBMITTING_ENTERS, -1, EAGAIN);
    for (made = 0; (again = ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0,
                                                 100)) == 0;
         made++)
        COMPARE(made, <, CAPACITY);
    EQUAL(again, -EAGAIN);
    COMPARE(made, >=, 2);
    REFUSED(ringmsg_submit(fixture.ring), EAGAIN);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1), EAGAIN);
    fail_enters(0, 0, 0);
    OK(ringmsg_submit(fixture.ring));
    for (int i = 0; i < made; i++) {
        send_text("one");
        expect_text("one");
    }
    /* No refused request is left, and no buffer is lost. */
    REFUSED(ringmsg_cancel(fixture.ring, 1), ENOENT);
    REFUSED(ringmsg_cancel(fixture.ring, 100), ENOENT);
    for (int i = 0; i < CAPACITY; i++)
        OK(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 2));
    REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 2), ENOBUFS);
    tear_down();
}

/* --- completions with -ENOMEM ---------------------------------------------------------------- */

/* A socket whose datagrams are refused. Each causes a completion with -ECONNREFUSED, which is
 * changed to -ENOMEM. */
static void set_up_for_enomem(void)
{
    set_up(0);
    refuse_senders(fixture.sender);
    connect_to(fixture.receiver, fixture.sender);
    inject.from = -ECONNREFUSED;
    inject.to = -ENOMEM;
    arm();
}

static void cause_enomem(void)
{
    SYS(send(fixture.receiver, "x", 1, 0));
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, -ENOMEM);
    EQUAL(record.flags, 0);
}

static void enomem_pauses_a_request_and_does_not_end_it(void)
{
    if (!is_bound())
        return; /* in other modes the kernel posts completions at any time */
    set_up_for_enomem();
    for (int i = 0; i < 40; i++) {
        int64_t start = now_ns();
        uint64_t rearms = stats_of(fixture.ring).rearms;
        cause_enomem();
        while (stats_of(fixture.ring).rearms == rearms)
            reap_nothing(fixture.ring, 1);
        COMPARE(now_ns() - start, >=, 1000000);
    }
    EQUAL(inject.changed, 40);
    /* Data that arrives during a pause is received after it. */
    cause_enomem();
    connect_to(fixture.sender, fixture.receiver);
    send_text("late");
    expect_text("late");
    tear_down();
}

static void a_paused_request_can_be_cancelled_and_freed(void)
{
    if (!is_bound())
        return;
    for (int freed = 0; freed < 2; freed++) {
        set_up_for_enomem();
        cause_enomem();
        REFUSED(ringmsg_pool_free(fixture.pool), EBUSY);
        if (!freed) {
            OK(ringmsg_cancel(fixture.ring, 1));
            struct ringmsg_record record = reap_one(fixture.ring);
            EQUAL(record.result, -ECANCELED);
            HAS_FLAG(record.flags, RINGMSG_RECORD_FINAL);
            OK(ringmsg_pool_free(fixture.pool));
        }
        tear_down();
    }
}

/* --- dropped completions ---------------------------------------------------------------------- */

/* An empty datagram ends the request, and its completion is dropped, so the request stops
 * unnoticed. Records that arrived before are still returned. After them every reap fails with
 * -EBADR. */
static void dropped_completions_fail_every_later_reap(void)
{
    if (!is_bound())
        return;
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(1000);
    set_up(0);
    struct pollfd ready = {.fd = OK(ringmsg_ring_fd(fixture.ring)), .events = POLLIN};
    arm();
    send_text("data");
    send_text("");
    inject.drop_finals = 1;
    record = reap_one(fixture.ring);
    EQUAL(record.result, 4);
    EQUAL(inject.changed, 1);
    for (int i = 0; i < 3; i++) {
        EQUAL(SYS(poll(&ready, 1, 0)), 1);
        REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), EBADR);
        REFUSED(ringmsg_next(fixture.ring, NULL, 0, &record, NULL, 1, NULL), EBADR);
    }
    int64_t start = now_ns();
    tear_down();
    COMPARE(now_ns() - start, <, 2000000000);
}

/* --- teardown --------------------------------------------------------------------------------- */

static void a_ring_is_freed_although_every_enter_fails(void)
{
    if (is_recvmmsg())
        return;
    int before = open_descriptors();
    for (size_t i = 0; i < TRANSIENT; i++) {
        char payload[8];
        struct iovec part = {payload, sizeof payload};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        fail_enters(0, 0, 0);
        set_up(0);
        arm();
        OK(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, 0, 2));
        OK(ringmsg_submit(fixture.ring));
        fail_enters(ALL_ENTERS, -1, transient[i]);
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        /* The kernel has released the socket: no request takes this datagram. */
        send_text("late");
        EQUAL(SYS(recv(fixture.receiver, payload, sizeof payload, 0)), 4);
        close(fixture.receiver);
        close(fixture.sender);
        EQUAL(open_descriptors(), before);
    }
}

static volatile int answer, asleep;

static void *own_and_reap(void *unused)
{
    struct ringmsg_record record;
    (void)unused;
    set_up(0);
    arm();
    asleep = 1;
    answer = ringmsg_reap(fixture.ring, &record, NULL, 1, NULL);
    while (asleep)
        sleep_ms(1);
    return NULL;
}

static void is_still_mapped(const uint8_t *base, size_t size)
{
    uint32_t sum = 0;
    for (size_t at = 0; at < size; at += 4096)
        sum += base[at];
    EQUAL(sum, 0);
}

/* A reap returns only after six seconds, and ring_free gives up after five. The memory that the
 * reap uses stays mapped. */
static void a_stuck_call_makes_ring_free_time_out(void)
{
    if (!is_bound())
        return; /* the same in every mode, and the test takes seconds */
    inject.stuck_ms = 6000;
    answer = 1;
    pthread_t owner;
    EQUAL(pthread_create(&owner, NULL, own_and_reap, NULL), 0);
    while (!asleep || inject.stuck_ms != 0)
        sleep_ms(1);
    const uint8_t *base = ringmsg_pool_base(fixture.pool);
    size_t size = ringmsg_pool_size(fixture.pool);
    REFUSED(ringmsg_ring_free(fixture.ring), ETIMEDOUT);
    is_still_mapped(base, size);
    EQUAL(answer, 1);
    asleep = 0;
    pthread_join(owner, NULL);
    EQUAL(answer, -ECANCELED);
    is_still_mapped(base, size);
    _exit(0); /* skips the leak checker, because this leak is deliberate */
}

/* A duplicate of the ring's descriptor keeps the ring alive in the kernel, and with it the pool. */
static void a_pinned_ring_makes_ring_free_time_out(void)
{
    if (!is_bound())
        return; /* in other modes ring_free may cancel the requests from this thread */
    pthread_t owner;
    EQUAL(pthread_create(&owner, NULL, own_and_reap, NULL), 0);
    while (!asleep)
        sleep_ms(1);
    char path[64], target[64];
    for (int fd = 3; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        if (strstr(target, "io_uring") != NULL) {
            SYS(dup(fd));
            break;
        }
    }
    const uint8_t *base = ringmsg_pool_base(fixture.pool);
    size_t size = ringmsg_pool_size(fixture.pool);
    REFUSED(ringmsg_ring_free(fixture.ring), ETIMEDOUT);
    send_text("late");
    sleep_ms(20);
    is_still_mapped(base, size);
    asleep = 0;
    pthread_join(owner, NULL);
    EQUAL(answer, -ECANCELED);
    _exit(0); /* deliberate leak, see above */
}

TESTS(TEST(a_wait_that_fails_transiently_is_retried),
      TEST(a_wait_that_fails_permanently_is_an_error),
      TEST(arming_survives_failing_submissions),
      TEST(ring_fd_stays_readable_until_all_is_submitted),
      TEST(a_full_submission_queue_refuses_requests_and_loses_none),
      TEST(enomem_pauses_a_request_and_does_not_end_it),
      TEST(a_paused_request_can_be_cancelled_and_freed),
      TEST(dropped_completions_fail_every_later_reap),
      TEST(a_ring_is_freed_although_every_enter_fails),
      TEST(a_stuck_call_makes_ring_free_time_out),
      TEST(a_pinned_ring_makes_ring_free_time_out))
