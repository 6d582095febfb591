/* NULL for every pointer, unknown flags, reserved fields that are set, descriptors of no socket. */
#include "bad_input.h"

/* --- NULL -------------------------------------------------------------------------------- */

static void null_for_every_pointer(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part), no_parts = message_of(NULL);
    struct ringmsg_pool_config config;
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_stats stats = {.size = sizeof stats};
    struct ringmsg_metadata metadata;
    struct ringmsg_cmsg cursor = {.offset = 0};
    struct ringmsg_pool *pool = NULL;
    struct ringmsg_record record = {.flags = 0};
    int fd;
    set_up();
    arm();
    ringmsg_ring_config_init(NULL);
    ringmsg_pool_config_init(NULL);
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_query_support(NULL), EINVAL);
    EQUAL(ringmsg_describe_support(NULL, 8), -EINVAL);
    CHECK(OK(ringmsg_describe_support(NULL, 0)) > 0);
    CHECK(ringmsg_last_error(NULL, 0) > 0);
    CHECK(ringmsg_last_error(NULL, 8) > 0);
    REFUSED(ringmsg_ring_new(NULL, NULL), EINVAL);
    REFUSED(ringmsg_ring_enable(NULL), EINVAL);
    REFUSED(ringmsg_ring_info(NULL, &info), EINVAL);
    REFUSED(ringmsg_ring_info(it.ring, NULL), EINVAL);
    REFUSED(ringmsg_ring_fd(NULL), EINVAL);
    REFUSED(ringmsg_ring_stats(NULL, &stats), EINVAL);
    REFUSED(ringmsg_ring_stats(it.ring, NULL), EINVAL);
    REFUSED(ringmsg_request_stats(NULL, 1, &stats), EINVAL);
    REFUSED(ringmsg_request_stats(it.ring, 1, NULL), EINVAL);
    REFUSED(ringmsg_pool_config_for_socket(NULL, it.receiver), EINVAL);
    REFUSED(ringmsg_pool_new(NULL, &config, &pool), EINVAL);
    REFUSED(ringmsg_pool_new(it.ring, NULL, &pool), EINVAL);
    REFUSED(ringmsg_pool_new(it.ring, &config, NULL), EINVAL);
    CHECK(pool == NULL);
    REFUSED(ringmsg_pool_free(NULL), EINVAL);
    CHECK(ringmsg_ring_pool(NULL, 0) == NULL);
    EQUAL(ringmsg_pool_id(NULL), RINGMSG_POOL_NONE);
    CHECK(ringmsg_pool_base(NULL) == NULL);
    EQUAL(ringmsg_pool_size(NULL), 0);
    REFUSED(ringmsg_recvmsg(NULL, it.receiver, &message, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, NULL, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &no_parts, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_once(NULL, it.pool, it.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_once(it.ring, NULL, it.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_multishot(NULL, it.pool, it.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, NULL, it.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_cancel(NULL, 1), EINVAL);
    REFUSED(ringmsg_submit(NULL), EINVAL);
    EQUAL(ringmsg_wake(NULL), -EINVAL);
    REFUSED(ringmsg_reap(NULL, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_reap(it.ring, NULL, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(NULL, NULL, 0, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(it.ring, NULL, 1, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(it.ring, NULL, 0, NULL, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_release(NULL, records, 1), EINVAL);
    REFUSED(ringmsg_release(it.ring, NULL, 1), EINVAL);
    OK(ringmsg_release(it.ring, NULL, 0));
    REFUSED(ringmsg_take_fds(NULL, &record, &fd, 1), EINVAL);
    REFUSED(ringmsg_take_fds(it.ring, NULL, &fd, 1), EINVAL);
    REFUSED(ringmsg_take_fds(it.ring, &record, NULL, 1), EINVAL);
    REFUSED(ringmsg_control_next(NULL, 16, &cursor), EINVAL);
    REFUSED(ringmsg_control_next(space, 8, NULL), EINVAL);
    EQUAL(ringmsg_control_next(NULL, 0, &cursor), 0);
    REFUSED(ringmsg_control_decode(NULL, 16, &metadata), EINVAL);
    REFUSED(ringmsg_control_decode(space, 8, NULL), EINVAL);
    OK(ringmsg_control_decode(NULL, 0, &metadata));
    CHECK(ringmsg_strerror(0) != NULL && ringmsg_strerror(INT32_MIN) != NULL);
    works_as_before();
    tear_down();
}

/* --- flags, reserved fields, values ------------------------------------------------------- */

static void waits_and_flags(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_wait wait = wait_ms(0);
    set_up();
    arm();
    wait.reserved = 1;
    REFUSED(ringmsg_reap(it.ring, records, NULL, CAPACITY, &wait), EINVAL);
    REFUSED(ringmsg_next(it.ring, NULL, 0, records, NULL, CAPACITY, &wait), EINVAL);
    wait.reserved = 0;
    REFUSED(ringmsg_reap(it.ring, records, NULL, 0, &wait), EINVAL);
    REFUSED(ringmsg_next(it.ring, NULL, 0, records, NULL, 0, &wait), EINVAL);
    for (int bit = 3; bit < 32; bit++) {
        REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, 1u << bit, 9), EINVAL);
        REFUSED(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 1u << bit, 9), EINVAL);
        REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 1u << bit, 9), EINVAL);
    }
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, RINGMSG_RECV_SPLIT, 9), EINVAL);
    static const int bad[] = {MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_OOB};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, bad[i], 0, 9), EINVAL);
    REFUSED(ringmsg_socket_enable(it.receiver, 1u << 16), EINVAL);
    REFUSED(ringmsg_socket_enable(it.receiver, 1u << 31), EINVAL);
    REFUSED(ringmsg_cancel(it.ring, 9), ENOENT);
    struct ringmsg_stats stats = {.size = sizeof stats};
    REFUSED(ringmsg_request_stats(it.ring, 9, &stats), ENOENT);
    works_as_before();
    tear_down();
}

/* --- descriptors ------------------------------------------------------------------------- */

static struct ringmsg_pool *spare;

static void refuses_descriptor(int fd, int wanted)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_recvmsg(it.ring, fd, &message, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_once(it.ring, spare, fd, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, spare, fd, 0, 0, 9), wanted);
    REFUSED(ringmsg_pool_config_for_socket(&config, fd), wanted);
    REFUSED(ringmsg_socket_enable(fd, RINGMSG_META_DROPPED), wanted);
    REFUSED(ringmsg_socket_enable(fd, 0), wanted);
    EQUAL(config.buffers, 256);
}

static void descriptors_that_are_no_sockets(void)
{
    int ends[2], closed = bound_udp(AF_INET);
    set_up();
    arm();
    spare = make_pool(it.ring, it.receiver, 4, 2048);
    SYS(pipe(ends));
    int directory = (int)SYS(open("/", O_RDONLY | O_DIRECTORY));
    close(closed);
    int before = open_descriptors();
    refuses_descriptor(-1, EBADF);
    refuses_descriptor(INT32_MIN, EBADF);
    refuses_descriptor(closed, EBADF);
    refuses_descriptor(1000000, EBADF);
    refuses_descriptor(ends[0], ENOTSOCK);
    refuses_descriptor(directory, ENOTSOCK);
    refuses_descriptor(OK(ringmsg_ring_fd(it.ring)), ENOTSOCK);
    EQUAL(open_descriptors(), before + (is_recvmmsg() ? 3 : 1)); /* ring_fd, and the bell and the timer in it */
    OK(ringmsg_pool_free(spare)); /* nothing refers to it */
    works_as_before();
    tear_down();
}

TESTS(TEST(null_for_every_pointer), TEST(waits_and_flags), TEST(descriptors_that_are_no_sockets))
