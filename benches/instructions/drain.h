/* The interface of both receivers for main.c: the two halves of a receive loop on one UDP
 * socket. */
#ifndef DRAIN_H
#define DRAIN_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <ringmsg.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 256, CAPACITY = 512, NAME = 16, CONTROL = 128, PAYLOAD = 2048, USER_DATA = 42 };

#define OK(call) \
    do { \
        long result_ = (call); \
        if (result_ < 0) { \
            fprintf(stderr, "%s: %s\n", #call, ringmsg_strerror((int)result_)); \
            exit(1); \
        } \
    } while (0)

/* Arms the socket. */
void arm(int fd, int split);

/* Waits for datagrams and makes a record of each; `metadata` may be NULL. */
int measured_reap(struct ringmsg_record *records, struct ringmsg_metadata *metadata);

/* Returns the buffers of these records to the kernel. */
void measured_release(const struct ringmsg_record *records, int count);

/* The address that the offsets in records are relative to. */
const uint8_t *base(void);

#endif
