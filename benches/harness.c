/* The main program of every receiver: makes the sockets, forks the sender, pins itself, runs one
 * receiver on one regime, checks that every datagram is accounted for, and prints the results as
 * one line of JSON.
 *
 *     receive_sockets recvmmsg-64 paced-50k 0.5 */
#include "sender.h"

#include <linux/sock_diag.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MIB (1 << 20)

static const struct regime regimes[] = {
    /* name, rate, sockets, chunk, burst, fill, stamp_each, receive_buffer, gro, echo, window,
     * bare, warm_up */
    {"drained-64", 0, 1, 64, 0, 4000, 0, 64 * MIB, false, false, 0, false, 0},
    {"drained-gro", 0, 1, 8, 0, 400 * SEGMENTS, 0, 64 * MIB, true, false, 0, false, 0},
    {"paced-10k", 10e3, 1, 1, 0, 0, 1, 4 * MIB, false, false, 0, false, 0},
    {"paced-50k", 50e3, 1, 1, 0, 0, 1, 4 * MIB, false, false, 0, false, 0},
    {"paced-200k", 200e3, 1, 1, 0, 0, 4, 4 * MIB, false, false, 0, false, 0},
    {"bursts", 100e3, 1, 64, 1000, 0, 1, 4 * MIB, false, false, 0, false, 0},
    {"saturated", 0, 1, 64, 0, 0, 16, 4 * MIB, false, false, 0, false, 0},
    {"gro-1m", 1e6, 1, 1, 0, 0, 32, 16 * MIB, true, false, 0, false, 0},
    {"sockets-100", 100e3, 100, 1, 0, 0, 1, 1 * MIB, false, false, 0, false, 0},
    {"sockets-1k", 100e3, 1000, 1, 0, 0, 1, 1 * MIB, false, false, 0, true, 1},
    {"sockets-10k", 100e3, 10000, 1, 0, 0, 1, 1 * MIB, false, false, 0, true, 1},
    {"ping", 0, 1, 1, 0, 0, 1, 4 * MIB, false, true, 0, false, 0},
    {"closed-1", 0, 1, 1, 0, 0, 1, 4 * MIB, false, true, 1, false, 0},
    {"closed-16", 0, 1, 1, 0, 0, 1, 4 * MIB, false, true, 16, false, 0},
    {"closed-256", 0, 1, 1, 0, 0, 1, 4 * MIB, false, true, 256, false, 0},
};

/* The values that are read at the first and the last marker. */
struct reading {
    struct tally tally;
    int64_t cpu_ns;
    long waits, preemptions;
};

static struct shared_page *shared_page;
static struct reading first, last;

_Noreturn void not_supported(const char *why)
{
    printf("{\"not_supported\": \"%s\"}\n", why);
    fflush(stdout);
    _exit(NOT_SUPPORTED); /* the sender ends with its parent */
}

void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fprintf(stderr, "cannot pin this process to processor %d\n", processor);
}

uint64_t queued(const struct run *run, uint64_t *drops)
{
    uint64_t bytes = 0;
    *drops = 0;
    for (unsigned i = 0; i < run->regime->sockets; i++) {
        uint32_t info[SK_MEMINFO_VARS];
        socklen_t length = sizeof info;
        check("SO_MEMINFO", getsockopt(run->fds[i], SOL_SOCKET, SO_MEMINFO, info, &length));
        bytes += info[SK_MEMINFO_RMEM_ALLOC];
        *drops += info[SK_MEMINFO_DROPS];
    }
    return bytes;
}

static void read_all(const struct run *run, struct reading *reading)
{
    struct rusage usage;
    reading->cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    getrusage(RUSAGE_SELF, &usage);
    reading->waits = usage.ru_nvcsw;
    reading->preemptions = usage.ru_nivcsw;
    reading->tally = run->tally;
}

static void handle_marker(struct run *run, uint64_t marker)
{
    run->tally.markers++;
    if (marker == MARKER_START && !atomic_load(&shared_page->started)) {
        run->sample_count = 0;
        read_all(run, &first);
        atomic_store(&shared_page->started, 1);
    } else if (marker == MARKER_END && !atomic_load(&shared_page->ended)) {
        read_all(run, &last);
        run->stopped = true;
        atomic_store(&shared_page->ended, 1);
    }
}

void account_stamp(struct run *run, const struct datagram *datagram, const struct stamp *stamp)
{
    if (stamp->sent_ns <= MARKER_END) {
        handle_marker(run, stamp->sent_ns);
        return;
    }
    if (run->batch_ns < (int64_t)stamp->sent_ns) /* not read yet, or read before the datagram was sent */
        run->batch_ns = clock_ns(CLOCK_MONOTONIC);
    if (run->sample_count < SAMPLES_MAX)
        run->samples[run->sample_count++] = (uint32_t)(run->batch_ns - (int64_t)stamp->sent_ns);
    if (run->regime->echo) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = datagram->port,
                                 .sin_addr.s_addr = datagram->source};
        sendto(run->fds[0], datagram->payload, datagram->length, 0, (struct sockaddr *)&to, sizeof to);
    }
}

static int open_socket(const struct regime *regime)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = check("socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), on = 1;
    const int *size = &regime->receive_buffer;
    if (!regime->bare) {
        check("IP_PKTINFO", setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
        check("IP_RECVTOS", setsockopt(fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on));
        check("SO_RXQ_OVFL", setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on));
    }
    if (regime->gro)
        check("UDP_GRO", setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, sizeof *size) != 0)
        check("SO_RCVBUF", setsockopt(fd, SOL_SOCKET, SO_RCVBUF, size, sizeof *size));
    check("bind", bind(fd, (struct sockaddr *)&address, sizeof address));
    return fd;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Prints the 50th, 99th and 99.9th percentile in us, and the number of samples. */
static void print_latency(const char *name, uint32_t *samples, size_t count)
{
    const double shares[] = {0.5, 0.99, 0.999};
    const char *names[] = {"p50", "p99", "p999"};
    qsort(samples, count, sizeof *samples, by_value);
    printf(", \"%s\": {\"samples\": %zu", name, count);
    for (int i = 0; i < 3; i++)
        printf(", \"%s\": %.2f", names[i], samples[(size_t)((double)(count - 1) * shares[i])] / 1e3);
    printf("}");
}

/* Checks that the receiver did all of the work: every datagram was received or dropped, and the
 * sums of all decoded fields are right. Returns the first fault, or NULL. */
static const char *find_fault(const struct run *run, uint64_t received)
{
    struct tally a = first.tally, b = last.tally;
    bool bare = run->regime->bare;
    uint64_t all = b.datagrams - a.datagrams, per_drop = run->regime->gro ? SEGMENTS : 1;
    uint64_t loopback = htonl(INADDR_LOOPBACK), bytes = received * (run->regime->gro ? SEGMENT : SMALL);
    return shared_page->sent != received + shared_page->drops * per_drop ? "datagrams are missing"
           : b.ports - a.ports != all * (uint16_t)shared_page->source_port       ? "source ports"
           : b.sources - a.sources != all * loopback                       ? "source addresses"
           : b.destinations - a.destinations != (bare ? 0 : all * loopback) ? "destinations"
           : b.classes - a.classes != (bare ? 0 : all * TRAFFIC_CLASS)      ? "traffic classes"
           : b.bytes - a.bytes != bytes + (b.markers - a.markers) * SMALL      ? "lengths"
           : run->regime->gro && (b.trains - a.trains) * SEGMENTS != received ? "segment sizes"
           : run->regime->sockets == 1 && b.disorder != a.disorder         ? "order"
                                                                           : NULL;
}

static int report(struct run *run)
{
    uint64_t received =
        last.tally.datagrams - first.tally.datagrams - (last.tally.markers - first.tally.markers);
    double each = received > 0 ? (double)received : 1;
    long waits = last.waits - first.waits;
    const char *fault = find_fault(run, received);
    printf(
        "{\"sent\": %llu, \"received\": %llu, \"drops\": %llu, \"drop_counter\": %llu, \"seconds\": %.4f, "
        "\"cpu_ns\": %.2f, \"cpu_share\": %.4f, \"waits\": %ld, \"preemptions\": %ld, \"batches\": %llu, "
        "\"per_wait\": %.2f",
        (unsigned long long)shared_page->sent, (unsigned long long)received,
        (unsigned long long)shared_page->drops, (unsigned long long)last.tally.dropped,
        (double)shared_page->elapsed_ns / 1e9, (double)(last.cpu_ns - first.cpu_ns) / each,
        (double)(last.cpu_ns - first.cpu_ns) / (double)shared_page->elapsed_ns, waits,
        last.preemptions - first.preemptions,
        (unsigned long long)(last.tally.batches - first.tally.batches),
        each / (double)(waits > 0 ? waits : 1));
    if (run->sample_count > 0 && !run->regime->echo)
        print_latency("latency", run->samples, run->sample_count);
    if (shared_page->round_trips > 0)
        print_latency("latency", shared_page->round_trip_ns, shared_page->round_trips);
    if (fault != NULL)
        printf(", \"wrong\": \"%s\"", fault);
    printf("}\n");
    return fault != NULL;
}

static const struct regime *find_regime(const char *name)
{
    for (size_t i = 0; i < sizeof regimes / sizeof regimes[0]; i++)
        if (strcmp(regimes[i].name, name) == 0)
            return &regimes[i];
    fprintf(stderr, "no such regime: %s\n", name);
    exit(2);
}

static const struct variant *find_variant(const char *name)
{
    for (const struct variant *variant = variants; variant->name != NULL; variant++)
        if (strcmp(variant->name, name) == 0)
            return variant;
    fprintf(stderr, "no such receiver: %s\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct run run;
    double seconds = argc > 3 ? atof(argv[3]) : 0.5;
    int status;
    if (argc < 3) {
        fprintf(stderr, "usage: %s RECEIVER REGIME [SECONDS]\n", argv[0]);
        return 2;
    }
    const struct variant *variant = find_variant(argv[1]);
    run.regime = find_regime(argv[2]);
    raise_descriptor_limit();
    for (unsigned i = 0; i < run.regime->sockets; i++)
        run.fds[i] = open_socket(run.regime);
    shared_page = mmap(NULL, sizeof *shared_page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    run.samples = mmap(NULL, SAMPLES_MAX * sizeof *run.samples, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (shared_page == MAP_FAILED || run.samples == MAP_FAILED)
        check("mmap", -1);
    pid_t receiver = getpid(), child = check("fork", fork());
    alarm((unsigned)(seconds + run.regime->warm_up) + (run.regime->sockets > 1000 ? 50 : 20)); /* ends a run that hangs */
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != receiver) /* the receiver was not supported, and has ended already */
            _exit(1);
        prctl(PR_SET_TIMERSLACK, 1);
        send_traffic(&run, shared_page, seconds, receiver);
        _exit(0);
    }
    pin(0);
    variant->receive(&run, variant);
    check("waitpid", waitpid(child, &status, 0));
    if (status != 0)
        return 1;
    return report(&run);
}
