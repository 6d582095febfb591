// Sends every datagram back, from the address it was sent to, in C++20. One call sends
// everything that one reap has returned, the datagrams to one peer as one train.
//
//   udp_echo ADDRESS PORT        numeric, IPv4 or IPv6; port 0 selects a free one
#include <ringmsg.hpp>

#include <arpa/inet.h>
#include <csignal>
#include <iostream>
#include <memory>
#include <netdb.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

ringmsg::ring *to_wake;
volatile std::sig_atomic_t stopped;

void stop(int)
{
    stopped = 1;
    to_wake->wake();
}

/// A UDP socket bound to a numeric address.
class udp_socket {
public:
    udp_socket(const char *address, const char *port)
    {
        addrinfo hints{}, *found = nullptr;
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
        hints.ai_socktype = SOCK_DGRAM;
        if (const int error = getaddrinfo(address, port, &hints, &found); error != 0)
            throw std::runtime_error(std::string(address) + " port " + port + ": " + gai_strerror(error));
        const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
        fd_ = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd_ < 0 || bind(fd_, found->ai_addr, found->ai_addrlen) != 0)
            throw std::system_error(errno, std::generic_category(), address);
    }
    udp_socket(const udp_socket &) = delete;
    udp_socket &operator=(const udp_socket &) = delete;
    ~udp_socket() { close(fd_); }

    int fd() const noexcept { return fd_; }
    unsigned port() const
    {
        sockaddr_in6 address{}; // the port is at the same place in sockaddr_in
        socklen_t length = sizeof address;
        getsockname(fd_, reinterpret_cast<sockaddr *>(&address), &length);
        return ntohs(address.sin6_port);
    }

private:
    int fd_ = -1;
};

void echo(const char *address, const char *port)
{
    const udp_socket socket(address, port);
    ringmsg::socket_enable(socket.fd(), RINGMSG_META_SEGMENT_SIZE | RINGMSG_META_DESTINATION);
    ringmsg::ring ring;
    ringmsg::pool pool(ring, ringmsg::pool_config(socket.fd()));
    ringmsg::batch batch(512);
    ringmsg::sender sender(socket.fd());
    std::vector<ringmsg::path> paths(batch.capacity());
    std::vector<ringmsg::message> answers;
    answers.reserve(batch.capacity());
    ring.recvmsg_multishot(pool, socket.fd());
    to_wake = &ring;
    std::signal(SIGINT, stop);
    std::signal(SIGTERM, stop);
    std::cout << "port " << socket.port() << std::endl;

    std::uint64_t unsent = 0;
    while (stopped == 0) {
        ring.reap(batch); // first releases the previous batch, which has been sent
        answers.clear();
        for (const ringmsg::record datagram : batch) {
            if (datagram.error()) {
                std::cerr << "receive: " << datagram.error().message() << '\n';
                continue;
            }
            ringmsg::path &back = paths[answers.size()];
            back = ringmsg::path::reply(datagram);
            answers.emplace_back(datagram.payload(), &back).segment_size = datagram.segment_size();
        }
        sender.send(answers);
        for (const ringmsg::message &answer : answers)
            if (answer.error() && unsent++ == 0) // also where the socket was full: UDP may lose datagrams
                std::cerr << "send: " << answer.error().message() << '\n';
    }
    std::signal(SIGINT, SIG_DFL);
    std::signal(SIGTERM, SIG_DFL);
    std::cout << sender.stats().datagrams << " datagrams sent back; " << unsent << " records not\n";
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::cerr << "usage: udp_echo ADDRESS PORT\n";
        return 2;
    }
    try {
        echo(argv[1], argv[2]);
    } catch (const std::exception &error) {
        std::cerr << "udp_echo: " << error.what() << '\n';
        return 1;
    }
}
