/* A look at what the library gives to sendmmsg(2), and a say in what the kernel answers, without a
 * hook in the library: the call goes through syscall(3), and the program's own comes before libc's.
 * Include before test.h. */
#ifndef RINGMSG_TEST_SENDMMSG_H
#define RINGMSG_TEST_SENDMMSG_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Called before each: returns 0, or the errno with which it fails; may lower the count. */
static int (*before_sendmmsg)(const struct mmsghdr *headers, long *count);

/* Not all calls pass six arguments: what is read of the others goes nowhere. */
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
    if (number == SYS_sendmmsg && before_sendmmsg != NULL) {
        int error = before_sendmmsg((const struct mmsghdr *)given[1], &given[2]);
        if (error != 0) {
            errno = error;
            return -1;
        }
    }
    return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}

/* The data of a control message; NULL if the message has none of that kind. */
__attribute__((unused)) static const void *control_of(const struct msghdr *message, int level, int type)
{
    struct msghdr *walked = (struct msghdr *)message;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(walked); c != NULL; c = CMSG_NXTHDR(walked, c))
        if (c->cmsg_level == level && c->cmsg_type == type)
            return CMSG_DATA(c);
    return NULL;
}

#endif
