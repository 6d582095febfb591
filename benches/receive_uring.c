/* A multishot recvmsg loop on liburing, as its experts write it: provided buffers in a ring,
 * registered files and ring descriptor, one kernel entry that waits and reaps, buffers and
 * completions returned together. With a minimum wait it is the loop that batches best. */
#include "harness.h"

#include <liburing.h>
#include <sys/syscall.h>

#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1u << 13)
#endif
#define FEATURE_MIN_TIMEOUT (1u << 15)

enum { GROUP = 1, CONTROL = 128, NAME = sizeof(struct sockaddr_in) };

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static unsigned count, room; /* of the buffers */
static uint8_t *memory;
static struct msghdr shape = {.msg_namelen = NAME, .msg_controllen = CONTROL};

static void set_up(struct run *run, const struct variant *self)
{
    struct io_uring_params params = {.flags = self->flags | IORING_SETUP_CQSIZE, .cq_entries = 1024};
    int error = io_uring_queue_init_params(256, &ring, &params);
    if (error == -EINVAL)
        not_supported("this kernel does not know the mode");
    if (error == -ENOSYS || error == -EPERM)
        not_supported("no io_uring");
    check_errno("io_uring_queue_init_params", error);
    if (self->sleep_us != 0 && !(params.features & FEATURE_MIN_TIMEOUT))
        not_supported("this kernel has no minimum wait");
    check_errno("register_ring_fd", io_uring_register_ring_fd(&ring));
    check_errno("register_files", io_uring_register_files(&ring, run->fds, run->regime->sockets));

    if (run->regime->bare)
        shape.msg_controllen = 0;
    /* Few enough to stay in the cache, and enough that the request is not starved. */
    count = run->regime->gro ? 64 : 256;
    room = run->regime->gro ? 65536 + 256 : 2048 + 256;
    size_t size = count * sizeof(struct io_uring_buf);
    buffers = aligned_alloc(4096, size < 4096 ? 4096 : size);
    struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)buffers, .ring_entries = count, .bgid = GROUP};
    check_errno("register_buf_ring", io_uring_register_buf_ring(&ring, &group, 0));
    io_uring_buf_ring_init(buffers);
    memory = aligned_alloc(4096, (size_t)count * room);
    memset(memory, 0, (size_t)count * room);
    for (unsigned i = 0; i < count; i++)
        io_uring_buf_ring_add(buffers, memory + (size_t)i * room, room, (unsigned short)i,
                              io_uring_buf_ring_mask(count), (int)i);
    io_uring_buf_ring_advance(buffers, (int)count);
}

static void arm(unsigned socket)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    if (sqe == NULL) {
        check_errno("submit", io_uring_submit(&ring));
        sqe = io_uring_get_sqe(&ring);
    }
    io_uring_prep_recvmsg_multishot(sqe, (int)socket, &shape, MSG_TRUNC);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = GROUP;
    io_uring_sqe_set_data64(sqe, socket);
}

/* Submits and waits for one completion, or for a batch until the minimum wait is over. */
static void submit_and_wait(const struct variant *self)
{
    if (self->sleep_us == 0) {
        int error = io_uring_submit_and_wait(&ring, 1);
        if (error < 0 && error != -EINTR && error != -EBUSY)
            check_errno("submit_and_wait", error);
        return;
    }
    /* liburing 2.3 has no helper for this; min_wait_usec is at the offset of its headers'
     * padding. */
    struct __kernel_timespec longest = {.tv_sec = 3600};
    struct { uint64_t sigmask; uint32_t size, min_wait_us; uint64_t time; } wait = {
        .size = 8, .min_wait_us = self->sleep_us, .time = (uintptr_t)&longest};
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_REGISTERED_RING;
    if (io_uring_sq_ready(&ring) > 0) /* only after the request has ended */
        check_errno("submit", io_uring_submit(&ring));
    long n = syscall(__NR_io_uring_enter, ring.enter_ring_fd, 0, count / 2, flags, &wait, sizeof wait);
    if (n < 0 && errno != EINTR && errno != ETIME && errno != EBUSY)
        check("io_uring_enter", n);
}

static void take(struct run *run, struct io_uring_recvmsg_out *out, uint32_t length)
{
    struct datagram datagram = {.payload = io_uring_recvmsg_payload(out, &shape), .length = length};
    decode_source(io_uring_recvmsg_name(out), &datagram);
    for (struct cmsghdr *message = io_uring_recvmsg_cmsg_firsthdr(out, &shape); message;
         message = io_uring_recvmsg_cmsg_nexthdr(out, &shape, message))
        decode_message(message, &datagram);
    account_train(run, &datagram);
}

static void by_multishot(struct run *run, const struct variant *self)
{
    set_up(run, self);
    for (unsigned i = 0; i < run->regime->sockets; i++)
        arm(i);
    while (!run->stopped) {
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        int given = 0;
        submit_and_wait(self);
        count_batch(run);
        io_uring_for_each_cqe(&ring, head, cqe) {
            seen++;
            if (!(cqe->flags & IORING_CQE_F_MORE))
                arm((unsigned)cqe->user_data);
            if (cqe->res < 0 && cqe->res != -ENOBUFS)
                check_errno("recvmsg", cqe->res);
            if (!(cqe->flags & IORING_CQE_F_BUFFER))
                continue;
            unsigned number = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
            uint8_t *buffer = memory + (size_t)number * room;
            struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(buffer, cqe->res, &shape);
            if (out != NULL)
                take(run, out, io_uring_recvmsg_payload_length(out, cqe->res, &shape));
            io_uring_buf_ring_add(buffers, buffer, room, (unsigned short)number,
                                  io_uring_buf_ring_mask(count), given++);
        }
        /* Like io_uring_buf_ring_cq_advance(), but some completions have no buffer. */
        io_uring_buf_ring_advance(buffers, given);
        io_uring_cq_advance(&ring, seen);
    }
}

#define DEFER (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)
const struct variant variants[] = {
    {"uring-plain", by_multishot, .flags = 0},
    {"uring-defer", by_multishot, .flags = DEFER},
    {"uring-defer-100us", by_multishot, .flags = DEFER, .sleep_us = 100},
    {NULL, NULL, 0, 0, 0, 0},
};
