// Sockets and a ring, in the mode and on the engine of the run.
#ifndef FIXTURE_HPP
#define FIXTURE_HPP

#include "check.hpp"

#include <arpa/inet.h>
#include <cstdint>
#include <sys/socket.h>
#include <unistd.h>

// What main() runs the tests with.
inline std::uint32_t mode, engine;

inline ringmsg::ring_config config(std::uint32_t more_flags = 0)
{
    ringmsg::ring_config config;
    config.flags = mode | more_flags;
    config.engine = engine;
    return config;
}

// A UDP socket on loopback, and one that sends to it.
struct sockets {
    int receiver = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{}, source{};

    sockets()
    {
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        CHECK(bind(receiver, reinterpret_cast<sockaddr *>(&address), length) == 0);
        CHECK(getsockname(receiver, reinterpret_cast<sockaddr *>(&address), &length) == 0);
        CHECK(connect(sender, reinterpret_cast<sockaddr *>(&address), length) == 0);
        CHECK(getsockname(sender, reinterpret_cast<sockaddr *>(&source), &length) == 0);
    }
    ~sockets()
    {
        ::close(receiver);
        ::close(sender);
    }
    void send_text(const std::string &text_to_send) const
    {
        CHECK(send(sender, text_to_send.data(), text_to_send.size(), 0) >= 0);
    }
};

// A ring that receives from a socket.
struct receiver : sockets {
    ringmsg::ring ring{config()};
    ringmsg::pool pool{ring, ringmsg::pool_config(sockets::receiver)};
    ringmsg::batch batch{16};

    receiver() { ring.recvmsg_multishot(pool, sockets::receiver, {.user_data = 7}); }
};

#endif
