/* What an expert writes by hand for one IPv4 socket with liburing: a DEFER multishot that fills the
 * same records and metadata. It clamps lengths, keeps control messages within what the kernel has
 * written, and re-arms. It knows its socket, so it decodes only what it has enabled. It does not
 * check a release, keeps no statistics, and has no other threads. */
#include "drain.h"

#include <liburing.h>
#include <netinet/in.h>
#include <netinet/udp.h>

#define CONTROL_AT (sizeof(struct io_uring_recvmsg_out) + NAME)
#define PAYLOAD_AT (CONTROL_AT + CONTROL)
#define STRIDE (PAYLOAD_AT + PAYLOAD)
#define LEVEL_AND_TYPE(level, type) ((uint64_t)(uint32_t)(type) << 32 | (uint32_t)(level))

static struct io_uring uring;
static struct io_uring_buf_ring *buffer_ring;
static uint8_t *memory;
static uint8_t holders[BUFFERS]; /* records that hold a buffer */
static struct msghdr message = {.msg_namelen = NAME, .msg_controllen = CONTROL};
static int socket_fd, splits;

static void submit_receive(void)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring);
    io_uring_prep_recvmsg_multishot(sqe, socket_fd, &message, MSG_TRUNC);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    io_uring_sqe_set_data64(sqe, USER_DATA);
}

void arm(int fd, int split)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER |
                                              IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
                                     .cq_entries = 4096};
    OK(io_uring_queue_init_params(64, &uring, &params));
    buffer_ring = aligned_alloc(4096, BUFFERS * sizeof(struct io_uring_buf));
    memory = aligned_alloc(64, (size_t)BUFFERS * STRIDE);
    if (buffer_ring == NULL || memory == NULL) {
        fprintf(stderr, "handwritten: no buffers\n");
        exit(1);
    }
    struct io_uring_buf_reg group = {.ring_addr = (uintptr_t)buffer_ring, .ring_entries = BUFFERS};
    OK(io_uring_register_buf_ring(&uring, &group, 0));
    io_uring_buf_ring_init(buffer_ring);
    for (int i = 0; i < BUFFERS; i++)
        io_uring_buf_ring_add(buffer_ring, memory + i * STRIDE, STRIDE, (unsigned short)i,
                              io_uring_buf_ring_mask(BUFFERS), i);
    io_uring_buf_ring_advance(buffer_ring, BUFFERS);
    socket_fd = fd;
    splits = split;
    submit_receive();
}

/* Returns the control message at `at` if it is complete, and stores where the next one starts. */
static inline const struct cmsghdr *next_message(const uint8_t *control, size_t length, size_t *at)
{
    if (length - *at < sizeof(struct cmsghdr))
        return NULL;
    const struct cmsghdr *found = (const struct cmsghdr *)(control + *at);
    if (found->cmsg_len < sizeof *found || found->cmsg_len > length - *at)
        return NULL;
    size_t padded = CMSG_ALIGN(found->cmsg_len);
    *at = padded > length - *at ? length : *at + padded;
    return found;
}

static inline uint32_t segment_size(const uint8_t *control, size_t length)
{
    const struct cmsghdr *found;
    for (size_t at = 0; (found = next_message(control, length, &at));)
        if (found->cmsg_level == SOL_UDP && found->cmsg_type == UDP_GRO && found->cmsg_len >= CMSG_LEN(4))
            return *(const uint32_t *)CMSG_DATA(found);
    return 0;
}

static inline void decode(const uint8_t *control, size_t length, const struct sockaddr_in *from,
                          size_t from_length, struct ringmsg_metadata *out)
{
    const struct cmsghdr *found;
    memset(out, 0, sizeof *out);
    if (from_length >= sizeof *from && from->sin_family == AF_INET) {
        out->family = AF_INET;
        out->source_port = ntohs(from->sin_port);
        memcpy(out->source, &from->sin_addr, 4);
        out->valid |= RINGMSG_META_SOURCE;
    }
    for (size_t at = 0; (found = next_message(control, length, &at));) {
        const uint8_t *data = CMSG_DATA(found);
        size_t data_length = found->cmsg_len - CMSG_LEN(0);
        switch (LEVEL_AND_TYPE(found->cmsg_level, found->cmsg_type)) {
        case LEVEL_AND_TYPE(SOL_IP, IP_PKTINFO):
            if (data_length < sizeof(struct in_pktinfo))
                break;
            memcpy(&out->interface_index, data, 4);
            memcpy(out->local_v4, data + 4, 4);
            memcpy(out->destination, data + 8, 4);
            out->family = AF_INET;
            out->valid |= RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE | RINGMSG_META_LOCAL_V4;
            break;
        case LEVEL_AND_TYPE(SOL_IP, IP_TOS):
            if (data_length < 1)
                break;
            out->traffic_class = *data;
            out->valid |= RINGMSG_META_TRAFFIC_CLASS;
            break;
        case LEVEL_AND_TYPE(SOL_SOCKET, SO_RXQ_OVFL):
            if (data_length < 4)
                break;
            memcpy(&out->dropped, data, 4);
            out->valid |= RINGMSG_META_DROPPED;
            break;
        case LEVEL_AND_TYPE(SOL_UDP, UDP_GRO):
            if (data_length < 4)
                break;
            memcpy(&out->segment_size, data, 4);
            out->valid |= RINGMSG_META_SEGMENT_SIZE;
            break;
        }
    }
}

/* Makes the records of a train, one per datagram. */
static inline int split(const struct ringmsg_record *whole, struct ringmsg_record *records,
                        struct ringmsg_metadata *metadata)
{
    uint32_t size = whole->segment_size;
    int count = (int)((whole->payload_length + size - 1) / size);
    for (int i = 0; i < count; i++) {
        uint32_t skipped = (uint32_t)i * size, left = whole->payload_length - skipped;
        uint32_t length = left < size ? left : size;
        records[i] = *whole;
        records[i].result = (int32_t)length;
        records[i].flags |= RINGMSG_RECORD_SEGMENT;
        records[i].payload_offset += skipped;
        records[i].payload_length = records[i].wire_length = length;
        records[i].segment = (uint16_t)i;
        records[i].segments = (uint16_t)count;
        if (metadata != NULL && i > 0)
            metadata[i] = metadata[0];
    }
    return count;
}

static inline int message_to_records(const struct io_uring_cqe *cqe, struct ringmsg_record *records,
                                     struct ringmsg_metadata *metadata)
{
    uint16_t buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    uint32_t start = buffer * (uint32_t)STRIDE, result = (uint32_t)cqe->res;
    const uint8_t *bytes = memory + start;
    const struct io_uring_recvmsg_out *header = (const void *)bytes;
    if (result < PAYLOAD_AT)
        return 0;
    uint32_t payload_length = result - PAYLOAD_AT < PAYLOAD ? result - PAYLOAD_AT : PAYLOAD;
    uint32_t control_length = header->controllen < CONTROL ? header->controllen : CONTROL;
    uint32_t name_length = header->namelen < NAME ? header->namelen : NAME;
    uint32_t flags = RINGMSG_RECORD_BUFFER;
    if (header->flags & MSG_TRUNC)
        flags |= RINGMSG_RECORD_TRUNCATED;
    if (header->flags & MSG_CTRUNC)
        flags |= RINGMSG_RECORD_CONTROL_TRUNCATED;
    *records = (struct ringmsg_record){
        .user_data = cqe->user_data,
        .result = (int32_t)payload_length,
        .flags = flags,
        .payload_offset = start + PAYLOAD_AT,
        .payload_length = payload_length,
        .control_offset = start + CONTROL_AT,
        .control_length = control_length,
        .name_offset = start + sizeof *header,
        .name_length = name_length,
        .wire_length = header->payloadlen,
        .msg_flags = header->flags,
        .buffer = buffer,
        .segments = 1,
    };
    const uint8_t *control = bytes + CONTROL_AT;
    if (metadata != NULL) {
        decode(control, control_length, (const void *)(bytes + sizeof *header), name_length, metadata);
        records->segment_size = metadata->segment_size;
    } else {
        records->segment_size = segment_size(control, control_length);
    }
    int count = 1;
    if (splits && records->segment_size > 0 && records->payload_length > records->segment_size) {
        struct ringmsg_record whole = *records;
        count = split(&whole, records, metadata);
    }
    holders[buffer] = (uint8_t)count;
    return count;
}

__attribute__((noinline)) int measured_reap(struct ringmsg_record *records, struct ringmsg_metadata *metadata)
{
    struct __kernel_timespec timeout = {.tv_sec = 2};
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    int filled = 0, ended = 0;
    int result = io_uring_submit_and_wait_timeout(&uring, &cqe, 1, &timeout, NULL);
    if (result < 0 && result != -ETIME)
        return result;
    io_uring_for_each_cqe(&uring, head, cqe)
    {
        if (filled > CAPACITY - 128)
            break;
        seen++;
        ended |= !(cqe->flags & IORING_CQE_F_MORE);
        if (cqe->res >= 0 && cqe->flags & IORING_CQE_F_BUFFER)
            filled += message_to_records(cqe, records + filled, metadata ? metadata + filled : NULL);
    }
    io_uring_cq_advance(&uring, seen);
    if (ended)
        submit_receive();
    return filled;
}

__attribute__((noinline)) void measured_release(const struct ringmsg_record *records, int count)
{
    int added = 0;
    for (int i = 0; i < count; i++) {
        uint16_t buffer = records[i].buffer;
        if (--holders[buffer] == 0)
            io_uring_buf_ring_add(buffer_ring, memory + buffer * STRIDE, STRIDE, buffer,
                                  io_uring_buf_ring_mask(BUFFERS), added++);
    }
    io_uring_buf_ring_advance(buffer_ring, added);
}

const uint8_t *base(void)
{
    return memory;
}
