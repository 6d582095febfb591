/* A ring is freed as soon as a release or a wake by another thread has taken effect, while that
 * call is still running and the reap may be, too. ringmsg_ring_free waits for calls that began
 * before it. (Calls that begin after it are undefined.) */
#include "test.h"

#include <stdatomic.h>
#include <sys/syscall.h>

enum { ROUNDS = 300, RELEASERS = 2, OTHER_THREAD_FREES_EVERY = 30 };

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_record held[RELEASERS];
} fixture;

/* The round in which each thread may begin, and the round it has finished. */
static atomic_int release_of, wake_of, free_of, ended, released[RELEASERS], woken, freed;

/* Receives the library's write(2) to an eventfd and delays its return, so that the call runs for
 * longer than it takes to free a ring. */
static _Thread_local int delays_writes;
static atomic_int writing, overlaps;

ssize_t write(int fd, const void *from, size_t length)
{
    atomic_fetch_add(&writing, delays_writes);
    ssize_t written = syscall(SYS_write, fd, from, length);
    if (delays_writes)
        sleep_ms(2);
    atomic_fetch_sub(&writing, delays_writes);
    return written;
}

/* Frees the ring, and checks that no delayed write is still running afterwards. */
static void free_ring(void)
{
    overlaps += atomic_load(&writing) != 0;
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    EQUAL(atomic_load(&writing), 0);
}

static void until(atomic_int *word, int round)
{
    while (atomic_load(word) < round)
        sleep_briefly();
}

/* Waits for the next round. Returns 0 after the last one. */
static int next_round(atomic_int *word, int *round)
{
    while (atomic_load(word) <= *round && !atomic_load(&ended))
        sleep_briefly();
    *round = atomic_load(word);
    return !atomic_load(&ended);
}

static void *release_its_own(void *argument)
{
    intptr_t who = (intptr_t)argument;
    delays_writes = 1;
    for (int round = 0; next_round(&release_of, &round);) {
        OK(ringmsg_release(fixture.ring, &fixture.held[who], 1));
        atomic_store(&released[who], round);
    }
    return NULL;
}

static void *wake_it(void *unused)
{
    (void)unused;
    delays_writes = 1;
    for (int round = 0; next_round(&wake_of, &round);) {
        OK(ringmsg_wake(fixture.ring));
        atomic_store(&woken, round);
    }
    return NULL;
}

/* Frees the ring once the statistics show the last record. The reap that returns it is still
 * running. */
static void *free_it(void *unused)
{
    (void)unused;
    for (int round = 0; next_round(&free_of, &round);) {
        while (stats_of(fixture.ring).records < 2 * RELEASERS)
            ;
        free_ring();
        atomic_store(&freed, round);
    }
    return NULL;
}

/* The releasers return both buffers of a starved request, so that four datagrams arrive; the last
 * two only because of the releases. */
static void ends_with_releases(int round, int receiver, int sender, int other_thread_frees)
{
    fixture.ring = make_ring();
    struct ringmsg_pool *pool = make_pool(fixture.ring, receiver, RELEASERS, 256);
    OK(ringmsg_recvmsg_multishot(fixture.ring, pool, receiver, 0, 0, 1));
    for (int i = 0; i < 2 * RELEASERS; i++)
        SYS(send(sender, "x", 1, 0));
    for (int have = 0; have < RELEASERS;)
        have += reap_ms(fixture.ring, fixture.held + have, (uint32_t)(RELEASERS - have), 5000);
    if (other_thread_frees)
        atomic_store(&free_of, round);
    atomic_store(&release_of, round);
    for (int have = 0; have < RELEASERS;) {
        /* The other thread does not free the ring before the last record is counted. */
        struct ringmsg_record records[RELEASERS];
        struct ringmsg_wait wait = wait_ms(5000);
        int answer = ringmsg_reap(fixture.ring, records, NULL, (uint32_t)(RELEASERS - have), &wait);
        COMPARE(answer, >, 0);
        have += answer;
    }
    if (other_thread_frees)
        until(&freed, round);
    else
        free_ring();
    for (int i = 0; i < RELEASERS; i++)
        until(&released[i], round);
}

static void ends_with_a_wake(int round)
{
    struct ringmsg_record record;
    fixture.ring = make_ring();
    atomic_store(&wake_of, round);
    EQUAL(ringmsg_reap(fixture.ring, &record, NULL, 1, NULL), 0);
    free_ring();
    until(&woken, round);
}

static void ring_free_waits_for_calls_in_progress(void)
{
    pthread_t threads[RELEASERS + 2];
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), before = open_descriptors();
    for (intptr_t i = 0; i < RELEASERS; i++)
        EQUAL(pthread_create(&threads[i], NULL, release_its_own, (void *)i), 0);
    EQUAL(pthread_create(&threads[RELEASERS], NULL, wake_it, NULL), 0);
    EQUAL(pthread_create(&threads[RELEASERS + 1], NULL, free_it, NULL), 0);
    for (int round = 1; round <= ROUNDS; round++) {
        if (round % 2 != 0)
            ends_with_a_wake(round);
        else
            ends_with_releases(round, receiver, sender, round % OTHER_THREAD_FREES_EVERY == 0);
    }
    atomic_store(&ended, 1);
    for (int i = 0; i < RELEASERS + 2; i++)
        pthread_join(threads[i], NULL);
    EQUAL(open_descriptors(), before);
    printf("  %d of %d rings were freed during a call\n", overlaps, ROUNDS);
    COMPARE(overlaps, >, (TEST_TIME_FACTOR > 1 ? ROUNDS / 10 : ROUNDS / 4));
}

TESTS(TEST(ring_free_waits_for_calls_in_progress))
