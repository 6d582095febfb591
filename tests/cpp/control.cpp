// The fourth translation unit: control messages as a range, which shows each message with its data,
// finds them by level and type, and ends where the bytes are none; their decoding outside of a
// batch; and a description that is never cut, however long it is.
#include "check.hpp"

#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <dlfcn.h>
#include <ranges>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

using namespace std::chrono_literals;

static_assert(std::ranges::forward_range<ringmsg::control_messages>);
static_assert(std::is_trivially_copyable_v<ringmsg::control_messages>);

/// Appends a control message as the kernel writes it.
template <class T> static void append(std::vector<std::byte> &slice, int level, int type, T data)
{
    std::array<std::byte, CMSG_SPACE(sizeof(T))> message{};
    const cmsghdr header{CMSG_LEN(sizeof data), level, type};
    std::memcpy(message.data(), &header, sizeof header);
    std::memcpy(message.data() + CMSG_LEN(0), &data, sizeof data);
    slice.insert(slice.end(), message.begin(), message.end());
}

static void a_slice_is_a_range_of_messages()
{
    std::vector<std::byte> slice;
    append(slice, IPPROTO_IP, IP_TTL, 64);
    append(slice, IPPROTO_IP, IP_TOS, std::uint8_t{3});
    append(slice, 4711, 12, std::array<char, 3>{'a', 'b', 'c'}); // the library knows no such option
    append(slice, IPPROTO_IP, IP_TTL, 65);
    const ringmsg::control_messages messages(slice);
    CHECK(std::ranges::distance(messages) == 4);
    std::vector<int> types;
    for (const ringmsg::control_message message : messages)
        types.push_back(message.type);
    CHECK((types == std::vector{IP_TTL, IP_TOS, 12, IP_TTL}));
    CHECK(messages.find(IPPROTO_IP, IP_TTL)->as<int>() == 64 && messages.find(IPPROTO_IP, IP_TOS)->as<std::uint8_t>() == 3);
    CHECK(text(messages.find(4711, 12)->data) == "abc");
    CHECK(!messages.find(IPPROTO_IP, 12) && !messages.find(4711, IP_TTL));
    CHECK(!messages.find(IPPROTO_IP, IP_TOS)->as<int>()); // a byte is no int

    auto at = messages.begin();
    const auto before = at++;
    CHECK(before != at && before == messages.begin() && (*before).is(IPPROTO_IP, IP_TTL) && (*at).is(IPPROTO_IP, IP_TOS));
    std::ranges::advance(at, messages.end());
    CHECK(at == messages.end() && at == decltype(at)() && ++at == messages.end());

    const ringmsg_metadata decoded = ringmsg::decode_control(slice);
    CHECK(decoded.traffic_class == 3 && (decoded.valid & RINGMSG_META_HOP_LIMIT) != 0);
}

static void a_slice_ends_where_it_is_none()
{
    const std::span<const std::byte> empty;
    for (const ringmsg::control_messages none : {ringmsg::control_messages(), ringmsg::control_messages(empty)})
        CHECK(none.begin() == none.end() && !none.find(IPPROTO_IP, IP_TTL));
    CHECK(ringmsg::decode_control({}).valid == 0);

    std::vector<std::byte> slice;
    append(slice, IPPROTO_IP, IP_TTL, 64);
    append(slice, IPPROTO_IP, IP_TOS, 1);
    slice[CMSG_SPACE(sizeof(int))] = std::byte{200}; // longer than what is left
    CHECK(std::ranges::distance(ringmsg::control_messages(slice)) == 1);
    CHECK(error_of([&] { ringmsg::decode_control(slice); }).code() == std::errc::bad_message);
    std::error_code code;
    CHECK(ringmsg::decode_control(slice, code).valid == 0 && code == std::errc::bad_message);
}

// A batch without metadata, whose records are decoded when they are asked.
static void a_record_shows_its_messages()
{
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    const int receiver = socket(AF_INET, SOCK_DGRAM, 0), on = 1, limit = 77;
    CHECK(bind(receiver, reinterpret_cast<sockaddr *>(&address), length) == 0);
    CHECK(getsockname(receiver, reinterpret_cast<sockaddr *>(&address), &length) == 0);
    CHECK(setsockopt(receiver, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) == 0);
    ringmsg::ring_config config;
    config.engine = RINGMSG_ENGINE_RECVMMSG;
    ringmsg::ring ring(config);
    ringmsg::pool pool(ring, ringmsg::pool_config(receiver));
    ringmsg::batch batch(1, ringmsg::metadata::none);
    ring.recvmsg_multishot(pool, receiver);
    const int from = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(setsockopt(from, IPPROTO_IP, IP_TTL, &limit, sizeof limit) == 0);
    CHECK(sendto(from, "?", 1, 0, reinterpret_cast<sockaddr *>(&address), sizeof address) == 1);
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    const ringmsg::record record = batch[0];
    CHECK(record.control_messages().find(IPPROTO_IP, IP_TTL)->as<int>() == limit);
    CHECK(ringmsg::decode_control(record.control()).hop_limit == limit);

    socklen_t own = sizeof address;
    CHECK(getsockname(from, reinterpret_cast<sockaddr *>(&address), &own) == 0);
    const ringmsg::path back = ringmsg::path::to(record.source(), record.name().size());
    CHECK(back.family == AF_INET && back.remote_port == ntohs(address.sin_port) && back.remote[0] == 127);
    ::close(receiver);
    ::close(from);
}

static std::string replacement; // what the library describes, where it is not empty

extern "C" int ringmsg_describe_support(char *buffer, std::size_t length)
{
    if (replacement.empty()) {
        void *const real = dlsym(RTLD_NEXT, "ringmsg_describe_support");
        return reinterpret_cast<decltype(&ringmsg_describe_support)>(real)(buffer, length);
    }
    if (length > 0)
        buffer[replacement.copy(buffer, length - 1)] = 0;
    const auto full = static_cast<int>(replacement.size());
    if (full < 10'000)
        replacement += replacement; // the next call has more to say
    return full;
}

static void a_description_is_whole()
{
    CHECK(ringmsg::describe_support().find('\0') == std::string::npos);
    for (const unsigned length : {1u, 1023u, 1024u, 1025u, 10'000u}) {
        replacement = std::string(length - 1, 'x') + "\n";
        const std::string described = ringmsg::describe_support();
        CHECK(!described.empty() && described.back() == '\n' && described.find('\0') == std::string::npos);
        CHECK(described.size() % length == 0);
    }
    replacement.clear();
}

void control()
{
    a_slice_is_a_range_of_messages();
    a_slice_ends_where_it_is_none();
    a_record_shows_its_messages();
    a_description_is_whole();
    std::printf("ok: control\n");
}
