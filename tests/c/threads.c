/* Which thread may do what, and what happens when one is gone. */
#include "test.h"
#include <sys/syscall.h>

/* Runs `body` in a thread of its own, to its end. */
static void in_thread(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, body, argument), 0);
    EQUAL(pthread_join(thread, NULL), 0);
}

/* A ring in the mode under test, bound to its owner. */
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

/* What the threads of these tests work on. */
struct scene {
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

static void set_up(struct scene *scene, struct ringmsg_ring *ring)
{
    memset(scene, 0, sizeof *scene);
    scene->ring = ring;
    scene->receiver = bound_udp(AF_INET);
    scene->sender = sender_to(scene->receiver);
    scene->pool = make_pool(ring, scene->receiver, 16, 2048);
    scene->singles = make_pool(ring, scene->receiver, 16, 2048);
    scene->part = (struct iovec){scene->into, sizeof scene->into};
    scene->message.msg_iov = &scene->part;
    scene->message.msg_iovlen = 1;
}

/* --- the thread that armed is gone ---------------------------------------------------------- */

static void *arm_all_three(void *argument)
{
    struct scene *scene = argument;
    OK(ringmsg_recvmsg(scene->ring, scene->receiver, &scene->message, 0, scene->flags, 1));
    OK(ringmsg_recvmsg_once(scene->ring, scene->singles, scene->receiver, 0, scene->flags, 2));
    OK(ringmsg_recvmsg_multishot(scene->ring, scene->pool, scene->receiver, 0, scene->flags, 3));
    sleep_ms(scene->delay_ms);
    return NULL;
}

/* Three requests live, and every datagram reaches one of them. */
static void all_three_live(struct scene *scene)
{
    int seen[4] = {0};
    for (int i = 0; i < 5; i++) {
        SYS(send(scene->sender, "hello", 5, 0));
        struct ringmsg_record record = reap_one(scene->ring);
        EQUAL(record.result, 5);
        CHECK(record.user_data >= 1 && record.user_data <= 3);
        seen[record.user_data]++;
        EQUAL((record.flags & RINGMSG_RECORD_FINAL) != 0, record.user_data != 3);
        OK(ringmsg_release(scene->ring, &record, 1));
    }
    /* The kernel serves them in an order of its own: what a multishot has not left to the
     * single-shots comes when it is gone. */
    OK(ringmsg_cancel(scene->ring, 3));
    while (reap_one(scene->ring).user_data != 3)
        seen[1]++;
    CHECK(seen[3] <= 5);
    for (int left = 2 - seen[1] - seen[2]; left > 0; left--) {
        SYS(send(scene->sender, "hello", 5, 0));
        struct ringmsg_record record = reap_one(scene->ring);
        EQUAL(record.result, 5);
        OK(ringmsg_release(scene->ring, &record, 1));
    }
    REFUSED(ringmsg_cancel(scene->ring, 1), ENOENT);
    REFUSED(ringmsg_cancel(scene->ring, 2), ENOENT);
    reap_nothing(scene->ring, 5);
}

static void requests_outlive_the_thread_that_armed_them(void)
{
    if (is_bound())
        return;
    struct scene scene;
    set_up(&scene, make_ring());
    for (int round = 0; round < 10; round++) {
        in_thread(arm_all_three, &scene);
        all_three_live(&scene);
    }
    OK(ringmsg_ring_free(scene.ring));
}

static void they_do_when_the_reaper_sleeps_meanwhile(void)
{
    if (is_bound())
        return;
    struct scene scene;
    set_up(&scene, make_ring());
    pthread_t thread;
    scene.delay_ms = 30;
    EQUAL(pthread_create(&thread, NULL, arm_all_three, &scene), 0);
    reap_nothing(scene.ring, 100);
    EQUAL(pthread_join(thread, NULL), 0);
    all_three_live(&scene);
    OK(ringmsg_ring_free(scene.ring));
}

static void they_do_for_a_loop_that_sleeps_elsewhere(void)
{
    if (is_bound())
        return;
    struct scene scene;
    set_up(&scene, make_ring());
    struct pollfd ready = {.fd = OK(ringmsg_ring_fd(scene.ring)), .events = POLLIN};
    in_thread(arm_all_three, &scene);
    int64_t until = now_ns() + 2000000000, received = 0;
    SYS(send(scene.sender, "hello", 5, 0));
    while (received == 0 && now_ns() < until) {
        struct ringmsg_record record;
        SYS(poll(&ready, 1, 2000));
        received = reap_ms(scene.ring, &record, 1, 0);
    }
    EQUAL(received, 1);
    OK(ringmsg_ring_free(scene.ring));
}

static void no_rearm_reports_that_the_thread_is_gone(void)
{
    if (is_bound() || is_recvmmsg()) /* where no thread's exit ends anything */
        return;
    struct scene scene;
    set_up(&scene, make_ring());
    scene.flags = RINGMSG_RECV_NO_REARM;
    in_thread(arm_all_three, &scene);
    SYS(send(scene.sender, "hello", 5, 0)); /* the kernel notices when there is something to do */
    for (int i = 0; i < 3; i++) {
        struct ringmsg_record record = reap_one(scene.ring);
        EQUAL(record.flags, RINGMSG_RECORD_FINAL);
        EQUAL(record.result, -ECANCELED);
    }
    OK(ringmsg_ring_free(scene.ring));
}

/* --- a bound ring whose owner is gone ------------------------------------------------------- */

static void *own_and_leave(void *argument)
{
    struct scene *scene = argument;
    set_up(scene, make_bound_ring(0));
    OK(ringmsg_recvmsg_multishot(scene->ring, scene->pool, scene->receiver, 0, 0, 1));
    OK(ringmsg_recvmsg_once(scene->ring, scene->singles, scene->receiver, 0, 0, 2));
    SYS(send(scene->sender, "first", 5, 0));
    scene->record = reap_one(scene->ring);
    SYS(send(scene->sender, "second", 6, 0));
    scene->tid = (pid_t)syscall(SYS_gettid);
    return NULL;
}

static void a_ring_without_its_owner_can_only_be_freed(void)
{
    struct scene scene;
    int before = open_descriptors();
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    in_thread(own_and_leave, &scene);
    EQUAL(info_of(scene.ring).owner_thread, scene.tid);
    REFUSED(ringmsg_reap(scene.ring, &record, NULL, 1, &wait), EOWNERDEAD);
    REFUSED(ringmsg_next(scene.ring, &scene.record, 1, &record, NULL, 1, &wait), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg(scene.ring, scene.receiver, &scene.message, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg_once(scene.ring, scene.pool, scene.receiver, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_recvmsg_multishot(scene.ring, scene.pool, scene.receiver, 0, 0, 3), EOWNERDEAD);
    REFUSED(ringmsg_cancel(scene.ring, 1), EOWNERDEAD);
    REFUSED(ringmsg_submit(scene.ring), EOWNERDEAD);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_pool_new(scene.ring, &config, &pool), EOWNERDEAD);
    REFUSED(ringmsg_pool_free(scene.singles), EOWNERDEAD);

    CHECK(memcmp(payload_of(scene.ring, &scene.record), "first", 5) == 0);
    EQUAL(stats_of(scene.ring).buffers_held, 1);
    OK(ringmsg_release(scene.ring, &scene.record, 1));
    OK(ringmsg_wake(scene.ring));
    socklen_t length;
    struct sockaddr_storage address = address_of(scene.receiver, &length);
    close(scene.receiver);
    close(scene.sender);
    OK(ringmsg_ring_free(scene.ring));
    EQUAL(open_descriptors(), before);
    int again = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    SYS(bind(again, (struct sockaddr *)&address, length));
}

/* --- before and after enable ---------------------------------------------------------------- */

static void *set_up_before_enable(void *argument)
{
    struct scene *scene = argument;
    set_up(scene, scene->ring);
    OK(ringmsg_ring_fd(scene->ring));
    return NULL;
}

static void *enable_and_serve(void *argument)
{
    struct scene *scene = argument;
    OK(ringmsg_ring_enable(scene->ring));
    scene->tid = (pid_t)syscall(SYS_gettid);
    OK(ringmsg_recvmsg_multishot(scene->ring, scene->pool, scene->receiver, 0, 0, 1));
    do
        OK(scene->record.generation ? ringmsg_release(scene->ring, &scene->record, 1) : 0);
    while ((scene->record = reap_one(scene->ring)).result != 4);
    return NULL;
}

/* What a disabled ring answers, and what an enabled one tells those that do not own it. */
static void nothing_but(struct scene *scene, int error)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    REFUSED(ringmsg_reap(scene->ring, &record, NULL, 1, &wait), error);
    REFUSED(ringmsg_next(scene->ring, NULL, 0, &record, NULL, 1, &wait), error);
    REFUSED(ringmsg_recvmsg(scene->ring, scene->receiver, &scene->message, 0, 0, 3), error);
    REFUSED(ringmsg_recvmsg_once(scene->ring, scene->pool, scene->receiver, 0, 0, 3), error);
    REFUSED(ringmsg_recvmsg_multishot(scene->ring, scene->pool, scene->receiver, 0, 0, 3), error);
    REFUSED(ringmsg_cancel(scene->ring, 1), error);
    REFUSED(ringmsg_submit(scene->ring), error);
}

static void who_enables_owns(void)
{
    for (int bound = 0; bound < 2; bound++) {
        struct scene scene = {0};
        pthread_t thread;
        scene.ring = bound ? make_bound_ring(RINGMSG_SETUP_R_DISABLED) : make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
        int has_owner = bound || is_bound();
        EQUAL(info_of(scene.ring).owner_thread, 0);
        in_thread(set_up_before_enable, &scene);
        make_pool(scene.ring, scene.receiver, 16, 2048);
        nothing_but(&scene, EBADFD);
        EQUAL(stats_of(scene.ring).buffers_published, 0);

        EQUAL(pthread_create(&thread, NULL, enable_and_serve, &scene), 0);
        int64_t until = now_ns() + 2000000000;
        while (stats_of(scene.ring).buffers_published == 0 && now_ns() < until)
            sleep_ms(1);
        REFUSED(ringmsg_ring_enable(scene.ring), EBADFD);
        if (has_owner)
            nothing_but(&scene, EPERM);
        SYS(send(scene.sender, "x", 1, 0));
        SYS(send(scene.sender, "last", 4, 0));
        EQUAL(pthread_join(thread, NULL), 0);
        EQUAL(info_of(scene.ring).owner_thread, has_owner ? scene.tid : 0);
        if (has_owner)
            nothing_but(&scene, EOWNERDEAD);
        OK(ringmsg_ring_free(scene.ring));
    }
}

static void a_ring_that_was_never_enabled_is_freed(void)
{
    struct scene scene;
    int before = open_descriptors();
    set_up(&scene, make_bound_ring(RINGMSG_SETUP_R_DISABLED));
    OK(ringmsg_ring_fd(scene.ring));
    OK(ringmsg_pool_free(scene.singles));
    OK(ringmsg_ring_free(scene.ring));
    close(scene.receiver);
    close(scene.sender);
    EQUAL(open_descriptors(), before);
}

/* --- the wrong thread ----------------------------------------------------------------------- */

static void *try_everything(void *argument)
{
    struct scene *scene = argument;
    struct ringmsg_record record;
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    memset(&record, 0x5a, sizeof record);
    struct ringmsg_record untouched = record;
    nothing_but(scene, EPERM);
    REFUSED(ringmsg_reap(scene->ring, &record, NULL, 1, &wait), EPERM);
    REFUSED(ringmsg_next(scene->ring, &scene->record, 1, &record, NULL, 1, &wait), EPERM);
    CHECK(memcmp(&record, &untouched, sizeof record) == 0);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_pool_new(scene->ring, &config, &pool), EPERM);
    CHECK(pool == NULL);
    REFUSED(ringmsg_pool_free(scene->singles), EPERM);
    EQUAL(ringmsg_pool_size(scene->singles) == 0, 0);
    EQUAL(stats_of(scene->ring).buffers_held, 1);
    return NULL;
}

static void the_wrong_thread_changes_nothing(void)
{
    struct scene scene;
    set_up(&scene, make_bound_ring(0));
    EQUAL(info_of(scene.ring).owner_thread, syscall(SYS_gettid));
    OK(ringmsg_recvmsg_multishot(scene.ring, scene.pool, scene.receiver, 0, 0, 1));
    SYS(send(scene.sender, "one", 3, 0));
    scene.record = reap_one(scene.ring);
    int before = open_descriptors();
    in_thread(try_everything, &scene);
    EQUAL(open_descriptors(), before);
    SYS(send(scene.sender, "two", 3, 0));
    struct ringmsg_record second = reap_one(scene.ring);
    EQUAL(second.user_data, 1);
    OK(ringmsg_release(scene.ring, &second, 1));
    OK(ringmsg_release(scene.ring, &scene.record, 1));
    REFUSED(ringmsg_cancel(scene.ring, 3), ENOENT);
    OK(ringmsg_pool_free(scene.singles));
    OK(ringmsg_ring_free(scene.ring));
}

/* --- two at once ---------------------------------------------------------------------------- */

static void *reap_until_something(void *argument)
{
    struct scene *scene = argument;
    struct ringmsg_wait wait = wait_ms(5000);
    int count;
    do
        count = ringmsg_reap(scene->ring, &scene->record, NULL, 1, &wait);
    while (count == -EINTR || count == -EBUSY); /* the other may be inside just now */
    EQUAL(count, 1);
    return NULL;
}

static void a_second_reap_is_busy_but_may_arm(void)
{
    if (is_bound())
        return;
    for (int form = 0; form < 3; form++) {
        struct scene scene;
        struct ringmsg_record record;
        struct ringmsg_wait wait = wait_ms(0);
        pthread_t thread;
        set_up(&scene, make_ring());
        EQUAL(pthread_create(&thread, NULL, reap_until_something, &scene), 0);
        int64_t until = now_ns() + 2000000000;
        int result;
        while ((result = ringmsg_reap(scene.ring, &record, NULL, 1, &wait)) == 0 && now_ns() < until)
            sleep_ms(1);
        EQUAL(result, -EBUSY);
        sleep_ms(20);
        /* The sleeper serves what is armed now, in whatever form. */
        if (form == 0)
            OK(ringmsg_recvmsg(scene.ring, scene.receiver, &scene.message, 0, 0, 1));
        else if (form == 1)
            OK(ringmsg_recvmsg_once(scene.ring, scene.singles, scene.receiver, 0, 0, 1));
        else
            OK(ringmsg_recvmsg_multishot(scene.ring, scene.pool, scene.receiver, 0, 0, 1));
        SYS(send(scene.sender, "hello", 5, 0));
        EQUAL(pthread_join(thread, NULL), 0);
        EQUAL(scene.record.result, 5);
        OK(ringmsg_ring_free(scene.ring));
    }
}

TESTS(TEST(requests_outlive_the_thread_that_armed_them), TEST(they_do_when_the_reaper_sleeps_meanwhile),
      TEST(they_do_for_a_loop_that_sleeps_elsewhere), TEST(no_rearm_reports_that_the_thread_is_gone),
      TEST(a_ring_without_its_owner_can_only_be_freed),
      TEST(who_enables_owns), TEST(a_ring_that_was_never_enabled_is_freed),
      TEST(the_wrong_thread_changes_nothing), TEST(a_second_reap_is_busy_but_may_arm))
