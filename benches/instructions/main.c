/* Receives COUNT datagrams through measured_reap and measured_release, whose instructions callgrind
 * counts: drain metadata|plain|split COUNT. Every record is checked. */
#include "drain.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>

/* As many messages at a time as the kernel posts for one socket, and few enough for any receive
 * buffer. The train is one GRO message of many datagrams. */
enum { AT_A_TIME = 33, DATAGRAM = 64, SEGMENTS = 32, TRAFFIC_CLASS = 0x2e };

static int receiver, sender;

static void open_sockets(int trains)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int tos = TRAFFIC_CLASS, size = DATAGRAM;
    uint32_t requested = RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS | RINGMSG_META_DROPPED;
    receiver = socket(AF_INET, SOCK_DGRAM, 0);
    sender = socket(AF_INET, SOCK_DGRAM, 0);
    if (receiver < 0 || sender < 0 || bind(receiver, (void *)&address, sizeof address) != 0 ||
        getsockname(receiver, (void *)&address, &length) != 0 ||
        connect(sender, (void *)&address, sizeof address) != 0 ||
        setsockopt(sender, IPPROTO_IP, IP_TOS, &tos, sizeof tos) != 0 ||
        (trains && setsockopt(sender, SOL_UDP, UDP_SEGMENT, &size, sizeof size) != 0)) {
        perror("sockets");
        exit(1);
    }
    OK(ringmsg_socket_enable(receiver, requested | (trains ? RINGMSG_META_SEGMENT_SIZE : 0)));
}

static void send_messages(int count, int datagrams)
{
    static const char bytes[SEGMENTS * DATAGRAM];
    for (int i = 0; i < count; i++)
        if (send(sender, bytes, (size_t)datagrams * DATAGRAM, 0) != datagrams * DATAGRAM) {
            perror("send");
            exit(1);
        }
}

static void check(const struct ringmsg_record *record, const struct ringmsg_metadata *metadata)
{
    uint32_t requested = RINGMSG_META_SOURCE | RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS;
    const uint8_t loopback[4] = {127, 0, 0, 1};
    if (record->result != DATAGRAM || record->payload_length != DATAGRAM ||
        record->user_data != USER_DATA || base()[record->payload_offset] != 0 ||
        record->name_length != NAME ||
        (metadata &&
         ((metadata->valid & requested) != requested || metadata->traffic_class != TRAFFIC_CLASS ||
          memcmp(metadata->source, loopback, 4) || memcmp(metadata->destination, loopback, 4)))) {
        fprintf(stderr, "a record is wrong\n");
        exit(1);
    }
}

/* Receives `count` records. Returns the drop counter of the last one. */
static uint32_t receive(int count, int with_metadata)
{
    static struct ringmsg_record records[CAPACITY];
    static struct ringmsg_metadata metadata[CAPACITY];
    uint32_t dropped = 0;
    for (int got = 0; got < count;) {
        int n = measured_reap(records, with_metadata ? metadata : NULL);
        if (n <= 0) {
            fprintf(stderr, "reap: %d after %d of %d records\n", n, got, count);
            exit(1);
        }
        for (int i = 0; i < n; i++)
            check(records + i, with_metadata ? metadata + i : NULL);
        measured_release(records, n);
        got += n;
        dropped = metadata[n - 1].dropped;
    }
    return dropped;
}

int main(int count_arguments, char **arguments)
{
    if (count_arguments != 3) {
        fprintf(stderr, "usage: %s metadata|plain|split COUNT\n", arguments[0]);
        return 2;
    }
    int splits = strcmp(arguments[1], "split") == 0, with_metadata = strcmp(arguments[1], "plain") != 0;
    int datagrams = splits ? SEGMENTS : 1, rounds = atoi(arguments[2]) / (AT_A_TIME * datagrams);
    open_sockets(splits);
    /* The kernel sends the drop counter after the first drop only. */
    int small = 1, usual = 1 << 20;
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    send_messages(100, 1);
    setsockopt(receiver, SOL_SOCKET, SO_RCVBUF, &usual, sizeof usual);
    char byte[DATAGRAM];
    while (recv(receiver, byte, sizeof byte, MSG_DONTWAIT) > 0)
        ;
    arm(receiver, splits);
    for (int round = 0; round < rounds; round++) {
        send_messages(AT_A_TIME, datagrams);
        if (receive(AT_A_TIME * datagrams, with_metadata) == 0 && with_metadata) {
            fprintf(stderr, "no drop counter\n");
            return 1;
        }
    }
    printf("%d\n", rounds * AT_A_TIME * datagrams);
    return 0;
}
