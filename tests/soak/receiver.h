/* What rings.c provides for receiver.c. Only the receiver's thread uses it, or a thread that it
 * waits for. */
#ifndef SOAK_RECEIVER_H
#define SOAK_RECEIVER_H

#include "soak.h"

extern struct rng rng;

/* Properties of the current ring. */
extern uint32_t pool_buffers[POOLS];
extern int waits_by_poll;
extern uint64_t reaps;

/* Returns the value of a library call, which must succeed. */
int library(int value, const char *what);
void make_ring(void);
void choose_pool(struct flow *flow);
/* The user_data of the flow's request. */
uint64_t user_data_of(const struct flow *flow);
void arm_all(void);

#endif
