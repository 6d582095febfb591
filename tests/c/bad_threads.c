/* Calls are refused if the calling thread does not own the ring, if the owner has exited, or if the
 * ring is not yet enabled. */
#include "bad_input.h"

#include <stdatomic.h>

static struct ringmsg_record to_release;

static void *call_everything(void *expected_error)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    struct ringmsg_record record;
    int error = (int)(intptr_t)expected_error;
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), error);
    REFUSED(ringmsg_pool_free(fixture.pool), error);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, 0, 9), error);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 9), error);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 9), error);
    REFUSED(ringmsg_cancel(fixture.ring, 1), error);
    REFUSED(ringmsg_submit(fixture.ring), error);
    REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), error);
    REFUSED(ringmsg_next(fixture.ring, &to_release, 1, &record, NULL, 1, &wait), error);
    SAME_POINTER(pool, NULL);
    /* Any thread may make these calls. */
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(fixture.ring, &info));
    COMPARE(info.owner_thread, !=, gettid());
    OK(ringmsg_release(fixture.ring, &to_release, 1));
    OK(ringmsg_wake(fixture.ring));
    return NULL;
}

static void calls_by_another_thread_are_refused(void)
{
    pthread_t thread;
    if (!is_bound())
        return;
    set_up();
    arm();
    receive(1);
    to_release = records[0];
    EQUAL(pthread_create(&thread, NULL, call_everything, (void *)(intptr_t)EPERM), 0);
    pthread_join(thread, NULL);
    reap_nothing(fixture.ring, 0); /* consumes the wake */
    check_ring_still_works();
    tear_down();
}

static void *own(void *unused)
{
    (void)unused;
    set_up();
    arm();
    receive(1);
    to_release = records[0];
    return NULL;
}

static void calls_after_the_owners_exit_are_refused(void)
{
    pthread_t thread;
    if (!is_bound())
        return;
    EQUAL(pthread_create(&thread, NULL, own, NULL), 0);
    pthread_join(thread, NULL);
    call_everything((void *)(intptr_t)EOWNERDEAD);
    tear_down();
}

static void calls_before_enable_are_refused(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    fixture.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 16, 2048);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_cancel(fixture.ring, 1), EBADFD);
    REFUSED(ringmsg_submit(fixture.ring), EBADFD);
    REFUSED(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, NULL), EBADFD);
    REFUSED(ringmsg_next(fixture.ring, NULL, 0, records, NULL, CAPACITY, NULL), EBADFD);
    OK(ringmsg_ring_enable(fixture.ring));
    arm();
    check_ring_still_works();
    tear_down();
}

static atomic_int waiting_to_enable, enabled;

static void *enable(void *unused)
{
    (void)unused;
    atomic_fetch_sub(&waiting_to_enable, 1);
    while (atomic_load(&waiting_to_enable) != 0)
        ;
    enabled += ringmsg_ring_enable(fixture.ring) == 0;
    return NULL;
}

/* Only one of the two threads becomes the owner. */
static void only_one_of_two_threads_enables_a_ring(void)
{
    for (int i = 0; i < (is_recvmmsg() ? 3000 : 50); i++) {
        pthread_t threads[2];
        fixture.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER, 0);
        enabled = 0;
        waiting_to_enable = 2;
        for (int t = 0; t < 2; t++)
            EQUAL(pthread_create(&threads[t], NULL, enable, NULL), 0);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], NULL);
        EQUAL(enabled, 1);
        OK(ringmsg_ring_free(fixture.ring));
    }
}

TESTS(TEST(calls_by_another_thread_are_refused),
      TEST(calls_after_the_owners_exit_are_refused),
      TEST(calls_before_enable_are_refused),
      TEST(only_one_of_two_threads_enables_a_ring))
