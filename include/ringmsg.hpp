// SPDX-License-Identifier: MIT OR Apache-2.0
//
// ringmsg for C++20: ringmsg.h with owning types, ranges and exceptions. Header only.
//
//     ringmsg::ring ring;
//     ringmsg::pool pool(ring, ringmsg::pool_config(fd));
//     ringmsg::batch batch(256);
//     ring.recvmsg_multishot(pool, fd);
//     for (;;) {
//         ring.reap(batch);
//         for (ringmsg::record datagram : batch)
//             use(datagram.payload());
//     }
//
// A sender answers from the address that was asked, with as many datagrams as one call takes:
//
//     ringmsg::sender sender(fd);
//     std::vector<ringmsg::path> paths;           // reply(record) of each datagram
//     std::vector<ringmsg::message> answers;      // payload, and a pointer to its path
//     sender.send(answers);
//
// ringmsg.h documents the model, the contract of each function, and the rules on threads. This
// header adds the following.
//
// Errors. Functions that can fail take an `on_error` as their last argument. By default they throw
// std::system_error, whose what() is the library's explanation. With a std::error_code they store
// the error in it and do not throw. The codes are of ringmsg::error_category() and compare equal to
// std::errc. No destructor throws.
//
// Ownership. A `batch` owns the records that reap() has put into it. It releases them when it is
// reaped into again, released, or destroyed, in any thread. It may outlive its ring: it becomes
// empty when the ring is closed. Views (records, spans) are valid until then, so do not close a
// ring while another thread reads its payloads.
//
// Closing. close(), from any thread, makes a sleeping reap() fail with operation_canceled, and
// waits for calls in progress. ~ring() does the same, but like every destructor it must not run
// while another thread uses the object: close(), join, destroy.
#ifndef RINGMSG_HPP
#define RINGMSG_HPP

#if !defined(__cplusplus) || \
    (__cplusplus < 202002L && (!defined(_MSVC_LANG) || _MSVC_LANG < 202002L))
#error "ringmsg.hpp needs C++20: compile with -std=c++20, or use ringmsg.h"
#else

#include <algorithm>
#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <netinet/in.h>
#include <new>
#include <optional>
#include <ranges>
#include <span>
#include <string>
#include <sys/syscall.h>
#include <system_error>
#include <type_traits>
#include <unistd.h>
#include <utility>

#include "ringmsg.h"

namespace ringmsg {

class ring;

/// The category of the library's errors: errno values with the library's texts.
inline const std::error_category &error_category() noexcept
{
    class category final : public std::error_category {
        const char *name() const noexcept override { return "ringmsg"; }
        std::string message(int error) const override { return ringmsg_strerror(error); }
        std::error_condition default_error_condition(int error) const noexcept override
        {
            return {error, std::generic_category()};
        }
    };
    // It is never destroyed: destructors of static objects, and threads that run on after main(),
    // still hold error codes that refer to it.
    alignas(category) static std::byte storage[sizeof(category)];
    static const category *const instance = ::new (static_cast<void *>(storage)) category;
    return *instance;
}

/// The explanation of the calling thread's last failure.
inline std::string last_error()
{
    std::string sentence(ringmsg_last_error(nullptr, 0), '\0');
    ringmsg_last_error(sentence.data(), sentence.size() + 1);
    return sentence;
}

/// How a function reports an error: by an exception, or in a std::error_code.
class on_error {
public:
    on_error() noexcept = default;
    on_error(std::error_code &code) noexcept : code_(&code) {}

    /// Reports the result of a C function and returns it. With an error code it does not throw.
    /// `sentence` explains an error that this header found, of which last_error() knows nothing.
    int operator()(int result, const char *sentence = nullptr) const
    {
        const std::error_code code(result < 0 ? -result : 0, error_category());
        if (code_ != nullptr)
            *code_ = code;
        else if (code)
            raise(code, sentence);
        return result;
    }

private:
    [[noreturn]] static void raise(std::error_code code, const char *sentence)
    {
        if (sentence == nullptr && code == std::errc::operation_canceled)
            sentence = "the ring is closed";
        const std::string explanation = sentence != nullptr ? std::string(sentence) : last_error();
#ifdef __cpp_exceptions
        throw std::system_error(code, explanation);
#else
        std::fprintf(stderr, "ringmsg: %s (%s)\n", explanation.c_str(), code.message().c_str());
        std::abort();
#endif
    }

    std::error_code *code_ = nullptr;
};

namespace detail {

/// The state that a ring shares with its pools and batches, which may outlive it: the C handle, and
/// a word with the number of calls in progress and a flag that the ring is closed.
class core {
public:
    core() noexcept = default;
    core(const core &) = delete;
    core &operator=(const core &) = delete;

    int open(const ringmsg_ring_config &config) noexcept { return ringmsg_ring_new(&config, &handle_); }
    ringmsg_ring *handle() const noexcept { return handle_; }
    bool is_closed() const noexcept { return (state_.load(std::memory_order_acquire) & closed_flag) != 0; }

    /// Calls a C function with the handle, unless the ring is closed.
    template <class Function> int call(Function function) noexcept
    {
        int result = -ECANCELED;
        if ((state_.fetch_add(1, std::memory_order_acquire) & closed_flag) == 0)
            result = function(handle_);
        if ((state_.fetch_sub(1, std::memory_order_release) & closed_flag) != 0)
            state_.notify_all();
        return result;
    }

    /// Frees the ring when no call is in progress. A wake ends only one reap, and another may be
    /// about to begin. So each time a call has returned this sends another wake, after reading the
    /// number of calls that it is for.
    int close() noexcept
    {
        std::uint32_t seen = state_.fetch_or(closed_flag, std::memory_order_acq_rel);
        if ((seen & closed_flag) != 0)
            return 0;
        for (seen |= closed_flag; seen != closed_flag; seen = state_.load(std::memory_order_acquire)) {
            if (ringmsg_wake(handle_) == -EPERM)
                break; // in a forked child no other thread exists
            state_.wait(seen, std::memory_order_acquire);
        }
        return ringmsg_ring_free(handle_);
    }

private:
    static constexpr std::uint32_t closed_flag = 1u << 31;
    ringmsg_ring *handle_ = nullptr;
    std::atomic<std::uint32_t> state_ = 0;
};

using shared_core = std::shared_ptr<core>;

/// Calls a C function for an object that may have been moved from: NULL, which C refuses.
template <class Function> int call(const shared_core &core, Function function) noexcept
{
    return core ? core->call(function) : function(static_cast<ringmsg_ring *>(nullptr));
}

} // namespace detail

/// An array of structures of the C interface, as std::span, or of the types below that derive from
/// them without adding a member: a std::vector<path> is an array_of<const ringmsg_path>.
template <class Native> class array_of : public std::span<Native> {
public:
    array_of() noexcept = default;
    array_of(Native *items, std::size_t count) noexcept : std::span<Native>(items, count) {}
    template <class Range>
        requires(std::ranges::contiguous_range<Range> && std::ranges::sized_range<Range> &&
                 std::is_convertible_v<std::remove_reference_t<std::ranges::range_reference_t<Range>> *, Native *> &&
                 sizeof(std::ranges::range_value_t<Range>) == sizeof(Native))
    array_of(Range &&items) : array_of(std::ranges::data(items), std::ranges::size(items))
    {
    }
};

/// Returns what this kernel and this sandbox offer.
inline ringmsg_support query_support(on_error fail = {})
{
    ringmsg_support support{};
    support.size = sizeof support;
    fail(ringmsg_query_support(&support));
    return support;
}

/// Describes what this kernel and this sandbox offer, as text.
inline std::string describe_support()
{
    std::string text(1024, '\0');
    for (;;) {
        const auto length = static_cast<std::size_t>(std::max(ringmsg_describe_support(text.data(), text.size()), 0));
        const bool fits = length < text.size();
        text.resize(fits ? length : length + 1);
        if (fits)
            return text;
    }
}

/// Makes the kernel send `metadata` (RINGMSG_META_*) with every datagram.
inline void socket_enable(int fd, std::uint32_t metadata, on_error fail = {})
{
    fail(ringmsg_socket_enable(fd, metadata));
}

/// Turns off exactly the socket options of `metadata`, for every process that shares the socket.
/// GRO only with an empty receive queue: see ringmsg_socket_disable().
inline void socket_disable(int fd, std::uint32_t metadata, on_error fail = {})
{
    fail(ringmsg_socket_disable(fd, metadata));
}

/// How socket_steer() selects a socket.
struct steering : ringmsg_steering {
    /// By the processor that handles the datagram's arrival.
    static steering by_processor() noexcept { return {RINGMSG_STEER_CPU, 0, 0}; }

    /// By the big-endian number of `bytes` bytes (1 to 4) at offset `at` of the payload.
    static steering by_payload(std::uint32_t at, std::uint32_t bytes) noexcept
    {
        return {RINGMSG_STEER_PAYLOAD, at, bytes};
    }

    /// By the same number in the destination connection id of QUIC packets.
    static steering by_quic_connection_id(std::uint32_t at, std::uint32_t bytes) noexcept
    {
        return {RINGMSG_STEER_QUIC, at, bytes};
    }

private:
    steering(std::uint32_t by_, std::uint32_t offset_, std::uint32_t length_) noexcept
        : ringmsg_steering{sizeof(ringmsg_steering), by_, offset_, length_, {}}
    {
    }
};

/// Selects which socket of a SO_REUSEPORT group gets a datagram. `fds` is the whole group, in the
/// order of bind(2): see ringmsg_socket_steer().
inline void socket_steer(std::span<const int> fds, const ringmsg_steering &how, on_error fail = {})
{
    fail(ringmsg_socket_steer(fds.data(), static_cast<std::uint32_t>(fds.size()), &how));
}

/// The configuration of a ring, with the defaults.
struct ring_config : ringmsg_ring_config {
    ring_config() noexcept : ringmsg_ring_config{} { ringmsg_ring_config_init(this); }
};

/// The configuration of a pool, with the defaults, or sized for a socket's options.
struct pool_config : ringmsg_pool_config {
    pool_config() noexcept : ringmsg_pool_config{} { ringmsg_pool_config_init(this); }
    explicit pool_config(int fd, on_error fail = {}) : pool_config()
    {
        fail(ringmsg_pool_config_for_socket(this, fd));
    }
};

/// The options of a request.
struct receive_options {
    std::uint64_t user_data = 0; ///< returned in every record
    std::uint32_t flags = 0;     ///< RINGMSG_RECV_*
    int msg_flags = 0;           ///< MSG_*
};

/// The options of a reap. A signal does not end it: the handler runs, and the reap continues with
/// the time left.
struct wait_options {
    static constexpr std::chrono::microseconds linger_auto{RINGMSG_LINGER_AUTO};

    std::chrono::nanoseconds timeout{-1};             ///< negative: no limit; 0: do not block
    std::chrono::microseconds linger = linger_auto;   ///< waits up to this long for a larger batch
    std::chrono::microseconds spin{0};                ///< polls this long before it sleeps

    ringmsg_wait native() const noexcept
    {
        // A time that the field cannot hold becomes one that the library refuses. UINT32_MAX would
        // mean RINGMSG_LINGER_AUTO.
        const auto count = [](std::chrono::microseconds us) {
            return us.count() > UINT32_MAX ? static_cast<std::uint32_t>(INT32_MAX)
                                           : static_cast<std::uint32_t>(std::max<std::int64_t>(us.count(), 0));
        };
        return {sizeof(ringmsg_wait), count(linger), timeout.count(), count(spin), 0};
    }
};

/// One control message of a record. A view, valid as long as the record's bytes.
struct control_message {
    int level = 0, type = 0; ///< cmsg_level and cmsg_type: SOL_SOCKET and SCM_TIMESTAMPNS, ...
    std::span<const std::byte> data;

    bool is(int level_, int type_) const noexcept { return level == level_ && type == type_; }
    /// The data as a structure of the kernel's. Nothing if it is shorter: the kernel cut it.
    template <class T>
        requires std::is_trivially_copyable_v<T>
    std::optional<T> as() const noexcept
    {
        if (data.size() < sizeof(T))
            return {};
        T value;
        std::memcpy(&value, data.data(), sizeof value);
        return value;
    }
};

/// The control messages in a record's control(), or in the msg_control of a msghdr, as a range. It
/// ends where the bytes are no control message; decode_control() reports that as an error.
class control_messages {
public:
    class iterator;

    control_messages() noexcept = default;
    explicit control_messages(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

    iterator begin() const noexcept;
    std::default_sentinel_t end() const noexcept { return {}; }
    /// The first message of this level and type, if there is one.
    std::optional<control_message> find(int level, int type) const noexcept;

private:
    std::span<const std::byte> bytes_;
};

/// Iterates over control messages.
class control_messages::iterator {
public:
    using iterator_concept = std::forward_iterator_tag;
    using value_type = control_message;
    using difference_type = std::ptrdiff_t;

    iterator() noexcept = default;
    control_message operator*() const noexcept
    {
        return {at_.level, at_.type, bytes_.subspan(at_.offset, at_.length)};
    }
    iterator &operator++() noexcept
    {
        is_end_ = ringmsg_control_next(bytes_.data(), bytes_.size(), &at_) != 1;
        return *this;
    }
    iterator operator++(int) noexcept
    {
        iterator before = *this;
        ++*this;
        return before;
    }
    bool operator==(const iterator &other) const noexcept
    {
        return is_end_ == other.is_end_ && (is_end_ || at_.offset == other.at_.offset);
    }
    bool operator==(std::default_sentinel_t) const noexcept { return is_end_; }

private:
    friend class control_messages;
    explicit iterator(std::span<const std::byte> bytes) noexcept : bytes_(bytes) { ++*this; }

    std::span<const std::byte> bytes_;
    ringmsg_cmsg at_{};
    bool is_end_ = true;
};

inline control_messages::iterator control_messages::begin() const noexcept { return iterator(bytes_); }

inline std::optional<control_message> control_messages::find(int level, int type) const noexcept
{
    for (const control_message message : *this)
        if (message.is(level, type))
            return message;
    return {};
}

/// Decodes control messages, as reap() does for the metadata of a batch: for one without metadata,
/// and for ring::recvmsg(). The source address is not among them. bad_message if they are
/// malformed.
inline ringmsg_metadata decode_control(std::span<const std::byte> control, on_error fail = {})
{
    ringmsg_metadata metadata{};
    fail(ringmsg_control_decode(control.data(), control.size(), &metadata));
    return metadata;
}

/// A view of one record: a datagram, train, chunk or error. Valid as long as its batch holds it.
class record {
public:
    /// A view of a C record whose offsets count from `base`: of receive(), or of a detached record.
    explicit record(const ringmsg_record &native, const ringmsg_metadata *metadata, const std::byte *base) noexcept
        : record(&native, metadata, base)
    {
    }

    std::span<const std::byte> payload() const noexcept
    {
        return slice(raw_->payload_offset, raw_->payload_length);
    }
    std::span<const std::byte> control() const noexcept
    {
        return slice(raw_->control_offset, raw_->control_length);
    }
    /// The same as a range of messages, for what metadata() does not have.
    ringmsg::control_messages control_messages() const noexcept
    {
        return ringmsg::control_messages(control());
    }
    /// The source address as bytes, and as sendto(2) takes it; nullptr if the kernel gave none.
    std::span<const std::byte> name() const noexcept { return slice(raw_->name_offset, raw_->name_length); }
    const sockaddr *source() const noexcept { return reinterpret_cast<const sockaddr *>(name().data()); }

    std::uint64_t user_data() const noexcept { return raw_->user_data; }
    /// The error of the request or socket, if the record reports one.
    std::error_code error() const noexcept
    {
        return {raw_->result < 0 ? -raw_->result : 0, error_category()};
    }
    bool is_final() const noexcept { return has_flag(RINGMSG_RECORD_FINAL); }
    /// It ends a ring::writable(): the socket takes data again.
    bool is_writable() const noexcept { return has_flag(RINGMSG_RECORD_WRITABLE); }
    bool is_truncated() const noexcept { return has_flag(RINGMSG_RECORD_TRUNCATED); }
    bool is_control_truncated() const noexcept { return has_flag(RINGMSG_RECORD_CONTROL_TRUNCATED); }
    bool is_name_truncated() const noexcept { return has_flag(RINGMSG_RECORD_NAME_TRUNCATED); }
    bool is_segment() const noexcept { return has_flag(RINGMSG_RECORD_SEGMENT); }
    std::uint32_t segment_size() const noexcept { return raw_->segment_size; }
    std::uint32_t wire_length() const noexcept { return raw_->wire_length; }

    /// The decoded metadata; nullptr in a batch without metadata.
    const ringmsg_metadata *metadata() const noexcept { return metadata_; }
    /// The record of the C interface.
    const ringmsg_record &native() const noexcept { return *raw_; }

private:
    friend class batch;
    record(const ringmsg_record *raw, const ringmsg_metadata *metadata, const std::byte *base) noexcept
        : raw_(raw), metadata_(metadata), base_(base)
    {
    }

    bool has_flag(std::uint32_t flag) const noexcept { return (raw_->flags & flag) != 0; }
    /// A slice of the record's buffer. Records of ring::recvmsg() have no pool: their bytes are in
    /// the caller's msghdr.
    std::span<const std::byte> slice(std::uint32_t offset, std::uint32_t length) const noexcept
    {
        if (base_ == nullptr || length == 0)
            return {};
        return {base_ + offset, length};
    }

    const ringmsg_record *raw_;
    const ringmsg_metadata *metadata_;
    const std::byte *base_;
};

/// Takes the messages that a socket holds now, without a ring, into a slab of the caller that is
/// divided as `layout` says: see ringmsg_receive(). `metadata` is empty, or as long as `records`.
/// Returns the number of records, whose bytes record(records[i], &metadata[i], slab.data()) shows:
/// 0 if the socket holds nothing, which is no error.
inline std::uint32_t receive(int fd, std::span<std::byte> slab, const ringmsg_pool_config &layout,
                             std::span<ringmsg_record> records, std::span<ringmsg_metadata> metadata = {},
                             std::uint32_t flags = 0, on_error fail = {})
{
    if (!metadata.empty() && metadata.size() != records.size()) {
        fail(-EINVAL, "receive: records and metadata differ in length");
        return 0;
    }
    const auto capacity = static_cast<std::uint32_t>(std::min<std::size_t>(records.size(), UINT32_MAX));
    const int count = ringmsg_receive(fd, slab.data(), slab.size(), &layout, records.data(),
                                      metadata.empty() ? nullptr : metadata.data(), capacity, flags);
    return static_cast<std::uint32_t>(std::max(fail(count == -EAGAIN ? 0 : count), 0));
}

/// Whether reap() decodes control messages and source address.
enum class metadata { decoded, none };

/// Up to `capacity` records of one reap. Move-only. Allocates only in its constructor.
class batch {
public:
    class iterator;

    explicit batch(std::uint32_t capacity, ringmsg::metadata metadata = ringmsg::metadata::decoded)
        : records_(new ringmsg_record[capacity]),
          metadata_(metadata == ringmsg::metadata::decoded ? new ringmsg_metadata[capacity] : nullptr),
          bases_(new const std::byte *[capacity]), capacity_(capacity)
    {
    }
    batch(batch &&other) noexcept
        : core_(std::move(other.core_)), records_(std::move(other.records_)),
          metadata_(std::move(other.metadata_)), bases_(std::move(other.bases_)),
          capacity_(std::exchange(other.capacity_, 0)), count_(std::exchange(other.count_, 0))
    {
    }
    batch &operator=(batch &&other) noexcept
    {
        batch moved(std::move(other));
        std::swap(core_, moved.core_);
        std::swap(records_, moved.records_);
        std::swap(metadata_, moved.metadata_);
        std::swap(bases_, moved.bases_);
        std::swap(capacity_, moved.capacity_);
        std::swap(count_, moved.count_);
        return *this;
    }
    ~batch() { release(); }

    std::uint32_t capacity() const noexcept { return capacity_; }
    /// 0 if the ring is closed, because its memory is unmapped.
    std::uint32_t size() const noexcept { return core_ && !core_->is_closed() ? count_ : 0; }
    bool empty() const noexcept { return size() == 0; }
    record operator[](std::uint32_t index) const noexcept
    {
        return {&records_[index], metadata_ ? &metadata_[index] : nullptr, bases_[index]};
    }
    iterator begin() const noexcept;
    iterator end() const noexcept;

    /// Returns the buffers now.
    void release() noexcept
    {
        if (const std::uint32_t count = std::exchange(count_, 0); count > 0)
            core_->call([&](ringmsg_ring *ring) { return ringmsg_release(ring, records_.get(), count); });
    }

    /// Moves the records into a batch of their own, to hold them for longer. This batch becomes
    /// empty and keeps its capacity. Allocates the new batch.
    [[nodiscard]] batch keep()
    {
        const std::uint32_t count = size();
        batch kept(count, metadata_ ? ringmsg::metadata::decoded : ringmsg::metadata::none);
        for (std::uint32_t i = 0; i < count; i++) {
            kept.records_[i] = records_[i];
            kept.bases_[i] = bases_[i];
            if (metadata_)
                kept.metadata_[i] = metadata_[i];
        }
        kept.core_ = core_;
        kept.count_ = std::exchange(count_, 0);
        return kept;
    }

    /// Gives up the records without releasing them: the caller must pass them to ring::release().
    /// The array is valid until this batch is reaped into or destroyed.
    [[nodiscard]] std::span<const ringmsg_record> detach() noexcept
    {
        const std::uint32_t count = size();
        count_ = 0;
        return {records_.get(), count};
    }

    /// The records of the C interface.
    std::span<const ringmsg_record> native() const noexcept { return {records_.get(), size()}; }

private:
    friend class ring;

    /// Stores where the records of a reap have their bytes.
    void adopt(ringmsg_ring *ring, std::uint32_t count) noexcept
    {
        std::uint16_t pool = RINGMSG_POOL_NONE;
        const std::byte *base = nullptr;
        for (std::uint32_t i = 0; i < count; i++) {
            if (records_[i].pool != pool) {
                pool = records_[i].pool;
                base = reinterpret_cast<const std::byte *>(ringmsg_pool_base(ringmsg_ring_pool(ring, pool)));
            }
            bases_[i] = base;
        }
        count_ = count;
    }

    detail::shared_core core_;
    std::unique_ptr<ringmsg_record[]> records_;
    std::unique_ptr<ringmsg_metadata[]> metadata_;
    std::unique_ptr<const std::byte *[]> bases_; ///< the base of each record's offsets
    std::uint32_t capacity_ = 0, count_ = 0;
};

/// Iterates over a batch.
class batch::iterator {
public:
    using value_type = record;
    using difference_type = std::ptrdiff_t;

    /// What operator-> returns: a record is made when it is read.
    class arrow {
    public:
        const record *operator->() const noexcept { return &record_; }

    private:
        friend class iterator;
        explicit arrow(const record &record) noexcept : record_(record) {}
        record record_;
    };

    iterator() noexcept = default;
    record operator*() const noexcept { return (*batch_)[index_]; }
    arrow operator->() const noexcept { return arrow(**this); }
    iterator &operator++() noexcept
    {
        ++index_;
        return *this;
    }
    iterator operator++(int) noexcept { return {batch_, index_++}; }
    bool operator==(const iterator &) const noexcept = default;

private:
    friend class batch;
    iterator(const batch *batch, std::uint32_t index) noexcept : batch_(batch), index_(index) {}

    const batch *batch_ = nullptr;
    std::uint32_t index_ = 0;
};

inline batch::iterator batch::begin() const noexcept { return {this, 0}; }
inline batch::iterator batch::end() const noexcept { return {this, size()}; }

/// Buffers of a ring. The destructor frees the memory if no request and no record uses it and, with
/// a bound ring, if it runs in the owner's thread. Otherwise the memory is freed with the ring.
class pool {
public:
    explicit pool(ring &ring, const pool_config &config = {}, on_error fail = {});
    /// A pool in the caller's memory: see ringmsg_pool_new_in(). The memory must stay until free()
    /// has succeeded or the ring is closed.
    [[nodiscard]] static pool in(ring &ring, std::span<std::byte> memory, const pool_config &config,
                                 on_error fail = {});
    pool(pool &&other) noexcept
        : core_(std::move(other.core_)), handle_(std::exchange(other.handle_, nullptr))
    {
    }
    pool &operator=(pool &&other) noexcept
    {
        pool moved(std::move(other));
        core_.swap(moved.core_);
        std::swap(handle_, moved.handle_);
        return *this;
    }
    ~pool()
    {
        if (handle_ != nullptr)
            unmap();
    }

    /// Unmaps the pool now; device_or_resource_busy while a request or a record uses it.
    void free(on_error fail = {}) { fail(unmap()); }

    /// The pool's id in records.
    std::uint16_t id() const noexcept
    {
        std::uint16_t id = RINGMSG_POOL_NONE;
        detail::call(core_, [&](ringmsg_ring *) { return id = ringmsg_pool_id(handle_); });
        return id;
    }
    /// The whole mapping; empty when it is unmapped. Only the bytes of held records are stable.
    std::span<const std::byte> memory() const noexcept
    {
        std::span<const std::byte> memory;
        detail::call(core_, [&](ringmsg_ring *) {
            memory = {reinterpret_cast<const std::byte *>(ringmsg_pool_base(handle_)),
                      ringmsg_pool_size(handle_)};
            return 0;
        });
        return memory;
    }
    ringmsg_pool *native_handle() const noexcept { return handle_; }

private:
    explicit pool(const detail::shared_core &core) noexcept : core_(core) {}
    int unmap() noexcept
    {
        const int result = detail::call(core_, [&](ringmsg_ring *) { return ringmsg_pool_free(handle_); });
        if (result == 0)
            handle_ = nullptr;
        return result;
    }

    detail::shared_core core_;
    ringmsg_pool *handle_ = nullptr;
};

/// A ring with its pools and requests: an io_uring, or an epoll instance.
class ring {
public:
    explicit ring(const ring_config &config = {}, on_error fail = {})
        : core_(std::make_shared<detail::core>())
    {
        if (fail(core_->open(config)) < 0)
            core_.reset();
    }
    ring(ring &&) noexcept = default;
    ring &operator=(ring &&other) noexcept
    {
        ring moved(std::move(other));
        core_.swap(moved.core_);
        return *this;
    }
    ~ring() { close_core(); }

    /// Ends every request and invalidates every record; see the top of this file. A second call
    /// does nothing.
    void close(on_error fail = {}) { fail(close_core()); }

    /// Starts a ring made with RINGMSG_SETUP_R_DISABLED; the calling thread becomes its owner.
    void enable(on_error fail = {}) { fail(call(ringmsg_ring_enable)); }

    /// Receives until cancelled, into the buffers of `pool`.
    void recvmsg_multishot(const pool &pool, int fd, const receive_options &how = {}, on_error fail = {})
    {
        fail(call(ringmsg_recvmsg_multishot, pool.native_handle(), fd, how.msg_flags, how.flags,
                  how.user_data));
    }

    /// Receives one message into a buffer of `pool`.
    void recvmsg_once(const pool &pool, int fd, const receive_options &how = {}, on_error fail = {})
    {
        fail(call(ringmsg_recvmsg_once, pool.native_handle(), fd, how.msg_flags, how.flags, how.user_data));
    }

    /// Receives one message into the caller's own msghdr, which must stay valid and in place until
    /// its record has been reaped or the ring is closed.
    void recvmsg(int fd, msghdr &message, const receive_options &how = {}, on_error fail = {})
    {
        fail(call(ringmsg_recvmsg, fd, &message, how.msg_flags, how.flags, how.user_data));
    }

    /// Waits until the socket takes data again: one final record with RINGMSG_RECORD_WRITABLE, at
    /// once if it does already. For a sender that left messages with -EAGAIN.
    void writable(int fd, std::uint64_t user_data, on_error fail = {})
    {
        fail(call(ringmsg_writable, fd, user_data));
    }

    /// Ends every request with this user_data. Each ends with a final record.
    void cancel(std::uint64_t user_data, on_error fail = {}) { fail(call(ringmsg_cancel, user_data)); }

    /// Submits queued single-shots to the kernel now. A reap does so, too.
    void submit(on_error fail = {}) { fail(call(ringmsg_submit)); }

    /// Makes the current or next reap return. Any thread; async-signal-safe.
    void wake() const noexcept { call(ringmsg_wake); }

    /// Releases the records that `batch` holds, and fills it again. Returns the number of records:
    /// 0 after the timeout or a wake. If the call is refused, the batch is unchanged; if the kernel
    /// does not let the thread wait, or has dropped completions, it is empty.
    std::uint32_t reap(batch &batch, const wait_options &wait = {}, on_error fail = {})
    {
        return static_cast<std::uint32_t>(std::max(fail(refill(batch, wait)), 0));
    }

    /// Releases records that were detached from a batch: all of them, or none on an error.
    void release(std::span<const ringmsg_record> records, on_error fail = {})
    {
        fail(call(ringmsg_release, records.data(), count(records)));
    }

    /// Moves descriptors that arrived with `record` to `fds`, as many as fit, and returns how many.
    /// The caller owns them.
    std::uint32_t take_fds(const record &record, std::span<int> fds, on_error fail = {})
    {
        const int taken = call(ringmsg_take_fds, &record.native(), fds.data(), count(fds));
        return static_cast<std::uint32_t>(std::max(fail(taken), 0));
    }

    /// The granted mode, engine and owner.
    struct ringmsg_ring_info info(on_error fail = {}) const
    {
        struct ringmsg_ring_info info {};
        info.size = sizeof info;
        fail(call(::ringmsg_ring_info, &info));
        return info;
    }

    /// The statistics of the ring, and of the requests with this user_data.
    ringmsg_stats stats(on_error fail = {}) const
    {
        ringmsg_stats stats{};
        stats.size = sizeof stats;
        fail(call(ringmsg_ring_stats, &stats));
        return stats;
    }
    ringmsg_stats request_stats(std::uint64_t user_data, on_error fail = {}) const
    {
        ringmsg_stats stats{};
        stats.size = sizeof stats;
        fail(call(ringmsg_request_stats, user_data, &stats));
        return stats;
    }

    /// A descriptor for poll and epoll, readable when a reap would return something. The ring owns
    /// it.
    int fd(on_error fail = {}) const { return fail(call(ringmsg_ring_fd)); }

    /// The handle for C functions; nullptr when the ring is closed.
    ringmsg_ring *native_handle() const noexcept
    {
        return core_ && !core_->is_closed() ? core_->handle() : nullptr;
    }

private:
    friend class pool;

    template <class Function, class... Arguments>
    int call(Function function, Arguments... arguments) const noexcept
    {
        return detail::call(core_, [&](ringmsg_ring *handle) { return function(handle, arguments...); });
    }
    /// The number of items for the C interface. The library refuses a number that is too large.
    template <class T> static std::uint32_t count(std::span<T> items) noexcept
    {
        return static_cast<std::uint32_t>(std::min<std::size_t>(items.size(), UINT32_MAX));
    }
    int close_core() noexcept
    {
        const detail::shared_core core = core_;
        return core ? core->close() : 0;
    }
    int refill(batch &batch, const wait_options &wait) noexcept;
    /// Whether a reap that failed was refused, so that nothing was done. Otherwise the kernel did
    /// not let the thread wait, or has dropped completions, after `done` was released. (Asks
    /// nothing that would replace the explanation of the failure.)
    static bool was_refused(ringmsg_ring *ring, int error) noexcept
    {
        struct ringmsg_ring_info info {};
        info.size = sizeof info;
        switch (-error) {
        case EPERM: // another thread's ring, or the kernel's
            return ::ringmsg_ring_info(ring, &info) < 0 ||
                   (info.owner_thread != 0 && info.owner_thread != ::syscall(SYS_gettid));
        case EINVAL:
        case EBUSY:
        case EBADFD:
        case EOWNERDEAD:
        case ENOTRECOVERABLE:
            return true;
        default:
            return false;
        }
    }

    detail::shared_core core_;
};

inline pool::pool(ring &ring, const pool_config &config, on_error fail) : core_(ring.core_)
{
    fail(ring.call(ringmsg_pool_new, &config, &handle_));
}

inline pool pool::in(ring &ring, std::span<std::byte> memory, const pool_config &config, on_error fail)
{
    pool made(ring.core_);
    fail(ring.call(ringmsg_pool_new_in, &config, memory.data(), memory.size(), &made.handle_));
    return made;
}

inline int ring::refill(batch &batch, const wait_options &options) noexcept
{
    using clock = std::chrono::steady_clock;
    const bool limited = options.timeout.count() > 0;
    const clock::time_point start = limited ? clock::now() : clock::time_point{};
    ringmsg_wait wait = options.native();
    if (batch.core_ != core_) {
        batch.release();
        batch.core_ = core_;
    }
    const int outcome = detail::call(core_, [&](ringmsg_ring *handle) {
        ringmsg_record *const records = batch.records_.get();
        ringmsg_metadata *const metadata = batch.metadata_.get();
        std::uint32_t done = std::exchange(batch.count_, 0);
        int result = ringmsg_next(handle, records, done, records, metadata, batch.capacity_, &wait);
        while (result == -EINTR) {
            done = 0;
            if (limited)
                wait.timeout_ns =
                    std::max<std::int64_t>((options.timeout - (clock::now() - start)).count(), 0);
            result = ringmsg_reap(handle, records, metadata, batch.capacity_, &wait);
        }
        if (result > 0)
            batch.adopt(handle, static_cast<std::uint32_t>(result));
        if (result < 0 && was_refused(handle, result))
            batch.count_ = done;
        return result;
    });
    // If the ring was closed meanwhile, its records are invalid.
    return core_ && core_->is_closed() ? -ECANCELED : outcome;
}

/// Where a datagram goes, and how it leaves. Paths are compared as a whole, so unused fields are 0.
struct path : ringmsg_path {
    path() noexcept : ringmsg_path{} {}
    path(const ringmsg_path &native) noexcept : ringmsg_path(native) {}

    /// To an address.
    explicit path(const sockaddr_in &address) noexcept : path()
    {
        valid = RINGMSG_PATH_REMOTE;
        family = AF_INET;
        remote_port = ntohs(address.sin_port);
        std::memcpy(remote, &address.sin_addr, sizeof address.sin_addr);
    }
    explicit path(const sockaddr_in6 &address) noexcept : path()
    {
        valid = RINGMSG_PATH_REMOTE;
        family = AF_INET6;
        remote_port = ntohs(address.sin6_port);
        std::memcpy(remote, &address.sin6_addr, sizeof address.sin6_addr);
        remote_scope = address.sin6_scope_id;
    }

    /// To an address of either family, as recvfrom(2), getaddrinfo(3) and record::source() give it.
    /// address_family_not_supported for other families, invalid_argument for too few bytes.
    static path to(const sockaddr *address, std::size_t length, on_error fail = {})
    {
        path there;
        fail(ringmsg_path_to(&there, address, static_cast<socklen_t>(std::min(length, sizeof(sockaddr_storage)))));
        return there;
    }

    /// Of an answer: back to the source, from the address that was asked. address_not_available
    /// where the metadata have no source.
    static path reply(const ringmsg_metadata &received, on_error fail = {})
    {
        path back;
        fail(ringmsg_path_reply(&back, &received));
        return back;
    }
    /// The same for a record of a batch made with metadata; without, that is invalid_argument.
    static path reply(const record &received, on_error fail = {})
    {
        path back;
        fail(ringmsg_path_reply(&back, received.metadata()));
        return back;
    }

    /// The address to send from, of the same family as the other.
    path &set_local(const in_addr &address) noexcept
    {
        family = AF_INET;
        return set_local(&address, sizeof address);
    }
    path &set_local(const in6_addr &address) noexcept
    {
        family = AF_INET6;
        return set_local(&address, sizeof address);
    }
    path &set_interface(std::uint32_t index) noexcept { return set(RINGMSG_PATH_INTERFACE, interface_index, index); }
    path &set_traffic_class(std::uint8_t value) noexcept
    {
        return set(RINGMSG_PATH_TRAFFIC_CLASS, traffic_class, value);
    }
    path &set_hop_limit(std::uint8_t value) noexcept { return set(RINGMSG_PATH_HOP_LIMIT, hop_limit, value); }
    path &set_flow_label(std::uint32_t value) noexcept { return set(RINGMSG_PATH_FLOW_LABEL, flow_label, value); }

    friend bool operator==(const path &a, const path &b) noexcept
    {
        return std::memcmp(static_cast<const ringmsg_path *>(&a), static_cast<const ringmsg_path *>(&b),
                           sizeof(ringmsg_path)) == 0;
    }

private:
    path &set_local(const void *address, std::size_t length) noexcept
    {
        valid |= RINGMSG_PATH_LOCAL;
        std::memcpy(local, address, length);
        return *this;
    }
    template <class Field> path &set(std::uint32_t bit, Field &field, Field value) noexcept
    {
        valid |= bit;
        field = value;
        return *this;
    }
};

/// One message of a batch. It refers to payload and path; both must live until it is sent.
struct message : ringmsg_message {
    message() noexcept : ringmsg_message{} {}
    /// To the connected peer, unless there is a path. (A pointer, so that it cannot be a
    /// temporary.)
    explicit message(std::span<const std::byte> bytes, const ringmsg_path *to = nullptr) noexcept : message()
    {
        payload = bytes.data();
        path = to;
        // A length that does not fit the field is too long for the library as well.
        payload_length = static_cast<std::uint32_t>(std::min<std::size_t>(bytes.size(), UINT32_MAX));
    }

    /// For send_from(): the bytes at this offset from the base, on the path with this index;
    /// UINT64_MAX: none.
    static message at(std::uint64_t offset, std::uint32_t length, std::uint64_t path_index = UINT64_MAX) noexcept
    {
        message made;
        made.payload = reinterpret_cast<const void *>(offset);
        made.path = reinterpret_cast<const ringmsg_path *>(path_index);
        made.payload_length = length;
        return made;
    }

    /// Why the socket did not take it, if it did not.
    std::error_code error() const noexcept { return {result < 0 ? -result : 0, error_category()}; }
    /// The socket was full: send the message again, with RINGMSG_SEND_RESUME.
    bool is_left() const noexcept { return result == -EAGAIN; }
};

static_assert(sizeof(path) == sizeof(ringmsg_path) && sizeof(message) == sizeof(ringmsg_message));

/// How a sender is to be made; begins with the defaults.
struct sender_config : ringmsg_sender_config {
    sender_config() noexcept : ringmsg_sender_config{} { ringmsg_sender_config_init(this); }
};

/// Sends messages on a socket. It needs no ring; one thread at a time may use it, and any number of
/// senders one socket.
class sender {
public:
    explicit sender(int fd, const sender_config &config = {}, on_error fail = {})
    {
        fail(ringmsg_sender_new(fd, &config, &handle_));
    }
    sender(sender &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    sender &operator=(sender &&other) noexcept
    {
        sender moved(std::move(other));
        std::swap(handle_, moved.handle_);
        return *this;
    }
    ~sender() { ringmsg_sender_free(handle_); }

    /// Frees it now; device_or_resource_busy while another thread is in a call on it.
    void free(on_error fail = {})
    {
        if (fail(ringmsg_sender_free(handle_)) == 0)
            handle_ = nullptr;
    }

    /// Sends `messages`, and returns how many were settled in this call. Each has its result then.
    /// A socket that is full is no error: is_left() of what it did not take, and 0 if it took none.
    /// Signals do not end RINGMSG_SEND_WAIT: handlers run, and it goes on. (SO_SNDTIMEO ends it.)
    std::uint32_t send(array_of<ringmsg_message> messages, std::uint32_t flags = 0, on_error fail = {})
    {
        return repeat(flags, fail, messages, [&](std::uint32_t now) {
            return ringmsg_send(handle_, messages.data(), count(messages), now);
        });
    }

    /// The same with offsets from `base` for payloads, and indices of `paths`; UINT64_MAX for none.
    std::uint32_t send_from(std::span<const std::byte> base, array_of<const ringmsg_path> paths,
                            array_of<ringmsg_message> messages, std::uint32_t flags = 0, on_error fail = {})
    {
        return repeat(flags, fail, messages, [&](std::uint32_t now) {
            return ringmsg_send_from(handle_, base.data(), base.size(), paths.data(), count(paths), messages.data(),
                                     count(messages), now);
        });
    }

    /// The same with an array for each field, all as long as `results`. No offsets: the payloads
    /// lie back to back; no indices: message i takes path i; no paths: all go to the connected
    /// peer.
    std::uint32_t send_columns(std::span<const std::byte> base, std::span<const std::uint64_t> offsets,
                               std::span<const std::uint32_t> lengths, std::span<const std::uint32_t> path_index,
                               array_of<const ringmsg_path> paths, std::span<std::int32_t> results,
                               std::uint32_t flags = 0, on_error fail = {})
    {
        const auto fits = [&](std::size_t size) { return size == results.size(); };
        if (!fits(lengths.size()) || !(offsets.empty() || fits(offsets.size())) ||
            !(path_index.empty() || fits(path_index.size())))
            return static_cast<std::uint32_t>(std::max(fail(-EINVAL, "send_columns: the arrays differ in length"), 0));
        return repeat(flags, fail, results, [&](std::uint32_t now) {
            return ringmsg_send_columns(handle_, base.data(), base.size(), or_null(offsets), lengths.data(),
                                        or_null(path_index), or_null(paths), count(paths), results.data(),
                                        count(results), now);
        });
    }

    /// What the sender has done so far. For any thread.
    struct ringmsg_sender_stats stats(on_error fail = {}) const
    {
        struct ringmsg_sender_stats stats {};
        stats.size = sizeof stats;
        fail(::ringmsg_sender_stats(handle_, &stats));
        return stats;
    }

    /// For the C functions.
    ringmsg_sender *native_handle() const noexcept { return handle_; }

private:
    template <class T> static std::uint32_t count(std::span<T> items) noexcept
    {
        return static_cast<std::uint32_t>(std::min<std::size_t>(items.size(), UINT32_MAX));
    }
    template <class T> static const T *or_null(std::span<const T> items) noexcept
    {
        return items.empty() ? nullptr : items.data();
    }

    static bool is_left(const ringmsg_message &message) noexcept { return message.result == -EAGAIN; }
    static bool is_left(std::int32_t result) noexcept { return result == -EAGAIN; }

    /// Repeats the call as long as a signal interrupts it, and counts what all of them settled.
    template <class T, class Call>
    static std::uint32_t repeat(std::uint32_t flags, on_error fail, std::span<T> items, Call call)
    {
        constexpr std::uint32_t both = RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME;
        const auto left = [&] {
            return std::count_if(items.begin(), items.end(), [](const T &item) { return is_left(item); });
        };
        auto all = static_cast<std::ptrdiff_t>(items.size());
        if ((flags & both) == both)
            all = left();
        int result = call(flags);
        if (result == -EINTR) {
            while (result == -EINTR)
                result = call(flags | RINGMSG_SEND_RESUME);
            result = result < 0 && result != -EAGAIN ? result : static_cast<int>(all - left());
        }
        return static_cast<std::uint32_t>(std::max(fail(result == -EAGAIN ? 0 : result), 0));
    }

    ringmsg_sender *handle_ = nullptr;
};

} // namespace ringmsg

#endif // C++20
#endif
