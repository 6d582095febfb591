// Receives UDP in C++20 and prints a line for each datagram.
//
//   udp_receive ADDRESS PORT [DATAGRAMS]
//
// ADDRESS is numeric, IPv4 or IPv6; port 0 selects a free port. Ends after DATAGRAMS datagrams, or
// with Ctrl-C. To try it: echo hello | nc -u -w1 127.0.0.1 PORT
#include <ringmsg.hpp>

#include <arpa/inet.h>
#include <csignal>
#include <iostream>
#include <netdb.h>
#include <string>
#include <unistd.h>

namespace {

ringmsg::ring *ring_to_wake;
volatile std::sig_atomic_t stopped;

void stop(int)
{
    stopped = 1;
    ring_to_wake->wake();
}

/// A file descriptor that its object closes.
class descriptor {
public:
    explicit descriptor(int fd) noexcept : fd_(fd) {}
    descriptor(const descriptor &) = delete;
    descriptor &operator=(const descriptor &) = delete;
    ~descriptor() { close(fd_); }
    operator int() const noexcept { return fd_; }

private:
    int fd_;
};

int check(const char *what, int result)
{
    if (result < 0)
        throw std::system_error(errno, std::generic_category(), what);
    return result;
}

std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> resolve(const char *address, const char *port)
{
    addrinfo hints{}, *found = nullptr;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_DGRAM;
    if (const int error = getaddrinfo(address, port, &hints, &found); error != 0)
        throw std::runtime_error(std::string(address) + " port " + port + ": " + gai_strerror(error));
    return {found, &freeaddrinfo};
}

std::string source(const ringmsg::record &datagram)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];
    const auto length = static_cast<socklen_t>(datagram.name().size());
    if (getnameinfo(datagram.source(), length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return "?";
    return std::string(host) + " port " + port;
}

void receive(const char *address, const char *port, std::uint64_t limit)
{
    const auto local = resolve(address, port);
    const descriptor fd(check("socket", socket(local->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0)));
    check("bind", bind(fd, local->ai_addr, local->ai_addrlen));
    sockaddr_in6 bound{}; // sockaddr_in has the port at the same offset
    socklen_t length = sizeof bound;
    check("getsockname", getsockname(fd, reinterpret_cast<sockaddr *>(&bound), &length));

    ringmsg::socket_enable(fd, RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_TRAFFIC_CLASS);
    ringmsg::ring ring;
    ringmsg::pool pool(ring, ringmsg::pool_config(fd));
    ringmsg::batch batch(256);
    ring.recvmsg_multishot(pool, fd, {.flags = RINGMSG_RECV_SPLIT});
    ring_to_wake = &ring;
    std::signal(SIGINT, stop);
    std::cout << "receiving on " << address << " port " << ntohs(bound.sin6_port) << std::endl;

    for (std::uint64_t received = 0; stopped == 0 && received < limit;) {
        ring.reap(batch);
        for (const ringmsg::record datagram : batch) {
            if (datagram.error()) {
                std::cerr << datagram.error().message() << '\n';
                continue;
            }
            received++;
            std::cout << datagram.payload().size() << " bytes from " << source(datagram) << ", ECN "
                      << (datagram.metadata()->traffic_class & 3) << '\n';
        }
    }
    std::signal(SIGINT, SIG_DFL);
    const ringmsg_stats stats = ring.stats();
    std::cout << stats.datagrams << " datagrams, " << stats.socket_drops << " dropped by the kernel\n";
}

} // namespace

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4) {
        std::cerr << "usage: udp_receive ADDRESS PORT [DATAGRAMS]\n";
        return 2;
    }
    try {
        receive(argv[1], argv[2], argc == 4 ? std::stoull(argv[3]) : UINT64_MAX);
    } catch (const std::exception &error) {
        std::cerr << "udp_receive: " << error.what() << '\n';
        return 1;
    }
}
