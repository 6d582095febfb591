/* Injects kernel faults without a hook in the library. The library enters the kernel through
 * syscall(3), and the definition in this program takes precedence over libc's. It makes
 * io_uring_enter(2) fail as configured in `inject`, and changes completions after the kernel has
 * posted them and before the library reads them. Include this file before test.h. */
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
    int kinds;                 /* which kinds of enters fail */
    int times;                 /* how many of them fail; < 0: all */
    int error;                 /* the errno they fail with */
    int failed;                /* how many have failed */
    int stuck_ms;              /* the next wait returns this much later */
    int from, to;              /* a completion with result `from` gets result `to` */
    int changed;               /* how many completions were changed */
    int drop_finals;           /* how many FINAL completions to drop, as without memory */
} inject;

static struct io_uring_params inject_params;
static uint8_t *inject_rings; /* where the kernel's queues are mapped */

static uint32_t *ring_word(uint32_t offset)
{
    return (uint32_t *)(void *)(inject_rings + offset);
}

/* Finds the first ring that this process has mapped. */
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

/* Rewrites posted completions. In DEFER mode the kernel posts completions only during an enter, so
 * none arrives meanwhile. */
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
            /* Reads as the completion of a cancel request, which the library ignores. */
            entry->user_data = 2ull << 32;
            entry->flags = 0;
            __atomic_add_fetch(ring_word(at->overflow), 1, __ATOMIC_RELEASE);
            inject.changed++;
        }
    }
}

/* Receives the library's system calls. Not every call passes six arguments; the kernel ignores what
 * is read beyond them. */
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
            struct timespec delay = {inject.stuck_ms / 1000, inject.stuck_ms % 1000 * 1000000L};
            inject.stuck_ms = 0;
            nanosleep(&delay, NULL);
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
