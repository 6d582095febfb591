/* Faults of the kernel, without a hook in the library: its io_uring_enter(2) goes through
 * syscall(3), and the program's own comes before libc's. Enters fail as told; completions that
 * the kernel posted are changed before the library looks. Include before test.h. */
#ifndef RINGMSG_TEST_FAULT_INJECTION_H
#define RINGMSG_TEST_FAULT_INJECTION_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

enum { SUBMITTING_ENTERS = 1, WAITING_ENTERS = 2, NONBLOCKING_ENTERS = 4, ALL_ENTERS = 7 };

static struct injection {
    int kinds;                 /* of enters that fail */
    int times;                 /* so many of them; < 0: all */
    int error;                 /* with this errno */
    int failed;                /* so many have */
    int stuck_ms;              /* the next wait does not return for so long */
    int from, to;              /* completions with this result get that one */
    int changed;               /* so many did */
    int drop_finals;           /* so many ends of multishots are dropped, as without memory */
} inject;

static struct io_uring_params inject_params;
static uint8_t *inject_rings; /* where the kernel's queues are mapped */

static uint32_t *ring_word(uint32_t offset)
{
    return (uint32_t *)(void *)(inject_rings + offset);
}

/* The first ring's mapping of this process. */
static void find_rings(void)
{
    char line[256];
    unsigned long start, offset;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        if (strstr(line, "io_uring") != NULL && sscanf(line, "%lx-%*x %*s %lx", &start, &offset) == 2 &&
            offset == 0)
            inject_rings = (uint8_t *)start;
    if (maps != NULL)
        fclose(maps);
}

/* In DEFER mode completions are posted during an enter only: here none comes in between. */
static void change_completions(void)
{
    const struct io_cqring_offsets *at = &inject_params.cq_off;
    if (inject_rings == NULL)
        find_rings();
    struct io_uring_cqe *entries = (void *)(inject_rings + at->cqes);
    uint32_t mask = *ring_word(at->ring_mask), head = __atomic_load_n(ring_word(at->head), __ATOMIC_ACQUIRE);
    uint32_t tail = __atomic_load_n(ring_word(at->tail), __ATOMIC_ACQUIRE);
    for (; head != tail; head++) {
        struct io_uring_cqe *entry = &entries[head & mask];
        if (inject.from != 0 && entry->res == inject.from) {
            entry->res = inject.to;
            inject.changed++;
        }
        if (inject.drop_finals > 0 && entry->res > 0 && entry->user_data >> 32 == 0 &&
            (entry->flags & IORING_CQE_F_MORE) == 0) {
            inject.drop_finals--;
            entry->user_data = 2ull << 32; /* a cancellation was carried out: of no consequence */
            entry->flags = 0;
            __atomic_add_fetch(ring_word(at->overflow), 1, __ATOMIC_RELEASE);
            inject.changed++;
        }
    }
}

/* The library's calls come here. Not all pass six arguments: what is read of the others goes nowhere. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        given[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        *(void **)&next = dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_io_uring_enter) {
        int kind = given[1] > 0 ? SUBMITTING_ENTERS : given[2] > 0 ? WAITING_ENTERS : NONBLOCKING_ENTERS;
        if ((inject.kinds & kind) != 0 && inject.times != 0) {
            inject.times -= inject.times > 0;
            inject.failed++;
            errno = inject.error;
            return -1;
        }
        if (kind == WAITING_ENTERS && inject.stuck_ms > 0) {
            struct timespec sleep_briefly = {inject.stuck_ms / 1000, inject.stuck_ms % 1000 * 1000000L};
            inject.stuck_ms = 0;
            nanosleep(&sleep_briefly, NULL);
        }
    }
    long result = next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
    int error = errno;
    if (number == SYS_io_uring_setup && result >= 0)
        memcpy(&inject_params, (void *)given[1], sizeof inject_params);
    if (number == SYS_io_uring_enter && (inject.from != 0 || inject.drop_finals != 0))
        change_completions();
    errno = error;
    return result;
}

#endif
