/* Receives descriptors over a Unix socket (SCM_RIGHTS). The program takes them from the record, or
 * the release closes them, so that a peer cannot make the program leak descriptors. */
#include "example.h"
#include <fcntl.h>

/* Sends one message with two descriptors. */
static void send_descriptors(int fd, const char *text, const int descriptors[2])
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {0};
    struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(2 * sizeof(int));
    memcpy(CMSG_DATA(cmsg), descriptors, 2 * sizeof(int));
    check_sys("sendmsg", sendmsg(fd, &message, 0));
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) != -1;
    return count;
}

int main(void)
{
    int pair[2], ends[2];
    check_sys("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    check_sys("pipe", pipe2(ends, O_CLOEXEC));

    struct ringmsg_ring *ring;
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    check("ring", ringmsg_ring_new(NULL, &ring));
    ringmsg_pool_config_init(&config);
    check("pool", ringmsg_pool_config_for_socket(&config, pair[0]));
    config.buffers = 16;
    check("pool", ringmsg_pool_new(ring, &config, &pool));
    check("arm", ringmsg_recvmsg_multishot(ring, pool, pair[0], 0, 0, 1));

    send_descriptors(pair[1], "two ends of a pipe", ends);
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 2000000000};
    if (check("reap", ringmsg_reap(ring, &record, NULL, 1, &wait)) == 0) {
        fprintf(stderr, "no record within two seconds\n");
        return 1;
    }
    check("record", record.result);
    printf("message       \"%.*s\"\n", (int)record.payload_length,
           (const char *)ringmsg_pool_base(pool) + record.payload_offset);

    /* Takes one of the two descriptors, which the program now owns. */
    int taken, before = open_descriptors();
    check("take", ringmsg_take_fds(ring, &record, &taken, 1));
    check("release", ringmsg_release(ring, &record, 1));
    printf("taken         1 descriptor, close-on-exec: %s\n",
           fcntl(taken, F_GETFD) & FD_CLOEXEC ? "yes" : "no");
    printf("release       closed %d that was not taken\n", before - open_descriptors());

    char text[8] = "";
    check_sys("write", write(ends[1], "works", 5));
    check_sys("read", read(taken, text, 5));
    printf("the pipe      %s\n", text);
    close(taken);

    /* The end of the stream ends the request. */
    close(pair[1]);
    check("reap", ringmsg_reap(ring, &record, NULL, 1, &wait));
    printf("end           result %d, %s\n", record.result,
           record.flags & RINGMSG_RECORD_FINAL ? "final" : "continues");
    check("free", ringmsg_ring_free(ring));
    return 0;
}
