/* examples-c/dns_responder.c on recvfrom(2) and sendto(2), one query after the other: the loop that
 * is written first. */
#include "responder.h"

int main(int argc, char **argv)
{
    static uint8_t query[QUERY_MAX], response[EDNS_MAX];
    unsigned long long packets = 0, queries = 0, unsent = 0;
    int fd = open_responder(argc, argv);
    while (!stopped) {
        struct sockaddr_storage source;
        socklen_t source_length = sizeof source;
        ssize_t size =
            recvfrom(fd, query, sizeof query, 0, (struct sockaddr *)&source, &source_length);
        if (size < 0 && errno == EINTR)
            continue;
        check("recvfrom", size);
        packets++;
        uint32_t length = respond(query, (size_t)size, response);
        if (length == 0)
            continue;
        queries++;
        unsent += sendto(fd, response, length, 0, (struct sockaddr *)&source, source_length) < 0;
    }
    return report(packets, queries, unsent);
}
