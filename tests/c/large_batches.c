/* A reap with room takes what the sockets hold already, without a linger, although the kernel hands
 * over 33 datagrams of a socket at a time: a server that was busy answering gets its hundreds. */
#include "numbered_datagrams.h"

enum { QUEUED = 600, CAPACITY = 512 };

static struct ringmsg_record records[CAPACITY];

/* Sends `count` datagrams, in turn to each of these sockets, and waits until they are delivered.
 * Each datagram is its number. */
static void queue(const int *senders, int sockets, int count)
{
    int last = bound_udp(AF_INET), sender = sender_to(last);
    for (int i = 0; i < count; i++)
        EQUAL(SYS(send(senders[i % sockets], &i, sizeof i, 0)), sizeof i);
    EQUAL(SYS(send(sender, "x", 1, 0)), 1);
    EQUAL(SYS(recv(last, &(char){0}, 1, 0)), 1);
    close(sender);
    close(last);
}

/* Of each socket the datagrams come in order; counts how often each number came. */
static void account(struct ringmsg_ring *ring, int count, int sockets, int *last, int *times)
{
    for (int i = 0; i < count; i++) {
        int number;
        EQUAL(records[i].result, sizeof number);
        memcpy(&number, payload_of(ring, &records[i]), sizeof number);
        EQUAL(records[i].user_data, number % sockets);
        COMPARE(number, >, last[number % sockets]);
        last[number % sockets] = number;
        times[number]++;
    }
}

/* The wait says how long a reap waits for a first record; it never lingers. */
static void takes_what_is_queued(int sockets, int timeout_ms)
{
    static int receivers[QUEUED], senders[QUEUED], last[QUEUED];
    int times[QUEUED] = {0};
    struct ringmsg_ring *ring = make_ring_with(0, 4096);
    struct ringmsg_pool *pool = NULL;
    struct ringmsg_wait wait = wait_ms(timeout_ms);
    stay_on_one_processor();
    for (int i = 0; i < sockets; i++) {
        receivers[i] = bound_udp(AF_INET);
        senders[i] = sender_to(receivers[i]);
        last[i] = -1;
        make_room(receivers[i], QUEUED / sockets * 2048);
        if (pool == NULL)
            pool = make_pool(ring, receivers[i], 1024, 64);
        OK(ringmsg_recvmsg_multishot(ring, pool, receivers[i], 0, 0, (uint64_t)i));
    }
    reap_nothing(ring, 0);
    queue(senders, sockets, QUEUED);
    int n = OK(ringmsg_next(ring, NULL, 0, records, NULL, CAPACITY, &wait));
    EQUAL(n, CAPACITY);
    account(ring, n, sockets, last, times);
    n = OK(ringmsg_next(ring, records, (uint32_t)n, records, NULL, CAPACITY, &wait));
    EQUAL(n, QUEUED - CAPACITY);
    account(ring, n, sockets, last, times);
    for (int i = 0; i < QUEUED; i++)
        EQUAL(times[i], 1);
    OK(ringmsg_ring_free(ring));
    for (int i = 0; i < sockets; i++) {
        close(receivers[i]);
        close(senders[i]);
    }
}

static void of_one_socket(void)
{
    takes_what_is_queued(1, 20000 * TEST_TIME_FACTOR);
    takes_what_is_queued(1, 0);
}

static void of_twenty_sockets(void)
{
    takes_what_is_queued(20, 20000 * TEST_TIME_FACTOR);
    takes_what_is_queued(20, 0);
}

/* More sockets than the kernel runs items of task work in one entry. */
static void of_two_hundred_sockets(void)
{
    takes_what_is_queued(200, 20000 * TEST_TIME_FACTOR);
    takes_what_is_queued(200, 0);
}

/* Few datagrams cost no further kernel entry: the last one did not hit the kernel's limit. */
static void few_datagrams_cost_no_entry_more(void)
{
    enum { ROUNDS = 100, EACH = 8 };
    struct ringmsg_ring *ring = make_ring();
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver), count = 0, calls = 0;
    struct ringmsg_wait wait = wait_ms(20000 * TEST_TIME_FACTOR);
    stay_on_one_processor();
    OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, 64, 64), receiver, 0, 0, 0));
    reap_nothing(ring, 0);
    uint64_t before = stats_of(ring).enters;
    for (int round = 0; round < ROUNDS; round++) {
        queue(&sender, 1, EACH);
        /* Linux 6.18 counts the 33 datagrams over several entries: sometimes it stops at fewer. */
        for (int received = 0; received < EACH; received += count, calls++)
            count = OK(ringmsg_next(ring, records, (uint32_t)count, records, NULL, CAPACITY, &wait));
    }
    COMPARE(calls, <, ROUNDS + ROUNDS * EACH / 16);
    /* On epoll a wait, and a recvmmsg(2) that finds the socket empty. */
    COMPARE(stats_of(ring).enters - before, <=, (is_recvmmsg() ? 3 : 1) * calls + 5);
}

TESTS(TEST(of_one_socket), TEST(of_twenty_sockets), TEST(of_two_hundred_sockets), TEST(few_datagrams_cost_no_entry_more))
