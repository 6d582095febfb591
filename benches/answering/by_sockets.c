/* Servers on the socket calls, as they are usually written, and as an expert writes them, who
 * groups the answers of a batch by peer. */
#include "server.h"

#include "../by_hand.h"

#include <sys/epoll.h>

enum {
    UNGROUPED = 0,
    GROUPED = 1,
    EPOLL = 2,
    WITHOUT_GRO = 4,
    ONE_BYTE_WRONG = 8,
    ROOM = 2048,
    ROOM_GRO = 65536,
};

static struct mmsghdr headers[BATCH];
static struct iovec parts[BATCH];
static struct sockaddr_in sources[BATCH];
static _Alignas(struct cmsghdr) char controls[BATCH][CMSG_SPACE(sizeof(int))];
static struct answer answers[BATCH];
static bool trains; /* whether they come whole: with UDP_GRO */

/* recvfrom(2) and sendto(2), one datagram each. A train comes cut. */
static void one_by_one(struct server *server, const struct variant *self)
{
    static uint8_t payload[ROOM_GRO];
    for (;;) {
        struct sockaddr_in source;
        socklen_t length = sizeof source;
        ssize_t size = recvfrom(server->in, payload, sizeof payload, 0, (struct sockaddr *)&source, &length);
        check("recvfrom", size);
        payload[size / 2] ^= self->flags & ONE_BYTE_WRONG;
        bool sent = sendto(server->out, payload, (size_t)size, 0,
                           (const struct sockaddr *)destination(server, payload, &source), sizeof source) >= 0;
        count(server, sent, !sent);
    }
}

static void set_up(const struct server *server, unsigned batch)
{
    size_t room = trains ? ROOM_GRO : ROOM;
    uint8_t *space = aligned_alloc(4096, batch * room);
    memset(space, 0, batch * room);
    for (unsigned i = 0; i < batch; i++) {
        parts[i] = (struct iovec){space + i * room, room};
        headers[i].msg_hdr = (struct msghdr){
            .msg_name = &sources[i], .msg_namelen = sizeof sources[i], .msg_iov = &parts[i], .msg_iovlen = 1,
            .msg_control = trains ? controls[i] : NULL, .msg_controllen = trains ? sizeof controls[i] : 0};
    }
    if (trains)
        enable_gro(server->in);
}

/* Receives a batch; only the lengths that the kernel has changed are set again. */
static int receive(const struct server *server, unsigned batch, int flags)
{
    int n = recvmmsg(server->in, headers, batch, flags, NULL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    check("recvmmsg", n);
    for (int i = 0; i < n; i++) {
        struct msghdr *header = &headers[i].msg_hdr;
        answers[i] = (struct answer){parts[i].iov_base, headers[i].msg_len,
                                     destination(server, parts[i].iov_base, &sources[i])};
        header->msg_namelen = sizeof sources[i];
        if (trains && header->msg_controllen < sizeof controls[i])
            memset(controls[i], 0, sizeof controls[i]); /* a single datagram */
        if (trains)
            header->msg_controllen = sizeof controls[i];
    }
    return n;
}

/* A train goes back as a train. */
static void send_trains(int fd, int n)
{
    for (int i = 0; i < n; i++) {
        struct msghdr *header = &by_hand_headers[i].msg_hdr;
        int segment = *(const int *)CMSG_DATA((struct cmsghdr *)controls[i]);
        by_hand_parts[i] = (struct iovec){(void *)(uintptr_t)answers[i].payload, answers[i].length};
        *header = (struct msghdr){.msg_name = (void *)(uintptr_t)answers[i].to, .msg_namelen = sizeof *answers[i].to,
                                  .msg_iov = &by_hand_parts[i], .msg_iovlen = 1};
        if (segment > 0 && (size_t)segment < answers[i].length) {
            uint16_t size = (uint16_t)segment;
            header->msg_control = by_hand_control[i];
            header->msg_controllen = sizeof by_hand_control[i];
            struct cmsghdr *control = CMSG_FIRSTHDR(header);
            control->cmsg_level = SOL_UDP;
            control->cmsg_type = UDP_SEGMENT;
            control->cmsg_len = CMSG_LEN(sizeof size);
            memcpy(CMSG_DATA(control), &size, sizeof size);
        }
    }
    send_headers(fd, n, n);
}

static void answer(struct server *server, const struct variant *self, int n)
{
    if (n == 0)
        return;
    if (trains)
        send_trains(server->out, n);
    else if (self->flags & GROUPED)
        send_grouped(server->out, answers, n);
    else
        send_ungrouped(server->out, answers, n, n);
    unsigned datagrams = 0;
    for (int i = 0; i < n; i++)
        datagrams += (unsigned)((answers[i].length + server->traffic->size - 1) / server->traffic->size);
    count(server, datagrams, 0);
}

static void in_batches(struct server *server, const struct variant *self)
{
    struct epoll_event event = {.events = EPOLLIN};
    int poll = check("epoll_create1", epoll_create1(EPOLL_CLOEXEC));
    check("epoll_ctl", epoll_ctl(poll, EPOLL_CTL_ADD, server->in, &event));
    trains = server->traffic->train > 1 && !(self->flags & WITHOUT_GRO);
    set_up(server, self->batch);
    for (;;) {
        if (self->flags & EPOLL) {
            if (epoll_wait(poll, &event, 1, -1) < 0 && errno != EINTR)
                check("epoll_wait", -1);
            for (int n = (int)self->batch; n == (int)self->batch;) {
                n = receive(server, self->batch, MSG_DONTWAIT);
                answer(server, self, n);
            }
        } else {
            answer(server, self, receive(server, self->batch, MSG_WAITFORONE));
        }
    }
}

const struct variant variants[] = {
    {"answer-recvfrom-sendto", one_by_one, 1, 0, 0},
    {"answer-recvmmsg-64", in_batches, 64, UNGROUPED, 0},
    {"answer-recvmmsg-64-without-gro", in_batches, 64, UNGROUPED | WITHOUT_GRO, 0},
    {"answer-recvmmsg-64-grouped", in_batches, 64, GROUPED, 0},
    {"answer-recvmmsg-512-grouped", in_batches, 512, GROUPED, 0},
    {"answer-epoll-recvmmsg-64", in_batches, 64, EPOLL, 0},
    {"answer-epoll-recvmmsg-64-twin", in_batches, 64, EPOLL, 0},
    {"answer-one-byte-wrong", one_by_one, 1, ONE_BYTE_WRONG, 0}, /* tests that the clients notice */
    {NULL, NULL, 0, 0, 0},
};
