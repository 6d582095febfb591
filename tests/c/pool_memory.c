/* ringmsg_pool_new_in() makes a pool in the caller's memory: it receives there, and neither
 * ringmsg_pool_free() nor ringmsg_ring_free() unmaps it or changes what it holds. */
#include "test.h"
#include <sys/mman.h>

enum { BUFFERS = 4, LENGTH = BUFFERS * (16 + 32 + 64 + 512 + 16) }; /* 640 each, a multiple of 64 */

static uint8_t *memory_of(size_t length)
{
    uint8_t *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        FAIL("mmap");
    return memory;
}

static struct ringmsg_pool_config small_pool(void)
{
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    config.buffers = BUFFERS;
    config.name_capacity = 32;
    config.control_capacity = 64;
    config.payload_capacity = 512;
    return config;
}

/* Receives one datagram into the pool; returns where its payload is. */
static const uint8_t *receive(struct ringmsg_ring *ring, struct ringmsg_pool *pool, const char *text)
{
    int receiver = bound_udp(AF_INET), sender = sender_to(receiver);
    OK(ringmsg_recvmsg_multishot(ring, pool, receiver, 0, 0, 1));
    EQUAL(SYS(send(sender, text, strlen(text), 0)), strlen(text));
    struct ringmsg_record record = reap_one(ring);
    EQUAL(record.payload_length, strlen(text));
    OK(ringmsg_release(ring, &record, 1));
    OK(ringmsg_cancel(ring, 1));
    EQUAL(reap_one(ring).flags, RINGMSG_RECORD_FINAL);
    close(receiver);
    close(sender);
    return ringmsg_pool_base(pool) + record.payload_offset;
}

static void the_memory_outlives_pool_and_ring(void)
{
    struct ringmsg_pool_config config = small_pool();
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool;
    uint8_t *memory = memory_of(LENGTH);
    OK(ringmsg_pool_new_in(ring, &config, memory, LENGTH, &pool));
    EQUAL(ringmsg_pool_base(pool) == memory, 1);
    EQUAL(ringmsg_pool_size(pool), LENGTH);
    const uint8_t *first = receive(ring, pool, "first");
    EQUAL(first > memory && first < memory + LENGTH, 1);
    OK(ringmsg_pool_free(pool));
    SAME_BYTES(first, "first", 5);

    OK(ringmsg_pool_new_in(ring, &config, memory, LENGTH, &pool)); /* the same memory again */
    const uint8_t *second = receive(ring, pool, "second");
    OK(ringmsg_ring_free(ring));
    SAME_BYTES(second, "second", 6);
    memset(memory, 1, LENGTH);
    EQUAL(munmap(memory, LENGTH), 0);
}

static void memory_that_cannot_be_a_pool_is_refused(void)
{
    struct ringmsg_pool_config config = small_pool();
    struct ringmsg_ring *ring = make_ring();
    struct ringmsg_pool *pool = NULL;
    uint8_t *memory = memory_of(LENGTH + 64);
    EQUAL(ringmsg_pool_new_in(ring, &config, NULL, LENGTH, &pool), -EINVAL);
    EQUAL(ringmsg_pool_new_in(ring, &config, memory, LENGTH - 1, &pool), -EINVAL);
    EQUAL(ringmsg_pool_new_in(ring, &config, memory, 0, &pool), -EINVAL);
    EQUAL(ringmsg_pool_new_in(ring, &config, memory + 8, LENGTH, &pool), -EINVAL);
    EQUAL(ringmsg_pool_new_in(ring, &config, memory, LENGTH, NULL), -EINVAL);
    EQUAL(ringmsg_pool_new_in(ring, NULL, memory, LENGTH, &pool), -EINVAL);
    EQUAL(ringmsg_pool_new_in(NULL, &config, memory, LENGTH, &pool), -EINVAL);
    EQUAL(pool == NULL, 1);
    OK(ringmsg_pool_new_in(ring, &config, memory + 64, LENGTH, &pool));
    EQUAL(ringmsg_pool_base(pool) == memory + 64, 1);
    OK(ringmsg_ring_free(ring));
    EQUAL(munmap(memory, LENGTH + 64), 0);
}

TESTS(TEST(the_memory_outlives_pool_and_ring), TEST(memory_that_cannot_be_a_pool_is_refused))
