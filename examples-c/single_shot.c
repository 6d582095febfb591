/* One recvmsg into the caller's own msghdr, which the kernel fills in as recvmsg(2) does, before
 * the request's record is reaped. The message has no pool, so use this for a memory layout of your
 * own, for MSG_PEEK, or for the error queue. */
#include "example.h"

/* Everything that the kernel writes to. It must stay valid and in place until the record is
 * reaped. */
struct reception {
    struct msghdr message;
    struct iovec parts[2];
    struct sockaddr_in source;
    struct {
        uint16_t kind, length;
    } header;
    char body[64];
    _Alignas(struct cmsghdr) char control[256];
};

static void prepare(struct reception *to)
{
    memset(to, 0, sizeof *to);
    to->parts[0] = (struct iovec){&to->header, sizeof to->header};
    to->parts[1] = (struct iovec){to->body, sizeof to->body};
    to->message = (struct msghdr){
        .msg_name = &to->source, .msg_namelen = sizeof to->source,
        .msg_iov = to->parts, .msg_iovlen = 2,
        .msg_control = to->control, .msg_controllen = sizeof to->control,
    };
}

/* Reads the control messages in two ways: with the macros of cmsg(3), and with the library's
 * decoder. */
static void print_control(struct msghdr *message)
{
    struct ringmsg_metadata meta;
    char destination[INET_ADDRSTRLEN];
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(message); cmsg != NULL; cmsg = CMSG_NXTHDR(message, cmsg))
        printf("control       level %d, type %d, %zu bytes\n", cmsg->cmsg_level, cmsg->cmsg_type,
               (size_t)cmsg->cmsg_len - CMSG_LEN(0));
    check("decode", ringmsg_control_decode(message->msg_control, message->msg_controllen, &meta));
    inet_ntop(AF_INET, meta.destination, destination, sizeof destination);
    printf("decoded       to %s, hop limit %u, traffic class 0x%02x\n", destination,
           (unsigned)meta.hop_limit, (unsigned)meta.traffic_class);
}

int main(void)
{
    int receiver = udp_socket("127.0.0.1", "0", bind);
    char port[8];
    snprintf(port, sizeof port, "%u", port_of(receiver));
    int sender = udp_socket("127.0.0.1", port, connect);
    check("socket", ringmsg_socket_enable(receiver, RINGMSG_META_DESTINATION | RINGMSG_META_HOP_LIMIT |
                                                        RINGMSG_META_TRAFFIC_CLASS));
    struct ringmsg_ring *ring;
    struct ringmsg_record record;
    struct ringmsg_wait wait = {.size = sizeof wait, .timeout_ns = 2000000000};
    check("ring", ringmsg_ring_new(NULL, &ring));

    static struct reception reception;
    prepare(&reception);
    check("request", ringmsg_recvmsg(ring, receiver, &reception.message, 0, 0, 7));
    check("submit", ringmsg_submit(ring)); /* the next reap would do so, too */

    struct {
        uint16_t kind, length;
        char body[6];
    } message = {3, 6, "hello"};
    check_sys("send", send(sender, &message, sizeof message, 0));

    if (check("reap", ringmsg_reap(ring, &record, NULL, 1, &wait)) == 0) {
        fprintf(stderr, "no record within two seconds\n");
        return 1;
    }
    check("record", record.result);
    printf("request       %llu, %s\n", (unsigned long long)record.user_data,
           record.flags & RINGMSG_RECORD_FINAL ? "final" : "continues");
    printf("payload       %d bytes: kind %u, length %u, \"%s\"\n", record.result,
           (unsigned)reception.header.kind, (unsigned)reception.header.length, reception.body);
    printf("source        port %s\n", reception.source.sin_port == htons((uint16_t)port_of(sender))
                                          ? "of the sender" : "of another socket");
    print_control(&reception.message);

    /* Too little space is reported as with recvmsg(2). */
    prepare(&reception);
    reception.message.msg_controllen = CMSG_LEN(4);
    reception.message.msg_iovlen = 1;
    check("request", ringmsg_recvmsg(ring, receiver, &reception.message, 0, 0, 8));
    check_sys("send", send(sender, &message, sizeof message, 0));
    if (check("reap", ringmsg_reap(ring, &record, NULL, 1, &wait)) == 1)
        printf("truncated     %s%s\n", reception.message.msg_flags & MSG_TRUNC ? "MSG_TRUNC " : "",
               reception.message.msg_flags & MSG_CTRUNC ? "MSG_CTRUNC" : "");
    check("free", ringmsg_ring_free(ring));
    return 0;
}
