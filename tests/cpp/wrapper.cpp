// Tests every class and function of ringmsg.hpp, on both engines and in modes with and without an
// owner thread.
#include "fixture.hpp"

#include <algorithm>
#include <array>
#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <new>
#include <ranges>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <type_traits>
#include <unistd.h>
#include <vector>

using namespace std::chrono_literals;

template <class T>
constexpr bool is_owner = std::is_nothrow_destructible_v<T> && std::is_nothrow_move_constructible_v<T> &&
                          std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T> &&
                          !std::is_copy_assignable_v<T>;
static_assert(is_owner<ringmsg::ring> && is_owner<ringmsg::pool> && is_owner<ringmsg::batch>);
static_assert(std::ranges::forward_range<ringmsg::batch>);
static_assert(std::is_same_v<decltype(std::declval<ringmsg::record>().payload()),
                             std::span<const std::byte>>);

// Counts allocations, to check that reaping makes none.
static std::atomic<unsigned> allocations;
[[gnu::noinline]] void *operator new(std::size_t size)
{
    allocations++;
    if (void *memory = std::malloc(size))
        return memory;
    throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void *memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

static void a_datagram_is_a_record()
{
    receiver r;
    r.send_text("hello");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    CHECK(r.batch.size() == 1 && !r.batch.empty() && r.batch.capacity() == 16);
    const ringmsg::record record = r.batch[0];
    CHECK(text(record.payload()) == "hello");
    CHECK(record.user_data() == 7 && record.wire_length() == 5 && !record.error());
    CHECK(!record.is_final() && !record.is_truncated() && !record.is_control_truncated());
    CHECK(!record.is_segment() && record.segment_size() == 0 && record.control().empty());
    CHECK(record.name().size() == sizeof(sockaddr_in));
    CHECK(reinterpret_cast<const sockaddr_in *>(record.source())->sin_port == r.source.sin_port);
    CHECK(record.metadata() != nullptr && (record.metadata()->valid & RINGMSG_META_SOURCE) != 0);
    CHECK(record.metadata()->source_port == ntohs(r.source.sin_port));
    CHECK(record.native().result == 5 && &record.native() == r.batch.native().data());
    CHECK(std::ranges::count_if(r.batch, [](ringmsg::record one) { return !one.payload().empty(); }) == 1);

    r.send_text("one ");
    r.send_text("two ");
    r.send_text("three");
    CHECK(collect(r.ring, r.batch, 13) == "one two three");
    r.batch.release();
    CHECK(r.batch.empty() && r.ring.stats().buffers_held == 0 && r.ring.stats().datagrams == 4);
    CHECK(r.ring.request_stats(7).datagrams == 4);
    CHECK(r.ring.info().engine == engine);
}

// What only the types say: it->member, and a linger that no field holds is not taken for AUTO.
static void iterators_and_times_mean_what_they_say()
{
    receiver r;
    r.send_text("hello");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    CHECK(r.batch.begin()->payload().size() == 5 && std::ranges::begin(r.batch)->user_data() == 7);
    std::error_code code;
    ringmsg::batch other(1);
    CHECK(r.ring.reap(other, {.timeout = 0s, .linger = 2h}, code) == 0 && code == std::errc::invalid_argument);
    CHECK(ringmsg::wait_options{}.native().linger_us == RINGMSG_LINGER_AUTO);
    CHECK(ringmsg::wait_options{.linger = std::chrono::microseconds(RINGMSG_LINGER_AUTO_WITHIN | 50u)}.native().linger_us ==
          (RINGMSG_LINGER_AUTO_WITHIN | 50u));
}

// A pool in the caller's memory has its payloads there; memory that is too short is refused.
static void a_pool_can_be_in_the_callers_memory()
{
    alignas(64) static std::array<std::byte, 1 << 16> memory;
    sockets s;
    ringmsg::pool_config layout(s.receiver);
    layout.buffers = 4;
    layout.payload_capacity = 2048;
    ringmsg::ring ring{config()};
    std::error_code code;
    CHECK(ringmsg::pool::in(ring, std::span(memory).first(64), layout, code).native_handle() == nullptr);
    CHECK(code == std::errc::invalid_argument);
    ringmsg::pool pool = ringmsg::pool::in(ring, memory, layout);
    CHECK(pool.memory().data() == memory.data());
    ringmsg::batch batch(4);
    ring.recvmsg_multishot(pool, s.receiver);
    s.send_text("hello");
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1 && text(batch[0].payload()) == "hello");
    CHECK(batch[0].payload().data() > memory.data() && batch[0].payload().data() < memory.data() + memory.size());
    batch.release();
    ring.close(); // before `memory` may go
}

static void metadata_can_be_left_out()
{
    receiver r;
    ringmsg::batch plain(4, ringmsg::metadata::none);
    r.send_text("x");
    CHECK(r.ring.reap(plain, {.timeout = 5s}) == 1);
    CHECK(plain[0].metadata() == nullptr && text(plain[0].payload()) == "x");
    ringmsg::batch kept = plain.keep();
    CHECK(kept[0].metadata() == nullptr && text(kept[0].payload()) == "x");
}

static void control_messages_and_truncation_are_visible()
{
    sockets s;
    ringmsg::socket_enable(s.receiver, RINGMSG_META_DESTINATION);
    ringmsg::ring ring(config());
    ringmsg::pool_config small(s.receiver);
    small.payload_capacity = 8;
    small.name_capacity = 8; // half of a sockaddr_in
    ringmsg::pool pool(ring, small);
    ring.recvmsg_multishot(pool, s.receiver);
    s.send_text("more than eight");
    ringmsg::batch batch(1);
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    CHECK(batch[0].is_truncated() && batch[0].wire_length() == 15 && text(batch[0].payload()) == "more tha");
    CHECK(batch[0].is_name_truncated() && batch[0].name().size() == 8);
    CHECK(batch[0].control().size() == batch[0].native().control_length && !batch[0].control().empty());
    CHECK((batch[0].metadata()->valid & RINGMSG_META_DESTINATION) != 0);
}

static void steering_selects_the_socket_of_a_group()
{
    const sockaddr_in loopback{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
    sockaddr_in group = loopback;
    socklen_t length = sizeof group;
    int fds[2];
    const int on = 1;
    for (int &fd : fds) {
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        CHECK(bind(fd, reinterpret_cast<const sockaddr *>(&group), sizeof group) == 0);
        getsockname(fd, reinterpret_cast<sockaddr *>(&group), &length);
    }
    const int from = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    connect(from, reinterpret_cast<const sockaddr *>(&group), sizeof group);
    ringmsg::socket_steer(fds, ringmsg::steering::by_payload(1, 1));
    for (int shard : {1, 0, 1, 0}) {
        const char payload[2] = {1, static_cast<char>(shard)};
        char received[2];
        CHECK(send(from, payload, sizeof payload, 0) == 2);
        CHECK(recv(fds[1 - shard], received, sizeof received, MSG_DONTWAIT) == -1);
        CHECK(recv(fds[shard], received, sizeof received, MSG_DONTWAIT) == 2);
    }
    ringmsg::socket_steer(fds, ringmsg::steering::by_processor());
    std::error_code code;
    ringmsg::socket_steer(fds, ringmsg::steering::by_quic_connection_id(18, 4), code);
    CHECK(code == std::errc::invalid_argument);
    CHECK(error_of([] { ringmsg::socket_steer({}, ringmsg::steering::by_processor()); }).code().value() == EINVAL);
    close(fds[0]);
    close(fds[1]);
    close(from);
}

static void errors_are_thrown_with_an_explanation()
{
    ringmsg::ring ring(config());
    ringmsg::pool_config odd;
    odd.buffers = 300;
    const std::system_error error = error_of([&] { ringmsg::pool pool(ring, odd); });
    CHECK(error.code() == std::errc::invalid_argument);
    CHECK(error.code().category() == ringmsg::error_category());
    CHECK(std::string(error.what()).find("300") != std::string::npos);
    CHECK(error.code().message() == ringmsg_strerror(EINVAL));
    CHECK(&ringmsg::error_category() == &category_in_other_unit());
    CHECK(error_of([&] { ring.cancel(5); }).code().value() == ENOENT);
    CHECK(error_of([&] { ringmsg::pool_config config(-1); }).code() == std::errc::bad_file_descriptor);
    CHECK(error_of([&] { ringmsg::socket_enable(-1, RINGMSG_META_SOURCE); }).code().value() == EBADF);
    CHECK(error_of([&] { ring.enable(); }).code().value() == EBADFD);
    ringmsg::batch none(0);
    CHECK(error_of([&] { ring.reap(none); }).code() == std::errc::invalid_argument);
}

static void errors_are_stored_in_an_error_code()
{
    std::error_code code;
    ringmsg::ring_config wrong;
    wrong.flags = RINGMSG_SETUP_SQPOLL | RINGMSG_SETUP_DEFER_TASKRUN;
    ringmsg::ring none(wrong, code);
    CHECK(code == std::errc::invalid_argument && none.native_handle() == nullptr);
    ringmsg::ring ring(config(), code);
    CHECK(!code && ring.native_handle() != nullptr);
    ringmsg::pool_config odd;
    odd.buffers = 300;
    ringmsg::pool no_pool(ring, odd, code);
    CHECK(code == std::errc::invalid_argument && no_pool.native_handle() == nullptr);
    CHECK(no_pool.id() == RINGMSG_POOL_NONE && no_pool.memory().empty());
    ringmsg::pool pool(ring, {}, code);
    CHECK(!code && pool.native_handle() != nullptr && pool.memory().size() > 0);
    ring.recvmsg_multishot(pool, -1, {}, code);
    CHECK(code == std::errc::bad_file_descriptor);
    ring.recvmsg_once(pool, -1, {}, code);
    CHECK(code == std::errc::bad_file_descriptor);
    msghdr message{};
    ring.recvmsg(-1, message, {}, code);
    CHECK(code == std::errc::bad_file_descriptor);
    ring.cancel(1, code);
    CHECK(code.value() == ENOENT);
    ring.request_stats(1, code);
    CHECK(code.value() == ENOENT);
    ringmsg::batch batch(1);
    CHECK(ring.reap(batch, {.timeout = 0s}, code) == 0 && !code);
    ring.submit(code);
    CHECK(!code);
    CHECK(ring.fd(code) >= 0 && !code);
    pool.free(code);
    CHECK(!code && pool.native_handle() == nullptr);
}

static void reaping_allocates_nothing()
{
    receiver r;
    CHECK(r.ring.reap(r.batch, {.timeout = 0s}) == 0);
    const unsigned before = allocations;
    for (int i = 0; i < 200; i++) {
        CHECK(send(r.sender, "x", 1, 0) == 1);
        CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    }
    std::error_code code;
    r.ring.cancel(99, code);
    CHECK(code && allocations == before);
}

static void a_refused_reap_leaves_the_batch_as_it_was()
{
    receiver r;
    r.send_text("x");
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    if ((r.ring.info().flags & RINGMSG_SETUP_SINGLE_ISSUER) == 0)
        return;
    std::thread([&] {
        const std::system_error error = error_of([&] { r.ring.reap(r.batch); });
        CHECK(error.code() == std::errc::operation_not_permitted);
        CHECK(std::string(error.what()).find("owner") != std::string::npos);
    }).join();
    CHECK(r.batch.size() == 1 && text(r.batch[0].payload()) == "x" && r.ring.stats().buffers_held == 1);
    r.batch.release();
    CHECK(r.ring.stats().buffers_held == 0);
}

// Makes the kernel refuse every sleep of this process with EPERM, as a sandbox does that was
// installed after the ring was made.
static void refuse_to_sleep()
{
    constexpr std::uint32_t calls[] = {SYS_io_uring_enter, SYS_epoll_pwait, SYS_epoll_pwait2, SYS_ppoll};
    std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const std::uint32_t call : calls) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1));
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// ringmsg_next has released the batch when the kernel refuses to wait. A batch that still named
// these records would have each later reap refused because of them, and hide the reason.
static void a_wait_that_the_kernel_refuses_leaves_an_empty_batch()
{
    const pid_t child = fork();
    if (child == 0) {
        receiver r;
        r.send_text("x");
        CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
        refuse_to_sleep();
        for (int i = 0; i < 3; i++) {
            const std::system_error error = error_of([&] { r.ring.reap(r.batch, {.timeout = 5s}); });
            CHECK(error.code() == std::errc::operation_not_permitted);
            const char *call = engine == RINGMSG_ENGINE_RECVMMSG ? "epoll_pwait or ppoll" : "io_uring_enter";
            CHECK(std::string(error.what()).find(call) != std::string::npos);
            CHECK(r.batch.empty() && r.ring.stats().buffers_held == 0);
        }
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void requests_end_with_a_final_record()
{
    receiver r;
    r.ring.cancel(7);
    CHECK(r.ring.reap(r.batch, {.timeout = 5s}) == 1);
    CHECK(r.batch[0].is_final() && r.batch[0].error() == std::errc::operation_canceled);
    CHECK(r.batch[0].payload().empty() && r.batch[0].source() == nullptr);
}

static void single_shots_receive_one_message()
{
    sockets s;
    ringmsg::ring ring(config());
    ringmsg::pool pool(ring);
    ringmsg::batch batch(4);
    ring.recvmsg_once(pool, s.receiver, {.user_data = 1});
    ring.submit();
    s.send_text("once");
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    CHECK(batch[0].is_final() && text(batch[0].payload()) == "once" && batch[0].native().pool == pool.id());

    char space[16];
    iovec part{space, sizeof space};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    ring.recvmsg(s.receiver, message, {.user_data = 2});
    ring.submit();
    s.send_text("mine");
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    CHECK(batch[0].user_data() == 2 && batch[0].native().result == 4 && std::string(space, 4) == "mine");
    CHECK(batch[0].payload().empty());
}

static void descriptors_are_handed_over()
{
    int pair[2], pipes[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair) == 0 && pipe(pipes) == 0);
    ringmsg::ring ring(config());
    ringmsg::pool pool(ring, ringmsg::pool_config(pair[0]));
    ring.recvmsg_multishot(pool, pair[0]);
    union {
        cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control{};
    iovec part{pair, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = &control;
    message.msg_controllen = sizeof control.space;
    *CMSG_FIRSTHDR(&message) = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    std::copy_n(reinterpret_cast<char *>(&pipes[0]), sizeof(int),
                reinterpret_cast<char *>(CMSG_DATA(CMSG_FIRSTHDR(&message))));
    CHECK(sendmsg(pair[1], &message, 0) == 1);
    ringmsg::batch batch(1);
    CHECK(ring.reap(batch, {.timeout = 5s}) == 1);
    int fds[2] = {-1, -1};
    CHECK(ring.take_fds(batch[0], fds) == 1 && fds[0] >= 0);
    std::error_code code;
    CHECK(ring.take_fds(batch[0], fds, code) == 0 && !code);
    char byte = 0;
    CHECK(write(pipes[1], "p", 1) == 1 && read(fds[0], &byte, 1) == 1 && byte == 'p');
    for (int fd : {pair[0], pair[1], pipes[0], pipes[1], fds[0]})
        ::close(fd);
}

int main()
{
    struct choice {
        std::uint32_t engine, flags;
    };
    constexpr choice choices[] = {{RINGMSG_ENGINE_RECVMMSG, 0},
                                  {RINGMSG_ENGINE_IO_URING, 0},
                                  {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_COOP_TASKRUN},
                                  {RINGMSG_ENGINE_IO_URING, RINGMSG_SETUP_DEFER_TASKRUN}};
    const ringmsg_support support = ringmsg::query_support();
    CHECK(!ringmsg::describe_support().empty());
    sending();
    control();
    for (const choice &chosen : choices) {
        engine = chosen.engine;
        mode = chosen.flags;
        if ((support.engines & 1u << engine) == 0) {
            std::printf("(skipped: engine %u is unavailable)\n", engine);
            continue;
        }
        const auto start = std::chrono::steady_clock::now();
        a_datagram_is_a_record();
        iterators_and_times_mean_what_they_say();
        a_pool_can_be_in_the_callers_memory();
        metadata_can_be_left_out();
        control_messages_and_truncation_are_visible();
        steering_selects_the_socket_of_a_group();
        errors_are_thrown_with_an_explanation();
        errors_are_stored_in_an_error_code();
        reaping_allocates_nothing();
        a_refused_reap_leaves_the_batch_as_it_was();
        a_wait_that_the_kernel_refuses_leaves_an_empty_batch();
        requests_end_with_a_final_record();
        single_shots_receive_one_message();
        descriptors_are_handed_over();
        lifetimes();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        std::printf("ok: engine %u, mode flags 0x%x, %.2f s\n", engine, mode, elapsed.count());
    }
}
