/* Preloaded into programs under valgrind. Valgrind runs one thread at a time and does not know that
 * io_uring_enter(2) can block, so the thread that would end the wait might never run. This turns
 * each wait into repeated calls that do not block, with short ppoll(2) sleeps between them, which
 * valgrind knows. (A call that does not block returns what is available, so no reap lingers.)
 * Signals are unblocked only during the sleeps, so that each of them ends the wait, as it would end
 * the call. */
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

#define SLEEP_NS 100000
#define ENTER_EXT_ARG 8u

/* The system's header may lack the field min_wait_usec. */
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

static long wait_in_steps(long (*call)(long, ...), long fd, long min_complete, long flags,
                           const struct wait_argument *argument, const sigset_t *mask)
{
    const struct limit *limit = (const void *)(uintptr_t)argument->timeout;
    const struct timespec pause = {0, SLEEP_NS};
    const struct limit zero = {0, 0};
    struct wait_argument nonblocking = *argument;
    int64_t end = limit != NULL ? now_ns() + limit->seconds * 1000000000 + limit->nanoseconds : INT64_MAX;
    nonblocking.timeout = (uint64_t)(uintptr_t)&zero;
    nonblocking.min_wait_usec = 0;
    for (;;) {
        int64_t now = now_ns();
        long entered = call(SYS_io_uring_enter, fd, 0, min_complete, flags, &nonblocking, sizeof nonblocking);
        if (entered >= 0 || errno != ETIME)
            return entered;
        if (now >= end) {
            errno = ETIME;
            return -1;
        }
        if (ppoll(NULL, 0, &pause, mask) != 0)
            return -1; /* EINTR, as from the call itself */
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
    long to_submit = given[1], min_complete = given[2], flags = given[3];
    if (number == SYS_io_uring_enter && to_submit == 0 && min_complete > 0 && (flags & ENTER_EXT_ARG)) {
        sigset_t all, mask;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &mask);
        long entered = wait_in_steps(next, given[0], min_complete, flags, (const void *)given[4], &mask);
        int error = errno;
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
        errno = error;
        return entered;
    }
    return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
