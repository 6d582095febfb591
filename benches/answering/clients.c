/* The clients of the answering cells: questions from many peers, answers checked. */
#include "clients.h"

#include <dirent.h>
#include <linux/sock_diag.h>
#include <signal.h>

enum { ROOM = 2048 };

static void sleep_us(unsigned us)
{
    struct timespec time = {.tv_nsec = us * 1000L};
    nanosleep(&time, NULL);
}

/* --- what is read of the kernel -------------------------------------------------------------- */

struct reading {
    int64_t cpu_ns, softirq_ns, time_ns;
    long waits;
    unsigned long long calls;
};

/* The process id of ksoftirqd/0; 0 where it cannot be seen, as in a container. */
static int softirq_thread(void)
{
    DIR *processes = opendir("/proc");
    int found = 0;
    for (struct dirent *entry; processes != NULL && found == 0 && (entry = readdir(processes)) != NULL;) {
        char path[300], name[32] = "";
        snprintf(path, sizeof path, "/proc/%s/comm", entry->d_name);
        FILE *file = atoi(entry->d_name) > 0 ? fopen(path, "r") : NULL;
        if (file == NULL)
            continue;
        if (fgets(name, sizeof name, file) != NULL && strcmp(name, "ksoftirqd/0\n") == 0)
            found = atoi(entry->d_name);
        fclose(file);
    }
    if (processes != NULL)
        closedir(processes);
    return found;
}

/* The CPU time of a kernel thread. */
static int64_t thread_ns(int pid)
{
    char path[64];
    long long ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *file = pid > 0 ? fopen(path, "r") : NULL;
    if (file != NULL) {
        if (fscanf(file, "%lld", &ns) != 1)
            ns = 0;
        fclose(file);
    }
    return ns;
}

static long voluntary_switches(pid_t pid)
{
    char path[64], line[128];
    long count = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "voluntary_ctxt_switches: %ld", &count) == 1)
            break;
    if (file != NULL)
        fclose(file);
    return count;
}

static struct reading read_all(const struct clients *c)
{
    static int softirq = -1;
    clockid_t clock;
    struct reading reading;
    if (softirq < 0)
        softirq = softirq_thread();
    if (clock_getcpuclockid(c->child, &clock) != 0)
        check("clock_getcpuclockid", -1);
    reading.cpu_ns = clock_ns(clock);
    reading.softirq_ns = thread_ns(softirq);
    reading.time_ns = clock_ns(CLOCK_MONOTONIC);
    reading.waits = voluntary_switches(c->child);
    reading.calls = atomic_load(&c->server->progress->calls);
    return reading;
}

/* Datagrams that a socket dropped; a train is one. */
static uint64_t drops_of(int fd)
{
    uint32_t info[SK_MEMINFO_VARS];
    socklen_t length = sizeof info;
    check("SO_MEMINFO", getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length));
    return info[SK_MEMINFO_DROPS];
}

/* --- questions ------------------------------------------------------------------------------- */

enum { HEAD = sizeof(struct question), TAIL = sizeof(uint64_t) };

/* What stands between the head and the tail of every payload. */
static uint8_t body[ROOM];

/* Bytes that differ from those 1 to 255 places away, and from those 256 places away. */
static void make_body(void)
{
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i + (i >> 8) * 7);
}

/* The last bytes of a payload, which no other question has. */
static uint64_t tail(uint64_t sequence)
{
    return ~(sequence * 0x9e3779b97f4a7c15u);
}

/* Writes what differs from question to question. */
static void write_payload(uint8_t *payload, const struct question *question, size_t size)
{
    uint64_t last = tail(question->sequence);
    memcpy(payload, question, HEAD);
    memcpy(payload + size - TAIL, &last, TAIL);
}

/* Whether an answer has every byte of its question. */
static bool is_whole(const uint8_t *payload, const struct question *question, size_t size)
{
    uint64_t last = tail(question->sequence);
    return memcmp(payload + size - TAIL, &last, TAIL) == 0 &&
           memcmp(payload + HEAD, body + HEAD, size - HEAD - TAIL) == 0;
}

/* One message: a datagram, or a train, from a peer's address. */
struct outgoing {
    struct iovec piece;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct in_pktinfo)) + CMSG_SPACE(sizeof(uint16_t))];
};
static struct outgoing outgoing[CHUNK];
static struct mmsghdr messages[CHUNK];
static struct sockaddr_in to;

static void add_control(struct msghdr *header, int level, int type, const void *data, size_t size)
{
    struct cmsghdr *control = (struct cmsghdr *)((char *)header->msg_control + header->msg_controllen);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(control), data, size);
    header->msg_controllen += CMSG_SPACE(size);
}

static void set_up(const struct clients *c)
{
    const struct traffic *traffic = c->server->traffic;
    size_t size = (size_t)traffic->size * traffic->train;
    socklen_t length = sizeof to;
    check("getsockname", getsockname(c->server->in, (struct sockaddr *)&to, &length));
    make_body();
    for (unsigned i = 0; i < CHUNK; i++) {
        uint8_t *payload = malloc(size);
        for (unsigned datagram = 0; datagram < traffic->train; datagram++)
            memcpy(payload + (size_t)datagram * traffic->size, body, traffic->size);
        outgoing[i].piece = (struct iovec){payload, size};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to,
                                              .msg_iov = &outgoing[i].piece, .msg_iovlen = 1,
                                              .msg_control = outgoing[i].control};
    }
}

static void write_question(struct clients *c, unsigned index)
{
    const struct traffic *traffic = c->server->traffic;
    struct msghdr *header = &messages[index].msg_hdr;
    uint32_t peer = (uint32_t)(c->sequence / traffic->in_a_row % traffic->peers);
    struct in_pktinfo from = {.ipi_spec_dst.s_addr = address_of_peer(peer)};
    uint16_t segment = (uint16_t)traffic->size;
    int64_t now = traffic->rate > 0 ? clock_ns(CLOCK_MONOTONIC) : 0;
    header->msg_controllen = 0;
    add_control(header, IPPROTO_IP, IP_PKTINFO, &from, sizeof from);
    if (traffic->train > 1)
        add_control(header, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
    for (unsigned i = 0; i < traffic->train; i++) {
        struct question question = {.sequence = ++c->sequence, .sent_ns = (uint64_t)now, .peer = peer};
        write_payload((uint8_t *)outgoing[index].piece.iov_base + (size_t)i * traffic->size, &question, traffic->size);
    }
}

static void send_questions(struct clients *c, unsigned datagrams)
{
    for (unsigned left = datagrams / c->server->traffic->train; left > 0;) {
        unsigned n = left < CHUNK ? left : CHUNK;
        for (unsigned i = 0; i < n; i++)
            write_question(c, i);
        for (unsigned done = 0; done < n;) {
            int sent = sendmmsg(c->near, messages + done, n - done, 0);
            if (sent < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOBUFS))
                continue;
            check("sendmmsg", sent);
            done += (unsigned)sent;
        }
        left -= n;
    }
    c->questions += datagrams;
}

/* --- answers --------------------------------------------------------------------------------- */

static void check_answer(struct clients *c, const uint8_t *payload, unsigned size, const struct msghdr *header, int64_t now)
{
    struct question question;
    const struct cmsghdr *control = CMSG_FIRSTHDR(header);
    const struct in_pktinfo *info = control != NULL ? (const void *)CMSG_DATA(control) : NULL;
    memcpy(&question, payload, sizeof question);
    uint32_t peer = question.peer % CLIENTS_MAX;
    c->answers++;
    if (c->fault != NULL)
        return;
    if (size != c->server->traffic->size)
        c->fault = "lengths";
    else if (info == NULL || info->ipi_addr.s_addr != address_of_peer(peer))
        c->fault = "an answer came to another peer";
    else if (question.sequence <= c->last_of_peer[peer])
        c->fault = "order";
    else if (!is_whole(payload, &question, size))
        c->fault = "bytes";
    c->last_of_peer[peer] = question.sequence;
    if (question.sent_ns != 0 && c->sample_count < SAMPLES_MAX)
        c->samples[c->sample_count++] = (uint32_t)(now - (int64_t)question.sent_ns);
}

/* Receives what has arrived, up to a chunk; how many. */
static unsigned receive_answers(struct clients *c)
{
    static uint8_t payloads[CHUNK][ROOM];
    static struct mmsghdr headers[CHUNK];
    static struct iovec parts[CHUNK];
    static _Alignas(struct cmsghdr) char controls[CHUNK][CMSG_SPACE(sizeof(struct in_pktinfo))];
    for (unsigned i = 0; i < CHUNK; i++) {
        parts[i] = (struct iovec){payloads[i], ROOM};
        headers[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1, .msg_control = controls[i],
                                             .msg_controllen = sizeof controls[i]};
    }
    int n = recvmmsg(c->far, headers, CHUNK, MSG_DONTWAIT, NULL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    check("recvmmsg", n);
    int64_t now = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < n; i++)
        check_answer(c, payloads[i], headers[i].msg_len, &headers[i].msg_hdr, now);
    return (unsigned)n;
}

static uint64_t settled(const struct clients *c)
{
    const struct progress *progress = c->server->progress;
    return atomic_load_explicit(&progress->answered, memory_order_acquire) + atomic_load(&progress->unsent) +
           drops_of(c->server->in) * c->server->traffic->train;
}

/* Waits until the server has dealt with every question, then takes the answers. */
static void finish(struct clients *c)
{
    for (int64_t start = clock_ns(CLOCK_MONOTONIC); settled(c) < c->questions; sleep_us(100))
        if (clock_ns(CLOCK_MONOTONIC) - start > 5000000000)
            break;
    sleep_us(300); /* the server sleeps again, or lingers */
    while (receive_answers(c) > 0)
        ;
}

/* --- the traffic ----------------------------------------------------------------------------- */

static bool is_stopped(pid_t pid)
{
    char path[64], text[256], *state;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return true;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    state = strrchr(text, ')');
    return state != NULL && state[1] != 0 && state[2] == 'T';
}

/* Questions wait at the server's socket, all of them, when it goes on. */
static void fill(struct clients *c, int64_t ns)
{
    for (int64_t start = clock_ns(CLOCK_MONOTONIC); clock_ns(CLOCK_MONOTONIC) - start < ns;) {
        check("kill", kill(c->child, SIGSTOP));
        while (!is_stopped(c->child))
            sleep_us(20);
        send_questions(c, c->server->traffic->fill);
        check("kill", kill(c->child, SIGCONT));
        finish(c);
    }
}

/* Sends at the rate, and takes answers in between. A client that is late asks first. */
static void pace(struct clients *c, int64_t ns)
{
    double per_ns = c->server->traffic->rate / 1e9;
    int64_t start = clock_ns(CLOCK_MONOTONIC), elapsed;
    uint64_t sent = 0;
    while ((elapsed = clock_ns(CLOCK_MONOTONIC) - start) < ns) {
        if ((double)sent < (double)elapsed * per_ns) {
            send_questions(c, 1);
            if (++sent % 8 != 0 && (double)sent < (double)elapsed * per_ns)
                continue;
        }
        receive_answers(c);
    }
    for (int64_t end = clock_ns(CLOCK_MONOTONIC); clock_ns(CLOCK_MONOTONIC) - end < 2000000;)
        receive_answers(c);
    finish(c);
}

static void run_for(struct clients *c, double seconds)
{
    int64_t ns = (int64_t)(seconds * 1e9);
    if (c->server->traffic->rate > 0)
        pace(c, ns);
    else
        fill(c, ns);
}

/* --- results --------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The median of the 99th percentiles of each thousand samples, as they came. Where a hypervisor
 * takes the processor away for milliseconds, all that waits is late together: in a run of half a
 * second a few such times are the 99th percentile of all. */
static uint32_t usual_p99(uint32_t *samples, size_t count)
{
    enum { WINDOW = 1000 };
    static uint32_t values[SAMPLES_MAX / WINDOW];
    size_t windows = count / WINDOW;
    for (size_t i = 0; i < windows; i++) {
        qsort(samples + i * WINDOW, WINDOW, sizeof *samples, by_value);
        values[i] = samples[i * WINDOW + WINDOW * 99 / 100];
    }
    qsort(values, windows, sizeof *values, by_value);
    return windows > 0 ? values[windows / 2] : 0;
}

static void print_latency(uint32_t *samples, size_t count)
{
    const double shares[] = {0.5, 0.99, 0.999};
    const char *names[] = {"p50", "p99", "p999"};
    uint32_t usual = usual_p99(samples, count);
    qsort(samples, count, sizeof *samples, by_value);
    printf(", \"latency\": {\"samples\": %zu", count);
    for (int i = 0; i < 3; i++)
        printf(", \"%s\": %.2f", names[i], samples[(size_t)((double)(count - 1) * shares[i])] / 1e3);
    if (usual > 0)
        printf(", \"usual_p99\": %.2f", usual / 1e3);
    printf("}");
}

int ask(struct clients *c, const struct server *server, pid_t child, double seconds)
{
    c->server = server;
    c->child = child;
    c->samples = malloc(SAMPLES_MAX * sizeof *c->samples);
    memset(c->samples, 0, SAMPLES_MAX * sizeof *c->samples);
    set_up(c);
    run_for(c, seconds < 0.5 ? seconds / 4 : 0.125); /* warm-up */
    c->sample_count = 0;
    uint64_t questions = c->questions, answers = c->answers;
    struct reading first = read_all(c);
    run_for(c, seconds);
    struct reading last = read_all(c);
    questions = c->questions - questions;
    answers = c->answers - answers;
    uint64_t lost = drops_of(server->in) * server->traffic->train + drops_of(c->far) + server->progress->unsent;
    if (c->fault == NULL && c->questions != c->answers + lost)
        c->fault = "datagrams are missing";
    double each = answers > 0 ? (double)answers : 1;
    int64_t cpu = last.cpu_ns - first.cpu_ns, softirq = last.softirq_ns - first.softirq_ns;
    int64_t elapsed = last.time_ns - first.time_ns;
    long waits = last.waits - first.waits;
    printf("{\"sent\": %llu, \"received\": %llu, \"seconds\": %.4f, \"cpu_ns\": %.2f, \"softirq_ns\": %.2f, "
           "\"cpu_share\": %.4f, \"waits\": %ld, \"per_wait\": %.2f, \"batches\": %llu",
           (unsigned long long)questions, (unsigned long long)answers, (double)elapsed / 1e9,
           (double)(cpu + softirq) / each, (double)softirq / each, (double)(cpu + softirq) / (double)elapsed, waits,
           each / (double)(waits > 0 ? waits : 1), last.calls - first.calls);
    if (c->sample_count > 0)
        print_latency(c->samples, c->sample_count);
    if (c->fault != NULL)
        printf(", \"wrong\": \"%s\"", c->fault);
    printf("}\n");
    return c->fault != NULL;
}
