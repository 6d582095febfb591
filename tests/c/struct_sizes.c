/* Structs with a size field may be shorter or longer than the library's, as in programs that were
 * compiled against another version. Invalid sizes are refused. */
#include "bad_input.h"

/* A struct followed by guard bytes, with room for fields of a later version. */
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
    EQUAL(got == 0, ring != NULL);
    OK(ringmsg_ring_free(ring));
    return got;
}

static int give_pool_config(const void *input)
{
    struct ringmsg_pool *pool = NULL;
    int got = ringmsg_pool_new(fixture.ring, input, &pool);
    EQUAL(got == 0, pool != NULL);
    if (got == 0)
        OK(ringmsg_pool_free(pool));
    return got;
}

static int give_wait(const void *input)
{
    return ringmsg_reap(fixture.ring, records, NULL, CAPACITY, input);
}

/* `shortest` is the smallest size that includes every required field. */
static void try_sizes(input_call *call, const void *value, uint32_t length, uint32_t shortest)
{
    frame(value, length, length);
    EQUAL(call(&framed), 0);
    for (uint32_t size = shortest; size <= ROOM; size += 4) {
        frame(value, size < length ? size : length, size);
        if (size < length) /* the library must not read behind the size */
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

static void input_structs_may_have_any_size(void)
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
    check_ring_still_works();
    tear_down();
}

typedef int output_call(void *output);

static int take_info(void *output)
{
    return ringmsg_ring_info(fixture.ring, output);
}
static int take_ring_stats(void *output)
{
    return ringmsg_ring_stats(fixture.ring, output);
}
static int take_request_stats(void *output)
{
    return ringmsg_request_stats(fixture.ring, 1, output);
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
            int expected = at >= size ? 0xEE : at < length ? whole[at] : 0;
            if (framed.bytes[at] != expected)
                FAIL("size %u: byte %u is %#x, not %#x", size, at, framed.bytes[at], expected);
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

static void output_structs_may_have_any_size(void)
{
    set_up();
    arm();
    sleep_ms(5);
    try_output_sizes(take_info, sizeof(struct ringmsg_ring_info));
    try_output_sizes(take_ring_stats, sizeof(struct ringmsg_stats));
    try_output_sizes(take_request_stats, sizeof(struct ringmsg_stats));
    if (test_mode == 0)
        try_output_sizes(take_support, sizeof(struct ringmsg_support));
    check_ring_still_works();
    tear_down();
}

/* ringmsg_pool_config_for_socket reads and writes its struct. */
static void pool_config_for_socket_accepts_any_size(void)
{
    struct ringmsg_pool_config config;
    set_up();
    arm();
    ringmsg_pool_config_init(&config);
    frame(&config, sizeof config, sizeof config + 8);
    OK(ringmsg_pool_config_for_socket((void *)&framed, fixture.receiver));
    EQUAL(framed.size, sizeof config + 8);
    EQUAL(framed.bytes[sizeof config + 8], 0);
    frame(&config, 12, 12);
    memset(framed.bytes + 12, 0xEE, 32);
    OK(ringmsg_pool_config_for_socket((void *)&framed, fixture.receiver));
    EQUAL(framed.bytes[12], 0xEE);
    frame(&config, sizeof config, sizeof config + 8);
    framed.bytes[sizeof config + 3] = 1;
    REFUSED(ringmsg_pool_config_for_socket((void *)&framed, fixture.receiver), EINVAL);
    frame(&config, sizeof config, 3);
    REFUSED(ringmsg_pool_config_for_socket((void *)&framed, fixture.receiver), EINVAL);
    check_ring_still_works();
    tear_down();
}

TESTS(TEST(input_structs_may_have_any_size),
      TEST(output_structs_may_have_any_size),
      TEST(pool_config_for_socket_accepts_any_size))
