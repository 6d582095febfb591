/* Shared by the tests of ringmsg_receive(): a slab, its layout, and the arrays that it fills. */
#ifndef RECEIVE_H
#define RECEIVE_H

#include "test.h"

enum { BUFFERS = 80 };

static _Alignas(64) uint8_t slab[BUFFERS * 66048];
static struct ringmsg_pool_config layout;
static struct ringmsg_record records[200];
static struct ringmsg_metadata metadata[200];

static inline struct ringmsg_pool_config layout_for(int fd, uint32_t buffers)
{
    struct ringmsg_pool_config config;
    ringmsg_pool_config_init(&config);
    OK(ringmsg_pool_config_for_socket(&config, fd));
    config.buffers = buffers;
    return config;
}

static inline int receive(int fd, uint32_t capacity, uint32_t flags)
{
    return ringmsg_receive(fd, slab, sizeof slab, &layout, records, metadata, capacity, flags);
}

/* What every record of a message has in common. */
static inline void check_whole(int i, const void *data, uint32_t length)
{
    const struct ringmsg_record *record = &records[i];
    EQUAL(record->result, length);
    EQUAL(record->flags, 0);
    EQUAL(record->payload_length, length);
    EQUAL(record->wire_length, length);
    EQUAL(record->pool, RINGMSG_POOL_NONE);
    EQUAL(record->user_data, 0);
    EQUAL(record->generation, 0);
    EQUAL(record->segment, 0);
    EQUAL(record->segments, 1);
    SAME_BYTES(slab + record->payload_offset, data, length);
}

#endif
