/* Datagrams that hold a sequence number, so that loss, duplication and reordering are detected. */
#ifndef RINGMSG_TEST_NUMBERED_DATAGRAMS_H
#define RINGMSG_TEST_NUMBERED_DATAGRAMS_H

#include "test.h"

#include <sched.h>

/* Loopback delivers in the order of sending what is sent on one processor; but a kernel thread may
 * do it, later. */
__attribute__((unused)) static void stay_on_one_processor(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(sched_getcpu(), &set);
    SYS(sched_setaffinity(0, sizeof set, &set));
}

/* Sends the numbers from `first` to `end` - 1. */
__attribute__((unused)) static void send_numbers(int sender, uint32_t first, uint32_t end)
{
    for (uint32_t number = first; number < end; number++)
        EQUAL(SYS(send(sender, &number, sizeof number, 0)), sizeof number);
}

/* Checks that the records hold consecutive numbers from `next` on. Returns the number that
 * follows. */
__attribute__((unused)) static uint32_t
check_numbers(struct ringmsg_ring *ring, const struct ringmsg_record *records, int n, uint32_t next)
{
    for (int i = 0; i < n; i++, next++) {
        uint32_t number;
        EQUAL(records[i].result, sizeof number);
        EQUAL(records[i].flags, RINGMSG_RECORD_BUFFER);
        memcpy(&number, payload_of(ring, &records[i]), sizeof number);
        EQUAL(number, next);
    }
    return next;
}

/* Reaps without releasing until `records` holds `count` records or no record arrives for 200 ms. */
__attribute__((unused)) static int hold_up_to(struct ringmsg_ring *ring,
                                              struct ringmsg_record *records, int count)
{
    int held = 0;
    while (held < count) {
        int n = reap_ms(ring, records + held, (uint32_t)(count - held), 200);
        if (n == 0)
            break;
        held += n;
    }
    return held;
}

#endif
