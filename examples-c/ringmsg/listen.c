/* ringmsg listen: prints what arrives at a port, and may write it to a capture file. */
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 256 };

static const char usage[] =
    "usage: ringmsg listen [OPTION...] [ADDRESS] PORT\n"
    "\n"
    "  -j          prints JSON, one datagram a line, instead of a table\n"
    "  -q          prints no datagrams, only the summary\n"
    "  -w FILE     writes a capture file (pcapng) as well; -: to the standard output, implies -q\n"
    "  -n COUNT    ends after this many datagrams\n"
    "  -t SECONDS  ends after this time\n"
    "  -b BYTES    the socket's receive buffer (default 4194304; net.core.rmem_max limits it)\n"
    "  -e ENGINE   auto, io_uring or recvmmsg\n"
    "\n"
    "Without ADDRESS it receives IPv6 and IPv4 at every address. Port 0 selects a free port.\n";

struct options {
    int json, quiet, buffer;
    const char *capture, *address, *port;
    long count, seconds; /* 0: no limit */
    uint32_t engine;
};

static struct ringmsg_ring *ring;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    ringmsg_wake(ring);
}

static uint32_t engine_named(const char *name)
{
    static const char *const names[] = {"auto", "io_uring", "recvmmsg"}; /* RINGMSG_ENGINE_* */
    for (uint32_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    fprintf(stderr, "ringmsg: listen: '%s' is no engine: auto, io_uring, recvmmsg\n", name);
    exit(USAGE);
}

static struct options parse(int argc, char **argv)
{
    struct options o = {.buffer = 4 << 20};
    for (int option; (option = getopt(argc, argv, "+hjqw:n:t:b:e:")) != -1;) {
        switch (option) {
        case 'j': o.json = 1; break;
        case 'q': o.quiet = 1; break;
        case 'w': o.capture = optarg; break;
        case 'n': o.count = number("-n", optarg, 1, 1L << 40); break;
        case 't': o.seconds = number("-t", optarg, 1, 1L << 30); break;
        case 'b': o.buffer = (int)number("-b", optarg, 1, 1 << 30); break;
        case 'e': o.engine = engine_named(optarg); break;
        case 'h': fputs(usage, stdout); exit(FINE);
        default: fputs(usage, stderr); exit(USAGE);
        }
    }
    if (argc - optind < 1 || argc - optind > 2) {
        fputs(usage, stderr);
        exit(USAGE);
    }
    o.address = argc - optind == 2 ? argv[optind] : NULL;
    o.port = argv[argc - 1];
    number("PORT", o.port, 0, 65535);
    o.quiet |= o.capture != NULL && strcmp(o.capture, "-") == 0;
    return o;
}

/* Binds a socket to a numeric address; without one, to every address of IPv6 and IPv4, or of IPv4
 * where IPv6 is unavailable. */
static int bound_socket(const struct options *o)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_DGRAM};
    const char *tries[] = {o->address != NULL ? o->address : "::", o->address != NULL ? NULL : "0.0.0.0"};
    int off = 0;
    for (int i = 0; i < 2 && tries[i] != NULL; i++) {
        struct addrinfo *found;
        int error = getaddrinfo(tries[i], o->port, &hints, &found);
        if (error != 0) {
            fprintf(stderr, "ringmsg: listen: %s: %s; give a numeric address\n", tries[i],
                    gai_strerror(error));
            exit(USAGE);
        }
        int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && found->ai_family == AF_INET6 && o->address == NULL)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
        int failed = fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0;
        freeaddrinfo(found);
        if (!failed)
            return fd;
        if (tries[i + 1 < 2 ? i + 1 : i] == NULL || i == 1 || errno == EADDRINUSE || errno == EACCES)
            break;
    }
    fprintf(stderr, "ringmsg: listen: port %s: %s%s\n", o->port, strerror(errno),
            errno == EADDRINUSE ? "; `ringmsg doctor` shows who has it" : "");
    exit(PROBLEM);
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in6 address; /* sockaddr_in has the port at the same offset */
    socklen_t length = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &length) == 0 ? ntohs(address.sin6_port) : 0;
}

/* The nanoseconds left until `end`; -1 without an end. */
static int64_t time_left(const struct timespec *end)
{
    struct timespec now;
    if (end->tv_sec == 0)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = (int64_t)(end->tv_sec - now.tv_sec) * 1000000000 + (end->tv_nsec - now.tv_nsec);
    return left > 0 ? left : 0;
}

static void show(const struct options *o, FILE *capture, const struct datagram *datagram)
{
    if (capture != NULL)
        pcapng_write(capture, datagram);
    if (o->quiet)
        return;
    if (o->json)
        print_json(datagram);
    else
        print_row(datagram);
}

/* Receives until a signal, the end of the time or the last datagram. Returns how many came. */
static long receive(const struct options *o, FILE *capture, const uint8_t *base, uint16_t port)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    struct ringmsg_wait wait = {.size = sizeof wait};
    struct timespec end = {0};
    long received = 0;
    if (o->seconds > 0) {
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += o->seconds;
    }
    for (int n = 0; !stopped;) {
        wait.timeout_ns = time_left(&end);
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            continue;
        check("receive", n);
        for (int i = 0; i < n && (o->count == 0 || received < o->count); i++) {
            struct datagram datagram = datagram_of(&records[i], &metadata[i], base, port);
            if (records[i].result < 0) {
                fprintf(stderr, "ringmsg: receive: %s\n", ringmsg_strerror(records[i].result));
                continue;
            }
            show(o, capture, &datagram);
            received++;
        }
        if (fflush(stdout) != 0 || (capture != NULL && fflush(capture) != 0)) {
            fprintf(stderr, "ringmsg: write: %s\n", strerror(errno));
            exit(PROBLEM);
        }
        if ((o->count > 0 && received >= o->count) || (n == 0 && wait.timeout_ns == 0))
            break;
    }
    return received;
}

static void summarise(long shown)
{
    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    fprintf(stderr, "%ld datagrams; received %llu, %llu bytes; the kernel dropped %llu; truncated %llu\n",
            shown, (unsigned long long)stats.datagrams, (unsigned long long)stats.payload_bytes,
            (unsigned long long)stats.socket_drops, (unsigned long long)stats.truncated);
}

static FILE *open_capture(const struct options *o, uint16_t port)
{
    if (o->capture == NULL)
        return NULL;
    FILE *file = strcmp(o->capture, "-") == 0 ? stdout : fopen(o->capture, "wb");
    if (file == NULL) {
        fprintf(stderr, "ringmsg: %s: %s\n", o->capture, strerror(errno));
        exit(PROBLEM);
    }
    pcapng_begin(file, port);
    return file;
}

/* Arms a multishot request on a pool with room for everything that the socket's options add. */
static struct ringmsg_pool *arm(int fd)
{
    struct ringmsg_pool_config config;
    struct ringmsg_pool *pool;
    ringmsg_pool_config_init(&config);
    check("pool", ringmsg_pool_config_for_socket(&config, fd));
    check("pool", ringmsg_pool_new(ring, &config, &pool));
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, RINGMSG_RECV_SPLIT, 0));
    return pool;
}

int listen_command(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    struct ringmsg_ring_config config;
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct colours colours = colours_for(stdout);
    int fd = bound_socket(&o);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &o.buffer, sizeof o.buffer); /* the kernel takes what it allows */
    check("socket", ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS |
                                                  RINGMSG_META_HOP_LIMIT | RINGMSG_META_SEGMENT_SIZE |
                                                  RINGMSG_META_DROPPED | RINGMSG_META_SOFTWARE_TIMESTAMP));
    ringmsg_ring_config_init(&config);
    config.flags = RINGMSG_SETUP_AUTO;
    config.engine = o.engine;
    check("ring", ringmsg_ring_new(&config, &ring));
    const uint8_t *base = ringmsg_pool_base(arm(fd));
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    FILE *capture = open_capture(&o, port_of(fd));
    check("ring", ringmsg_ring_info(ring, &info));
    fprintf(stderr, "listening at port %u (%s); Ctrl-C ends it\n", (unsigned)port_of(fd),
            engine_name(&info));
    if (!o.quiet && !o.json)
        print_heading(&colours);
    fflush(stdout);
    long shown = receive(&o, capture, base, port_of(fd));
    summarise(shown);
    if (capture != NULL && fclose(capture) != 0) {
        fprintf(stderr, "ringmsg: %s: %s\n", o.capture, strerror(errno));
        return PROBLEM;
    }
    check("free", ringmsg_ring_free(ring));
    close(fd);
    return FINE;
}
