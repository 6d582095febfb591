/* The end of a ring: from any thread, with requests armed, records held and a reap asleep.
 * Nothing may leak, and the kernel may not write to memory that is no longer the ring's. */
#include "test.h"

#include <sys/prctl.h>

#define BUFFERS 16
#define BURST 8

static struct setup {
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
} it;

static pthread_t start(void *(*run)(void *))
{
    pthread_t thread;
    EQUAL(pthread_create(&thread, NULL, run, NULL), 0);
    return thread;
}

/* A socket on this port of loopback, 0 any. */
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
        send(it.sender, "hello", 5, 0); /* refused once the port is gone */
}

/* A ring with a multishot request, single-shots of both forms on a quiet socket, and held
 * records, in the calling thread. */
static void set_up(int single_shots)
{
    socklen_t length;
    it.ring = make_ring();
    it.receiver = bound_to(0);
    struct sockaddr_storage address = address_of(it.receiver, &length);
    it.port = ((struct sockaddr_in *)&address)->sin_port;
    it.sender = sender_to(it.receiver);
    it.pool = make_pool(it.ring, it.receiver, BUFFERS, 2048);
    it.base = (uint8_t *)(uintptr_t)ringmsg_pool_base(it.pool);
    it.size = ringmsg_pool_size(it.pool);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
    if (single_shots) {
        int quiet = bound_udp(AF_INET);
        it.part = (struct iovec){it.payload, sizeof it.payload};
        it.message = (struct msghdr){.msg_iov = &it.part, .msg_iovlen = 1};
        OK(ringmsg_recvmsg(it.ring, quiet, &it.message, 0, 0, 2));
        OK(ringmsg_recvmsg_once(it.ring, make_pool(it.ring, quiet, 4, 2048), quiet, 0, 0, 3));
        close(quiet);
    }
    send_burst();
    for (int have = 0; have < BURST;)
        have += reap_ms(it.ring, it.held + have, (uint32_t)(BURST - have), 2000);
}

/* The ring is gone: the port is free at once, and nothing is written where the pool was,
 * although somebody sends. */
static void nothing_is_left(void)
{
    close(it.receiver);
    int again = bound_to(it.port);
    uint8_t *mine = mmap(it.base, it.size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (mine == MAP_FAILED)
        FAIL("the pool is still mapped: %s", strerror(errno));
    CHECK(mine == it.base);
    memset(mine, 0xA5, it.size);
    memset(it.payload, 0x5A, sizeof it.payload);
    for (int round = 0; round < 3; round++) {
        send_burst();
        sleep_ms(10);
    }
    for (size_t at = 0; at < it.size; at++)
        if (mine[at] != 0xA5)
            FAIL("byte %zu of the old pool was written", at);
    for (size_t at = 0; at < sizeof it.payload; at++)
        EQUAL(it.payload[at], 0x5A);
    munmap(mine, it.size);
    close(again);
    close(it.sender);
}

/* How many mappings this process has. */
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

static void by_the_owner_with_requests_armed_and_records_held(void)
{
    set_up(0);
    EQUAL(ringmsg_ring_free(it.ring), 0);
    nothing_is_left();
    set_up(1);
    send_burst(); /* and datagrams not reaped */
    EQUAL(ringmsg_ring_free(it.ring), 0);
    nothing_is_left();
}

/* With every buffer held the request is starved: it is in no kernel. */
static void with_a_starved_request(void)
{
    set_up(0);
    struct ringmsg_record more[BUFFERS];
    send_burst();
    send_burst();
    for (int have = 0; have < BUFFERS - BURST;)
        have += reap_ms(it.ring, more, BUFFERS, 2000);
    reap_nothing(it.ring, 20);
    EQUAL(stats_of(it.ring).starvations, 1);
    EQUAL(ringmsg_ring_free(it.ring), 0);
    nothing_is_left();
}

static void null_and_twice(void)
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
    answer = ringmsg_reap(it.ring, &record, NULL, 1, NULL);
    return NULL;
}

static void while_the_owner_sleeps_in_reap(void)
{
    for (int round = 0; round < 4; round++) {
        set_up_done = answer = 0;
        pthread_t owner = start(own_and_reap);
        while (!set_up_done)
            sleep_ms(1);
        sleep_ms(round * 2);
        EQUAL(ringmsg_ring_free(it.ring), 0);
        pthread_join(owner, NULL);
        EQUAL(answer, -ECANCELED);
        nothing_is_left();
    }
}

static void *own_and_linger_on(void *unused)
{
    (void)unused;
    set_up(1);
    set_up_done = 1;
    while (!may_exit)
        sleep_ms(1);
    return NULL;
}

static void while_the_owner_does_something_else(void)
{
    for (int round = 0; round < 4; round++) {
        set_up_done = may_exit = 0;
        pthread_t owner = start(own_and_linger_on);
        while (!set_up_done)
            sleep_ms(1);
        EQUAL(ringmsg_ring_free(it.ring), 0);
        nothing_is_left();
        may_exit = 1;
        pthread_join(owner, NULL);
    }
}

static void after_the_owners_exit(void)
{
    may_exit = 1;
    for (int round = 0; round < 4; round++) {
        struct ringmsg_record record;
        struct ringmsg_wait wait = wait_ms(20);
        pthread_join(start(own_and_linger_on), NULL);
        if (is_bound())
            REFUSED(ringmsg_reap(it.ring, &record, NULL, 1, &wait), EOWNERDEAD);
        EQUAL(ringmsg_ring_free(it.ring), 0);
        nothing_is_left();
    }
}

/* Only a blocking reap may be met: what comes after ring_free has begun would be undefined. */
static void while_the_owner_sleeps_under_traffic(void)
{
    for (int round = 0; round < 8; round++) {
        set_up_done = answer = 0;
        pthread_t owner = start(own_and_reap);
        while (!set_up_done)
            sleep_ms(1);
        sleep_ms(5);
        send(it.sender, "x", 1, 0); /* the reap may return it, or -ECANCELED */
        EQUAL(ringmsg_ring_free(it.ring), 0);
        pthread_join(owner, NULL);
        CHECK(answer == 1 || answer == -ECANCELED);
        nothing_is_left();
    }
}

/* --- with a forked child ----------------------------------------------------------------- */

/* A child that never calls the library, and has only what fork gave it. */
static pid_t forked(void)
{
    int ready[2];
    char byte;
    fflush(NULL);
    SYS(pipe(ready));
    pid_t child = (pid_t)SYS(fork());
    if (child == 0) {
        /* Not to outlive a test that fails, nor keep its output open; and the program's own copy
         * of its socket would keep the port. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(it.receiver), close(1), close(2);
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

static void with_a_forked_child_alive(void)
{
    set_up(1);
    pid_t child = forked();
    sleep_ms(20);
    EQUAL(ringmsg_ring_free(it.ring), 0);
    nothing_is_left();
    reap_child(child);

    set_up_done = answer = 0;
    pthread_t owner = start(own_and_reap);
    while (!set_up_done)
        sleep_ms(1);
    child = forked();
    sleep_ms(20);
    EQUAL(ringmsg_ring_free(it.ring), 0);
    pthread_join(owner, NULL);
    EQUAL(answer, -ECANCELED);
    nothing_is_left();
    reap_child(child);
}

/* --- again and again --------------------------------------------------------------------- */

static void a_thousand_rings_leave_nothing(void)
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
        CHECK(resident_kib() < resident + 512);
    }
}

static void the_ends_of_other_tests_leave_nothing(void)
{
    int descriptors = open_descriptors(), maps;
    by_the_owner_with_requests_armed_and_records_held();
    may_exit = 1;
    pthread_join(start(own_and_linger_on), NULL); /* the first thread's stack stays mapped */
    EQUAL(ringmsg_ring_free(it.ring), 0);
    nothing_is_left();
    maps = mappings();
    for (int round = 0; round < 5; round++) {
        by_the_owner_with_requests_armed_and_records_held();
        pthread_join(start(own_and_linger_on), NULL);
        EQUAL(ringmsg_ring_free(it.ring), 0);
        nothing_is_left();
    }
    EQUAL(open_descriptors(), descriptors);
    if (COUNTS_MEMORY)
        CHECK(mappings() <= maps);
}

/* A ring that was never enabled, and one whose pool nobody used. */
static void unused_rings(void)
{
    int descriptors = open_descriptors();
    struct ringmsg_ring *ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    it.receiver = bound_udp(AF_INET);
    make_pool(ring, it.receiver, 4, 2048);
    OK(ringmsg_ring_fd(ring));
    EQUAL(ringmsg_ring_free(ring), 0);
    ring = make_ring();
    make_pool(ring, it.receiver, 4, 2048);
    EQUAL(ringmsg_ring_free(ring), 0);
    close(it.receiver);
    EQUAL(open_descriptors(), descriptors);
}

static void *make_disabled(void *unused)
{
    (void)unused;
    it.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    return NULL;
}

static void made_by_a_thread_that_is_gone(void)
{
    pthread_join(start(make_disabled), NULL);
    EQUAL(ringmsg_ring_free(it.ring), 0);
}

TESTS(TEST_SQPOLL_TOO(by_the_owner_with_requests_armed_and_records_held),
      TEST(with_a_starved_request), TEST(null_and_twice),
      TEST_SQPOLL_TOO(while_the_owner_sleeps_in_reap), TEST(while_the_owner_does_something_else),
      TEST_SQPOLL_TOO(after_the_owners_exit), TEST(while_the_owner_sleeps_under_traffic),
      TEST_SQPOLL_TOO(with_a_forked_child_alive), TEST(a_thousand_rings_leave_nothing),
      TEST(the_ends_of_other_tests_leave_nothing), TEST(unused_rings),
      TEST(made_by_a_thread_that_is_gone))
