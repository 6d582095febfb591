/* Answers DNS queries for a small zone of its own (`zone` in dns.h): A, AAAA and TXT, over IPv4 and
 * IPv6, in batches.
 *
 *     dns_responder ADDRESS PORT [LINGER-US]   (:: serves both families; port 0 selects a free one)
 *     dig @::1 -p PORT www.example.test AAAA
 *
 * Without LINGER-US the library chooses the linger that takes least CPU time, up to 100 us. With 0
 * every query is answered at once. */
#include "server.h"

#include "dns.h"

enum { BATCH = 512, QUERY_MAX = 2048 };

/* Whether a socket receives for every address of this machine. Then an answer must leave from the
 * address that was asked, so the kernel must report it. A socket bound to one address needs no
 * report. */
static int is_wildcard(int fd)
{
    struct sockaddr_in6 own = {0};
    socklen_t length = sizeof own;
    check_sys("getsockname", getsockname(fd, (struct sockaddr *)&own, &length));
    return own.sin6_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&own.sin6_addr)
                                       : ((struct sockaddr_in *)&own)->sin_addr.s_addr == INADDR_ANY;
}

/* A pool for queries, which are short: without room for trains its buffers stay in the caches. */
static struct ringmsg_pool *small_pool(int fd)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    check("pool", ringmsg_pool_config_for_socket(&config, fd));
    config.payload_capacity = QUERY_MAX;
    check("pool", ringmsg_pool_new(ring, &config, &pool));
    return pool;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: dns_responder ADDRESS PORT [LINGER-US]\n");
        return 2;
    }
    struct ringmsg_wait wait = {
        .size = sizeof wait,
        .linger_us = argc == 4 ? (uint32_t)atoi(argv[3]) : RINGMSG_LINGER_AUTO,
        .timeout_ns = -1,
    };
    int fd = udp_socket(argv[1], argv[2], bind);
    if (is_wildcard(fd))
        check("socket", ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION));
    open_ring();
    struct ringmsg_pool *pool = small_pool(fd);
    struct ringmsg_sender *sender = sender_on(fd);
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 0));
    printf("port %u\n", port_of(fd));
    fflush(stdout);

    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    static struct ringmsg_path paths[BATCH];
    static struct ringmsg_message messages[BATCH];
    static uint8_t responses[BATCH][EDNS_MAX];
    unsigned long long packets = 0, queries = 0, unsent = 0;
    for (int n = 0; !stopped;) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            continue;
        check("receive", n);
        uint32_t count = 0;
        for (int i = 0; i < n; i++) {
            if (records[i].result < 0) /* for example an ICMP error; the request continues */
                continue;
            const uint8_t *packet = ringmsg_pool_base(pool) + records[i].payload_offset;
            uint32_t length = respond(packet, records[i].payload_length, responses[count]);
            packets++;
            if (length == 0 || ringmsg_path_reply(&paths[count], &metadata[i]) < 0)
                continue;
            messages[count] = (struct ringmsg_message){
                .payload = responses[count], .payload_length = length, .path = &paths[count]};
            count++;
        }
        queries += count;
        unsent += send_all(sender, messages, count);
    }
    printf("%llu packets, %llu of them no queries; %llu answers not sent\n", packets, packets - queries,
           unsent);
    ringmsg_sender_free(sender);
    check("free", ringmsg_ring_free(ring));
    return 0;
}
