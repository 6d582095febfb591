/* Any thread can free a ring, with requests armed, records held and a reap asleep. Nothing leaks,
 * and the kernel does not write to memory that the ring has unmapped. */
#include "test.h"

#include <sys/prctl.h>

#define BUFFERS 16
#define BURST 8

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
    uint16_t port;
    uint8_t *base;
    size_t size;
    struct ringmsg_record held[BURST];
    char payload[64];
    struct iovec part;
    struct msghdr message;
} fixture;

static pthread_t start(void *(*run)(void *))
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, run, NULL), 0);
    return thread;
}

/* Makes a socket bound to this port of loopback; 0: any port. */
static int bound_to(uint16_t port)
{
    int fd = (int)SYS(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    SYS(bind(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static void send_burst(void)
{
    for (int i = 0; i < BURST; i++)
        send(fixture.sender, "hello", 5, 0); /* refused once the port is closed */
}

/* Makes a ring with a multishot request, single-shots of both kinds on a socket without traffic,
 * and held records, in the calling thread. */
static void set_up(int single_shots)
{
    socklen_t length;
    fixture.ring = make_ring();
    fixture.receiver = bound_to(0);
    struct sockaddr_storage address = address_of(fixture.receiver, &length);
    fixture.port = ((struct sockaddr_in *)&address)->sin_port;
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, BUFFERS, 2048);
    fixture.base = (uint8_t *)(uintptr_t)ringmsg_pool_base(fixture.pool);
    fixture.size = ringmsg_pool_size(fixture.pool);
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    if (single_shots) {
        int quiet = bound_udp(AF_INET);
        fixture.part = (struct iovec){fixture.payload, sizeof fixture.payload};
        fixture.message = (struct msghdr){.msg_iov = &fixture.part, .msg_iovlen = 1};
        OK(ringmsg_recvmsg(fixture.ring, quiet, &fixture.message, 0, 0, 2));
        OK(ringmsg_recvmsg_once(fixture.ring, make_pool(fixture.ring, quiet, 4, 2048), quiet, 0, 0, 3));
        close(quiet);
    }
    send_burst();
    for (int have = 0; have < BURST;)
        have += reap_ms(fixture.ring, fixture.held + have, (uint32_t)(BURST - have), 2000);
}

/* Checks that the port is free at once, and that the kernel writes nothing where the pool was
 * although datagrams arrive. */
static void check_nothing_is_left(void)
{
    close(fixture.receiver);
    int again = bound_to(fixture.port);
    uint8_t *mine = mmap(fixture.base, fixture.size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mine == MAP_FAILED)
        FAIL("the pool is still mapped: %s", strerror(errno));
    SAME_POINTER(mine, fixture.base);
    memset(mine, 0xA5, fixture.size);
    memset(fixture.payload, 0x5A, sizeof fixture.payload);
    for (int round = 0; round < 3; round++) {
        send_burst();
        sleep_ms(10);
    }
    for (size_t at = 0; at < fixture.size; at++)
        if (mine[at] != 0xA5)
            FAIL("the kernel wrote to byte %zu of the unmapped pool", at);
    for (size_t at = 0; at < sizeof fixture.payload; at++)
        EQUAL(fixture.payload[at], 0x5A);
    munmap(mine, fixture.size);
    close(again);
    close(fixture.sender);
}

/* Counts the mappings of this process. */
static int mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int lines = 0;
    CHECK(maps != NULL);
    for (int c; (c = getc(maps)) != EOF;)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

static long resident_kib(void)
{
    long pages = 0, all = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%ld %ld", &all, &pages) == 2);
    fclose(statm);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* --- by the owner ------------------------------------------------------------------------ */

static void the_owner_frees_with_requests_armed_and_records_held(void)
{
    set_up(0);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    check_nothing_is_left();
    set_up(1);
    send_burst(); /* datagrams that are not reaped */
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    check_nothing_is_left();
}

/* With every buffer held the request is starved, so the kernel has no request to cancel. */
static void a_ring_with_a_starved_request_is_freed(void)
{
    set_up(0);
    struct ringmsg_record more[BUFFERS];
    send_burst();
    send_burst();
    for (int have = 0; have < BUFFERS - BURST;)
        have += reap_ms(fixture.ring, more, BUFFERS, 2000);
    reap_nothing(fixture.ring, 20);
    EQUAL(stats_of(fixture.ring).starvations, 1);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    check_nothing_is_left();
}

static void freeing_null_succeeds_and_freeing_twice_is_refused(void)
{
    EQUAL(ringmsg_ring_free(NULL), 0);
    struct ringmsg_ring *ring = make_ring();
    EQUAL(ringmsg_ring_free(ring), 0);
    REFUSED(ringmsg_ring_free(ring), EINVAL);
}

/* --- by another thread ------------------------------------------------------------------- */

static volatile int set_up_done, may_exit, answer;

static void *own_and_reap(void *unused)
{
    struct ringmsg_record record;
    (void)unused;
    set_up(1);
    set_up_done = 1;
    answer = ringmsg_reap(fixture.ring, &record, NULL, 1, NULL);
    return NULL;
}

static void ring_free_ends_a_sleeping_reap(void)
{
    for (int round = 0; round < 4; round++) {
        set_up_done = answer = 0;
        pthread_t owner = start(own_and_reap);
        while (!set_up_done)
            sleep_ms(1);
        sleep_ms(round * 2);
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        pthread_join(owner, NULL);
        EQUAL(answer, -ECANCELED);
        check_nothing_is_left();
    }
}

static void *own_until_may_exit(void *unused)
{
    (void)unused;
    set_up(1);
    set_up_done = 1;
    while (!may_exit)
        sleep_ms(1);
    return NULL;
}

static void another_thread_frees_while_the_owner_is_busy(void)
{
    for (int round = 0; round < 4; round++) {
        set_up_done = may_exit = 0;
        pthread_t owner = start(own_until_may_exit);
        while (!set_up_done)
            sleep_ms(1);
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        check_nothing_is_left();
        may_exit = 1;
        pthread_join(owner, NULL);
    }
}

static void another_thread_frees_after_the_owners_exit(void)
{
    may_exit = 1;
    for (int round = 0; round < 4; round++) {
        struct ringmsg_record record;
        struct ringmsg_wait wait = wait_ms(20);
        pthread_join(start(own_until_may_exit), NULL);
        if (is_bound())
            REFUSED(ringmsg_reap(fixture.ring, &record, NULL, 1, &wait), EOWNERDEAD);
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        check_nothing_is_left();
    }
}

/* The reap must have begun before ring_free: one that begins later is undefined. */
static void ring_free_ends_a_reap_under_traffic(void)
{
    for (int round = 0; round < 8; round++) {
        set_up_done = answer = 0;
        pthread_t owner = start(own_and_reap);
        while (!set_up_done)
            sleep_ms(1);
        sleep_ms(5);
        send(fixture.sender, "x", 1, 0); /* the reap returns it, or -ECANCELED */
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        pthread_join(owner, NULL);
        ONE_OF(answer, 1, -ECANCELED);
        check_nothing_is_left();
    }
}

/* --- with a forked child ----------------------------------------------------------------- */

/* Forks a child that never calls the library and has only what it inherited. */
static pid_t forked(void)
{
    int ready[2];
    char byte;
    fflush(NULL);
    SYS(pipe(ready));
    pid_t child = (pid_t)SYS(fork());
    if (child == 0) {
        /* The child must not outlive a failing test nor keep its output open. Its copy of the
         * socket would keep the port bound. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fixture.receiver), close(1), close(2);
        SYS(write(ready[1], "x", 1));
        for (;;)
            pause();
    }
    EQUAL(SYS(read(ready[0], &byte, 1)), 1);
    close(ready[0]), close(ready[1]);
    return child;
}

static void reap_child(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void a_forked_child_keeps_nothing_of_the_ring_alive(void)
{
    set_up(1);
    pid_t child = forked();
    sleep_ms(20);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    check_nothing_is_left();
    reap_child(child);

    set_up_done = answer = 0;
    pthread_t owner = start(own_and_reap);
    while (!set_up_done)
        sleep_ms(1);
    child = forked();
    sleep_ms(20);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    pthread_join(owner, NULL);
    EQUAL(answer, -ECANCELED);
    check_nothing_is_left();
    reap_child(child);
}

/* --- repetition --------------------------------------------------------------------------- */

static void a_thousand_rings_leak_nothing(void)
{
    int descriptors = 0, maps = 0;
    long resident = 0;
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    for (int i = 0; i < 1000; i++) {
        struct ringmsg_ring *ring = make_ring();
        struct ringmsg_pool *pool = make_pool(ring, receiver, 4, 2048);
        OK(ringmsg_ring_fd(ring));
        OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 0));
        SYS(send(sender, "x", 1, 0));
        reap_one(ring);
        EQUAL(ringmsg_ring_free(ring), 0);
        if (i == 100) {
            descriptors = open_descriptors();
            maps = mappings();
            resident = resident_kib();
        }
    }
    EQUAL(open_descriptors(), descriptors);
    if (COUNTS_MEMORY) {
        EQUAL(mappings(), maps);
        COMPARE(resident_kib(), <, resident + 512);
    }
}

static void repeated_teardowns_leak_nothing(void)
{
    int descriptors = open_descriptors(), maps;
    the_owner_frees_with_requests_armed_and_records_held();
    may_exit = 1;
    pthread_join(start(own_until_may_exit), NULL); /* the stack of the first thread stays mapped */
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    check_nothing_is_left();
    maps = mappings();
    for (int round = 0; round < 5; round++) {
        the_owner_frees_with_requests_armed_and_records_held();
        pthread_join(start(own_until_may_exit), NULL);
        EQUAL(ringmsg_ring_free(fixture.ring), 0);
        check_nothing_is_left();
    }
    EQUAL(open_descriptors(), descriptors);
    if (COUNTS_MEMORY)
        COMPARE(mappings(), <=, maps);
}

/* One ring was never enabled, the other has a pool without a request. */
static void unused_rings_are_freed(void)
{
    int descriptors = open_descriptors();
    struct ringmsg_ring *ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    fixture.receiver = bound_udp(AF_INET);
    make_pool(ring, fixture.receiver, 4, 2048);
    OK(ringmsg_ring_fd(ring));
    EQUAL(ringmsg_ring_free(ring), 0);
    ring = make_ring();
    make_pool(ring, fixture.receiver, 4, 2048);
    EQUAL(ringmsg_ring_free(ring), 0);
    close(fixture.receiver);
    EQUAL(open_descriptors(), descriptors);
}

static void *make_disabled(void *unused)
{
    (void)unused;
    fixture.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    return NULL;
}

static void a_disabled_ring_of_an_exited_thread_is_freed(void)
{
    pthread_join(start(make_disabled), NULL);
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
}

TESTS(TEST_SQPOLL_TOO(the_owner_frees_with_requests_armed_and_records_held),
      TEST(a_ring_with_a_starved_request_is_freed),
      TEST(freeing_null_succeeds_and_freeing_twice_is_refused),
      TEST_SQPOLL_TOO(ring_free_ends_a_sleeping_reap),
      TEST(another_thread_frees_while_the_owner_is_busy),
      TEST_SQPOLL_TOO(another_thread_frees_after_the_owners_exit),
      TEST(ring_free_ends_a_reap_under_traffic),
      TEST_SQPOLL_TOO(a_forked_child_keeps_nothing_of_the_ring_alive),
      TEST(a_thousand_rings_leak_nothing),
      TEST(repeated_teardowns_leak_nothing),
      TEST(unused_rings_are_freed),
      TEST(a_disabled_ring_of_an_exited_thread_is_freed))
