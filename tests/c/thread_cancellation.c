/* pthread_cancel(3) of a thread that is inside a call never ends the process, nor tears the call
 * apart: cancellation is disabled while the call runs, and takes effect at the thread's next
 * cancellation point after it. A thread that sleeps without a time limit ends with a wake. */
#include "test.h"

static struct receiver {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender, calls;
    volatile int ready;
} fixture;

static void set_up(void)
{
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.ring = make_ring();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 8, 64);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
}

/* The end of a thread that was cancelled in a call, and what its ring is worth afterwards. */
static void ends_cancelled(pthread_t thread)
{
    void *result = NULL;
    pthread_join(thread, &result);
    SAME_POINTER(result, PTHREAD_CANCELED);
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(fixture.ring, &info));
    if (info.owner_thread == 0) {
        SYS(send(fixture.sender, "after", 5, 0));
        struct ringmsg_record record;
        do { /* what the thread left behind comes first */
            record = reap_one(fixture.ring);
            OK(ringmsg_release(fixture.ring, &record, 1));
        } while (record.result != 5);
    }
    OK(ringmsg_ring_free(fixture.ring));
}

static void *reap_with_a_limit(void *with_fd)
{
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 30000000};
    set_up();
    if (with_fd != NULL)
        OK(ringmsg_ring_fd(fixture.ring));
    fixture.ready = 1;
    for (;;) {
        ringmsg_reap(fixture.ring, &record, NULL, 1, &wait);
        pthread_testcancel();
    }
}

static void *reap_without_a_limit(void *unused)
{
    struct ringmsg_record record;
    set_up();
    fixture.ready = 1;
    ringmsg_reap(fixture.ring, &record, NULL, 1, NULL);
    pthread_testcancel();
    return unused;
}

static void *call_everything(void *unused)
{
    struct ringmsg_record record;
    struct ringmsg_wait now = {.size = sizeof now};
    struct ringmsg_stats stats = {.size = sizeof stats};
    int queued = 0; /* few, so that the socket has room for the datagram after the cancellation */
    set_up();
    fixture.ready = 1;
    for (fixture.calls = 0;; fixture.calls++) {
        if (fixture.calls % 16 == 0 && queued < 4)
            queued += send(fixture.sender, "x", 1, MSG_DONTWAIT) == 1;
        int n = ringmsg_reap(fixture.ring, &record, NULL, 1, &now);
        if (n == 1) {
            queued -= record.result == 1;
            ringmsg_release(fixture.ring, &record, 1);
        }
        ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 2);
        ringmsg_cancel(fixture.ring, 2);
        ringmsg_ring_stats(fixture.ring, &stats);
        ringmsg_wake(fixture.ring);
        pthread_testcancel();
    }
    return unused;
}

static pthread_t start_and_cancel(void *(*body)(void *), void *argument, int after_ms)
{
    pthread_t thread;
    fixture.ready = 0;
    pthread_create(&thread, NULL, body, argument);
    while (!fixture.ready)
        sleep_ms(1);
    sleep_ms(after_ms);
    EQUAL(pthread_cancel(thread), 0);
    return thread;
}

static void a_thread_asleep_in_a_reap_is_cancelled_after_it(void)
{
    ends_cancelled(start_and_cancel(reap_with_a_limit, NULL, 10));
    ends_cancelled(start_and_cancel(reap_with_a_limit, &fixture, 10));
}

static void a_wake_ends_the_sleep_of_a_cancelled_thread(void)
{
    pthread_t thread = start_and_cancel(reap_without_a_limit, NULL, 20);
    OK(ringmsg_wake(fixture.ring));
    ends_cancelled(thread);
}

/* Every system call of the library's is a place where a cancellation could strike. */
static void a_thread_is_cancelled_between_calls_only(void)
{
    for (int i = 0; i < 20; i++)
        ends_cancelled(start_and_cancel(call_everything, NULL, i % 5));
}

TESTS(TEST(a_thread_asleep_in_a_reap_is_cancelled_after_it),
      TEST(a_wake_ends_the_sleep_of_a_cancelled_thread), TEST(a_thread_is_cancelled_between_calls_only))
