/* Rings that are freed the moment a release or a wake by another thread has shown its effect: the
 * call that caused it is still inside, and so may be the reap. What a call begun after ring_free
 * meets is undefined; these have all begun before. */
#include "test.h"

#include <stdatomic.h>
#include <sys/syscall.h>

enum { LIVES = 300, RELEASERS = 2, FROM_AFAR_EVERY = 30 };

static struct life {
    struct ringmsg_ring *ring;
    struct ringmsg_record held[RELEASERS];
} it;

/* The number of the life for which each may begin, and for which it is done. */
static atomic_int release_of, wake_of, free_of, ended, released[RELEASERS], woken, freed;

/* The library's write(2) to an eventfd comes here, and stays a while after its effect: a call that is
 * inside for longer than it takes to free a ring. */
static _Thread_local int lingers;
static atomic_int writing, overlaps;

ssize_t write(int fd, const void *from, size_t length)
{
    atomic_fetch_add(&writing, lingers);
    ssize_t written = syscall(SYS_write, fd, from, length);
    if (lingers)
        sleep_ms(2);
    atomic_fetch_sub(&writing, lingers);
    return written;
}

/* Frees the ring, and looks whether somebody was inside who is not any more. */
static void free_ring(void)
{
    overlaps += atomic_load(&writing) != 0;
    EQUAL(ringmsg_ring_free(it.ring), 0);
    EQUAL(atomic_load(&writing), 0);
}

static void until(atomic_int *word, int number)
{
    while (atomic_load(word) < number)
        nap();
}

/* Waits for the next life. 0: there is none. */
static int next_of(atomic_int *word, int *number)
{
    while (atomic_load(word) <= *number && !atomic_load(&ended))
        nap();
    *number = atomic_load(word);
    return !atomic_load(&ended);
}

static void *release_its_own(void *argument)
{
    intptr_t who = (intptr_t)argument;
    lingers = 1;
    for (int number = 0; next_of(&release_of, &number);) {
        OK(ringmsg_release(it.ring, &it.held[who], 1));
        atomic_store(&released[who], number);
    }
    return NULL;
}

static void *wake_it(void *unused)
{
    (void)unused;
    lingers = 1;
    for (int number = 0; next_of(&wake_of, &number);) {
        OK(ringmsg_wake(it.ring));
        atomic_store(&woken, number);
    }
    return NULL;
}

/* Frees the ring once the statistics show the last record: the reap that brings it is inside. */
static void *free_it(void *unused)
{
    (void)unused;
    for (int number = 0; next_of(&free_of, &number);) {
        while (stats_of(it.ring).records < 2 * RELEASERS)
            ;
        free_ring();
        atomic_store(&freed, number);
    }
    return NULL;
}

/* The releasers give back every buffer of a starved request: all four datagrams come, the last two
 * because of them. */
static void ends_with_releases(int number, int receiver, int sender, int from_afar)
{
    it.ring = make_ring();
    struct ringmsg_pool *pool = make_pool(it.ring, receiver, RELEASERS, 256);
    OK(ringmsg_recvmsg_multishot(it.ring, pool, receiver, 0, 0, 1));
    for (int i = 0; i < 2 * RELEASERS; i++)
        SYS(send(sender, "x", 1, 0));
    for (int have = 0; have < RELEASERS;)
        have += reap_ms(it.ring, it.held + have, (uint32_t)(RELEASERS - have), 5000);
    if (from_afar)
        atomic_store(&free_of, number);
    atomic_store(&release_of, number);
    for (int have = 0; have < RELEASERS;) {
        /* It is not freed before the last record is there. */
        struct ringmsg_record records[RELEASERS];
        struct ringmsg_wait wait = wait_ms(5000);
        int answer = ringmsg_reap(it.ring, records, NULL, (uint32_t)(RELEASERS - have), &wait);
        CHECK(answer > 0);
        have += answer;
    }
    if (from_afar)
        until(&freed, number);
    else
        free_ring();
    for (int i = 0; i < RELEASERS; i++)
        until(&released[i], number);
}

static void ends_with_a_wake(int number)
{
    struct ringmsg_record record;
    it.ring = make_ring();
    atomic_store(&wake_of, number);
    EQUAL(ringmsg_reap(it.ring, &record, NULL, 1, NULL), 0);
    free_ring();
    until(&woken, number);
}

static void ring_free_waits_for_calls_that_are_inside(void)
{
    pthread_t threads[RELEASERS + 2];
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), before = open_descriptors();
    for (intptr_t i = 0; i < RELEASERS; i++)
        EQUAL(pthread_create(&threads[i], NULL, release_its_own, (void *)i), 0);
    EQUAL(pthread_create(&threads[RELEASERS], NULL, wake_it, NULL), 0);
    EQUAL(pthread_create(&threads[RELEASERS + 1], NULL, free_it, NULL), 0);
    for (int number = 1; number <= LIVES; number++) {
        if (number % 2 != 0)
            ends_with_a_wake(number);
        else
            ends_with_releases(number, receiver, sender, number % FROM_AFAR_EVERY == 0);
    }
    atomic_store(&ended, 1);
    for (int i = 0; i < RELEASERS + 2; i++)
        pthread_join(threads[i], NULL);
    EQUAL(open_descriptors(), before);
    printf("  %d of %d rings were freed with a call inside\n", overlaps, LIVES);
    CHECK(overlaps > (TEST_PATIENCE > 1 ? LIVES / 10 : LIVES / 4));
}

TESTS(TEST(ring_free_waits_for_calls_that_are_inside))
