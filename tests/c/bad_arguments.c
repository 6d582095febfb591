/* NULL pointers, unknown flags, nonzero reserved fields and descriptors that are not sockets are
 * refused with the documented errno, and change nothing. */
#include "bad_input.h"

/* --- NULL -------------------------------------------------------------------------------- */

static void null_pointers_are_refused(void)
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
    COMPARE(OK(ringmsg_describe_support(NULL, 0)), >, 0);
    COMPARE(ringmsg_last_error(NULL, 0), >, 0);
    COMPARE(ringmsg_last_error(NULL, 8), >, 0);
    REFUSED(ringmsg_ring_new(NULL, NULL), EINVAL);
    REFUSED(ringmsg_ring_enable(NULL), EINVAL);
    REFUSED(ringmsg_ring_info(NULL, &info), EINVAL);
    REFUSED(ringmsg_ring_info(fixture.ring, NULL), EINVAL);
    REFUSED(ringmsg_ring_fd(NULL), EINVAL);
    REFUSED(ringmsg_ring_stats(NULL, &stats), EINVAL);
    REFUSED(ringmsg_ring_stats(fixture.ring, NULL), EINVAL);
    REFUSED(ringmsg_request_stats(NULL, 1, &stats), EINVAL);
    REFUSED(ringmsg_request_stats(fixture.ring, 1, NULL), EINVAL);
    REFUSED(ringmsg_pool_config_for_socket(NULL, fixture.receiver), EINVAL);
    REFUSED(ringmsg_pool_new(NULL, &config, &pool), EINVAL);
    REFUSED(ringmsg_pool_new(fixture.ring, NULL, &pool), EINVAL);
    REFUSED(ringmsg_pool_new(fixture.ring, &config, NULL), EINVAL);
    SAME_POINTER(pool, NULL);
    REFUSED(ringmsg_pool_free(NULL), EINVAL);
    SAME_POINTER(ringmsg_ring_pool(NULL, 0), NULL);
    EQUAL(ringmsg_pool_id(NULL), RINGMSG_POOL_NONE);
    SAME_POINTER(ringmsg_pool_base(NULL), NULL);
    EQUAL(ringmsg_pool_size(NULL), 0);
    REFUSED(ringmsg_recvmsg(NULL, fixture.receiver, &message, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, NULL, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &no_parts, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_once(NULL, fixture.pool, fixture.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, NULL, fixture.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_multishot(NULL, fixture.pool, fixture.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, NULL, fixture.receiver, 0, 0, 0), EINVAL);
    REFUSED(ringmsg_cancel(NULL, 1), EINVAL);
    REFUSED(ringmsg_submit(NULL), EINVAL);
    EQUAL(ringmsg_wake(NULL), -EINVAL);
    REFUSED(ringmsg_reap(NULL, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_reap(fixture.ring, NULL, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(NULL, NULL, 0, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(fixture.ring, NULL, 1, records, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_next(fixture.ring, NULL, 0, NULL, NULL, CAPACITY, NULL), EINVAL);
    REFUSED(ringmsg_release(NULL, records, 1), EINVAL);
    REFUSED(ringmsg_release(fixture.ring, NULL, 1), EINVAL);
    OK(ringmsg_release(fixture.ring, NULL, 0));
    REFUSED(ringmsg_take_fds(NULL, &record, &fd, 1), EINVAL);
    REFUSED(ringmsg_take_fds(fixture.ring, NULL, &fd, 1), EINVAL);
    REFUSED(ringmsg_take_fds(fixture.ring, &record, NULL, 1), EINVAL);
    REFUSED(ringmsg_control_next(NULL, 16, &cursor), EINVAL);
    REFUSED(ringmsg_control_next(space, 8, NULL), EINVAL);
    EQUAL(ringmsg_control_next(NULL, 0, &cursor), 0);
    REFUSED(ringmsg_control_decode(NULL, 16, &metadata), EINVAL);
    REFUSED(ringmsg_control_decode(space, 8, NULL), EINVAL);
    OK(ringmsg_control_decode(NULL, 0, &metadata));
    CHECK(ringmsg_strerror(0) != NULL && ringmsg_strerror(INT32_MIN) != NULL);
    check_ring_still_works();
    tear_down();
}

/* --- flags, reserved fields, values ------------------------------------------------------- */

static void unknown_flags_and_reserved_fields_are_refused(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_wait wait = wait_ms(0);
    set_up();
    arm();
    wait.reserved = 1;
    REFUSED(ringmsg_reap(fixture.ring, records, NULL, CAPACITY, &wait), EINVAL);
    REFUSED(ringmsg_next(fixture.ring, NULL, 0, records, NULL, CAPACITY, &wait), EINVAL);
    wait.reserved = 0;
    REFUSED(ringmsg_reap(fixture.ring, records, NULL, 0, &wait), EINVAL);
    REFUSED(ringmsg_next(fixture.ring, NULL, 0, records, NULL, 0, &wait), EINVAL);
    for (int bit = 3; bit < 32; bit++) {
        REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, 1u << bit, 9), EINVAL);
        REFUSED(ringmsg_recvmsg_once(fixture.ring, fixture.pool, fixture.receiver, 0, 1u << bit, 9), EINVAL);
        REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver, 0,
                                          1u << bit, 9),
                EINVAL);
    }
    REFUSED(ringmsg_recvmsg(fixture.ring, fixture.receiver, &message, 0, RINGMSG_RECV_SPLIT, 9), EINVAL);
    static const int bad[] = {MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_OOB};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(ringmsg_recvmsg_multishot(fixture.ring, fixture.pool, fixture.receiver,
                                          bad[i], 0, 9),
                EINVAL);
    REFUSED(ringmsg_socket_enable(fixture.receiver, 1u << 16), EINVAL);
    REFUSED(ringmsg_socket_enable(fixture.receiver, 1u << 31), EINVAL);
    REFUSED(ringmsg_cancel(fixture.ring, 9), ENOENT);
    struct ringmsg_stats stats = {.size = sizeof stats};
    REFUSED(ringmsg_request_stats(fixture.ring, 9, &stats), ENOENT);
    check_ring_still_works();
    tear_down();
}

/* --- descriptors ------------------------------------------------------------------------- */

static struct ringmsg_pool *spare;

static void check_descriptor_is_refused(int fd, int error)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    REFUSED(ringmsg_recvmsg(fixture.ring, fd, &message, 0, 0, 9), error);
    REFUSED(ringmsg_recvmsg_once(fixture.ring, spare, fd, 0, 0, 9), error);
    REFUSED(ringmsg_recvmsg_multishot(fixture.ring, spare, fd, 0, 0, 9), error);
    REFUSED(ringmsg_pool_config_for_socket(&config, fd), error);
    REFUSED(ringmsg_socket_enable(fd, RINGMSG_META_DROPPED), error);
    REFUSED(ringmsg_socket_enable(fd, 0), error);
    EQUAL(config.buffers, 256);
}

static void descriptors_other_than_sockets_are_refused(void)
{
    int ends[2], closed = bound_udp(AF_INET);
    set_up();
    arm();
    spare = make_pool(fixture.ring, fixture.receiver, 4, 2048);
    SYS(pipe(ends));
    int directory = (int)SYS(open("/", O_RDONLY | O_DIRECTORY));
    close(closed);
    int before = open_descriptors();
    check_descriptor_is_refused(-1, EBADF);
    check_descriptor_is_refused(INT32_MIN, EBADF);
    check_descriptor_is_refused(closed, EBADF);
    check_descriptor_is_refused(1000000, EBADF);
    check_descriptor_is_refused(ends[0], ENOTSOCK);
    check_descriptor_is_refused(directory, ENOTSOCK);
    check_descriptor_is_refused(OK(ringmsg_ring_fd(fixture.ring)), ENOTSOCK);
    /* ring_fd; in the recvmmsg engine also the eventfd and the timerfd inside it */
    EQUAL(open_descriptors(), before + (is_recvmmsg() ? 3 : 1));
    OK(ringmsg_pool_free(spare)); /* no refused call left a reference */
    check_ring_still_works();
    tear_down();
}

TESTS(TEST(null_pointers_are_refused),
      TEST(unknown_flags_and_reserved_fields_are_refused),
      TEST(descriptors_other_than_sockets_are_refused))
