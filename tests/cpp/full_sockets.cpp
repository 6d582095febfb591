// The fifth translation unit: sockets that are full. That is no error, signals do not end the wait
// for room, SO_SNDTIMEO does, and each call says how many messages went.
#include "check.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace std::chrono_literals;

static std::span<const std::byte> bytes_of(const std::string &text) { return std::as_bytes(std::span(text)); }

// A pair whose other end takes little.
static std::array<int, 2> small_pair()
{
    std::array<int, 2> pair;
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair.data()) == 0);
    const int small = 4096;
    CHECK(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
    return pair;
}

static void a_full_socket_is_no_error()
{
    const auto [ours, theirs] = small_pair();
    ringmsg::sender sender(ours);
    const std::string text(500, 'x');
    std::vector<ringmsg::message> messages(100, ringmsg::message(bytes_of(text)));
    const std::uint32_t first = sender.send(messages);
    CHECK(first > 0 && first < 100 && sender.send(messages, RINGMSG_SEND_RESUME) == 0);
    CHECK(std::count_if(messages.begin(), messages.end(), [](auto &one) { return one.is_left(); }) == 100 - first);
    CHECK(messages.back().error() == std::errc::resource_unavailable_try_again);
    char received[600];
    CHECK(recv(theirs, received, sizeof received, 0) == 500);
    std::error_code code = std::make_error_code(std::errc::io_error);
    CHECK(sender.send(messages, RINGMSG_SEND_RESUME, code) >= 1 && !code);
    ::close(ours);
    ::close(theirs);
}

// Signals come all the time while a slow reader makes room.
static void signals_do_not_end_a_send()
{
    static std::atomic<int> seen;
    struct sigaction action {};
    action.sa_handler = [](int) { seen++; };
    CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
    const itimerval often{{0, 2000}, {0, 2000}}, never{};
    const std::string text(500, 'x');
    for (const bool resumes : {false, true}) {
        const auto [ours, theirs] = small_pair();
        ringmsg::sender sender(ours);
        std::vector<ringmsg::message> messages(40, ringmsg::message(bytes_of(text)));
        std::uint32_t before = 0;
        if (resumes)
            before = sender.send(messages);
        std::thread reader([fd = theirs] {
            sigset_t all;
            sigfillset(&all);
            pthread_sigmask(SIG_BLOCK, &all, nullptr);
            char received[600];
            for (int i = 0; i < 40; i++) {
                std::this_thread::sleep_for(5ms);
                CHECK(recv(fd, received, sizeof received, 0) == 500);
            }
        });
        seen = 0;
        CHECK(setitimer(ITIMER_REAL, &often, nullptr) == 0);
        CHECK(sender.send(messages, RINGMSG_SEND_WAIT | (resumes ? RINGMSG_SEND_RESUME : 0)) == 40 - before);
        CHECK(setitimer(ITIMER_REAL, &never, nullptr) == 0);
        CHECK(seen > 1 && std::all_of(messages.begin(), messages.end(), [](auto &one) { return one.result == 500; }));
        reader.join();
        ::close(ours);
        ::close(theirs);
    }
}

// SO_SNDTIMEO ends a wait, also of a call that a signal has interrupted: what went is counted.
static void a_timeout_ends_a_wait()
{
    struct sigaction action {};
    action.sa_handler = [](int) {};
    CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
    const timeval limit{0, 50'000};
    const itimerval soon{{0, 0}, {0, 10'000}};
    const std::string text(500, 'x');
    for (const bool interrupted : {false, true}) {
        const auto [ours, theirs] = small_pair();
        CHECK(setsockopt(ours, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0);
        ringmsg::sender sender(ours);
        std::vector<ringmsg::message> messages(40, ringmsg::message(bytes_of(text)));
        const auto start = std::chrono::steady_clock::now();
        if (interrupted)
            CHECK(setitimer(ITIMER_REAL, &soon, nullptr) == 0);
        const std::uint32_t sent = sender.send(messages, RINGMSG_SEND_WAIT);
        CHECK(std::chrono::steady_clock::now() - start >= 50ms);
        const auto left = std::count_if(messages.begin(), messages.end(), [](auto &one) { return one.is_left(); });
        CHECK(sent > 0 && left > 0 && sent + left == 40);
        CHECK(sender.send(messages, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME) == 0);
        char received[600];
        CHECK(recv(theirs, received, sizeof received, 0) == 500);
        CHECK(sender.send(messages, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME) == 1);
        ::close(ours);
        ::close(theirs);
    }
}

void full_sockets()
{
    a_full_socket_is_no_error();
    signals_do_not_end_a_send();
    a_timeout_ends_a_wait();
}
