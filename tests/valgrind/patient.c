/* Preloaded into programs under valgrind. It runs one thread at a time, and does not know that
 * io_uring_enter(2) may block: whoever the sleeping thread waits for would never run. Here each
 * sleep in it becomes many looks without sleeping, with naps between them that valgrind knows. (A
 * look returns what is there, so nobody lingers.)
 * Signals arrive in the naps only, so that each of them ends the wait, as it would end the call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAP_NS 100000
#define ENTER_EXT_ARG 8u

/* The system's header may be older than the field min_wait_usec. */
struct wait_argument {
    uint64_t signal_mask;
    uint32_t signal_mask_size, min_wait_usec;
    uint64_t timeout;
};

struct limit {
    int64_t seconds, nanoseconds;
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static long wait_patiently(long (*call)(long, ...), long fd, long want, long flags,
                           const struct wait_argument *wanted, const sigset_t *mask)
{
    const struct limit *limit = (const void *)(uintptr_t)wanted->timeout;
    const struct timespec nap = {0, NAP_NS};
    const struct limit at_once = {0, 0};
    struct wait_argument look = *wanted;
    int64_t end = limit != NULL ? now_ns() + limit->seconds * 1000000000 + limit->nanoseconds : INT64_MAX;
    look.timeout = (uint64_t)(uintptr_t)&at_once;
    look.min_wait_usec = 0;
    for (;;) {
        int64_t now = now_ns();
        long entered = call(SYS_io_uring_enter, fd, 0, want, flags, &look, sizeof look);
        if (entered >= 0 || errno != ETIME)
            return entered;
        if (now >= end) {
            errno = ETIME;
            return -1;
        }
        if (ppoll(NULL, 0, &nap, mask) != 0)
            return -1; /* EINTR, as the call itself */
    }
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++)
        given[i] = va_arg(list, long);
    va_end(list);
    if (next == NULL)
        next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long to_submit = given[1], want = given[2], flags = given[3];
    if (number == SYS_io_uring_enter && to_submit == 0 && want > 0 && (flags & ENTER_EXT_ARG)) {
        sigset_t all, mask;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &mask);
        long entered = wait_patiently(next, given[0], want, flags, (const void *)given[4], &mask);
        int error = errno;
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        errno = error;
        return entered;
    }
    return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
