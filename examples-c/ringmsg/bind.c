/* The socket of `ringmsg listen`: bound to the address that the user named, and a member of the
 * group if that is a multicast address. */
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Prints why there is no socket. */
static void fail(const char *address, const char *port, const char *why, const char *advice)
{
    if (address != NULL)
        fprintf(stderr, "ringmsg: listen: %s, port %s: %s%s\n", address, port, why, advice);
    else
        fprintf(stderr, "ringmsg: listen: port %s: %s%s\n", port, why, advice);
}

/* Ends the program: `address` is not one that it can bind. */
static void refuse(const char *address, const char *why)
{
    fprintf(stderr, "ringmsg: listen: ADDRESS: '%s' %s\n", address, why);
    exit(USAGE);
}

static int is_multicast(const struct addrinfo *address)
{
    if (address->ai_family == AF_INET)
        return IN_MULTICAST(ntohl(((const struct sockaddr_in *)address->ai_addr)->sin_addr.s_addr));
    return IN6_IS_ADDR_MULTICAST(&((const struct sockaddr_in6 *)address->ai_addr)->sin6_addr);
}

static int is_link_local(const struct addrinfo *address)
{
    if (address->ai_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address->ai_addr)->sin_addr.s_addr) >> 16 == 0xa9fe;
    return IN6_IS_ADDR_LINKLOCAL(&((const struct sockaddr_in6 *)address->ai_addr)->sin6_addr);
}

/* The index of the device of that name or index; 0: there is none. */
static unsigned device_of(const char *text)
{
    char name[IF_NAMESIZE], *end;
    unsigned index = if_nametoindex(text);
    if (index != 0)
        return index;
    unsigned long number = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && number <= UINT_MAX &&
                   if_indextoname((unsigned)number, name) != NULL
               ? (unsigned)number
               : 0;
}

/* Parses a numeric address. `%DEVICE` may follow one that is link-local or multicast; its index is
 * stored, also for IPv4, where getaddrinfo(3) refuses it. */
static struct addrinfo *parse(const char *address, const char *port, unsigned *device)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found;
    char plain[INET6_ADDRSTRLEN + 1];
    const char *percent = strchr(address, '%');
    size_t length = percent != NULL ? (size_t)(percent - address) : strlen(address);
    *device = 0;
    if (percent != NULL && (*device = device_of(percent + 1)) == 0)
        refuse(address, "names a device that is not in this network namespace");
    snprintf(plain, sizeof plain, "%.*s", (int)length, address);
    if (length >= sizeof plain || getaddrinfo(plain, port, &hints, &found) != 0)
        refuse(address, "is not a numeric IPv4 or IPv6 address");
    if (*device != 0 && !is_multicast(found) && !is_link_local(found))
        refuse(address, "is neither link-local nor multicast, so no device may follow it");
    if (found->ai_family == AF_INET6)
        ((struct sockaddr_in6 *)found->ai_addr)->sin6_scope_id = *device;
    return found;
}

/* Becomes a member of the group, on the device or, without one, on that of the route. */
static int join(int fd, const struct addrinfo *address, unsigned device)
{
    if (address->ai_family == AF_INET) {
        struct ip_mreqn group = {.imr_ifindex = (int)device};
        group.imr_multiaddr = ((const struct sockaddr_in *)address->ai_addr)->sin_addr;
        return setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group);
    }
    struct ipv6_mreq group = {.ipv6mr_interface = device};
    group.ipv6mr_multiaddr = ((const struct sockaddr_in6 *)address->ai_addr)->sin6_addr;
    return setsockopt(fd, IPPROTO_IPV6, IPV6_JOIN_GROUP, &group, sizeof group);
}

/* Returns a bound socket, or -1 with errno. Receivers of one group share its port, because each of
 * them gets every datagram. */
static int bind_to(const struct addrinfo *address, int dual_stack)
{
    int off = 0, on = 1;
    int fd = socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (dual_stack && address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (is_multicast(address))
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* What can be done about an error of bind(2). */
static const char *advice_for(int error)
{
    switch (error) {
    case EADDRINUSE: return "; `ringmsg doctor` shows which process has it";
    case EADDRNOTAVAIL: return "; no device of this network namespace has the address";
    case EINVAL: return "; a link-local or multicast address needs its device: ADDRESS%DEVICE";
    case EACCES: return "; ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE";
    default: return "";
    }
}

int bound_socket(const char *address, const char *port)
{
    const char *everywhere[] = {"::", "0.0.0.0"}; /* the latter where IPv6 is unavailable */
    int fd = -1, error = 0;
    for (int i = 0; fd < 0 && i < (address != NULL ? 1 : 2); i++) {
        unsigned device;
        struct addrinfo *found = parse(address != NULL ? address : everywhere[i], port, &device);
        fd = bind_to(found, address == NULL);
        error = errno;
        if (fd >= 0 && is_multicast(found) && join(fd, found, device) != 0) {
            fail(address, port, strerror(errno),
                 errno == ENODEV ? "; name the device of the group: ADDRESS%DEVICE" : "");
            exit(PROBLEM);
        }
        freeaddrinfo(found);
        if (error == EADDRINUSE || error == EACCES)
            break;
    }
    if (fd >= 0)
        return fd;
    fail(address, port, strerror(error), advice_for(error));
    exit(PROBLEM);
}
