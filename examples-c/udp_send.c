/* Sends numbered trains of datagrams. One sendmsg(2) sends a train, and the kernel cuts it into
 * datagrams (UDP_SEGMENT). Ends when the receiver has answered the end marker.
 *
 *   udp_send [-t TRAINS] [-s SEGMENT_BYTES] [-p PAUSE_US] [-f train|datagram] ADDRESS PORT
 *
 * -f omits a train or a datagram without counting it as dropped, to show that the receiver
 * notices. */
#include "example.h"
#include "trains.h"

static uint64_t datagrams;

/* Writes the train's datagrams one after the other, the last one with half the size. Returns the
 * number of bytes. */
static size_t fill(char *train, uint32_t number, unsigned segments, uint16_t size, uint32_t end)
{
    size_t at = 0;
    datagrams += segments;
    for (unsigned i = 0; i < segments; i++) {
        uint16_t length = i + 1 < segments ? size : size / 2;
        struct stamp stamp = {.magic = TRAINS_MAGIC, .train = number, .end = end,
                              .segment = (uint16_t)i, .segments = (uint16_t)segments,
                              .length = length, .datagrams = datagrams};
        memcpy(train + at, &stamp, sizeof stamp);
        at += length;
    }
    return at;
}

static void send_train(int fd, char *train, size_t bytes, uint16_t segment)
{
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof segment)] = {0};
    struct iovec part = {.iov_base = train, .iov_len = bytes};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1,
                             .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = IPPROTO_UDP;
    cmsg->cmsg_type = UDP_SEGMENT;
    cmsg->cmsg_len = CMSG_LEN(sizeof segment);
    memcpy(CMSG_DATA(cmsg), &segment, sizeof segment);
    check_sys("sendmsg", sendmsg(fd, &message, 0));
}

static void pause_us(long us)
{
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        nanosleep(&time, NULL);
}

/* Sends end markers, each a train of its own, until the receiver answers. */
static int send_end_markers(int fd, char *train, uint32_t trains, uint16_t size)
{
    struct timeval timeout = {0, 100000};
    check_sys("SO_RCVTIMEO", setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout));
    for (uint32_t i = 0; i < END_MARKERS_MAX; i++) {
        char answer;
        check_sys("send", send(fd, train, fill(train, trains + i, 1, size, trains), 0));
        if (recv(fd, &answer, 1, 0) >= 0)
            return 0;
    }
    fprintf(stderr, "udp_send: the receiver does not answer\n");
    return 1;
}

int main(int argc, char **argv)
{
    uint32_t trains = 10000;
    uint16_t size = 1200;
    long pause = 0;
    const char *forge = "";
    for (int option; (option = getopt(argc, argv, "t:s:p:f:")) != -1;) {
        switch (option) {
        case 't': trains = (uint32_t)strtoul(optarg, NULL, 10); break;
        case 's': size = (uint16_t)strtoul(optarg, NULL, 10); break;
        case 'p': pause = strtol(optarg, NULL, 10); break;
        case 'f': forge = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != 2 || trains == 0 || trains > TRAINS_MAX || size < 80 || size > 1300) {
        fprintf(stderr, "usage: udp_send [-t TRAINS] [-s SEGMENT_BYTES, 80 to 1300] [-p PAUSE_US]\n"
                        "                [-f train|datagram] ADDRESS PORT\n");
        return 2;
    }
    int fd = udp_socket(argv[optind], argv[optind + 1], connect);
    /* AF11 and ECT(0), for the receiver's table. One of the two calls fails. */
    int traffic_class = 0x2a;
    if (setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &traffic_class, sizeof traffic_class) != 0)
        setsockopt(fd, IPPROTO_IP, IP_TOS, &traffic_class, sizeof traffic_class);

    static char train[65536];
    for (uint32_t number = 0; number < trains; number++) {
        size_t bytes = fill(train, number, train_segments(number), size, 0);
        if (number == trains / 2 && strcmp(forge, "train") == 0)
            continue;
        if (number == trains / 2 && strcmp(forge, "datagram") == 0)
            bytes -= size / 2;
        send_train(fd, train, bytes, size);
        pause_us(pause);
    }
    return send_end_markers(fd, train, trains, size);
}
