/* The main program of every server of the answering cells: makes the sockets, forks the server onto
 * processor 0, is its clients on processor 1, checks that each datagram was answered once, to the
 * right peer, in order and byte by byte, or was dropped by a counter, and prints the results as one
 * line of JSON.
 *
 *     answer_sockets answer-recvmmsg-64 echo-turn 0.5
 *
 * All clients share a socket on the wildcard address: each has an address of 127.0.0.0/8 as the
 * source of its questions (IP_PKTINFO). So thousands of peers cost the client no more than one.
 *
 * CPU time is that of the server process and of its processor's ksoftirqd, which works for it where
 * the kernel defers deliveries. */
#include "clients.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

enum { BUFFER = 64 << 20 };

static const struct traffic traffics[] = {
    /* name, rate, fill, peers, in_a_row, size, train, relay */
    {"echo-turn", 0, 4096, 128, 1, 64, 1, false},
    {"echo-row", 0, 4096, 16, 32, 64, 1, false},
    {"echo-once", 0, 4096, 4096, 1, 64, 1, false},
    {"relay-1200", 0, 4000, 200, 1, 1200, 1, true},
    {"relay-trains", 0, 4000, 200, 10, 1200, 10, true},
    {"echo-trains", 0, 4096, 16, 32, 1200, 32, false},
    {"echo-50k", 50e3, 0, 128, 1, 64, 1, false},
    {"echo-200k", 200e3, 0, 128, 1, 64, 1, false},
};

static void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fprintf(stderr, "cannot pin this process to processor %d\n", processor);
}

static int open_socket(in_addr_t address)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address)};
    int fd = check("socket", socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)), size = BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        not_supported("socket buffers that hold thousands of datagrams take CAP_NET_ADMIN");
    check("bind", bind(fd, (struct sockaddr *)&own, sizeof own));
    return fd;
}

/* The server has ended: it was not supported, or failed and said why. */
static void child_ended(int signal)
{
    int status;
    (void)signal;
    if (waitpid(-1, &status, WNOHANG) > 0)
        _exit(WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1);
}

static const struct traffic *find_traffic(const char *name)
{
    for (size_t i = 0; i < sizeof traffics / sizeof *traffics; i++)
        if (strcmp(traffics[i].name, name) == 0)
            return &traffics[i];
    fprintf(stderr, "no such traffic: %s\n", name);
    exit(2);
}

static const struct variant *find_variant(const char *name)
{
    for (const struct variant *variant = variants; variant->name != NULL; variant++)
        if (strcmp(variant->name, name) == 0)
            return variant;
    fprintf(stderr, "no such server: %s\n", name);
    exit(2);
}

/* The socket that the server sends on: a relay has another one. The flows' far ends are the
 * clients' addresses, on a socket of their own. */
static void open_sockets(struct server *server, struct clients *clients)
{
    bool relay = server->traffic->relay;
    int on = 1;
    struct sockaddr_in far;
    socklen_t length = sizeof far;
    server->in = open_socket(INADDR_LOOPBACK);
    server->out = relay ? open_socket(INADDR_LOOPBACK) : server->in;
    clients->near = open_socket(INADDR_ANY);
    clients->far = relay ? open_socket(INADDR_ANY) : clients->near;
    check("IP_PKTINFO", setsockopt(clients->far, IPPROTO_IP, IP_PKTINFO, &on, sizeof on));
    check("getsockname", getsockname(clients->far, (struct sockaddr *)&far, &length));
    for (unsigned i = 0; i < server->traffic->peers; i++)
        server->flows[i] = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = far.sin_port, .sin_addr.s_addr = address_of_peer(i)};
}

int main(int argc, char **argv)
{
    static struct server server;
    static struct clients clients;
    if (argc < 3) {
        fprintf(stderr, "usage: %s SERVER TRAFFIC [SECONDS]\n", argv[0]);
        return 2;
    }
    double seconds = argc > 3 ? atof(argv[3]) : 0.5;
    const struct variant *variant = find_variant(argv[1]);
    server.traffic = find_traffic(argv[2]);
    server.progress =
        mmap(NULL, sizeof *server.progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (server.progress == MAP_FAILED)
        check("mmap", -1);
    open_sockets(&server, &clients);
    signal(SIGCHLD, child_ended);
    pid_t child = check("fork", fork());
    if (child == 0) {
        signal(SIGCHLD, SIG_DFL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin(0);
        variant->serve(&server, variant);
        return 1;
    }
    alarm((unsigned)seconds + 30); /* ends a run that hangs */
    pin(1);
    prctl(PR_SET_TIMERSLACK, 1);
    int status = ask(&clients, &server, child, seconds);
    signal(SIGCHLD, SIG_DFL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return status;
}
