/* Calls by a thread that does not own the ring, after its owner's exit, and before the ring is enabled. */
#include "bad_input.h"

#include <stdatomic.h>

static struct ringmsg_record to_release;

static void *call_everything(void *unused)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    struct ringmsg_record record;
    (void)unused;
    ringmsg_pool_config_init(&config);
    int wanted = (int)(intptr_t)unused;
    REFUSED(ringmsg_pool_new(it.ring, &config, &pool), wanted);
    REFUSED(ringmsg_pool_free(it.pool), wanted);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 9), wanted);
    REFUSED(ringmsg_cancel(it.ring, 1), wanted);
    REFUSED(ringmsg_submit(it.ring), wanted);
    REFUSED(ringmsg_reap(it.ring, &record, NULL, 1, &wait), wanted);
    REFUSED(ringmsg_next(it.ring, &to_release, 1, &record, NULL, 1, &wait), wanted);
    CHECK(pool == NULL);
    /* These are for any thread. */
    EQUAL(stats_of(it.ring).buffers_held, 1);
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(it.ring, &info));
    CHECK(info.owner_thread != gettid());
    OK(ringmsg_release(it.ring, &to_release, 1));
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void the_wrong_thread(void)
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
    reap_nothing(it.ring, 0); /* the wake */
    works_as_before();
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

static void after_the_owners_exit(void)
{
    pthread_t thread;
    if (!is_bound())
        return;
    EQUAL(pthread_create(&thread, NULL, own, NULL), 0);
    pthread_join(thread, NULL);
    call_everything((void *)(intptr_t)EOWNERDEAD);
    tear_down();
}

static void before_enable(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    it.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    it.pool = make_pool(it.ring, it.receiver, 16, 2048);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_cancel(it.ring, 1), EBADFD);
    REFUSED(ringmsg_submit(it.ring), EBADFD);
    REFUSED(ringmsg_reap(it.ring, records, NULL, CAPACITY, NULL), EBADFD);
    REFUSED(ringmsg_next(it.ring, NULL, 0, records, NULL, CAPACITY, NULL), EBADFD);
    OK(ringmsg_ring_enable(it.ring));
    arm();
    works_as_before();
    tear_down();
}

static atomic_int waiting_to_enable, enabled;

static void *enable(void *unused)
{
    (void)unused;
    atomic_fetch_sub(&waiting_to_enable, 1);
    while (atomic_load(&waiting_to_enable) != 0)
        ;
    enabled += ringmsg_ring_enable(it.ring) == 0;
    return NULL;
}

/* Only one of them is its owner. */
static void two_threads_enable_a_ring(void)
{
    for (int i = 0; i < (is_recvmmsg() ? 3000 : 50); i++) {
        pthread_t threads[2];
        it.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER, 0);
        enabled = 0;
        waiting_to_enable = 2;
        for (int t = 0; t < 2; t++)
            EQUAL(pthread_create(&threads[t], NULL, enable, NULL), 0);
        for (int t = 0; t < 2; t++)
            pthread_join(threads[t], NULL);
        EQUAL(enabled, 1);
        OK(ringmsg_ring_free(it.ring));
    }
}

TESTS(TEST(the_wrong_thread), TEST(after_the_owners_exit), TEST(before_enable), TEST(two_threads_enable_a_ring))
