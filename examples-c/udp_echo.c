/* Sends every datagram back, from the address it was sent to. One call sends everything that one
 * call has received, the datagrams to one peer as one train; a GRO train goes back as a train.
 * Nothing is copied: payloads are sent straight from the pool.
 *
 * udp_echo ADDRESS PORT        0.0.0.0 or :: for every address; port 0 selects a free one */
#include "server.h"

enum { BATCH = 512 };

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: udp_echo ADDRESS PORT\n");
        return 2;
    }
    int fd = udp_socket(argv[1], argv[2], bind);
    check("socket", ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION));
    open_ring();
    struct ringmsg_pool *pool = pool_for(ring, fd);
    struct ringmsg_sender *sender = sender_on(fd);
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
    printf("port %u\n", port_of(fd));
    fflush(stdout);

    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static struct ringmsg_path paths[BATCH];
    static struct ringmsg_message answers[BATCH];
    unsigned long long unsent = 0;
    for (int n = 0; !stopped;) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, NULL);
        if (n == -EINTR)
            continue;
        check("receive", n);
        uint32_t count = 0;
        for (int i = 0; i < n; i++) {
            if (records[i].result < 0) { /* for example an ICMP error; the request continues */
                fprintf(stderr, "receive: %s\n", ringmsg_strerror(records[i].result));
                continue;
            }
            check("reply", ringmsg_path_reply(&paths[count], &metadata[i]));
            answers[count] = (struct ringmsg_message){
                .payload = ringmsg_pool_base(pool) + records[i].payload_offset,
                .payload_length = records[i].payload_length,
                .segment_size = records[i].segment_size,
                .path = &paths[count],
            };
            count++;
        }
        unsent += send_all(sender, answers, count);
    }
    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    printf("%llu datagrams in %llu records; %llu records not sent back; %llu dropped before\n",
           (unsigned long long)stats.datagrams, (unsigned long long)stats.records, unsent,
           (unsigned long long)stats.socket_drops);
    ringmsg_sender_free(sender);
    check("free", ringmsg_ring_free(ring));
    return 0;
}
