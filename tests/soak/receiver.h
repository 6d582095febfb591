/* What rings.c has for the receiver. Only its thread uses it, or one that it waits for. */
#ifndef SOAK_RECEIVER_H
#define SOAK_RECEIVER_H

#include "soak.h"

extern struct chance chance;

/* Of the ring of the moment. */
extern uint32_t pool_buffers[POOLS];
extern int waits_by_poll;
extern uint64_t reaps;

/* A call of the library that must succeed; its value. */
int library(int value, const char *what);
void make_ring(void);
void choose_pool(struct life *life);
/* The request's user_data. */
uint64_t name_of(const struct life *life);
void arm_all(void);

#endif
