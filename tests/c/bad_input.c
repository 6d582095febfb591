/* What programs get wrong: each has its documented -errno and a sentence; nothing crashes, and
 * nothing is lost afterwards. */
#include "test.h"

#define CAPACITY 16

static struct ringmsg_record records[CAPACITY];

static struct setup {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int receiver, sender;
} it;

static void set_up(void)
{
    it.ring = make_ring();
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    it.pool = make_pool(it.ring, it.receiver, 16, 2048);
}

static void arm(void)
{
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 1));
}

static void receive(int count)
{
    for (int i = 0; i < count; i++)
        SYS(send(it.sender, "hello", 5, 0));
    for (int have = 0; have < count;)
        have += reap_ms(it.ring, records + have, (uint32_t)(count - have), 2000);
}

/* After all that: data flows, no buffer is missing, every request is accounted for. */
static void works_as_before(void)
{
    struct ringmsg_record kept[CAPACITY];
    memcpy(kept, records, sizeof kept);
    uint64_t held = stats_of(it.ring).buffers_held;
    receive(4);
    for (int i = 0; i < 4; i++) {
        EQUAL(records[i].result, 5);
        EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
    }
    OK(ringmsg_release(it.ring, records, 4));
    EQUAL(stats_of(it.ring).buffers_held, held);
    reap_nothing(it.ring, 5);
    memcpy(records, kept, sizeof kept);
}

static void tear_down(void)
{
    OK(ringmsg_ring_free(it.ring));
    close(it.receiver);
    close(it.sender);
}

static struct msghdr message_of(struct iovec *part)
{
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = part;
    message.msg_iovlen = 1;
    return message;
}

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

/* --- sizes ------------------------------------------------------------------------------- */

/* A struct in the middle of guard bytes, with room for a tail. */
#define ROOM 256
static union {
    uint8_t bytes[ROOM];
    uint32_t size;
} framed;

static void frame(const void *value, size_t length, uint32_t size)
{
    memset(&framed, 0, sizeof framed);
    memcpy(&framed, value, length);
    framed.size = size;
}

typedef int input_call(const void *input);

static int give_ring_config(const void *input)
{
    struct ringmsg_ring *ring = NULL;
    int got = ringmsg_ring_new(input, &ring);
    CHECK((got == 0) == (ring != NULL));
    OK(ringmsg_ring_free(ring));
    return got;
}

static int give_pool_config(const void *input)
{
    struct ringmsg_pool *pool = NULL;
    int got = ringmsg_pool_new(it.ring, input, &pool);
    CHECK((got == 0) == (pool != NULL));
    if (got == 0)
        OK(ringmsg_pool_free(pool));
    return got;
}

static int give_wait(const void *input)
{
    return ringmsg_reap(it.ring, records, NULL, CAPACITY, input);
}

/* `shortest`: the size that still says all that must be said. */
static void try_sizes(input_call *call, const void *value, uint32_t length, uint32_t shortest)
{
    frame(value, length, length);
    EQUAL(call(&framed), 0);
    for (uint32_t size = shortest; size <= ROOM; size += 4) {
        frame(value, size < length ? size : length, size);
        if (size < length) /* what lies behind it is none of the library's business */
            memset(framed.bytes + size, 0xEE, length - size);
        EQUAL(call(&framed), 0);
    }
    frame(value, length, length + 8);
    framed.bytes[length + 7] = 1;
    REFUSED(call(&framed), EINVAL);
    framed.size = length + 4;
    EQUAL(call(&framed), 0);
    static const uint32_t bad[] = {0, 1, 3, 4097, 0x7fffffff, 0xffffffff};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        frame(value, length, bad[i]);
        REFUSED(call(&framed), EINVAL);
    }
}

static void input_structs_of_any_size(void)
{
    struct ringmsg_ring_config ring_config;
    struct ringmsg_pool_config pool_config;
    struct ringmsg_wait wait = wait_ms(0);
    set_up();
    arm();
    ringmsg_ring_config_init(&ring_config);
    EQUAL(ring_config.size, sizeof ring_config);
    ring_config.flags = test_mode;
    ring_config.engine = test_engine;
    ring_config.sq_thread_cpu = 0;
    try_sizes(give_ring_config, &ring_config, sizeof ring_config, 8);
    ringmsg_pool_config_init(&pool_config);
    EQUAL(pool_config.size, sizeof pool_config);
    pool_config.buffers = 4;
    try_sizes(give_pool_config, &pool_config, sizeof pool_config, 8);
    try_sizes(give_wait, &wait, sizeof wait, 4);
    works_as_before();
    tear_down();
}

typedef int output_call(void *output);

static int take_info(void *output)
{
    return ringmsg_ring_info(it.ring, output);
}
static int take_ring_stats(void *output)
{
    return ringmsg_ring_stats(it.ring, output);
}
static int take_request_stats(void *output)
{
    return ringmsg_request_stats(it.ring, 1, output);
}
static int take_support(void *output)
{
    return ringmsg_query_support(output);
}

static void try_output_sizes(output_call *call, uint32_t length)
{
    uint8_t whole[ROOM];
    memset(&framed, 0xEE, sizeof framed);
    framed.size = length;
    EQUAL(call(&framed), 0);
    memcpy(whole, &framed, sizeof whole);
    for (uint32_t size = 4; size <= ROOM; size++) {
        memset(&framed, 0xEE, sizeof framed);
        framed.size = size;
        EQUAL(call(&framed), 0);
        EQUAL(framed.size, size);
        for (uint32_t at = 4; at < ROOM; at++) {
            int wanted = at >= size ? 0xEE : at < length ? whole[at] : 0;
            if (framed.bytes[at] != wanted)
                FAIL("size %u: byte %u is %#x, not %#x", size, at, framed.bytes[at], wanted);
        }
    }
    static const uint32_t bad[] = {0, 1, 3, 4097, 0xffffffff};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(&framed, 0xEE, sizeof framed);
        framed.size = bad[i];
        REFUSED(call(&framed), EINVAL);
        for (uint32_t at = 4; at < ROOM; at++)
            EQUAL(framed.bytes[at], 0xEE);
    }
}

static void output_structs_of_any_size(void)
{
    set_up();
    arm();
    sleep_ms(5);
    try_output_sizes(take_info, sizeof(struct ringmsg_ring_info));
    try_output_sizes(take_ring_stats, sizeof(struct ringmsg_stats));
    try_output_sizes(take_request_stats, sizeof(struct ringmsg_stats));
    if (test_mode == 0)
        try_output_sizes(take_support, sizeof(struct ringmsg_support));
    works_as_before();
    tear_down();
}

/* pool_config_for_socket reads and writes. */
static void a_config_that_is_read_and_written(void)
{
    struct ringmsg_pool_config config;
    set_up();
    arm();
    ringmsg_pool_config_init(&config);
    frame(&config, sizeof config, sizeof config + 8);
    OK(ringmsg_pool_config_for_socket((void *)&framed, it.receiver));
    EQUAL(framed.size, sizeof config + 8);
    EQUAL(framed.bytes[sizeof config + 8], 0);
    frame(&config, 12, 12);
    memset(framed.bytes + 12, 0xEE, 32);
    OK(ringmsg_pool_config_for_socket((void *)&framed, it.receiver));
    EQUAL(framed.bytes[12], 0xEE);
    frame(&config, sizeof config, sizeof config + 8);
    framed.bytes[sizeof config + 3] = 1;
    REFUSED(ringmsg_pool_config_for_socket((void *)&framed, it.receiver), EINVAL);
    frame(&config, sizeof config, 3);
    REFUSED(ringmsg_pool_config_for_socket((void *)&framed, it.receiver), EINVAL);
    works_as_before();
    tear_down();
}

/* --- flags, reserved fields, values ------------------------------------------------------- */

static int new_ring_with(uint32_t flags)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    ringmsg_ring_config_init(&config);
    config.flags = flags;
    int got = ringmsg_ring_new(&config, &ring);
    CHECK((got == 0) == (ring != NULL));
    if (got == 0)
        OK(ringmsg_ring_free(ring));
    return got;
}

static void what_the_other_engine_has_no_use_for(void)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    const uint32_t useless[] = {RINGMSG_SETUP_SQPOLL, RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_SETUP_DEFER_TASKRUN,
                                RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG};
    if (!is_recvmmsg())
        return;
    ringmsg_ring_config_init(&config);
    config.engine = RINGMSG_ENGINE_RECVMMSG;
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        config.flags = useless[i];
        REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    }
    CHECK(ring == NULL);
    config.flags = RINGMSG_SETUP_AUTO | RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER;
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_new(&config, &ring));
    OK(ringmsg_ring_info(ring, &info));
    EQUAL(info.engine, RINGMSG_ENGINE_RECVMMSG);
    EQUAL(info.flags, RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER);
    CHECK(info.features & RINGMSG_FEATURE_MULTISHOT);
    OK(ringmsg_ring_free(ring));
}

static void ring_configs(void)
{
    const uint32_t known = RINGMSG_SETUP_SQPOLL | RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_COOP_TASKRUN |
                           RINGMSG_SETUP_TASKRUN_FLAG | RINGMSG_SETUP_SINGLE_ISSUER |
                           RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_AUTO;
    const uint32_t sqpoll = RINGMSG_SETUP_SQPOLL;
    struct ringmsg_ring_config config;
    struct ringmsg_ring *ring = NULL;
    if (test_mode != 0 || is_recvmmsg())
        return;
    for (int bit = 0; bit < 32; bit++)
        if ((known & 1u << bit) == 0)
            REFUSED(new_ring_with(1u << bit), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_COOP_TASKRUN), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_DEFER_TASKRUN), EINVAL);
    REFUSED(new_ring_with(sqpoll | RINGMSG_SETUP_TASKRUN_FLAG), EINVAL);
    REFUSED(new_ring_with(RINGMSG_SETUP_TASKRUN_FLAG), EINVAL);
    OK(new_ring_with(sqpoll));
    OK(new_ring_with(RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_DEFER_TASKRUN));
    for (int i = 0; i < 9; i++) {
        ringmsg_ring_config_init(&config);
        config.reserved[i] = 1;
        REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    }
    ringmsg_ring_config_init(&config);
    config.engine = 3;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    ringmsg_ring_config_init(&config);
    config.sq_entries = 65536;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = 0;
    config.cq_entries = 131072;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = 64;
    config.cq_entries = 32;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_entries = config.cq_entries = 0xffffffff;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    ringmsg_ring_config_init(&config);
    config.sq_thread_idle_ms = 1;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.flags = sqpoll;
    config.sq_thread_cpu = -2;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    config.sq_thread_cpu = 100000;
    REFUSED(ringmsg_ring_new(&config, &ring), EINVAL);
    CHECK(ring == NULL);
}

static struct ringmsg_ring_info info_of(uint32_t flags, uint32_t sq, uint32_t cq)
{
    struct ringmsg_ring_config config;
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_ring *ring;
    ringmsg_ring_config_init(&config);
    config.flags = flags;
    config.sq_entries = sq;
    config.cq_entries = cq;
    OK(ringmsg_ring_new(&config, &ring));
    OK(ringmsg_ring_info(ring, &info));
    EQUAL(info.engine, RINGMSG_ENGINE_IO_URING);
    CHECK(info.features & RINGMSG_FEATURE_MULTISHOT);
    if (flags & RINGMSG_SETUP_R_DISABLED) {
        EQUAL(info.owner_thread, 0);
        OK(ringmsg_ring_enable(ring));
        REFUSED(ringmsg_ring_enable(ring), EBADFD);
        OK(ringmsg_ring_info(ring, &info));
    } else {
        REFUSED(ringmsg_ring_enable(ring), EBADFD);
    }
    int bound = (info.flags & (RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER)) != 0;
    EQUAL(info.owner_thread, bound ? gettid() : 0);
    OK(ringmsg_ring_free(ring));
    return info;
}

static void ring_info_tells_what_was_granted(void)
{
    const uint32_t defer = RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER;
    const uint32_t coop = RINGMSG_SETUP_COOP_TASKRUN;
    const uint32_t disabled = RINGMSG_SETUP_R_DISABLED;
    if (test_mode != 0 || is_recvmmsg())
        return;
    EQUAL(info_of(0, 0, 0).flags, 0);
    EQUAL(info_of(coop, 0, 0).flags, coop);
    EQUAL(info_of(coop | RINGMSG_SETUP_TASKRUN_FLAG, 0, 0).flags, coop | RINGMSG_SETUP_TASKRUN_FLAG);
    EQUAL(info_of(RINGMSG_SETUP_DEFER_TASKRUN, 0, 0).flags, defer);
    EQUAL(info_of(defer, 0, 0).flags, defer);
    EQUAL(info_of(defer | coop, 0, 0).flags, defer);
    EQUAL(info_of(RINGMSG_SETUP_SINGLE_ISSUER, 0, 0).flags, RINGMSG_SETUP_SINGLE_ISSUER);
    EQUAL(info_of(RINGMSG_SETUP_SQPOLL, 0, 0).flags, RINGMSG_SETUP_SQPOLL);
    EQUAL(info_of(disabled, 0, 0).flags, disabled);
    EQUAL(info_of(disabled | defer, 0, 0).flags, disabled | defer);
    EQUAL(info_of(RINGMSG_SETUP_AUTO, 0, 0).flags, defer);
    EQUAL(info_of(RINGMSG_SETUP_AUTO | disabled, 0, 0).flags, disabled | defer);
    struct ringmsg_ring_info info = info_of(0, 5, 100);
    EQUAL(info.sq_entries, 8);
    EQUAL(info.cq_entries, 128);
    info = info_of(0, 0, 4);
    EQUAL(info.cq_entries, 4);
    CHECK(info.sq_entries <= 4);
}

static void pool_configs(void)
{
    static const uint32_t bad[] = {0, 3, 300, 65536, 0x80000000};
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    set_up();
    arm();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ringmsg_pool_config_init(&config);
        config.buffers = bad[i];
        REFUSED(ringmsg_pool_new(it.ring, &config, &pool), EINVAL);
    }
    ringmsg_pool_config_init(&config);
    config.flags = 1;
    REFUSED(ringmsg_pool_new(it.ring, &config, &pool), EINVAL);
    for (int i = 0; i < 10; i++) {
        ringmsg_pool_config_init(&config);
        config.reserved[i] = 1;
        REFUSED(ringmsg_pool_new(it.ring, &config, &pool), EINVAL);
    }
    for (int field = 0; field < 3; field++) {
        ringmsg_pool_config_init(&config);
        *(field == 0 ? &config.payload_capacity : field == 1 ? &config.control_capacity
                                                             : &config.name_capacity) = 0xffffffff;
        REFUSED(ringmsg_pool_new(it.ring, &config, &pool), EINVAL);
    }
    ringmsg_pool_config_init(&config);
    config.buffers = 32768;
    config.payload_capacity = 1 << 17;
    REFUSED(ringmsg_pool_new(it.ring, &config, &pool), EINVAL);
    CHECK(pool == NULL);
    works_as_before();
    tear_down();
}

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
    REFUSED(ringmsg_socket_enable(it.receiver, 1u << 14), EINVAL);
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
    EQUAL(open_descriptors(), before + (is_recvmmsg() ? 2 : 1)); /* ring_fd, and the bell in it */
    OK(ringmsg_pool_free(spare)); /* nothing refers to it */
    works_as_before();
    tear_down();
}

/* --- releases ---------------------------------------------------------------------------- */

static void double_and_forged_releases(void)
{
    set_up();
    arm();
    receive(4);
    /* One bad record anywhere: nothing is released. */
    for (int at = 0; at < 4; at++) {
        struct ringmsg_record batch[4], *bad = &batch[at];
        memcpy(batch, records, sizeof batch);
        *bad = records[(at + 1) % 4]; /* twice in one array */
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->generation++;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->generation = 0;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->segment = 1;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->segment = 0xffff;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->buffer = 0xffff;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->pool = 1;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        *bad = records[at], bad->pool = RINGMSG_POOL_NONE;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        EQUAL(stats_of(it.ring).buffers_held, 4);
        works_as_before();
    }
    /* next: nothing released, and nothing reaped. */
    struct ringmsg_wait wait = wait_ms(50);
    struct ringmsg_record twice[2] = {records[0], records[0]};
    SYS(send(it.sender, "hello", 5, 0));
    REFUSED(ringmsg_next(it.ring, twice, 2, twice, NULL, 2, &wait), EINVAL);
    EQUAL(stats_of(it.ring).buffers_held, 4);
    EQUAL(reap_one(it.ring).result, 5);
    /* Records without a buffer are stepped over. */
    struct ringmsg_record mixed[3] = {{.flags = RINGMSG_RECORD_FINAL, .pool = 77}, records[0], {.flags = 0}};
    OK(ringmsg_release(it.ring, mixed, 3));
    REFUSED(ringmsg_release(it.ring, records, 1), EINVAL);
    OK(ringmsg_release(it.ring, records + 1, 3));
    REFUSED(ringmsg_release(it.ring, records + 1, 3), EINVAL);
    EQUAL(stats_of(it.ring).buffers_held, 1);
    /* Stale: the same buffer in a later use. */
    struct ringmsg_record stale = records[3];
    for (int tries = 0; tries < 100; tries++) {
        receive(1);
        if (records[0].buffer == stale.buffer)
            break;
        OK(ringmsg_release(it.ring, records, 1));
    }
    EQUAL(records[0].buffer, stale.buffer);
    REFUSED(ringmsg_release(it.ring, &stale, 1), EINVAL);
    REFUSED(ringmsg_take_fds(it.ring, &stale, (int[1]){0}, 1), EINVAL);
    EQUAL(ringmsg_take_fds(it.ring, records, (int[1]){0}, 1), 0);
    OK(ringmsg_release(it.ring, records, 1));
    works_as_before();
    tear_down();
}

static void segments_are_released_once_each(void)
{
    static char train[4 * 100];
    set_up();
    OK(ringmsg_socket_enable(it.receiver, RINGMSG_META_SEGMENT_SIZE));
    it.pool = make_pool(it.ring, it.receiver, 4, 0);
    OK(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, RINGMSG_RECV_SPLIT, 1));
    send_train(it.sender, train, sizeof train, 100);
    for (int have = 0; have < 4;)
        have += reap_ms(it.ring, records + have, (uint32_t)(4 - have), 2000);
    EQUAL(stats_of(it.ring).buffers_held, 1);
    OK(ringmsg_release(it.ring, records + 1, 1));
    REFUSED(ringmsg_release(it.ring, records + 1, 1), EINVAL);
    REFUSED(ringmsg_release(it.ring, records, 4), EINVAL);
    struct ringmsg_record batch[3] = {records[0], records[2], records[0]};
    REFUSED(ringmsg_release(it.ring, batch, 3), EINVAL);
    batch[2] = records[3], batch[2].segment = 4;
    REFUSED(ringmsg_release(it.ring, batch, 3), EINVAL);
    EQUAL(stats_of(it.ring).buffers_held, 1);
    batch[2] = records[3];
    OK(ringmsg_release(it.ring, batch, 3));
    EQUAL(stats_of(it.ring).buffers_held, 0);
    REFUSED(ringmsg_release(it.ring, batch, 3), EINVAL);
    works_as_before();
    tear_down();
}

static void releases_across_pools(void)
{
    set_up();
    arm();
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    struct ringmsg_pool *second = make_pool(it.ring, other, 16, 2048);
    OK(ringmsg_recvmsg_multishot(it.ring, second, other, 0, 0, 2));
    receive(3);
    SYS(send(to_other, "x", 1, 0));
    records[3] = reap_one(it.ring);
    EQUAL(records[3].pool, ringmsg_pool_id(second));
    EQUAL(stats_of(it.ring).buffers_held, 4);
    struct ringmsg_record batch[4] = {records[0], records[3], records[1], records[2]};
    for (int at = 0; at < 4; at++) {
        struct ringmsg_record right = batch[at];
        batch[at].generation ^= 0x40000000;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        batch[at] = right;
        batch[at].pool = 500;
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        batch[at] = batch[(at + 1) % 4];
        REFUSED(ringmsg_release(it.ring, batch, 4), EINVAL);
        batch[at] = right;
        EQUAL(stats_of(it.ring).buffers_held, 4);
        works_as_before();
    }
    OK(ringmsg_release(it.ring, batch, 4));
    EQUAL(stats_of(it.ring).buffers_held, 0);
    works_as_before();
    tear_down();
    close(other);
    close(to_other);
}

static void records_of_a_pool_made_anew(void)
{
    set_up();
    arm();
    int other = bound_udp(AF_INET), to_other = sender_to(other);
    struct ringmsg_record stale[8], fresh;
    struct ringmsg_pool *pool = make_pool(it.ring, other, 1, 2048);
    uint16_t id = ringmsg_pool_id(pool);
    for (int i = 0; i < 8; i++) {
        OK(ringmsg_recvmsg_multishot(it.ring, pool, other, 0, 0, 2));
        REFUSED(ringmsg_pool_free(pool), EBUSY); /* armed */
        SYS(send(to_other, "x", 1, 0));
        fresh = reap_one(it.ring);
        EQUAL(fresh.pool, id);
        for (int old = 0; old < i; old++) {
            EQUAL(stale[old].buffer, fresh.buffer);
            REFUSED(ringmsg_release(it.ring, &stale[old], 1), EINVAL);
        }
        OK(ringmsg_cancel(it.ring, 2));
        EQUAL(reap_one(it.ring).flags, RINGMSG_RECORD_FINAL);
        REFUSED(ringmsg_pool_free(pool), EBUSY); /* held */
        OK(ringmsg_release(it.ring, &fresh, 1));
        OK(ringmsg_pool_free(pool));
        REFUSED(ringmsg_pool_free(pool), EINVAL);
        REFUSED(ringmsg_release(it.ring, &fresh, 1), EINVAL);
        CHECK(ringmsg_ring_pool(it.ring, id) == NULL);
        CHECK(ringmsg_pool_base(pool) == NULL);
        EQUAL(ringmsg_pool_size(pool), 0);
        REFUSED(ringmsg_recvmsg_multishot(it.ring, pool, other, 0, 0, 2), EINVAL);
        REFUSED(ringmsg_recvmsg_once(it.ring, pool, other, 0, 0, 2), EINVAL);
        stale[i] = fresh;
        pool = make_pool(it.ring, other, 1, 2048);
        EQUAL(ringmsg_pool_id(pool), id);
    }
    works_as_before();
    tear_down();
    close(other);
    close(to_other);
}

static void a_pool_of_another_ring(void)
{
    set_up();
    arm();
    struct ringmsg_ring *other = make_ring();
    struct ringmsg_pool *foreign = make_pool(other, it.receiver, 4, 2048);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, foreign, it.receiver, 0, 0, 2), EINVAL);
    REFUSED(ringmsg_recvmsg_once(it.ring, foreign, it.receiver, 0, 0, 2), EINVAL);
    works_as_before();
    OK(ringmsg_ring_free(other));
    tear_down();
}

/* --- threads ------------------------------------------------------------------------------ */

static struct ringmsg_record to_release;

static void *call_everything(void *unused)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    struct ringmsg_wait wait = wait_ms(0);
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool = NULL;
    struct ringmsg_record record;
    (void)unused;
    ringmsg_pool_config_init(&config);
    int wanted = (int)(intptr_t)unused;
    REFUSED(ringmsg_pool_new(it.ring, &config, &pool), wanted);
    REFUSED(ringmsg_pool_free(it.pool), wanted);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 9), wanted);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 9), wanted);
    REFUSED(ringmsg_cancel(it.ring, 1), wanted);
    REFUSED(ringmsg_submit(it.ring), wanted);
    REFUSED(ringmsg_reap(it.ring, &record, NULL, 1, &wait), wanted);
    REFUSED(ringmsg_next(it.ring, &to_release, 1, &record, NULL, 1, &wait), wanted);
    CHECK(pool == NULL);
    /* These are for any thread. */
    EQUAL(stats_of(it.ring).buffers_held, 1);
    struct ringmsg_ring_info info = {.size = sizeof info};
    OK(ringmsg_ring_info(it.ring, &info));
    CHECK(info.owner_thread != gettid());
    OK(ringmsg_release(it.ring, &to_release, 1));
    OK(ringmsg_wake(it.ring));
    return NULL;
}

static void the_wrong_thread(void)
{
    pthread_t thread;
    if (!is_bound())
        return;
    set_up();
    arm();
    receive(1);
    to_release = records[0];
    EQUAL(pthread_create(&thread, NULL, call_everything, (void *)(intptr_t)EPERM), 0);
    pthread_join(thread, NULL);
    reap_nothing(it.ring, 0); /* the wake */
    works_as_before();
    tear_down();
}

static void *own(void *unused)
{
    (void)unused;
    set_up();
    arm();
    receive(1);
    to_release = records[0];
    return NULL;
}

static void after_the_owners_exit(void)
{
    pthread_t thread;
    if (!is_bound())
        return;
    EQUAL(pthread_create(&thread, NULL, own, NULL), 0);
    pthread_join(thread, NULL);
    call_everything((void *)(intptr_t)EOWNERDEAD);
    tear_down();
}

static void before_enable(void)
{
    char space[8];
    struct iovec part = {space, sizeof space};
    struct msghdr message = message_of(&part);
    it.ring = make_ring_with(RINGMSG_SETUP_R_DISABLED, 0);
    it.receiver = bound_udp(AF_INET);
    it.sender = sender_to(it.receiver);
    it.pool = make_pool(it.ring, it.receiver, 16, 2048);
    REFUSED(ringmsg_recvmsg(it.ring, it.receiver, &message, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_once(it.ring, it.pool, it.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_recvmsg_multishot(it.ring, it.pool, it.receiver, 0, 0, 9), EBADFD);
    REFUSED(ringmsg_cancel(it.ring, 1), EBADFD);
    REFUSED(ringmsg_submit(it.ring), EBADFD);
    REFUSED(ringmsg_reap(it.ring, records, NULL, CAPACITY, NULL), EBADFD);
    REFUSED(ringmsg_next(it.ring, NULL, 0, records, NULL, CAPACITY, NULL), EBADFD);
    OK(ringmsg_ring_enable(it.ring));
    arm();
    works_as_before();
    tear_down();
}

TESTS(TEST(null_for_every_pointer), TEST(input_structs_of_any_size), TEST(output_structs_of_any_size),
      TEST(a_config_that_is_read_and_written), TEST(ring_configs), TEST(what_the_other_engine_has_no_use_for),
      TEST(ring_info_tells_what_was_granted), TEST(pool_configs), TEST(waits_and_flags),
      TEST(descriptors_that_are_no_sockets), TEST(double_and_forged_releases),
      TEST(segments_are_released_once_each), TEST(releases_across_pools),
      TEST(records_of_a_pool_made_anew), TEST(a_pool_of_another_ring), TEST(the_wrong_thread),
      TEST(after_the_owners_exit), TEST(before_enable))
