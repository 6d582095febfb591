/* Receives one datagram with the installed library, from a source that is C99, C17, C++17 and
 * C++20. Exit status 77: io_uring is unavailable. */
#include <ringmsg.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fail(const char *what, int value)
{
    char why[256];
    ringmsg_last_error(why, sizeof why);
    fprintf(stderr, "%s: %d (%s)\n", what, value, why);
    return 1;
}

int main(void)
{
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    struct ringmsg_pool_config config;
    struct ringmsg_record record;
    struct ringmsg_support support;
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_DGRAM, 0), value;

    if (strcmp(ringmsg_version(), RINGMSG_VERSION) != 0 || ringmsg_abi_version() != RINGMSG_ABI_VERSION)
        return fail("the header is not the library's", 0);
    memset(&support, 0, sizeof support);
    support.size = sizeof support;
    if (ringmsg_query_support(&support) == 0 && support.create_error != 0)
        return 77;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, length) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) != 0)
        return fail("bind", 0);
    if ((value = ringmsg_ring_new(NULL, &ring)) < 0)
        return fail("ring", value);
    ringmsg_pool_config_init(&config);
    if ((value = ringmsg_pool_new(ring, &config, &pool)) < 0 ||
        (value = ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 0)) < 0)
        return fail("arm", value);
    sendto(fd, "smoke", 5, 0, (struct sockaddr *)&address, length);
    if ((value = ringmsg_reap(ring, &record, NULL, 1, NULL)) != 1)
        return fail("reap", value);
    value = memcmp(ringmsg_pool_base(pool) + record.payload_offset, "smoke", 5);
    close(fd);
    return value != 0 || ringmsg_ring_free(ring) != 0;
}
