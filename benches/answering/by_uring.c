/* A server on liburing, as its experts write it: a multishot recvmsg with provided buffers, and a
 * sendmsg SQE for each answer, out of the buffer that was received into. One kernel entry submits
 * the answers of a batch and waits for the next one. A send's completion gives its buffer back. */
#include "server.h"

#include <liburing.h>

#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1u << 13)
#endif
#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1u << 12)
#endif

enum { GROUP = 1, COUNT = 1024, ENTRIES = 1024, CONTROL = 64, NAME = sizeof(struct sockaddr_in) };
static const uint64_t RECEIVE = UINT64_MAX;

/* An answer in flight, by the number of its buffer. */
static struct reply {
    struct msghdr header;
    struct iovec piece;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))];
} replies[COUNT];

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static uint8_t *memory;
static unsigned room, given;
static struct msghdr shape = {.msg_namelen = NAME};

static uint8_t *buffer(unsigned number) { return memory + (size_t)number * room; }

static void return_buffer(unsigned number)
{
    io_uring_buf_ring_add(buffers, buffer(number), room, (unsigned short)number, io_uring_buf_ring_mask(COUNT),
                          (int)given++);
}

static struct io_uring_sqe *next_sqe(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe == NULL) {
        check_errno("submit", io_uring_submit(&ring));
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void arm(void)
{
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_recvmsg_multishot(sqe, 0, &shape, MSG_TRUNC);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    io_uring_sqe_set_data64(sqe, RECEIVE);
}

static void set_up(struct server *server, const struct variant *self)
{
    struct io_uring_params params = {.flags = self->flags | IORING_SETUP_CQSIZE, .cq_entries = 4 * ENTRIES};
    int error = io_uring_queue_init_params(ENTRIES, &ring, &params);
    if (error == -EINVAL)
        not_supported("this kernel does not know the mode");
    if (error == -ENOSYS || error == -EPERM)
        not_supported("no io_uring");
    check_errno("io_uring_queue_init_params", error);
    check_errno("register_ring_fd", io_uring_register_ring_fd(&ring));
    check_errno("register_files", io_uring_register_files(&ring, (int[]){server->in, server->out}, 2));
    bool trains = server->traffic->train > 1;
    if (trains) {
        enable_gro(server->in);
        shape.msg_controllen = CONTROL;
    }
    room = trains ? 65536 + 256 : 2048;
    buffers = aligned_alloc(4096, COUNT * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)buffers, .ring_entries = COUNT, .bgid = GROUP};
    check_errno("register_buf_ring", io_uring_register_buf_ring(&ring, &group, 0));
    io_uring_buf_ring_init(buffers);
    memory = aligned_alloc(4096, (size_t)COUNT * room);
    memset(memory, 0, (size_t)COUNT * room);
    for (unsigned i = 0; i < COUNT; i++)
        return_buffer(i);
    io_uring_buf_ring_advance(buffers, (int)given);
    given = 0;
}

/* The segment size of a train; 0: a datagram. */
static unsigned segment_of(struct io_uring_recvmsg_out *out)
{
    for (struct cmsghdr *message = io_uring_recvmsg_cmsg_firsthdr(out, &shape); message;
         message = io_uring_recvmsg_cmsg_nexthdr(out, &shape, message))
        if (message->cmsg_level == IPPROTO_UDP && message->cmsg_type == UDP_GRO)
            return (unsigned)*(const int *)CMSG_DATA(message);
    return 0;
}

/* Queues the answer to what is in a buffer. */
static void answer(struct server *server, unsigned number, struct io_uring_recvmsg_out *out, unsigned length)
{
    struct reply *reply = &replies[number];
    void *payload = io_uring_recvmsg_payload(out, &shape);
    unsigned segment = server->traffic->train > 1 ? segment_of(out) : 0;
    const struct sockaddr_in *to = destination(server, payload, io_uring_recvmsg_name(out));
    reply->piece = (struct iovec){payload, length};
    reply->header = (struct msghdr){.msg_name = (void *)(uintptr_t)to, .msg_namelen = sizeof *to,
                                    .msg_iov = &reply->piece, .msg_iovlen = 1};
    if (segment > 0 && segment < length) {
        uint16_t size = (uint16_t)segment;
        reply->header.msg_control = reply->control;
        reply->header.msg_controllen = sizeof reply->control;
        struct cmsghdr *control = CMSG_FIRSTHDR(&reply->header);
        control->cmsg_level = IPPROTO_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof size);
        memcpy(CMSG_DATA(control), &size, sizeof size);
    }
    struct io_uring_sqe *sqe = next_sqe();
    io_uring_prep_sendmsg(sqe, 1, &reply->header, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, number);
}

static void received(struct server *server, const struct io_uring_cqe *cqe)
{
    if (!(cqe->flags & IORING_CQE_F_MORE))
        arm();
    if (cqe->res < 0 && cqe->res != -ENOBUFS)
        check_errno("recvmsg", cqe->res);
    if (!(cqe->flags & IORING_CQE_F_BUFFER))
        return;
    unsigned number = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer(number), cqe->res, &shape);
    if (out == NULL)
        return_buffer(number);
    else
        answer(server, number, out, io_uring_recvmsg_payload_length(out, cqe->res, &shape));
}

static void by_sqes(struct server *server, const struct variant *self)
{
    set_up(server, self);
    arm();
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0, answered = 0, unsent = 0;
        int error = io_uring_submit_and_wait(&ring, 1);
        if (error < 0 && error != -EINTR && error != -EBUSY)
            check_errno("submit_and_wait", error);
        io_uring_for_each_cqe(&ring, head, cqe) {
            seen++;
            if (cqe->user_data == RECEIVE) {
                received(server, cqe);
                continue;
            }
            unsigned number = (unsigned)cqe->user_data;
            unsigned size = server->traffic->size;
            *(cqe->res < 0 ? &unsent : &answered) += ((unsigned)replies[number].piece.iov_len + size - 1) / size;
            return_buffer(number);
        }
        io_uring_buf_ring_advance(buffers, (int)given);
        given = 0;
        io_uring_cq_advance(&ring, seen);
        if (answered + unsent > 0)
            count(server, answered, unsent);
    }
}

const struct variant variants[] = {
    {"answer-uring-sqes", by_sqes, 0, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0},
    {NULL, NULL, 0, 0, 0},
};
