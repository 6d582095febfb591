/* Requests survive the exit of the thread that armed them, a bound ring serves its owner only, and
 * one thread reaps at a time. */
#include "test.h"
#include <sys/syscall.h>

/* Runs `body` in a thread of its own and waits for its end. */
static void run_in_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, body, argument), 0);
    EQUAL(pthread_join(thread, NULL), 0);
}

/* Makes a ring in the mode under test that is bound to its owner. */
static struct ringmsg_ring *make_bound_ring(uint32_t more_flags)
{
    return make_ring_with(RINGMSG_SETUP_SINGLE_ISSUER | more_flags, 0);
}

static struct ringmsg_ring_info info_of(const struct ringmsg_ring *ring)
{
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(ring, &info));
    return info;
}

/* What the threads of a test share. */
struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool, *singles;
    int receiver, sender;
    uint32_t flags;
    int delay_ms;
    char into[64];
    struct iovec part;
    struct msghdr message;
    struct ringmsg_record record;
    pid_t tid;
};

static void set_up(struct fixture *fixture, struct ringmsg_ring *ring)
{
    memset(fixture, 0, sizeof *fixture);
    fixture->ring = ring;
    fixture->receiver = bound_udp(AF_INET);
    fixture->sender = sender_to(fixture->receiver);
    fixture->pool = make_pool(ring, fixture->receiver, 16, 2048);
    fixture->singles = make_pool(ring, fixture->receiver, 16, 2048);
    fixture->part = (struct iovec){fixture->into, sizeof fixture->into};
    fixture->message.msg_iov = &fixture->part;
    fixture->message.msg_iovlen = 1;
}

/* --- the exit of the thread that armed ------------------------------------------------------ */

static void *arm_all_three(void *argument)
{
    struct fixture *fixture = argument;
    OK(ringmsg_recvmsg(fixture->ring, fixture->receiver, &fixture->message, 0, fixture->flags, 1));
    OK(ringmsg_recvmsg_once(fixture->ring, fixture->singles, fixture->receiver, 0, fixture->flags, 2));
    OK(ringmsg_recvmsg_multishot(fixture->ring, fixture->pool, fixture->receiver, 0, fixture->flags, 3));
    sleep_ms(fixture->delay_ms);
    return NULL;
}

/* Checks that all three requests are armed and that every datagram reaches one of them. */
static void check_all_three_receive(struct fixture *fixture)
{
    int seen[4] = {0};
    for (int i = 0; i < 5; i++) {
        SYS(send(fixture->sender, "hello", 5, 0));
        struct ringmsg_record record = reap_one(fixture->ring);
        EQUAL(record.result, 5);
        COMPARE(record.user_data, >=, 1);
        COMPARE(record.user_data, <=, 3);
        seen[record.user_data]++;
        EQUAL((record.flags & RINGMSG_RECORD_FINAL) != 0, record.user_data != 3);
        OK(ringmsg_release(fixture->ring, &record, 1));
    }
    /* The kernel chooses which request gets a datagram. The single-shots get those that follow the
     * multishot's cancel. */
    OK(ringmsg_cancel(fixture->ring, 3));
    while (reap_one(fixture->ring).user_data != 3)
        seen[1]++;
    COMPARE(seen[3], <=, 5);
    for (int left = 2 - seen[1] - seen[2]; left > 0; left--) {
        SYS(send(fixture->sender, "hello", 5, 0));
        struct ringmsg_record record = reap_one(fixture->ring);
        EQUAL(record.result, 5);
        OK(ringmsg_release(fixture->ring, &record, 1));
    }
    REFUSED(ringmsg_cancel(fixture->ring, 1), ENOENT);
    REFUSED(ringmsg_cancel(fixture->ring, 2), ENOENT);
    reap_nothing(fixture->ring, 5);
}

static void requests_outlive_the_thread_that_armed_them(void)
{
    if (is_bound())
        return;
    struct fixture fixture;
    set_up(&fixture, make_ring());
    for (int round = 0; round < 10; round++) {
        run_in_thread(arm_all_three, &fixture);
        check_all_three_receive(&fixture);
    }
    OK(ringmsg_ring_free(fixture.ring));
}

static void requests_outlive_their_thread_while_the_reaper_sleeps(void)
{
    if (is_bound())
        return;
    struct fixture fixture;
    set_up(&fixture, make_ring());
    pthread_t thread;
    fixture.delay_ms = 30;
    EQUAL(pthread_create(&thread, NULL, arm_all_three, &fixture), 0);
    reap_nothing(fixture.ring, 100);
    EQUAL(pthread_join(thread, NULL), 0);
    check_all_three_receive(&fixture);
    OK(ringmsg_ring_free(fixture.ring));
}

static void requests_outlive_their_thread_in_a_poll_loop(void)
{
    if (is_bound())
        return;
    struct fixture fixture;
    set_up(&fixture, make_ring());
    struct pollfd ready = {.fd = OK(ringmsg_ring_fd(fixture.ring)), .events = POLLIN};
    run_in_thread(arm_all_three, &fixture);
    int64_t until = now_ns() + 2000000000, received = 0;
    SYS(send(fixture.sender, "hello", 5, 0));
    while (received == 0 && now_ns() < until) {
        struct ringmsg_record record;
        SYS(poll(&ready, 1, 2000));
        received = reap_ms(fixture.ring, &record, 1, 0);
    }
    EQUAL(received, 1);
    OK(ringmsg_ring_free(fixture.ring));
}

static void no_rearm_reports_the_exit_of_the_arming_thread(void)
{
    if (is_bound() || is_recvmmsg()) /* in these modes no request ends with a thread */
        return;
    struct fixture fixture;
    set_up(&fixture, make_ring());
    fixture.flags = RINGMSG_RECV_NO_REARM;
    run_in_thread(arm_all_three, &fixture);
    /* The kernel cancels the requests when it next runs their task work. */
    SYS(send(fixture.sender, "hello", 5, 0));
    for (int i = 0; i < 3; i++) {
        struct ringmsg_record record = reap_one(fixture.ring);
        EQUAL(record.flags, RINGMSG_RECORD_FINAL);
        EQUAL(record.result, -ECANCELED);
    }
    OK(ringmsg_ring_free(fixture.ring));
}

/* --- a bound ring after its owner's exit ---------------------------------------------------- */

static void *own_and_leave(void *argument)
{
    struct fixture *fixture = argument;
    set_up(fixture, make_bound_ring(0));
    OK(ringmsg_recvmsg_multishot(fixture->ring, fixture->pool, fixture->receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_once(fixture->ring, fixture->singles, fixture->receiver, 0, 0, 2));
    SYS(send(fixture->sender, "first", 5, 0));
    fixture->record = reap_one(fixture->ring);
    SYS(send(fixture->sender, "second", 6, 0));
    fixture->tid = (pid_t)syscall(SYS_gettid);
    return NULL;
}

static void a_ring_without_its_owner_can_only_be_freed(void)
{
    struct fixture fixture;
    int before = open_descriptors();
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    run_in_thread(own_and_leave, &fixture);
    EQUAL(info_of(fixture.ring).owner_thread, fixture.tid);
    REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), EOWNERDEAD);
    REFUSED(ringmsg_next(fixture.ring, &fixture.record, 1, &record, NULL, 1, &wait), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &fixture.message, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_cancel(fixture.ring, 1), EOWNERDEAD);
    REFUSED(ringmsg_submit(fixture.ring), EOWNERDEAD);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EOWNERDEAD);
    REFUSED(ringmsg_pool_free(fixture.singles), EOWNERDEAD);

    SAME_BYTES(payload_of(fixture.ring, &fixture.record), "first", 5);
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    OK(ringmsg_release(fixture.ring, &fixture.record, 1));
    OK(ringmsg_wake(fixture.ring));
    socklen_t length;
    struct sockaddr_storage address = address_of(fixture.receiver, &length);
    close(fixture.receiver);
    close(fixture.sender);
    OK(ringmsg_ring_free(fixture.ring));
    EQUAL(open_descriptors(), before);
    int again = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SYS(bind(again, (struct sockaddr *)&address, length));
}

/* --- before and after enable ---------------------------------------------------------------- */

static void *set_up_before_enable(void *argument)
{
    struct fixture *fixture = argument;
    set_up(fixture, fixture->ring);
    OK(ringmsg_ring_fd(fixture->ring));
    return NULL;
}

static void *enable_and_serve(void *argument)
{
    struct fixture *fixture = argument;
    OK(ringmsg_ring_enable(fixture->ring));
    fixture->tid = (pid_t)syscall(SYS_gettid);
    OK(ringmsg_recvmsg_multishot(fixture->ring, fixture->pool, fixture->receiver, 0, 0, 1));
    do
        OK(fixture->record.generation ? ringmsg_release(fixture->ring, &fixture->record, 1) : 0);
    while ((fixture->record = reap_one(fixture->ring)).result != 4);
    return NULL;
}

/* Checks that every call of the owner is refused with `error`. */
static void check_all_refused(struct fixture *fixture, int error)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    REFUSED(ringmsg_reap(fixture->ring, &record, NULL, 1, &wait), error);
    REFUSED(ringmsg_next(fixture->ring, NULL, 0, &record, NULL, 1, &wait), error);
    REFUSED(ringmsg_recvmsg(fixture->ring, fixture->receiver, &fixture->message, 0, 0, 3), error);
    REFUSED(ringmsg_recvmsg_once(fixture->ring, fixture->pool, fixture->receiver, 0, 0, 3), error);
    REFUSED(ringmsg_recvmsg_multishot(fixture->ring, fixture->pool, fixture->receiver, 0, 0, 3), error);
    REFUSED(ringmsg_cancel(fixture->ring, 1), error);
    REFUSED(ringmsg_submit(fixture->ring), error);
}

static void the_enabling_thread_becomes_the_owner(void)
{
    for (int bound = 0; bound < 2; bound++) {
        struct fixture fixture = {0};
        pthread_t thread;
        fixture.ring = bound ? make_bound_ring(RINGMSG_SETUP_R_DISABLED)
                             : make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
        int has_owner = bound || is_bound();
        EQUAL(info_of(fixture.ring).owner_thread, 0);
        run_in_thread(set_up_before_enable, &fixture);
        make_pool(fixture.ring, fixture.receiver, 16, 2048);
        check_all_refused(&fixture, EBADFD);
        EQUAL(stats_of(fixture.ring).buffers_published, 0);

        EQUAL(pthread_create(&thread, NULL, enable_and_serve, &fixture), 0);
        int64_t until = now_ns() + 2000000000;
        while (stats_of(fixture.ring).buffers_published == 0 && now_ns() < until)
            sleep_ms(1);
        REFUSED(ringmsg_ring_enable(fixture.ring), EBADFD);
        if (has_owner)
            check_all_refused(&fixture, EPERM);
        SYS(send(fixture.sender, "x", 1, 0));
        SYS(send(fixture.sender, "last", 4, 0));
        EQUAL(pthread_join(thread, NULL), 0);
        EQUAL(info_of(fixture.ring).owner_thread, has_owner ? fixture.tid : 0);
        if (has_owner)
            check_all_refused(&fixture, EOWNERDEAD);
        OK(ringmsg_ring_free(fixture.ring));
    }
}

static void a_ring_that_was_never_enabled_is_freed(void)
{
    struct fixture fixture;
    int before = open_descriptors();
    set_up(&fixture, make_bound_ring(RINGMSG_SETUP_R_DISABLED));
    OK(ringmsg_ring_fd(fixture.ring));
    OK(ringmsg_pool_free(fixture.singles));
    OK(ringmsg_ring_free(fixture.ring));
    close(fixture.receiver);
    close(fixture.sender);
    EQUAL(open_descriptors(), before);
}

/* --- the wrong thread ----------------------------------------------------------------------- */

static void *try_everything(void *argument)
{
    struct fixture *fixture = argument;
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    memset(&record, 0x5a, sizeof record);
    struct ringmsg_record untouched = record;
    check_all_refused(fixture, EPERM);
    REFUSED(ringmsg_reap(fixture->ring, &record, NULL, 1, &wait), EPERM);
    REFUSED(ringmsg_next(fixture->ring, &fixture->record, 1, &record, NULL, 1, &wait), EPERM);
    SAME_BYTES(&record, &untouched, sizeof record);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_pool_new(fixture->ring, &config, &pool), EPERM);
    SAME_POINTER(pool, NULL);
    REFUSED(ringmsg_pool_free(fixture->singles), EPERM);
    EQUAL(ringmsg_pool_size(fixture->singles) == 0, 0);
    EQUAL(stats_of(fixture->ring).buffers_held, 1);
    return NULL;
}

static void a_call_by_the_wrong_thread_changes_nothing(void)
{
    struct fixture fixture;
    set_up(&fixture, make_bound_ring(0));
    EQUAL(info_of(fixture.ring).owner_thread, syscall(SYS_gettid));
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    SYS(send(fixture.sender, "one", 3, 0));
    fixture.record = reap_one(fixture.ring);
    int before = open_descriptors();
    run_in_thread(try_everything, &fixture);
    EQUAL(open_descriptors(), before);
    SYS(send(fixture.sender, "two", 3, 0));
    struct ringmsg_record second = reap_one(fixture.ring);
    EQUAL(second.user_data, 1);
    OK(ringmsg_release(fixture.ring, &second, 1));
    OK(ringmsg_release(fixture.ring, &fixture.record, 1));
    REFUSED(ringmsg_cancel(fixture.ring, 3), ENOENT);
    OK(ringmsg_pool_free(fixture.singles));
    OK(ringmsg_ring_free(fixture.ring));
}

/* --- two threads at once -------------------------------------------------------------------- */

static void *reap_until_something(void *argument)
{
    struct fixture *fixture = argument;
    struct ringmsg_wait wait = wait_ms(5000);
    int count;
    do
        count = ringmsg_reap(fixture->ring, &fixture->record, NULL, 1, &wait);
    while (count == -EINTR || count == -EBUSY); /* the other thread may be in its own reap */
    EQUAL(count, 1);
    return NULL;
}

static void a_second_thread_may_arm_but_not_reap(void)
{
    if (is_bound())
        return;
    for (int form = 0; form < 3; form++) {
        struct fixture fixture;
        struct ringmsg_record record;
        struct ringmsg_wait wait = wait_ms(0);
        pthread_t thread;
        set_up(&fixture, make_ring());
        EQUAL(pthread_create(&thread, NULL, reap_until_something, &fixture), 0);
        int64_t until = now_ns() + 2000000000;
        int result;
        while ((result = ringmsg_reap(fixture.ring, &record, NULL, 1, &wait)) == 0 && now_ns() < until)
            sleep_ms(1);
        EQUAL(result, -EBUSY);
        sleep_ms(20);
        /* The sleeping thread receives what is armed now, in each form. */
        if (form == 0)
            OK(ringmsg_recvmsg(fixture.ring, fixture.receiver, &fixture.message, 0, 0, 1));
        else if (form == 1)
            OK(ringmsg_recvmsg_once(fixture.ring, fixture.singles, fixture.receiver, 0, 0, 1));
        else
            OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
        SYS(send(fixture.sender, "hello", 5, 0));
        EQUAL(pthread_join(thread, NULL), 0);
        EQUAL(fixture.record.result, 5);
        OK(ringmsg_ring_free(fixture.ring));
    }
}

TESTS(TEST(requests_outlive_the_thread_that_armed_them),
      TEST(requests_outlive_their_thread_while_the_reaper_sleeps),
      TEST(requests_outlive_their_thread_in_a_poll_loop),
      TEST(no_rearm_reports_the_exit_of_the_arming_thread),
      TEST(a_ring_without_its_owner_can_only_be_freed),
      TEST(the_enabling_thread_becomes_the_owner),
      TEST(a_ring_that_was_never_enabled_is_freed),
      TEST(a_call_by_the_wrong_thread_changes_nothing),
      TEST(a_second_thread_may_arm_but_not_reap))
