/* After fork(2) the ring belongs to the parent. In the child every call is refused except
 * ringmsg_ring_free, which frees the child's copy; the child inherits none of the library's
 * descriptors. The parent is not affected. */
#include "test.h"

#define CAPACITY 16

static struct ringmsg_record records[CAPACITY];

static struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} fixture;

static void set_up(void)
{
    fixture.ring = make_ring();
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 16, 2048);
    OK(ringmsg_ring_fd(fixture.ring));
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
}

/* Runs `body` in a child process and waits for it. */
static void in_child(void (*body)(void))
{
    int status;
    fflush(NULL);
    pid_t child = (pid_t)SYS(fork());
    if (child == 0) {
        body();
        exit(0);
    }
    SYS(waitpid(child, &status, 0));
    EQUAL(status, 0);
}

static void exchange_one(void)
{
    SYS(send(fixture.sender, "hello", 5, 0));
    struct ringmsg_record record = reap_one(fixture.ring);
    EQUAL(record.result, 5);
    OK(ringmsg_release(fixture.ring, &record, 1));
}

static void is_refused_everything(void)
{
    struct ringmsg_wait wait = wait_ms(100);
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_stats stats = {.size = sizeof stats};
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    struct msghdr message;
    int fd;
    memset(&message, 0, sizeof message);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_ring_enable(fixture.ring), EPERM);
    REFUSED(ringmsg_ring_info(fixture.ring, &info), EPERM);
    REFUSED(ringmsg_ring_fd(fixture.ring), EPERM);
    REFUSED(ringmsg_ring_stats(fixture.ring, &stats), EPERM);
    REFUSED(ringmsg_request_stats(fixture.ring, 1, &stats), EPERM);
    REFUSED(ringmsg_pool_new(fixture.ring, &config, &pool), EPERM);
    REFUSED(ringmsg_pool_free(fixture.pool), EPERM);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, 0, 0), EPERM);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 0), EPERM);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 0), EPERM);
    REFUSED(ringmsg_cancel(fixture.ring, 1), EPERM);
    REFUSED(ringmsg_submit(fixture.ring), EPERM);
    EQUAL(ringmsg_wake(fixture.ring), -EPERM);
    REFUSED(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait), EPERM);
    REFUSED(ringmsg_next(fixture.ring, records, 1, records, NULL, CAPACITY, &wait), EPERM);
    REFUSED(ringmsg_release(fixture.ring, records, 1), EPERM);
    REFUSED(ringmsg_take_fds(fixture.ring, records, &fd, 1), EPERM);
    SAME_POINTER(ringmsg_ring_pool(fixture.ring, 0), NULL);
    SAME_POINTER(ringmsg_pool_base(fixture.pool), NULL);
    EQUAL(ringmsg_pool_size(fixture.pool), 0);
    SAME_POINTER(pool, NULL);
}

static void child_is_refused_and_frees(void)
{
    is_refused_everything();
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    REFUSED(ringmsg_ring_free(fixture.ring), EINVAL);
}

static void a_child_is_refused_and_may_free(void)
{
    set_up();
    SYS(send(fixture.sender, "held", 4, 0));
    records[0] = reap_one(fixture.ring);
    in_child(child_is_refused_and_frees);
    in_child(is_refused_everything);
    /* No call of a child had an effect in the parent. */
    EQUAL(stats_of(fixture.ring).buffers_held, 1);
    OK(ringmsg_release(fixture.ring, records, 1));
    for (int i = 0; i < 100; i++)
        exchange_one();
    OK(ringmsg_ring_free(fixture.ring));
}

/* The child maps memory at the pool's old address and reuses the parent's descriptor numbers.
 * Freeing the ring must leave both alone. */
static uint8_t *pool_at;
static size_t pool_size;
static int first_free;

static void child_uses_the_same_places(void)
{
    uint8_t *mine = mmap(pool_at, pool_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    SAME_POINTER(mine, pool_at); /* the pool was not inherited */
    memset(mine, 1, pool_size);
    int mine_too[64];
    for (int i = 0; i < 64; i++)
        mine_too[i] = (int)SYS(dup(fixture.sender));
    COMPARE(mine_too[0], <, first_free); /* the library's descriptors were closed */
    EQUAL(ringmsg_ring_free(fixture.ring), 0);
    for (int i = 0; i < 64; i++)
        SYS(fcntl(mine_too[i], F_GETFD));
    EQUAL(mine[0] + mine[pool_size - 1], 2);
}

static void freeing_in_a_child_frees_only_the_rings_memory(void)
{
    set_up();
    pool_at = (uint8_t *)(uintptr_t)ringmsg_pool_base(fixture.pool);
    pool_size = ringmsg_pool_size(fixture.pool);
    first_free = (int)SYS(dup(fixture.sender));
    close(first_free);
    in_child(child_uses_the_same_places);
    exchange_one();
    OK(ringmsg_ring_free(fixture.ring));
}

static int before_any;

static void child_counts_descriptors(void)
{
    EQUAL(open_descriptors(), before_any);
}

static void a_child_keeps_none_of_the_librarys_descriptors(void)
{
    fixture.receiver = bound_udp(AF_INET);
    fixture.sender = sender_to(fixture.receiver);
    before_any = open_descriptors();
    fixture.ring = make_ring();
    fixture.pool = make_pool(fixture.ring, fixture.receiver, 16, 2048);
    OK(ringmsg_ring_fd(fixture.ring));
    OK(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0, 0, 1));
    exchange_one();
    COMPARE(open_descriptors(), >, before_any);
    in_child(child_counts_descriptors);
    exchange_one();
    OK(ringmsg_ring_free(fixture.ring));
    EQUAL(open_descriptors(), before_any);
}

static void child_makes_its_own(void)
{
    struct ringmsg_ring *parents = fixture.ring;
    close(fixture.receiver);
    set_up();
    exchange_one();
    EQUAL(ringmsg_ring_free(parents), 0);
    exchange_one();
    OK(ringmsg_ring_free(fixture.ring));
}

static void a_child_may_make_its_own_ring(void)
{
    set_up();
    in_child(child_makes_its_own);
    exchange_one();
    OK(ringmsg_ring_free(fixture.ring));
}

static volatile int stop;

/* Returns a descriptor of the library that this process has, or -1. */
static int inherited(void)
{
    char path[32], what[64];
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, what, sizeof what - 1);
        if (length < 0)
            continue;
        what[length] = 0;
        if (strstr(what, "io_uring") != NULL || strstr(what, "eventfd") != NULL)
            return fd;
    }
    return -1;
}

static void *fork_again_and_again(void *unused)
{
    (void)unused;
    /* Under valgrind a fork takes about a second. */
    for (int i = 0; i < 500 / (TEST_TIME_FACTOR * TEST_TIME_FACTOR); i++) {
        pid_t child = (pid_t)SYS(fork());
        if (child == 0) /* 1: the call was allowed; 2: an inherited descriptor pins the parent's ring */
            _exit(ringmsg_wake(fixture.ring) != -EPERM ? 1 : inherited() >= 0 ? 2 : 0);
        int status;
        SYS(waitpid(child, &status, 0));
        EQUAL(status, 0);
    }
    stop = 1;
    ringmsg_wake(fixture.ring);
    return NULL;
}

/* Another thread forks while this one receives, and makes and frees rings. */
static void the_parent_keeps_receiving_while_a_thread_forks(void)
{
    pthread_t thread;
    set_up();
    stop = 0;
    EQUAL(pthread_create(&thread, NULL, fork_again_and_again, NULL), 0);
    while (!stop) {
        SYS(send(fixture.sender, "hello", 5, 0));
        struct ringmsg_wait wait = wait_ms(2000);
        int n = OK(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait));
        CHECK(n == 1 || (n == 0 && stop));
        OK(ringmsg_release(fixture.ring, records, (uint32_t)n));
        struct ringmsg_ring *other = make_ring();
        make_pool(other, fixture.receiver, 2, 64);
        OK(ringmsg_ring_free(other));
    }
    pthread_join(thread, NULL);
    OK(ringmsg_ring_free(fixture.ring));
}

TESTS(TEST_SQPOLL_TOO(a_child_is_refused_and_may_free),
      TEST(freeing_in_a_child_frees_only_the_rings_memory),
      TEST_SQPOLL_TOO(a_child_keeps_none_of_the_librarys_descriptors),
      TEST_SQPOLL_TOO(a_child_may_make_its_own_ring),
      TEST(the_parent_keeps_receiving_while_a_thread_forks))
