/* Receivers on recvmsg(2), recvmmsg(2) and epoll(7), as they are usually written. */
#include "harness.h"

#include <sys/epoll.h>
#include <sys/prctl.h>

enum { CONTROL = 128, BATCH_MAX = 64, EVENTS = 64, RECVFROM = 2 };

/* What one receive call fills. It is initialised once; between calls only the lengths that the
 * kernel has changed are set again. */
static struct mmsghdr messages[BATCH_MAX];
static struct iovec pieces[BATCH_MAX];
static struct sockaddr_in names[BATCH_MAX];
static _Alignas(8) uint8_t controls[BATCH_MAX][CONTROL];

static void set_up(const struct run *run, unsigned count)
{
    size_t room = run->regime->gro ? 65536 : 2048;
    uint8_t *payloads = aligned_alloc(4096, count * room);
    memset(payloads, 0, count * room);
    for (unsigned i = 0; i < count; i++) {
        pieces[i] = (struct iovec){.iov_base = payloads + i * room, .iov_len = room};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &names[i], .msg_namelen = sizeof names[i], .msg_iov = &pieces[i], .msg_iovlen = 1,
            .msg_control = run->regime->bare ? NULL : controls[i],
            .msg_controllen = run->regime->bare ? 0 : CONTROL};
    }
}

static void take(struct run *run, unsigned i, uint32_t length)
{
    struct msghdr *header = &messages[i].msg_hdr;
    struct datagram datagram = {.payload = pieces[i].iov_base, .length = length};
    decode_source(&names[i], &datagram);
    for (struct cmsghdr *message = CMSG_FIRSTHDR(header); message; message = CMSG_NXTHDR(header, message))
        decode_message(message, &datagram);
    account_train(run, &datagram);
    header->msg_namelen = sizeof names[i];
    header->msg_controllen = header->msg_control != NULL ? CONTROL : 0;
}

/* Receives one datagram. Returns whether there was one. */
static bool receive_one(struct run *run, int fd, int flags)
{
    ssize_t length = recvmsg(fd, &messages[0].msg_hdr, flags);
    if (length < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return false;
        check("recvmsg", length);
    }
    count_batch(run);
    take(run, 0, (uint32_t)length);
    return true;
}

/* The same by recvfrom(2), which cannot tell more than payload and source. */
static bool receive_from(struct run *run, int fd)
{
    struct sockaddr_in source;
    socklen_t size = sizeof source;
    ssize_t length =
        recvfrom(fd, pieces[0].iov_base, pieces[0].iov_len, MSG_DONTWAIT, (struct sockaddr *)&source, &size);
    if (length < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return false;
        check("recvfrom", length);
    }
    struct datagram datagram = {.payload = pieces[0].iov_base, .length = (uint32_t)length};
    count_batch(run);
    decode_source(&source, &datagram);
    account(run, &datagram);
    return true;
}

/* Receives up to `count` queued datagrams. Returns how many there were. */
static unsigned receive_many(struct run *run, int fd, unsigned count, int flags)
{
    int n = recvmmsg(fd, messages, count, flags, NULL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        check("recvmmsg", n);
    }
    count_batch(run);
    for (int i = 0; i < n; i++)
        take(run, (unsigned)i, messages[i].msg_len);
    return (unsigned)n;
}

static void one_socket(const struct run *run)
{
    if (run->regime->sockets > 1)
        not_supported("one socket only");
}

static void sleep_before_receive(const struct variant *self)
{
    struct timespec time = {.tv_nsec = self->sleep_us * 1000L};
    if (self->sleep_us != 0)
        nanosleep(&time, NULL);
}

/* recvmsg(2), which blocks or polls in a loop. */
static void by_recvmsg(struct run *run, const struct variant *self)
{
    one_socket(run);
    set_up(run, 1);
    if (self->flags != 0)
        messages[0].msg_hdr.msg_control = NULL;
    while (!run->stopped)
        receive_one(run, run->fds[0], self->spin_us ? MSG_DONTWAIT : 0);
}

/* recvmmsg(2), which blocks for the first datagram; then perhaps a sleep, so that the next call
 * finds more. */
static void by_recvmmsg(struct run *run, const struct variant *self)
{
    one_socket(run);
    set_up(run, self->batch);
    prctl(PR_SET_TIMERSLACK, 1); /* otherwise a sleep takes 50 us longer */
    while (!run->stopped)
        if (receive_many(run, run->fds[0], self->batch, MSG_WAITFORONE) < self->batch && !run->stopped)
            sleep_before_receive(self);
}

/* epoll, level-triggered. Each ready socket is read until a call is not full, which saves a call
 * that finds nothing. */
static void by_epoll(struct run *run, const struct variant *self)
{
    struct epoll_event events[EVENTS];
    int poll = check("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
    set_up(run, self->batch);
    prctl(PR_SET_TIMERSLACK, 1);
    for (unsigned i = 0; i < run->regime->sockets; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = run->fds[i]};
        check("epoll_ctl", epoll_ctl(poll, EPOLL_CTL_ADD, run->fds[i], &event));
    }
    while (!run->stopped) {
        int n = epoll_wait(poll, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            check("epoll_wait", n);
        for (int i = 0; i < n; i++)
            if (self->flags == RECVFROM)
                while (receive_from(run, events[i].data.fd))
                    ;
            else if (self->batch == 1)
                while (receive_one(run, events[i].data.fd, MSG_DONTWAIT))
                    ;
            else
                while (receive_many(run, events[i].data.fd, self->batch, MSG_DONTWAIT) == self->batch)
                    ;
        if (!run->stopped)
            sleep_before_receive(self);
    }
}

const struct variant variants[] = {
    {"recvmsg", by_recvmsg, .batch = 1},
    {"recvmsg-spin", by_recvmsg, .batch = 1, .spin_us = 1},
    {"recvmmsg-8", by_recvmmsg, .batch = 8},
    {"recvmmsg-64", by_recvmmsg, .batch = 64},
    {"recvmmsg-64-sleep-100us", by_recvmmsg, .batch = 64, .sleep_us = 100},
    {"recvmmsg-64-sleep-1ms", by_recvmmsg, .batch = 64, .sleep_us = 1000},
    {"recvmsg-no-control", by_recvmsg, .batch = 1, .flags = 1}, /* for the test: decodes less than it must */
    {"epoll-recvmsg", by_epoll, .batch = 1},
    {"epoll-recvfrom", by_epoll, .batch = 1, .flags = RECVFROM}, /* no receiver asks for control messages here */
    {"epoll-recvmmsg-64", by_epoll, .batch = 64},
    {"epoll-recvmmsg-64-sleep-100us", by_epoll, .batch = 64, .sleep_us = 100},
    {NULL, NULL, 0, 0, 0, 0},
};
