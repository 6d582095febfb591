/* ringmsg doctor: says what is wrong with the sockets at a port, and with the machine around them.
 * It reads /proc and the options of the sockets, and changes nothing. */
#include "tool.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
enum { MEMINFO_RMEM_ALLOC = 0, MEMINFO_RCVBUF = 1, MEMINFO_VARS = 9 }; /* <linux/sock_diag.h> */

static struct colours colours;
static int problems;

/* Prints one finding. `word` is "ok", "note" (could be better) or "BAD" (loses datagrams, or keeps
 * the library from receiving). */
__attribute__((format(printf, 3, 4))) static void report(const char *word, const char *name,
                                                         const char *format, ...)
{
    va_list arguments;
    int bad = strcmp(word, "BAD") == 0;
    problems += bad;
    printf("  %s%-4s%s  %-10s ",
           bad                       ? colours.bad
           : strcmp(word, "ok") == 0 ? colours.good
                                     : colours.bold,
           word, colours.plain, name);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
}

/* What can be done about the finding above. */
static void advise(const char *text) { printf("                   %s\n", text); }

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(fd, level, name, &value, &length) == 0 ? value : -1;
}

static void report_drops(const struct bound_socket *socket)
{
    if (socket->drops == 0) {
        report("ok", "drops", "none since the socket was made");
        return;
    }
    report("BAD", "drops", "%llu socket buffers were dropped since the socket was made (with GRO, trains)",
           socket->drops);
    advise("The receive buffer was full, or a checksum was wrong: enlarge the buffer (below), or receive");
    advise("sooner: ringmsg_next() in a thread that does nothing else, or one socket per processor.");
}

static void report_buffer(int fd, const struct bound_socket *socket)
{
    uint32_t memory[MEMINFO_VARS] = {0};
    socklen_t length = sizeof memory;
    long most = number_in_file("/proc/sys/net/core/rmem_max");
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &length) != 0) {
        report("note", "buffer", "%lu bytes are queued; SO_MEMINFO: %s", socket->queued_bytes,
               strerror(errno));
        return;
    }
    unsigned size = memory[MEMINFO_RCVBUF], used = memory[MEMINFO_RMEM_ALLOC];
    report(used > size / 4 * 3 ? "BAD" : "ok", "queue", "%u of %u bytes are in use", used, size);
    if (used > size / 4 * 3)
        advise("The process receives too slowly, or not at all: is it stopped, or busy elsewhere?");
    if (size >= 1 << 20) {
        report("ok", "buffer", "SO_RCVBUF is %u bytes", size);
        return;
    }
    report("note", "buffer", "SO_RCVBUF is only %u bytes; net.core.rmem_max allows %ld", size, most * 2);
    if (most >= 0 && most < 1 << 20)
        advise("sysctl -w net.core.rmem_max=8388608, then SO_RCVBUF in the program (or SO_RCVBUFFORCE as "
               "root).");
    else
        advise("Set SO_RCVBUF in the program, for example to 4 MiB.");
}

static void report_options(int fd)
{
    int gro = option(fd, IPPROTO_UDP, UDP_GRO);
    if (gro == 1)
        report("ok", "UDP_GRO", "on: trains are received whole");
    else
        report("note", "UDP_GRO", "off: the kernel hands over one datagram at a time");
    if (gro == 0)
        advise("ringmsg_socket_enable(fd, RINGMSG_META_SEGMENT_SIZE) switches it on; RINGMSG_RECV_SPLIT "
               "splits trains.");
    if (option(fd, SOL_SOCKET, SO_TYPE) != SOCK_DGRAM)
        report("note", "type", "not a datagram socket");
}

static void report_sharing(const struct bound_socket *sockets, int count, int which, int fd)
{
    int reuse = option(fd, SOL_SOCKET, SO_REUSEPORT), others = 0;
    for (int i = 0; i < count; i++)
        others += i != which && strcmp(sockets[i].address, sockets[which].address) == 0 &&
                  strcmp(sockets[i].protocol, sockets[which].protocol) == 0;
    if (others == 0)
        report("ok", "sharing", "no other socket is bound to this address and port");
    else
        report("note", "sharing", "%d other sockets have this address and port%s", others,
               reuse == 1 ? ": SO_REUSEPORT divides the datagrams among them by flow"
                          : ": SO_REUSEADDR gives unicast to one of them only");
}

static void examine_socket(const struct bound_socket *sockets, int count, int which)
{
    const struct bound_socket *socket = &sockets[which];
    int colon = strchr(socket->address, ':') != NULL;
    printf("%s%s%s%s:%u%s, %s, ", colours.bold, colon ? "[" : "", socket->address, colon ? "]" : "",
           socket->port, colours.plain, socket->protocol);
    if (socket->pid != 0)
        printf("process %d (%s), user %u\n", (int)socket->pid, socket->command, socket->uid);
    else
        printf("owned by user %u\n", socket->uid);
    report_drops(socket);
    int fd = borrow_socket(socket);
    if (fd < 0) {
        report("note", "options", "cannot be read (%s); %lu bytes are queued", strerror(errno),
               socket->queued_bytes);
        advise("Run `ringmsg doctor` as root, or as a user who may trace that process.");
        return;
    }
    report_buffer(fd, socket);
    report_options(fd);
    report_sharing(sockets, count, which, fd);
    close(fd);
}

/* The value of a counter in /proc/net/snmp, by its name in the first line of the protocol. */
static long long snmp(const char *protocol, const char *name)
{
    char names[1024] = "", values[1024] = "", *save_name, *save_value;
    size_t length = strlen(protocol);
    long long found = -1;
    FILE *file = fopen("/proc/net/snmp", "r");
    if (file == NULL)
        return -1;
    while (fgets(names, sizeof names, file) != NULL && fgets(values, sizeof values, file) != NULL) {
        if (strncmp(names, protocol, length) != 0 || names[length] != ':')
            continue;
        char *column = strtok_r(names, " \n", &save_name), *value = strtok_r(values, " \n", &save_value);
        for (; column != NULL && value != NULL;
             column = strtok_r(NULL, " \n", &save_name), value = strtok_r(NULL, " \n", &save_value))
            if (strcmp(column, name) == 0)
                found = atoll(value);
    }
    fclose(file);
    return found;
}

/* The counters of this network namespace: all its UDP sockets together. */
static void examine_counters(void)
{
    long long full = snmp("Udp", "RcvbufErrors"), sums = snmp("Udp", "InCsumErrors");
    long long memory = snmp("Udp", "MemErrors"); /* from Linux 5.11 on */
    if (full < 0 || sums < 0)
        report("note", "counters", "/proc/net/snmp has none");
    else
        report(full > 0 || memory > 0 ? "note" : "ok", "counters",
               "dropped for a full buffer %lld, for net.ipv4.udp_mem %lld, for a checksum %lld (all "
               "sockets over IPv4)",
               full, memory > 0 ? memory : 0, sums);
    unsigned backlog = 0, squeezed = 0, dropped, squeezes;
    char line[512];
    FILE *file = fopen("/proc/net/softnet_stat", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "%*x %x %x", &dropped, &squeezes) == 2)
            backlog += dropped, squeezed += squeezes;
    if (file != NULL)
        fclose(file);
    report(backlog > 0 ? "note" : "ok", "backlog", "%u packets dropped before IP, %u polls cut short",
           backlog, squeezed);
    if (backlog > 0)
        advise(
            "net.core.netdev_max_backlog is too small, or one processor takes all interrupts (RSS, RPS).");
}

/* Whether the network devices merge packets (GRO). */
static void examine_devices(void)
{
    struct ifaddrs *devices;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (getifaddrs(&devices) != 0)
        devices = NULL;
    for (struct ifaddrs *device = devices; device != NULL; device = device->ifa_next) {
        struct ethtool_value gro = {.cmd = ETHTOOL_GGRO};
        struct ifreq request = {.ifr_data = (void *)&gro};
        if (device->ifa_addr == NULL || device->ifa_addr->sa_family != AF_PACKET ||
            !(device->ifa_flags & IFF_UP) || (device->ifa_flags & IFF_LOOPBACK))
            continue;
        snprintf(request.ifr_name, sizeof request.ifr_name, "%s", device->ifa_name);
        if (ioctl(fd, SIOCETHTOOL, &request) != 0)
            continue;
        report(gro.data ? "ok" : "note", "GRO", "%s: %s", printable(request.ifr_name),
               gro.data ? "on" : "off");
        if (!gro.data)
            printf("                   ethtool -K %s gro on\n", request.ifr_name);
    }
    freeifaddrs(devices);
    close(fd);
}

/* Whether a seccomp filter is on for this process, which a container's processes inherit. */
static int is_filtered(void)
{
    char line[256];
    int mode = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "Seccomp: %d", &mode);
    if (file != NULL)
        fclose(file);
    return mode == 2;
}

static void examine_library(void)
{
    char text[1024];
    struct rlimit locked;
    struct ringmsg_support support = {.size = sizeof support};
    check("query", ringmsg_query_support(&support));
    check("describe", ringmsg_describe_support(text, sizeof text));
    int uring = (support.features & RINGMSG_FEATURE_MULTISHOT) != 0;
    report(uring ? "ok" : "note", "io_uring", "%s",
           uring ? "available, with multishot recvmsg" : "unavailable to this process");
    for (char *save, *line = uring ? NULL : strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save))
        advise(line);
    report(is_filtered() ? "note" : "ok", "seccomp", "%s",
           is_filtered() ? "a filter restricts the system calls of this process" : "no filter");
    if (is_filtered() && !uring)
        advise("packaging/seccomp/ringmsg.json is a container profile that allows io_uring.");
    getrlimit(RLIMIT_MEMLOCK, &locked);
    if (locked.rlim_cur == RLIM_INFINITY)
        report("ok", "memlock", "unlimited");
    else
        report(locked.rlim_cur < 8 << 20 && !uring ? "note" : "ok", "memlock", "%llu KiB (ulimit -l)",
               (unsigned long long)locked.rlim_cur / 1024);
}

int doctor_command(int argc, char **argv)
{
    static struct bound_socket sockets[SOCKETS_MAX];
    if (argc != 2 || argv[1][0] == '-') {
        FILE *out = argc == 2 && is_help(argv[1]) ? stdout : stderr;
        fprintf(out, "usage: ringmsg doctor PORT\n");
        return out == stdout ? FINE : USAGE;
    }
    unsigned port = (unsigned)number("doctor: PORT", argv[1], 1, 65535);
    colours = colours_for(stdout);
    int all = sockets_at(port, sockets);
    int count = all < SOCKETS_MAX ? all : SOCKETS_MAX;
    if (all < 0) {
        fprintf(stderr, "ringmsg: doctor: /proc/net/udp: %s\n", strerror(errno));
        return PROBLEM;
    }
    if (all == 0) {
        printf("%sport %u%s\n", colours.bold, port, colours.plain);
        report("BAD", "socket", "no UDP socket of this network namespace is bound to this port");
        advise("In a container, run `ringmsg doctor` there (nsenter -n -t PID ringmsg doctor PORT).");
    }
    for (int i = 0; i < count; i++)
        examine_socket(sockets, count, i);
    if (all > count)
        printf("%d more sockets at this port were not examined\n", all - count);
    printf("%sthis machine, as this process sees it%s\n", colours.bold, colours.plain);
    examine_counters();
    examine_devices();
    examine_library();
    printf("%s%d problem%s%s\n", problems > 0 ? colours.bad : colours.good, problems,
           problems == 1 ? "" : "s", colours.plain);
    return problems > 0 ? PROBLEM : FINE;
}
