/* ringmsg listen: prints what arrives at a port, and may write it to a capture file. */
#include "tool.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
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
    "Without ADDRESS it receives IPv6 and IPv4 at every address. It joins the group of a multicast\n"
    "ADDRESS, on the device that may follow: 239.1.2.3%eth0. Port 0 selects a free port.\n";

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
    fprintf(stderr, "ringmsg: listen: -e: '%s' is not auto, io_uring or recvmmsg\n", name);
    exit(USAGE);
}

/* Ends the program: the arguments are wrong. */
static void refuse(const char *why)
{
    fprintf(stderr, "ringmsg: listen: %s\n%s", why, usage);
    exit(USAGE);
}

static struct options parse(int argc, char **argv)
{
    static char program[] = "ringmsg: listen"; /* what getopt_long begins its messages with */
    static const struct option names[] = {{"help", no_argument, NULL, 'h'}, {0}};
    struct options o = {.buffer = 4 << 20};
    argv[0] = program;
    for (int option; (option = getopt_long(argc, argv, "hjqw:n:t:b:e:", names, NULL)) != -1;) {
        switch (option) {
        case 'j': o.json = 1; break;
        case 'q': o.quiet = 1; break;
        case 'w': o.capture = optarg; break;
        case 'n': o.count = number("listen: -n", optarg, 1, 1L << 40); break;
        case 't': o.seconds = number("listen: -t", optarg, 1, 1L << 30); break;
        case 'b': o.buffer = (int)number("listen: -b", optarg, 1, 1 << 30); break;
        case 'e': o.engine = engine_named(optarg); break;
        case 'h': fputs(usage, stdout); exit(FINE);
        default: fputs(usage, stderr); exit(USAGE);
        }
    }
    if (argc - optind < 1)
        refuse("PORT is missing");
    if (argc - optind > 2)
        refuse("there are more arguments than ADDRESS and PORT");
    o.address = argc - optind == 2 ? argv[optind] : NULL;
    o.port = argv[argc - 1];
    number("listen: PORT", o.port, 0, 65535);
    if (o.capture != NULL && strcmp(o.capture, "-") == 0) {
        o.quiet = 1;
        if (isatty(STDOUT_FILENO))
            refuse("-w -: the standard output is a terminal, which cannot show a capture file");
    }
    return o;
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

/* What has been shown, for the summary. */
struct totals {
    long datagrams, truncated;
    unsigned long long bytes;
};

static void show(const struct options *o, FILE *capture, const struct datagram *datagram,
                 struct totals *totals)
{
    totals->datagrams++;
    totals->bytes += datagram->record->payload_length;
    totals->truncated += (datagram->record->flags & RINGMSG_RECORD_TRUNCATED) != 0;
    if (capture != NULL)
        pcapng_write(capture, datagram);
    if (o->quiet)
        return;
    if (o->json)
        print_json(datagram);
    else
        print_row(datagram);
}

/* Writes out what is buffered. Any write that has failed since the last call ends the program. */
static void flush(const char *name, FILE *file)
{
    if (fflush(file) == 0 && !ferror(file))
        return;
    fprintf(stderr, "ringmsg: listen: %s: %s\n", name, strerror(errno));
    _Exit(PROBLEM); /* exit() would report it again */
}

/* Receives until a signal, the end of the time or the last datagram. */
static struct totals receive(const struct options *o, FILE *capture, const uint8_t *base, uint16_t port)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    struct ringmsg_wait wait = {.size = sizeof wait};
    struct timespec end = {0};
    struct totals totals = {0};
    if (o->seconds > 0) {
        clock_gettime(CLOCK_MONOTONIC, &end);
        end.tv_sec += o->seconds;
    }
    for (int n = 0; !stopped;) { /* a negative n, as after a signal, releases nothing */
        wait.timeout_ns = time_left(&end);
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            continue;
        check("listen", n);
        for (int i = 0; i < n && (o->count == 0 || totals.datagrams < o->count); i++) {
            struct datagram datagram = datagram_of(&records[i], &metadata[i], base, port);
            if (records[i].result < 0)
                fprintf(stderr, "ringmsg: listen: %s\n", ringmsg_strerror(records[i].result));
            else
                show(o, capture, &datagram, &totals);
        }
        flush("the standard output", stdout);
        if (capture != NULL)
            flush(o->capture, capture);
        if ((o->count > 0 && totals.datagrams >= o->count) || (n == 0 && wait.timeout_ns == 0))
            break;
    }
    return totals;
}

static void summarise(const struct totals *totals)
{
    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    fprintf(stderr, "%ld datagram%s, %llu bytes; the kernel dropped %llu; truncated %ld\n",
            totals->datagrams, totals->datagrams == 1 ? "" : "s", totals->bytes,
            (unsigned long long)stats.socket_drops, totals->truncated);
}

static FILE *open_capture(const struct options *o, uint16_t port)
{
    if (o->capture == NULL)
        return NULL;
    FILE *file = strcmp(o->capture, "-") == 0 ? stdout : fopen(o->capture, "wb");
    if (file == NULL) {
        fprintf(stderr, "ringmsg: listen: -w '%s': %s\n", o->capture, strerror(errno));
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
    int fd = bound_socket(o.address, o.port);
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
    flush("the standard output", stdout);
    struct totals totals = receive(&o, capture, base, port_of(fd));
    signal(SIGINT, SIG_DFL); /* the handler uses the ring */
    signal(SIGTERM, SIG_DFL);
    summarise(&totals);
    if (capture != NULL && capture != stdout && fclose(capture) != 0) {
        fprintf(stderr, "ringmsg: listen: -w '%s': %s\n", o.capture, strerror(errno));
        return PROBLEM;
    }
    check("free", ringmsg_ring_free(ring));
    close(fd);
    return FINE;
}
