// The third translation unit: ringmsg::path, ringmsg::message and ringmsg::sender.
#include "check.hpp"

#include <algorithm>
#include <array>
#include <arpa/inet.h>
#include <atomic>
#include <cstring>
#include <csignal>
#include <fcntl.h>
#include <new>
#include <sys/socket.h>
#include <sys/time.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <vector>

template <class T>
constexpr bool is_owner = std::is_nothrow_destructible_v<T> && std::is_nothrow_move_constructible_v<T> &&
                          std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T> &&
                          !std::is_copy_assignable_v<T>;
static_assert(is_owner<ringmsg::sender>);
static_assert(std::is_trivially_copyable_v<ringmsg::path> && std::is_trivially_copyable_v<ringmsg::message>);
static_assert(!std::is_constructible_v<ringmsg::message, std::span<const std::byte>, ringmsg::path &&>,
              "a message refers to its path, which must not be a temporary");

using namespace std::chrono_literals;

static std::span<const std::byte> bytes_of(const std::string &text) { return std::as_bytes(std::span(text)); }

// A UDP socket on loopback.
template <class Address> struct bound {
    int fd;
    Address address{};

    explicit bound(Address any) : fd(socket(reinterpret_cast<sockaddr &>(any).sa_family, SOCK_DGRAM, 0)), address(any)
    {
        socklen_t length = sizeof address;
        CHECK(bind(fd, reinterpret_cast<sockaddr *>(&address), length) == 0);
        CHECK(getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) == 0);
    }
    bound(const bound &) = delete;
    bound &operator=(const bound &) = delete;
    ~bound() { ::close(fd); }

    std::string next() const
    {
        std::array<char, 2048> text;
        const ssize_t length = recv(fd, text.data(), text.size(), MSG_DONTWAIT);
        return length < 0 ? "nothing" : std::string(text.data(), static_cast<std::size_t>(length));
    }
};

static sockaddr_in loopback_v4()
{
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static sockaddr_in6 loopback_v6()
{
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    return address;
}

union sockaddr_in4_and_6 {
    sockaddr any;
    sockaddr_in four;
    sockaddr_in6 six;
    sockaddr_storage storage;
};

static void a_path_is_what_was_set()
{
    sockaddr_in six_less = loopback_v4();
    six_less.sin_port = htons(7);
    ringmsg::path path(six_less);
    CHECK(path.valid == RINGMSG_PATH_REMOTE && path.family == AF_INET && path.remote_port == 7);
    CHECK(path.remote[0] == 127 && path.remote[3] == 1);
    CHECK(path == ringmsg::path(six_less));
    ringmsg::path other = path;
    other.set_interface(3).set_traffic_class(2).set_hop_limit(9).set_local(in_addr{htonl(0x7f000002)});
    CHECK(other != path);
    CHECK(other.valid == (RINGMSG_PATH_REMOTE | RINGMSG_PATH_INTERFACE | RINGMSG_PATH_TRAFFIC_CLASS |
                          RINGMSG_PATH_HOP_LIMIT | RINGMSG_PATH_LOCAL));
    CHECK(other.interface_index == 3 && other.traffic_class == 2 && other.hop_limit == 9 && other.local[3] == 2);

    sockaddr_in6 address = loopback_v6();
    address.sin6_port = htons(9);
    address.sin6_scope_id = 4;
    ringmsg::path six(address);
    six.set_flow_label(0x12345).set_local(in6addr_loopback);
    CHECK(six.family == AF_INET6 && six.remote_port == 9 && six.remote[15] == 1 && six.remote_scope == 4);
    CHECK(six.flow_label == 0x12345 && six.local[15] == 1);
}

// An address as the socket calls give it: bytes of which the first two say what they are.
static void a_path_is_made_of_any_socket_address()
{
    sockaddr_in4_and_6 both;
    both.six = loopback_v6();
    both.six.sin6_port = htons(9);
    both.six.sin6_scope_id = 4;
    CHECK(ringmsg::path::to(&both.any, sizeof both) == ringmsg::path(both.six));
    CHECK(ringmsg::path::to(&both.any, sizeof both.six) == ringmsg::path(both.six));
    std::error_code code;
    CHECK(ringmsg::path::to(&both.any, sizeof both.six - 1, code) == ringmsg::path() && code == std::errc::invalid_argument);
    both.four = loopback_v4();
    CHECK(ringmsg::path::to(&both.any, sizeof both.four, code) == ringmsg::path(both.four) && !code);
    CHECK(ringmsg::path::to(&both.any, sizeof both.four - 1, code).valid == 0 && code == std::errc::invalid_argument);
    for (const unsigned none : {0u, 1u})
        CHECK(ringmsg::path::to(&both.any, none, code).valid == 0 && code == std::errc::invalid_argument);
    CHECK(ringmsg::path::to(nullptr, 16, code).valid == 0 && code == std::errc::invalid_argument);
    both.any.sa_family = AF_UNIX;
    const std::system_error error = error_of([&] { ringmsg::path::to(&both.any, sizeof both); });
    CHECK(error.code() == std::errc::address_family_not_supported);
    CHECK(std::string(error.what()).find("neither") != std::string::npos);

    std::array<std::byte, 1 + sizeof(sockaddr_in)> bytes; // unaligned, as in a pool
    const sockaddr_in four = loopback_v4();
    std::memcpy(bytes.data() + 1, &four, sizeof four);
    CHECK(ringmsg::path::to(reinterpret_cast<sockaddr *>(bytes.data() + 1), sizeof four) == ringmsg::path(four));
}

static void messages_go_where_their_paths_say()
{
    const bound four(loopback_v4());
    const bound six(loopback_v6());
    const int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    ringmsg::sender sender(fd);
    const std::array paths{ringmsg::path(four.address), ringmsg::path(six.address)};
    const std::string texts[] = {"one", "two", "three"};
    std::vector<ringmsg::message> messages;
    messages.emplace_back(bytes_of(texts[0]), &paths[0]);
    messages.emplace_back(bytes_of(texts[1]), &paths[1]);
    messages.emplace_back(bytes_of(texts[2]), &paths[0]);
    messages.emplace_back(bytes_of(texts[2])); // not connected
    CHECK(sender.send(messages) == 4);
    CHECK(four.next() == "one" && four.next() == "three" && six.next() == "two");
    CHECK(messages[0].result == 3 && !messages[0].error() && messages[3].error() == std::errc::destination_address_required);
    CHECK(sender.stats().messages == 3 && sender.stats().errors == 1);

    // What C has, without a copy.
    std::array<ringmsg_message, 1> native{};
    native[0].payload = texts[0].data();
    native[0].payload_length = 3;
    native[0].path = &paths[1];
    CHECK(sender.send(native) == 1 && six.next() == "one");
    ::close(fd);
}

static void the_flat_forms_send_the_same()
{
    const bound four(loopback_v4());
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    ringmsg::sender sender(fd);
    const std::string base = "onetwothree";
    const std::array<ringmsg_path, 1> paths{ringmsg::path(four.address)};
    const std::array<std::uint64_t, 2> offsets{6, 0};
    const std::array<std::uint32_t, 2> lengths{5, 3}, first{0, 0}, none{UINT32_MAX, UINT32_MAX};
    std::array<std::int32_t, 2> results{};
    CHECK(sender.send_columns(bytes_of(base), offsets, lengths, first, paths, results) == 2);
    CHECK(four.next() == "three" && four.next() == "one" && results[0] == 5 && results[1] == 3);
    CHECK(sender.send_columns(bytes_of(base), {}, lengths, first, paths, results) == 2);
    CHECK(four.next() == "onetw" && four.next() == "oth");
    CHECK(sender.send_columns(bytes_of(base), {}, lengths, {}, paths, results) == 2);
    CHECK(four.next() == "onetw" && results[1] == -EFAULT); // there is no path 1
    CHECK(sender.send_columns(bytes_of(base), {}, lengths, none, paths, results) == 2 && results[0] == -EDESTADDRREQ);
    std::error_code code;
    CHECK(sender.send_columns(bytes_of(base), std::span(offsets).first(1), lengths, first, paths, results, 0, code) == 0);
    CHECK(code == std::errc::invalid_argument);

    std::array<ringmsg_message, 1> messages{};
    messages[0].payload = reinterpret_cast<const void *>(std::uintptr_t{3});
    messages[0].payload_length = 3;
    CHECK(sender.send_from(bytes_of(base), paths, messages, 0, code) == 1 && !code && four.next() == "two");

    std::array made{ringmsg::message::at(3, 3, 0), ringmsg::message::at(0, 3), ringmsg::message::at(2, 10, 0)};
    CHECK(sender.send_from(bytes_of(base), paths, made) == 3 && four.next() == "two" && four.next() == "nothing");
    CHECK(made[0].result == 3 && made[1].result == -EDESTADDRREQ && made[2].result == -EFAULT);

    // Arrays of the C++ types, which derive from those of C, are taken as they are.
    const std::vector<ringmsg::path> derived_paths{ringmsg::path(four.address)};
    std::vector<ringmsg::message> derived(2);
    derived[1].payload_length = 3; // of offset 0, to path 0
    CHECK(sender.send_from(bytes_of(base), derived_paths, std::span(derived).subspan(1)) == 1 && four.next() == "one");
    CHECK(derived[1].result == 3 && derived[0].result == 0);
    CHECK(sender.send_columns(bytes_of(base), {}, lengths, first, derived_paths, results) == 2);
    CHECK(four.next() == "onetw" && four.next() == "oth");
    ::close(fd);
}
static_assert(!std::is_convertible_v<std::vector<ringmsg::path> &, ringmsg::array_of<const ringmsg_message>>);
static_assert(!std::is_convertible_v<const std::vector<ringmsg::message> &, ringmsg::array_of<ringmsg_message>>,
              "results are written into messages");

// An error that the header itself finds has its own sentence, not the one of an earlier failure.
static void errors_of_the_header_have_their_own_sentence()
{
    const bound four(loopback_v4());
    ringmsg::sender sender(four.fd);
    CHECK(ringmsg_ring_info(nullptr, nullptr) < 0); // leaves another sentence
    const std::array<std::uint32_t, 2> lengths{};
    std::array<std::int32_t, 1> result{};
    const std::system_error error = error_of([&] { sender.send_columns({}, {}, lengths, {}, {}, result); });
    CHECK(error.code() == std::errc::invalid_argument);
    CHECK(std::string(error.what()).find("differ in length") != std::string::npos);
}

// receive() needs no ring: it shows what the socket holds. An empty socket is no error.
static void a_socket_is_read_without_a_ring()
{
    const bound four(loopback_v4());
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    ringmsg::sender sender(fd);
    ringmsg::pool_config layout(four.fd);
    layout.buffers = 4;
    std::vector<std::byte> slab(4 * (16 + 24ul + layout.name_capacity + layout.control_capacity + layout.payload_capacity));
    std::array<ringmsg_record, 4> records;
    std::array<ringmsg_metadata, 4> metadata;
    CHECK(ringmsg::receive(four.fd, slab, layout, records, metadata) == 0);

    const ringmsg::path to(four.address);
    const std::string texts[] = {"one", "three"};
    std::vector<ringmsg::message> messages;
    for (const std::string &text : texts)
        messages.emplace_back(bytes_of(text), &to).flags = RINGMSG_MESSAGE_ALONE;
    CHECK(sender.send(messages) == 2 && ringmsg::receive(four.fd, slab, layout, records, metadata) == 2);
    const ringmsg::record second(records[1], &metadata[1], slab.data());
    CHECK(text(second.payload()) == "three" && second.name().size() == sizeof(sockaddr_in));
    CHECK((second.metadata()->valid & RINGMSG_META_SOURCE) != 0);

    CHECK(sender.send(messages) == 2 && ringmsg::receive(four.fd, slab, layout, records) == 2);
    std::error_code code;
    const auto one = std::span(metadata).first(1);
    CHECK(ringmsg::receive(four.fd, slab, layout, records, one, 0, code) == 0 && code == std::errc::invalid_argument);
    CHECK(ringmsg::receive(-1, slab, layout, records, {}, 0, code) == 0 && code == std::errc::bad_file_descriptor);
    ::close(fd);
}

static void an_answer_comes_from_the_address_that_was_asked()
{
    sockaddr_in any = loopback_v4();
    any.sin_addr.s_addr = 0;
    const bound server(any), client(loopback_v4());
    ringmsg::socket_enable(server.fd, RINGMSG_META_DESTINATION);
    ringmsg::ring_config config;
    config.engine = RINGMSG_ENGINE_RECVMMSG;
    ringmsg::ring ring(config);
    ringmsg::pool pool(ring, ringmsg::pool_config(server.fd));
    ringmsg::batch batch(4), bare(4, ringmsg::metadata::none);
    ring.recvmsg_multishot(pool, server.fd);
    sockaddr_in asked = server.address;
    asked.sin_addr.s_addr = htonl(0x7f000005);
    CHECK(sendto(client.fd, "?", 1, 0, reinterpret_cast<sockaddr *>(&asked), sizeof asked) == 1);
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);

    ringmsg::sender sender(server.fd);
    const ringmsg::path back = ringmsg::path::reply(batch[0]);
    CHECK(back == ringmsg::path::reply(*batch[0].metadata()));
    std::array answers{ringmsg::message(batch[0].payload(), &back)};
    CHECK(sender.send(answers) == 1);
    sockaddr_in from{};
    socklen_t length = sizeof from;
    char byte = 0;
    CHECK(recvfrom(client.fd, &byte, 1, 0, reinterpret_cast<sockaddr *>(&from), &length) == 1 && byte == '?');
    CHECK(from.sin_addr.s_addr == asked.sin_addr.s_addr && from.sin_port == asked.sin_port);

    CHECK(sendto(client.fd, "?", 1, 0, reinterpret_cast<sockaddr *>(&asked), sizeof asked) == 1);
    CHECK(ring.reap(bare, {.timeout = 5s}) == 1);
    std::error_code code;
    ringmsg::path::reply(bare[0], code);
    CHECK(code == std::errc::invalid_argument);
    CHECK(error_of([] { ringmsg::path::reply(ringmsg_metadata{}); }).code() == std::errc::address_not_available);
}

// A program that found its socket full waits by its ring.
static void a_full_socket_is_waited_for_by_the_ring()
{
    std::array<int, 2> pair{};
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair.data()) == 0);
    ringmsg::ring_config config;
    config.engine = RINGMSG_ENGINE_RECVMMSG;
    ringmsg::ring ring(config);
    ringmsg::batch batch(1);
    std::array<char, 100> payload{};
    while (::send(pair[0], payload.data(), payload.size(), MSG_DONTWAIT) > 0) {
    }
    ring.writable(pair[0], 7);
    CHECK(ring.reap(batch, {.timeout = 10ms}) == 0);
    while (::recv(pair[1], payload.data(), payload.size(), MSG_DONTWAIT) > 0) {
    }
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    CHECK(batch[0].is_final() && batch[0].is_writable() && batch[0].user_data() == 7 && batch[0].payload().empty());
    std::error_code code;
    const int unconnected = socket(AF_UNIX, SOCK_DGRAM, 0);
    ring.writable(unconnected, 7, code);
    CHECK(code == std::errc::operation_not_supported);
    for (const int fd : {pair[0], pair[1], unconnected})
        ::close(fd);
}

static void what_cannot_have_a_sender_is_refused()
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const std::system_error error = error_of([&] { ringmsg::sender sender(fd); });
    CHECK(error.code() == std::errc::operation_not_supported && std::string(error.what()).find("stream") != std::string::npos);
    std::error_code code;
    ringmsg::sender none(fd, {}, code);
    CHECK(code == std::errc::operation_not_supported && none.native_handle() == nullptr);
    std::array<ringmsg::message, 1> messages;
    CHECK(none.send(messages, 0, code) == 0 && code == std::errc::invalid_argument);
    ::close(fd);
}

static void moving_keeps_the_sender()
{
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    ringmsg::sender first(fd), second(fd);
    ringmsg_sender *const handle = first.native_handle();
    second = std::move(first);
    CHECK(second.native_handle() == handle && first.native_handle() == nullptr);
    ringmsg::sender third(std::move(second));
    CHECK(third.native_handle() == handle);
    third.free();
    CHECK(third.native_handle() == nullptr);
    third.free(); // nothing is left to free
    ::close(fd);
}

void sending()
{
    a_path_is_what_was_set();
    a_path_is_made_of_any_socket_address();
    messages_go_where_their_paths_say();
    the_flat_forms_send_the_same();
    errors_of_the_header_have_their_own_sentence();
    a_socket_is_read_without_a_ring();
    an_answer_comes_from_the_address_that_was_asked();
    a_full_socket_is_waited_for_by_the_ring();
    what_cannot_have_a_sender_is_refused();
    moving_keeps_the_sender();
    full_sockets();
    std::printf("ok: sending\n");
}
