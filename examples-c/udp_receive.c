/* Receives UDP with one multishot request, GRO and metadata, and prints a table and a summary.
 *
 *   udp_receive [-b RECEIVE_BUFFER_BYTES] [-n ROWS] ADDRESS PORT [SENDER [ARGUMENT...]]
 *
 * With a SENDER (udp_send) it starts `SENDER ARGUMENT... ADDRESS PORT`. When the sender has ended,
 * it checks that the only datagrams missing are those that the kernel counted as dropped: exit
 * status 1 if not. Port 0 selects a free port. Without a SENDER it runs until Ctrl-C. */
#include "example.h"
#include "trains.h"
#include <signal.h>
#include <sys/wait.h>

enum { BATCH = 1024 };

static struct ringmsg_ring *ring;
static volatile sig_atomic_t stopped;
static struct ledger ledger;
static const char *bold = "", *good = "", *bad = "", *plain = "";

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
    ringmsg_wake(ring);
}

static void print_head(void)
{
    printf("\n%s%-17s %-22s %-12s %-14s %-5s %-16s %5s  %s%s\n", bold, "payload", "source",
           "destination", "control", "class", "time (UTC)", "size", "flags", plain);
}

static void print_row(const struct ringmsg_record *record, const struct ringmsg_metadata *meta)
{
    char address[64], source[80], destination[64], payload[32], control[32], clock[32] = "-", flags[64];
    inet_ntop(meta->family, meta->source, address, sizeof address);
    snprintf(source, sizeof source, meta->family == AF_INET6 ? "[%s]:%u" : "%s:%u", address,
             (unsigned)meta->source_port);
    inet_ntop(meta->family, meta->destination, destination, sizeof destination);
    snprintf(payload, sizeof payload, "%u+%u", record->payload_offset, record->payload_length);
    snprintf(control, sizeof control, "%u+%u", record->control_offset, record->control_length);
    time_t seconds = (time_t)(meta->software_timestamp_ns / 1000000000);
    if (meta->valid & RINGMSG_META_SOFTWARE_TIMESTAMP) /* the first few datagrams may lack a timestamp */
        snprintf(clock + strftime(clock, sizeof clock, "%H:%M:%S", gmtime(&seconds)), 16, ".%06ld",
                 (long)(meta->software_timestamp_ns % 1000000000 / 1000));
    snprintf(flags, sizeof flags, "SEGMENT %u/%u", record->segment + 1u, (unsigned)record->segments);
    printf("%-17s %-22s %-12s %-14s 0x%02x  %-16s %5u  %s%s%s\n", payload, source, destination,
           control, (unsigned)meta->traffic_class, clock, record->segment_size,
           record->flags & RINGMSG_RECORD_SEGMENT ? flags : "-",
           record->flags & RINGMSG_RECORD_TRUNCATED ? " TRUNCATED" : "",
           record->flags & RINGMSG_RECORD_CONTROL_TRUNCATED ? " CONTROL_TRUNCATED" : "");
}

static void print_summary(const struct ringmsg_stats *stats, int64_t cpu_ns)
{
    double datagrams = (double)stats->datagrams;
    printf("\n%-12s %8llu datagrams, %.1f MB\n", "received", (unsigned long long)stats->datagrams,
           (double)stats->payload_bytes / 1e6);
    if (stats->wakes > 0 && stats->datagrams > 0)
        printf("%-12s %8.0f datagrams\n%-12s %8.0f ns per datagram, in the receiving thread\n",
               "per wake-up", datagrams / (double)stats->wakes, "CPU", (double)cpu_ns / datagrams);
}

/* Receives until Ctrl-C, or until the sender has ended and no more datagrams arrive. */
static void receive(int fd, const uint8_t *base, int rows, pid_t sender, int *status)
{
    static struct ringmsg_record records[BATCH];
    static struct ringmsg_metadata metadata[BATCH];
    struct ringmsg_wait wait = {.size = sizeof wait, .linger_us = RINGMSG_LINGER_AUTO,
                                .timeout_ns = 100000000};
    for (int n = 0, ended = 0; !stopped && !(n == 0 && ended);) {
        n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
        if (n == -EINTR)
            n = 0;
        check("receive", n);
        for (int i = 0; i < n; i++) {
            const struct ringmsg_record *record = &records[i];
            if (record->result < 0) {
                fprintf(stderr, "receive: %s\n", ringmsg_strerror(record->result));
                continue;
            }
            if (rows > 0 && (record->segment == 0 || record->segment + 1 == record->segments)) {
                print_row(record, &metadata[i]);
                rows--;
            }
            if (ledger_add(&ledger, base + record->payload_offset, record->payload_length))
                sendto(fd, "", 1, 0, (const struct sockaddr *)(base + record->name_offset),
                       record->name_length);
        }
        if (n == 0 && sender > 0 && !ended)
            ended = waitpid(sender, status, WNOHANG) != 0;
    }
}

int main(int argc, char **argv)
{
    int buffer = 4 << 20, rows = 8, status = 0;
    for (int option; (option = getopt(argc, argv, "+b:n:")) != -1;) {
        if (option == '?')
            return 2;
        *(option == 'b' ? &buffer : &rows) = atoi(optarg);
    }
    if (argc - optind < 2) {
        fprintf(stderr, "usage: udp_receive [-b BYTES] [-n ROWS] ADDRESS PORT [SENDER [ARGUMENT...]]\n");
        return 2;
    }
    if (isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL)
        bold = "\033[1m", good = "\033[32m", bad = "\033[31m", plain = "\033[0m";

    int fd = udp_socket(argv[optind], argv[optind + 1], bind);
    check_sys("SO_RCVBUF", setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer));
    check("socket", ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION |
                                                  RINGMSG_META_TRAFFIC_CLASS |
                                                  RINGMSG_META_SOFTWARE_TIMESTAMP));
    struct ringmsg_ring_info info = {.size = sizeof info};
    check("ring", ringmsg_ring_new(NULL, &ring));
    check("ring", ringmsg_ring_info(ring, &info));
    struct ringmsg_pool *pool = pool_for(ring, fd); /* after the options are set */
    check("arm", ringmsg_recvmsg_multishot(ring, pool, fd, 0, RINGMSG_RECV_SPLIT, 1));

    signal(SIGINT, stop);
    printf("%s%s port %u%s, mode %s\n", bold, argv[optind], port_of(fd), plain, mode_name(info.flags));
    if (rows > 0)
        print_head();
    fflush(stdout);
    pid_t sender = 0;
    if (argc - optind > 2)
        sender = start_sender(argv + optind + 2, argc - optind - 2, argv[optind], port_of(fd));
    int64_t cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    receive(fd, ringmsg_pool_base(pool), rows, sender, &status);
    cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;

    struct ringmsg_stats stats = {.size = sizeof stats};
    check("stats", ringmsg_ring_stats(ring, &stats));
    print_summary(&stats, cpu_ns);
    check("free", ringmsg_ring_free(ring));
    int complete = sender == 0 || (ledger_is_complete(&ledger, stats.socket_drops) && status == 0);
    printf("%-12s %8llu trains, counted by the kernel\n", "dropped", (unsigned long long)stats.socket_drops);
    if (sender == 0)
        return 0;
    printf("%s%s%s\n", complete ? good : bad,
           !complete                  ? "WRONG: the kernel did not drop everything that is missing."
           : stats.socket_drops == 0 ? "Nothing is missing."
                                     : "The kernel dropped everything that is missing.", plain);
    return !complete;
}
