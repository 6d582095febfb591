/* A request whose pool has no free buffer is starved: no datagram is lost, no reap spins, no error
 * is reported, and a release by any thread arms the request again. */
#include "numbered_datagrams.h"

#define ALL 40
#define BUFFERS 16

/* A starved request: BUFFERS records are held, and the other datagrams wait in the socket. */
struct starved {
    struct ringmsg_ring *ring;
    int receiver, sender;
    struct ringmsg_record held[ALL];
};

static void starve(struct starved *s)
{
    s->ring = make_ring();
    s->receiver = bound_udp(AF_INET);
    s->sender = sender_to(s->receiver);
    struct ringmsg_pool *pool = make_pool(s->ring, s->receiver, BUFFERS, 64);
    OK(ringmsg_recvmsg_multishot(s->ring, pool, s->receiver, 0, 0, 7));
    send_numbers(s->sender, 0, ALL);
    EQUAL(hold_up_to(s->ring, s->held, ALL), BUFFERS);
    EQUAL(check_numbers(s->ring, s->held, BUFFERS, 0), BUFFERS);
    EQUAL(stats_of(s->ring).starvations, 1);
    EQUAL(stats_of(s->ring).window_misses, 0);
    EQUAL(stats_of(s->ring).buffers_held, BUFFERS);
    EQUAL(stats_of(s->ring).buffers_published, 0);
}

static void a_starved_request_sleeps_until_a_release_and_then_gets_everything(void)
{
    struct starved s;
    starve(&s);
    uint64_t enters = stats_of(s.ring).enters;
    reap_nothing(s.ring, 300);
    if (stats_of(s.ring).enters - enters > 5)
        FAIL("%d kernel entries in 300 ms: the reap spins", (int)(stats_of(s.ring).enters - enters));

    /* Releases four records at a time, and holds all others. */
    uint32_t next = BUFFERS;
    int oldest = 0, newest = BUFFERS;
    while (next < ALL) {
        OK(ringmsg_release(s.ring, s.held + oldest, 4));
        oldest += 4;
        int n = hold_up_to(s.ring, s.held + newest, 4);
        EQUAL(n, 4);
        next = check_numbers(s.ring, s.held + newest, n, next);
        newest += n;
        reap_nothing(s.ring, 1);
    }
    struct ringmsg_stats stats = stats_of(s.ring);
    EQUAL(stats.starvations, 1 + (ALL - BUFFERS) / 4);
    EQUAL(stats.rearms, (ALL - BUFFERS) / 4);
    EQUAL(stats.records, ALL);
    EQUAL(stats.errors, 0);
    EQUAL(stats.socket_drops, 0);

    OK(ringmsg_release(s.ring, s.held + oldest, (uint32_t)(newest - oldest)));
    EQUAL(stats_of(s.ring).buffers_held, 0);
    send_numbers(s.sender, 0, 1);
    EQUAL(reap_one(s.ring).result, 4);
    OK(ringmsg_ring_free(s.ring));
}

/* The release arms the request by its own kernel entry, without a reap. */
static void the_owners_release_rearms_without_a_reap(void)
{
    struct starved s;
    starve(&s);
    OK(ringmsg_release(s.ring, s.held, 1));
    EQUAL(stats_of(s.ring).rearms, 1);
    EQUAL(hold_up_to(s.ring, s.held, 1), 1);
    OK(ringmsg_ring_free(s.ring));
}

/* --- releases by another thread ---------------------------------------------------------- */

static void *release_some_later(void *starved)
{
    struct starved *s = starved;
    for (int i = 0; i < BUFFERS; i += 4) {
        sleep_ms(60);
        OK(ringmsg_release(s->ring, s->held + i, 4));
    }
    return NULL;
}

static void a_release_by_another_thread_wakes_a_sleeping_reap(void)
{
    struct starved s;
    pthread_t thread;
    starve(&s);
    EQUAL(pthread_create(&thread, NULL, release_some_later, &s), 0);
    uint32_t next = BUFFERS;
    int64_t start = now_ns();
    for (int held = BUFFERS; held < 2 * BUFFERS;) {
        int n = reap_ms(s.ring, s.held + held, (uint32_t)(ALL - held), 20000);
        COMPARE(n, >, 0);
        next = check_numbers(s.ring, s.held + held, n, next);
        held += n;
    }
    COMPARE(now_ns() - start, <, 10000000000);
    pthread_join(thread, NULL);
    if (stats_of(s.ring).enters > 200)
        FAIL("%d kernel entries: the reap spins", (int)stats_of(s.ring).enters);
    OK(ringmsg_ring_free(s.ring));
}

static void epoll_wakes_for_a_release_by_another_thread(uint32_t trigger)
{
    struct starved s;
    pthread_t thread;
    starve(&s);
    int loop = (int)SYS(epoll_create1(EPOLL_CLOEXEC)), wakeups = 0;
    struct epoll_event event = {.events = EPOLLIN | trigger};
    SYS(epoll_ctl(loop, EPOLL_CTL_ADD, OK(ringmsg_ring_fd(s.ring)), &event));
    EQUAL(reap_ms(s.ring, s.held + BUFFERS, 1, 0), 0);
    EQUAL(pthread_create(&thread, NULL, release_some_later, &s), 0);
    uint32_t next = BUFFERS;
    for (int held = BUFFERS; held < 2 * BUFFERS; wakeups++) {
        int ready = epoll_wait(loop, &event, 1, 10000);
        if (ready < 0 && errno == EINTR)
            continue; /* plain and COOP rings interrupt the thread that armed the request */
        EQUAL(ready, 1);
        int n = reap_ms(s.ring, s.held + held, (uint32_t)(ALL - held), 0);
        next = check_numbers(s.ring, s.held + held, n, next);
        held += n;
    }
    pthread_join(thread, NULL);
    if (wakeups > 60)
        FAIL("%d wake-ups for %d datagrams: the loop spins", wakeups, BUFFERS);
    OK(ringmsg_ring_free(s.ring));
}

static void a_release_by_another_thread_wakes_a_level_triggered_epoll(void)
{
    epoll_wakes_for_a_release_by_another_thread(0);
}

static void a_release_by_another_thread_wakes_an_edge_triggered_epoll(void)
{
    epoll_wakes_for_a_release_by_another_thread(EPOLLET);
}

/* The owner passes every record to a thread that releases it. The pool is so small that each
 * release races with the next starvation. The sender stays close behind, so that the socket drops
 * nothing. */
#define RACE 30000
static struct {
    struct ringmsg_ring *ring;
    int sender;
    struct ringmsg_record records[RACE];
    uint32_t received; /* read and written by all threads, as are the records below this index */
} race;

static void *race_send(void *unused)
{
    (void)unused;
    stay_on_one_processor();
    for (uint32_t number = 0; number < RACE; number++) {
        WAIT_UNTIL(number - __atomic_load_n(&race.received, __ATOMIC_ACQUIRE) < 64);
        send_numbers(race.sender, number, number + 1);
    }
    return NULL;
}

static void *race_release(void *unused)
{
    (void)unused;
    for (uint32_t released = 0; released < RACE;) {
        uint32_t received;
        WAIT_UNTIL((received = __atomic_load_n(&race.received, __ATOMIC_ACQUIRE)) != released);
        OK(ringmsg_release(race.ring, race.records + released, received - released));
        released = received;
    }
    return NULL;
}

static void race_with(int uses_epoll)
{
    int receiver = bound_udp(AF_INET), loop = (int)SYS(epoll_create1(EPOLL_CLOEXEC));
    pthread_t sending, releasing;
    struct epoll_event event = {.events = EPOLLIN};
    race.ring = make_ring();
    race.sender = sender_to(receiver);
    OK(ringmsg_recvmsg_multishot(race.ring, make_pool(race.ring, receiver, 4, 64), receiver, 0, 0, 0));
    if (uses_epoll)
        SYS(epoll_ctl(loop, EPOLL_CTL_ADD, OK(ringmsg_ring_fd(race.ring)), &event));
    EQUAL(pthread_create(&sending, NULL, race_send, NULL), 0);
    EQUAL(pthread_create(&releasing, NULL, race_release, NULL), 0);
    for (uint32_t received = 0; received < RACE;) {
        struct ringmsg_wait wait = wait_ms(uses_epoll ? 0 : 10000);
        if (uses_epoll && epoll_wait(loop, &event, 1, 10000) == 0)
            FAIL("no record after %u datagrams", received);
        int n = ringmsg_reap(race.ring, race.records + received, NULL, RACE - received, &wait);
        if (n == -EINTR)
            continue;
        if (OK(n) == 0 && !uses_epoll)
            FAIL("no record after %u datagrams", received);
        received = check_numbers(race.ring, race.records + received, n, received);
        __atomic_store_n(&race.received, received, __ATOMIC_RELEASE);
    }
    pthread_join(sending, NULL);
    pthread_join(releasing, NULL);
    struct ringmsg_stats stats = stats_of(race.ring);
    EQUAL(stats.socket_drops, 0);
    EQUAL(stats.errors, 0);
    EQUAL(stats.buffers_held, 0);
    COMPARE(stats.starvations, >, 0);
    OK(ringmsg_ring_free(race.ring));
}

static void releases_by_another_thread_race_with_a_reap(void)
{
    race_with(0);
}

static void releases_by_another_thread_race_with_an_epoll_loop(void)
{
    race_with(1);
}

/* --- starvation is not a socket error --------------------------------------------------- */

/* With SQPOLL the kernel's thread can find the buffer ring empty while the reaper fills it. That
 * -ENOBUFS is starvation, and no record reports it. */
static void starvation_is_never_reported_as_a_socket_error(void)
{
    enum { SOCKETS = 4 };
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring;
    struct ringmsg_record records[8];
    int senders[SOCKETS];
    ringmsg_ring_config_init(&config);
    /* SQPOLL replaces the plain mode, which has no other thread that posts completions. */
    config.flags = test_mode == 0 && !is_recvmmsg() ? RINGMSG_SETUP_SQPOLL : test_mode;
    config.engine = test_engine;
    OK(ringmsg_ring_new(&config, &ring));
    struct ringmsg_pool *pool = NULL;
    for (int i = 0; i < SOCKETS; i++) {
        int receiver = bound_udp(AF_INET);
        senders[i] = sender_to(receiver);
        if (pool == NULL)
            pool = make_pool(ring, receiver, 4, 2048);
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, (uint64_t)i));
    }
    int64_t end = now_ns() + 1500 * 1000000LL;
    while (now_ns() < end) {
        for (int i = 0; i < 4 * SOCKETS; i++)
            SYS(send(senders[i % SOCKETS], "x", 1, 0));
        for (int n = 1; n > 0;) {
            n = reap_ms(ring, records, 8, 0);
            for (int i = 0; i < n; i++) {
                EQUAL(records[i].result, 1);
                OK(ringmsg_release(ring, &records[i], 1));
            }
        }
    }
    COMPARE(stats_of(ring).rearms, >, 0);
    OK(ringmsg_ring_free(ring));
}

/* Two requests share a user_data and have pools of their own; a third has another user_data. */
static void requests_with_one_user_data_are_counted_together(void)
{
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_record records[6];
    struct ringmsg_stats stats = {.size = sizeof stats};
    for (int i = 0; i < 3; i++) {
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
        struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 64);
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, i < 2 ? 5 : 6));
        send_numbers(sender, 0, 2);
        EQUAL(hold_up_to(ring, records + 2 * i, 2), 2);
        close(sender);
        close(receiver);
    }
    OK(ringmsg_request_stats(ring, 5, &stats));
    EQUAL(stats.records, 4);
    EQUAL(stats.datagrams, 4);
    EQUAL(stats.payload_bytes, 16);
    EQUAL(stats.buffers_held, 4);
    EQUAL(stats.buffers_published, 4);
    EQUAL(stats.socket_drops, 0);
    OK(ringmsg_release(ring, records, 6));
    OK(ringmsg_request_stats(ring, 6, &stats));
    EQUAL(stats.records, 2);
    EQUAL(stats.buffers_held, 0);
    EQUAL(stats.buffers_published, 4); /* the owner's release publishes at once */
    OK(ringmsg_ring_free(ring));
}

TESTS(TEST(a_starved_request_sleeps_until_a_release_and_then_gets_everything),
      TEST(the_owners_release_rearms_without_a_reap),
      TEST(a_release_by_another_thread_wakes_a_sleeping_reap),
      TEST(a_release_by_another_thread_wakes_a_level_triggered_epoll),
      TEST(a_release_by_another_thread_wakes_an_edge_triggered_epoll),
      TEST(releases_by_another_thread_race_with_a_reap),
      TEST(releases_by_another_thread_race_with_an_epoll_loop),
      TEST(starvation_is_never_reported_as_a_socket_error),
      TEST(requests_with_one_user_data_are_counted_together))
