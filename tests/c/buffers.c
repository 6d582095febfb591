/* Buffers run out: nothing is lost, nothing spins, and the counters say what happened. */
#include "test.h"

#include <linux/netlink.h>

#define ALL 40
#define BUFFERS 16

/* Sends the numbers from `first` up to, without, `end`. */
static void send_numbers(int sender, uint32_t first, uint32_t end)
{
    for (uint32_t number = first; number < end; number++)
        EQUAL(SYS(send(sender, &number, sizeof number, 0)), sizeof number);
}

/* Checks that the records hold the numbers from `next` on; the number that must come then. */
static uint32_t check_numbers(struct ringmsg_ring *ring, const struct ringmsg_record *records, int n, uint32_t next)
{
    for (int i = 0; i < n; i++, next++) {
        uint32_t number;
        EQUAL(records[i].result, sizeof number);
        EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
        memcpy(&number, payload_of(ring, &records[i]), sizeof number);
        EQUAL(number, next);
    }
    return next;
}

/* Reaps without releasing until `records` holds `count` records or nothing comes for 200 ms. */
static int hold_up_to(struct ringmsg_ring *ring, struct ringmsg_record *records, int count)
{
    int held = 0;
    while (held < count) {
        int n = reap_ms(ring, records + held, (uint32_t)(count - held), 200);
        if (n == 0)
            break;
        held += n;
    }
    return held;
}

/* A starved request: BUFFERS records held, the other numbers waiting in the socket. */
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
        FAIL("%d kernel entries in 300 ms: it spins", (int)(stats_of(s.ring).enters - enters));

    /* Four at a time, everything else always held. */
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

/* The release alone arms again, without a reap: with its own kernel entry. */
static void the_owners_release_arms_by_itself(void)
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

static void a_release_elsewhere_wakes_a_sleeping_reap(void)
{
    struct starved s;
    pthread_t thread;
    starve(&s);
    EQUAL(pthread_create(&thread, NULL, release_some_later, &s), 0);
    uint32_t next = BUFFERS;
    int64_t start = now_ns();
    for (int held = BUFFERS; held < 2 * BUFFERS;) {
        int n = reap_ms(s.ring, s.held + held, (uint32_t)(ALL - held), 20000);
        CHECK(n > 0);
        next = check_numbers(s.ring, s.held + held, n, next);
        held += n;
    }
    CHECK(now_ns() - start < 10000000000);
    pthread_join(thread, NULL);
    if (stats_of(s.ring).enters > 200)
        FAIL("%d kernel entries: it spins", (int)stats_of(s.ring).enters);
    OK(ringmsg_ring_free(s.ring));
}

static void epoll_sees_a_release_elsewhere(uint32_t trigger)
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
            continue; /* plain and COOP rings disturb the thread that armed */
        EQUAL(ready, 1);
        int n = reap_ms(s.ring, s.held + held, (uint32_t)(ALL - held), 0);
        next = check_numbers(s.ring, s.held + held, n, next);
        held += n;
    }
    pthread_join(thread, NULL);
    if (wakeups > 60)
        FAIL("%d wake-ups for %d datagrams: it spins", wakeups, BUFFERS);
    OK(ringmsg_ring_free(s.ring));
}

static void a_release_elsewhere_wakes_a_level_triggered_epoll(void)
{
    epoll_sees_a_release_elsewhere(0);
}

static void a_release_elsewhere_wakes_an_edge_triggered_epoll(void)
{
    epoll_sees_a_release_elsewhere(EPOLLET);
}

/* The owner hands every record to a thread that releases it, with a pool so small that the
 * release and the next want of buffers race all the time. The sender is never far ahead, so
 * that the socket drops nothing. */
#define RACE 30000
static struct {
    struct ringmsg_ring *ring;
    int sender;
    struct ringmsg_record records[RACE];
    uint32_t received; /* shared, as is `records` below it */
} race;

static void *race_send(void *unused)
{
    (void)unused;
    for (uint32_t number = 0; number < RACE; number++) {
        while (number - __atomic_load_n(&race.received, __ATOMIC_ACQUIRE) >= 64)
            sched_yield();
        send_numbers(race.sender, number, number + 1);
    }
    return NULL;
}

static void *race_release(void *unused)
{
    (void)unused;
    for (uint32_t released = 0; released < RACE;) {
        uint32_t received = __atomic_load_n(&race.received, __ATOMIC_ACQUIRE);
        if (received == released)
            sched_yield();
        else
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
            FAIL("deaf after %u datagrams", received);
        int n = ringmsg_reap(race.ring, race.records + received, NULL, RACE - received, &wait);
        if (n == -EINTR)
            continue;
        if (OK(n) == 0 && !uses_epoll)
            FAIL("deaf after %u datagrams", received);
        received = check_numbers(race.ring, race.records + received, n, received);
        __atomic_store_n(&race.received, received, __ATOMIC_RELEASE);
    }
    pthread_join(sending, NULL);
    pthread_join(releasing, NULL);
    struct ringmsg_stats stats = stats_of(race.ring);
    EQUAL(stats.socket_drops, 0);
    EQUAL(stats.errors, 0);
    EQUAL(stats.buffers_held, 0);
    CHECK(stats.starvations > 0);
    OK(ringmsg_ring_free(race.ring));
}

static void releases_elsewhere_race_with_a_reaping_owner(void)
{
    race_with(0);
}

static void releases_elsewhere_race_with_an_epoll_loop(void)
{
    race_with(1);
}

/* --- the window -------------------------------------------------------------------------- */

/* `SOCKETS` sockets that share a pool of this many buffers, with the numbers up to `EACH`
 * queued at each. */
#define SOCKETS 4
#define EACH 50
static struct shared {
    struct ringmsg_ring *ring;
    int senders[SOCKETS];
    uint32_t next[SOCKETS];
} share(uint32_t buffers)
{
    struct shared s = {.ring = make_ring()};
    struct ringmsg_pool *pool = NULL;
    for (uint64_t i = 0; i < SOCKETS; i++) {
        int receiver = bound_udp(AF_INET);
        s.senders[i] = sender_to(receiver);
        if (pool == NULL)
            pool = make_pool(s.ring, receiver, buffers, 64);
        OK(ringmsg_recvmsg_multishot(s.ring, pool, receiver, 0, 0, i));
    }
    for (uint64_t i = 0; i < SOCKETS; i++)
        send_numbers(s.senders[i], 0, EACH);
    return s;
}

/* Reaps what was queued, in order for each socket, `at_most` records at a time, which are
 * released in between or not. */
static void reap_shared(struct shared *s, uint32_t at_most, int releases)
{
    static struct ringmsg_record records[SOCKETS * EACH];
    for (int done = 0, n; done < SOCKETS * EACH; done += n) {
        n = reap_ms(s->ring, records, at_most, 2000);
        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            s->next[records[i].user_data] = check_numbers(s->ring, records + i, 1, s->next[records[i].user_data]);
        if (releases)
            OK(ringmsg_release(s->ring, records, (uint32_t)n));
    }
}

/* In DEFER mode it takes several sockets to outrun the window: the kernel hands over 33
 * completions of a socket at a time. */
static void a_narrow_window_is_a_miss_and_not_a_starvation(void)
{
    struct shared s = share(256);
    reap_shared(&s, SOCKETS * EACH, 0);
    struct ringmsg_stats stats = stats_of(s.ring);
    EQUAL(stats.starvations, 0);
    EQUAL(stats.errors, 0);
    CHECK(stats.window_misses >= 1);
    EQUAL(stats.buffers_held, SOCKETS * EACH);
    CHECK(stats.buffers_held + stats.buffers_published <= 256);
    OK(ringmsg_ring_free(s.ring));
}

static void sockets_that_share_a_pool_all_live_on(void)
{
    for (uint32_t at_most = 1; at_most <= 8; at_most++) {
        struct shared s = share(8);
        reap_shared(&s, at_most, 1);
        EQUAL(stats_of(s.ring).errors, 0);
        CHECK(stats_of(s.ring).starvations > 0);
        for (uint32_t i = 0; i < SOCKETS; i++) {
            send_numbers(s.senders[i], 0, 1);
            struct ringmsg_record record = reap_one(s.ring);
            EQUAL(record.user_data, i);
            OK(ringmsg_release(s.ring, &record, 1));
        }
        OK(ringmsg_ring_free(s.ring));
    }
}

/* The kernel uses the pool up in one go, and the caller reaps a few records at a time and
 * releases them: by the time the end of the request is looked at there are buffers again. */
static void small_arrays_make_no_errors(void)
{
    enum { COUNT = 200 };
    for (uint32_t capacity = 1; capacity <= 32; capacity += capacity < 6 ? 1 : 13) {
        struct ringmsg_ring *ring = make_ring();
        struct ringmsg_record records[32];
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver), n;
        set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
        OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, BUFFERS, 64), receiver, 0, 0, 0));
        send_numbers(sender, 0, COUNT);
        for (uint32_t next = 0; next < COUNT; OK(ringmsg_release(ring, records, (uint32_t)n))) {
            n = reap_ms(ring, records, capacity, 2000);
            CHECK(n > 0);
            next = check_numbers(ring, records, n, next);
        }
        struct ringmsg_stats stats = stats_of(ring);
        EQUAL(stats.errors, 0);
        EQUAL(stats.records, COUNT);
        EQUAL(stats.window_misses, 0); /* the whole pool was published all the time */
        OK(ringmsg_ring_free(ring));
    }
}

/* --- not for want of buffers ------------------------------------------------------------- */

static struct sockaddr_nl everybody = {.nl_family = AF_NETLINK, .nl_groups = 1};

static int listening_netlink(void)
{
    int fd = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
    struct sockaddr_nl address = {.nl_family = AF_NETLINK};
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &(int){1}, sizeof(int)) != 0) {
        printf("(skipped: joining a netlink group: %s)\n", strerror(errno));
        exit(0);
    }
    set_int(fd, SOL_SOCKET, SO_RCVBUF, 1);
    return fd;
}

/* To the group. That it reached nobody at address 0 besides, says sendto, is no matter. */
static void send_to_group(int sender, size_t size)
{
    static const char message[600];
    sendto(sender, message, size, 0, (struct sockaddr *)&everybody, sizeof everybody);
}

static void *flood(void *sender)
{
    for (int i = 0; i < 3000; i++)
        send_to_group(*(int *)sender, 600);
    return NULL;
}

static void an_overflowed_netlink_socket_says_so_and_lives_on(void)
{
    int receiver = listening_netlink();
    int sender = (int)SYS(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK));
    pthread_t thread;
    flood(&sender); /* before it is armed, so that one error is certain */
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = make_pool(ring, receiver, 64, 1024);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 3));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.result, -ENOBUFS);
    EQUAL(record.flags, 0);
    EQUAL(record.user_data, 3);

    EQUAL(pthread_create(&thread, NULL, flood, &sender), 0);
    int quiet = 0, errors = 1, data = 0;
    while (quiet < 3) {
        if (reap_ms(ring, &record, 1, 100) == 0) {
            quiet++;
            continue;
        }
        EQUAL(record.flags & RINGMSG_RECORD_FINAL, 0);
        errors += record.result == -ENOBUFS;
        data += record.result == 600;
        CHECK(record.result == 600 || record.result == -ENOBUFS);
        OK(ringmsg_release(ring, &record, 1));
    }
    pthread_join(thread, NULL);
    CHECK(data > 0);
    struct ringmsg_stats stats = stats_of(ring);
    EQUAL(stats.errors, errors);
    EQUAL(stats.starvations, 0);
    EQUAL(stats.rearms, errors);

    send_to_group(sender, 4);
    EQUAL(reap_one(ring).result, 4);
    OK(ringmsg_ring_free(ring));
}

static void a_full_completion_queue_loses_nothing(void)
{
    enum { COUNT = 150 };
    for (uint32_t buffers = 4; buffers <= 256; buffers *= 8) {
        struct ringmsg_ring *ring = make_ring_with(0, 4);
        struct ringmsg_record records[3];
        int receiver = bound_udp(AF_INET), sender = sender_to(receiver), n;
        set_int(receiver, SOL_SOCKET, SO_RCVBUF, 1 << 20);
        OK(ringmsg_recvmsg_multishot(ring, make_pool(ring, receiver, buffers, 64), receiver, 0, 0, 0));
        for (uint32_t round = 0; round < 3; round++) {
            send_numbers(sender, 0, COUNT);
            for (uint32_t next = 0; next < COUNT; OK(ringmsg_release(ring, records, (uint32_t)n))) {
                n = reap_ms(ring, records, 3, 2000);
                if (n == 0)
                    FAIL("deaf after %u datagrams", next);
                next = check_numbers(ring, records, n, next);
            }
        }
        struct ringmsg_stats stats = stats_of(ring);
        EQUAL(stats.errors, 0);
        EQUAL(stats.records, 3 * COUNT);
        EQUAL(stats.socket_drops, 0);
        if (buffers > 4)
            CHECK(stats.cq_overflows > 0);
        OK(ringmsg_ring_free(ring));
    }
}

TESTS(TEST(a_starved_request_sleeps_until_a_release_and_then_gets_everything),
      TEST(the_owners_release_arms_by_itself),
      TEST(a_release_elsewhere_wakes_a_sleeping_reap),
      TEST(a_release_elsewhere_wakes_a_level_triggered_epoll),
      TEST(a_release_elsewhere_wakes_an_edge_triggered_epoll),
      TEST(releases_elsewhere_race_with_a_reaping_owner),
      TEST(releases_elsewhere_race_with_an_epoll_loop),
      TEST(a_narrow_window_is_a_miss_and_not_a_starvation),
      TEST(small_arrays_make_no_errors),
      TEST(sockets_that_share_a_pool_all_live_on),
      TEST(an_overflowed_netlink_socket_says_so_and_lives_on),
      TEST(a_full_completion_queue_loses_nothing))
