//! Sending: paths, senders, and the three forms of a batch of messages.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use libc::{sockaddr, socklen_t};

use crate::error::{Error, Result};
use crate::record::Metadata;
use crate::sender::{
    self, Base, Columns, Message, Offsets, Path, Pointers, Sender, SenderConfig, SenderStats,
};

use super::{check_count, known, null, slice, versioned, without_ring};

/// ringmsg_path_reply: makes the path of an answer to a received datagram: back to its source, from
/// the address that it was sent to. Over IPv4, mapped or not, that is LOCAL_V4, which is right for
/// unicast, aliases, broadcast and multicast; without it the kernel chooses. Over IPv6 it is the
/// destination, unless that is multicast. The interface is set where an address is ambiguous
/// without it: fe80::/10, 169.254/16, multicast. The traffic class is not copied, because the
/// protocol decides about the ECN bits of an answer.
///
/// **Ownership:** `received` is read, and all of `path` is written. Metadata have what this needs
/// once ringmsg_socket_enable() has switched on RINGMSG_META_DESTINATION.
/// **Threads:** any.
/// **Returns:** 0; -EADDRNOTAVAIL (the metadata have no source); -EINVAL (NULL). On failure
/// `path` is left as it was.
///
/// # Safety
/// `path` is NULL or writable; `received` is NULL or readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_path_reply(path: *mut Path, received: Option<&Metadata>) -> c_int {
    if let Some(reply) = received.filter(|_| !path.is_null()).and_then(sender::reply) {
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { path.write_unaligned(reply) };
        return 0;
    }
    no_reply(path.is_null(), received.is_none())
}

#[cold]
#[inline(never)]
fn no_reply(no_path: bool, no_metadata: bool) -> c_int {
    without_ring(|| {
        Err(match (no_path, no_metadata) {
            (true, _) => null("path"),
            (_, true) => null("received"),
            _ => Error::new(
                libc::EADDRNOTAVAIL,
                "path: the metadata have no source; reap with metadata, from an AF_INET or AF_INET6 socket",
            ),
        })
    })
}

/// ringmsg_path_to: makes the path to an address, as getaddrinfo(3) and recvfrom(2) return it. The
/// kernel chooses the source address, the interface, the traffic class and the hop limit; set
/// fields of `path`, and their bits in `valid`, to choose them. (A flow label in sin6_flowinfo is
/// not taken over.)
///
/// **Ownership:** `length` bytes at `to` are read, which need no alignment; all of `path` is
/// written.
/// **Threads:** any.
/// **Returns:** 0; -EAFNOSUPPORT (neither AF_INET nor AF_INET6); -EINVAL (NULL; too short for its
/// family). On failure `path` is left as it was.
///
/// # Safety
/// `path` is NULL or writable; `to` is NULL, or readable for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_path_to(path: *mut Path, to: *const sockaddr, length: socklen_t) -> c_int {
    without_ring(|| {
        if path.is_null() {
            return Err(null("path"));
        }
        // SAFETY: the caller promises that `length` bytes are readable.
        let address = unsafe { slice("to", to.cast::<u8>(), length) }?;
        let made = sender::to(address)?;
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { path.write_unaligned(made) };
        Ok(0)
    })
}

/// ringmsg_sender_config_init: writes the size and the defaults: batches of 1024 messages, grouped,
/// without a transmit clock.
///
/// **Threads:** any.
///
/// # Safety
/// `config` is NULL, or writable for sizeof(struct ringmsg_sender_config) bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_sender_config_init(config: *mut SenderConfig) {
    if !config.is_null() {
        // SAFETY: the caller promises the room.
        unsafe { config.write_unaligned(SenderConfig::default()) };
    }
}

/// ringmsg_sender_new: makes a sender for the socket behind `fd`, a datagram or seqpacket socket.
/// It needs no ring. One socket may have any number of senders: each thread that sends makes its
/// own. Set the socket's options first. UDP_CORK must stay off, and MSG_MORE must not be used: both
/// would put datagrams of several peers into one.
///
/// With RINGMSG_SENDER_TIMESTAMPS, make the sender before the pool that receives the timestamps,
/// so that ringmsg_pool_config_for_socket() counts their control messages.
///
/// **Ownership:** the sender holds its own reference to the socket: `fd` may be closed. It is the
/// caller's, until ringmsg_sender_free(). A forked child may use its copy.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size, unknown flags, a batch above 32768, no such clock);
/// -EOPNOTSUPP (a stream; transmit times or timestamps on a socket that is not IP); -EBUSY
/// (UDP_CORK is on; another transmit clock is set); -EPERM (a transmit clock other than
/// CLOCK_MONOTONIC needs CAP_NET_ADMIN); -EBADF, -ENOTSOCK; -EMFILE, -ENOMEM. On failure
/// `*sender` is left as it was.
///
/// # Safety
/// `config` is NULL (the defaults), or readable for as many bytes as its `size` says; `sender` is
/// NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_sender_new(
    fd: c_int,
    config: *const SenderConfig,
    sender: *mut *mut Sender,
) -> c_int {
    without_ring(|| {
        if sender.is_null() {
            return Err(null("sender"));
        }
        let config = if config.is_null() {
            SenderConfig::default()
        } else {
            // SAFETY: the caller's promise is passed on.
            unsafe { versioned::read(config) }?
        };
        let made = Sender::open(fd, &config)?;
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { sender.write(made.as_ptr()) };
        Ok(0)
    })
}

/// Runs a call on a sender.
#[inline]
fn with_sender(sender: Option<NonNull<Sender>>, body: impl FnOnce(&Sender) -> Result<usize>) -> c_int {
    without_ring(|| known(sender).ok_or_else(|| null("sender")).and_then(body))
}

/// An array of a batch, which the caller gives as a pointer.
fn check_array<T>(what: &'static str, array: *const T, count: u32) -> Result<()> {
    if check_count(what, count)? > 0 && array.is_null() {
        return Err(null(what));
    }
    if !array.is_aligned() {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("{what}: it is not aligned to {}", align_of::<T>()),
        ));
    }
    Ok(())
}

fn check_flags(flags: u32) -> Result<()> {
    let unknown = flags & !(sender::RINGMSG_SEND_WAIT | sender::RINGMSG_SEND_RESUME);
    if unknown != 0 {
        return Err(Error::with(libc::EINVAL, format_args!("send: unknown flags {unknown:#x}")));
    }
    Ok(())
}

fn check_base(base: *const c_void, length: usize, paths: *const Path, path_count: u32) -> Result<()> {
    if base.is_null() && length > 0 {
        return Err(null("base"));
    }
    if length > isize::MAX as usize {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("base: {length} bytes are more than memory holds"),
        ));
    }
    check_array("paths", paths, path_count)
}

/// ringmsg_send: sends a batch of messages on the sender's socket, with one system call for up to
/// 1024 trains. When it returns, the kernel has taken or refused every message, and every payload
/// is the caller's again.
///
/// Every message has its `result` when the call returns >= 0, -EAGAIN or -EINTR: the payload bytes
/// that the socket took, or -errno. -EAGAIN, at any place in the array, means that the message was
/// not sent for lack of room: pass the unchanged array again, with RINGMSG_SEND_RESUME. A result
/// says what the socket took: without IP_RECVERR a full queueing discipline drops datagrams without
/// an error.
///
/// With RINGMSG_SEND_WAIT the call waits for room instead, whether the socket is non-blocking or
/// not: for as long as it takes, or until nothing was taken for the time that SO_SNDTIMEO sets.
///
/// Messages with equal path, length, traffic class, flags and transmit time leave as one
/// UDP_SEGMENT train; a shorter one may end it. Messages to one peer (family, remote, remote_port
/// and remote_scope) leave in the order in which they are given; among peers the order is free.
///
/// **Ownership:** payloads and paths are read, and results written, during the call only.
/// **Threads:** any, one at a time for each sender.
/// **Returns:** how many messages it settled in this call, errors included; 0 when RESUME finds
/// none; -EAGAIN (it could settle none: the socket's buffer is full, and if the call waited,
/// SO_SNDTIMEO has expired); -EINTR (a signal came while RINGMSG_SEND_WAIT waited; the messages
/// that are left have -EAGAIN). Refused, with no result written: -EINVAL (NULL, unknown flags, 2^31
/// messages or more, a freed sender); -EBUSY (another thread is in a call on this sender); -ENOMEM
/// (no memory for the thread's scratch space, at its first call or a larger batch);
/// -ENOTRECOVERABLE (an internal error has poisoned the sender).
///
/// # Safety
/// `messages` is readable and writable for `count` elements; their payloads and paths are readable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_send(
    sender: Option<NonNull<Sender>>,
    messages: *mut Message,
    count: u32,
    flags: u32,
) -> c_int {
    with_sender(sender, |sender| {
        check_array("messages", messages, count)?;
        check_flags(flags)?;
        // SAFETY: the caller's promise is passed on.
        let source = unsafe { Pointers::new(messages, count) };
        sender.send(source, flags).map(|settled| settled as usize)
    })
}

/// ringmsg_send_from: does what ringmsg_send() does, without a pointer in any array. `payload` is
/// read as a uint64_t: an offset from `base`; so is `path`: an index into `paths`, or UINT64_MAX
/// for none. It is for languages that may not pass pointers to pointers, or that build arrays of
/// numbers faster.
///
/// **Ownership, Threads:** as for ringmsg_send().
/// **Returns:** as ringmsg_send(). A message whose payload or path is out of bounds has the result
/// -EFAULT.
///
/// # Safety
/// `base` is readable for `base_length` bytes, `paths` for `path_count` elements; `messages` is
/// readable and writable for `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_send_from(
    sender: Option<NonNull<Sender>>,
    base: *const c_void,
    base_length: usize,
    paths: *const Path,
    path_count: u32,
    messages: *mut Message,
    count: u32,
    flags: u32,
) -> c_int {
    with_sender(sender, |sender| {
        check_array("messages", messages, count)?;
        check_base(base, base_length, paths, path_count)?;
        check_flags(flags)?;
        // SAFETY: the caller's promise is passed on.
        let source = unsafe {
            Offsets::new(
                Pointers::new(messages, count),
                Base::new(base.cast(), base_length, paths, path_count),
            )
        };
        sender.send(source, flags).map(|settled| settled as usize)
    })
}

/// ringmsg_send_columns: does what ringmsg_send() does, with an array for each field. Message i is
/// the `lengths[i]` bytes at `offsets[i]` from `base`, on the path `paths[path_index[i]]`. Where
/// `offsets` is NULL, payloads lie back to back. Where `path_index` is NULL, message i takes path
/// i; UINT32_MAX in it means no path. Where `paths` is NULL, no message has one.
///
/// **Ownership, Threads:** as for ringmsg_send().
/// **Returns:** as ringmsg_send(), with the results in `results`. A message whose payload or path
/// is out of bounds has the result -EFAULT.
///
/// # Safety
/// `base` is readable for `base_length` bytes, `paths` for `path_count` elements; the other arrays
/// are NULL where that is allowed, or readable for `count` elements, `results` also writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_send_columns(
    sender: Option<NonNull<Sender>>,
    base: *const c_void,
    base_length: usize,
    offsets: *const u64,
    lengths: *const u32,
    path_index: *const u32,
    paths: *const Path,
    path_count: u32,
    results: *mut i32,
    count: u32,
    flags: u32,
) -> c_int {
    with_sender(sender, |sender| {
        check_array("lengths", lengths, count)?;
        check_array("results", results, count)?;
        check_array("offsets", offsets, if offsets.is_null() { 0 } else { count })?;
        check_array("path_index", path_index, if path_index.is_null() { 0 } else { count })?;
        check_count("paths", path_count)?;
        let path_count = if paths.is_null() { 0 } else { path_count };
        check_base(base, base_length, paths, path_count)?;
        check_flags(flags)?;
        // SAFETY: the caller's promise is passed on.
        let base = unsafe { Base::new(base.cast(), base_length, paths, path_count) };
        let source = Columns { base, count, offsets, lengths, path_index, results, back_to_back: 0 };
        sender.send(source, flags).map(|settled| settled as usize)
    })
}

/// ringmsg_sender_stats: reports what the sender has done so far, also while another thread sends.
///
/// **Ownership:** `stats` is the caller's; its `size` must be set.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size, a freed sender).
///
/// # Safety
/// `stats` is NULL, or writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_sender_stats(sender: Option<&Sender>, stats: *mut SenderStats) -> c_int {
    without_ring(|| {
        let sender = sender.ok_or_else(|| null("sender"))?;
        // SAFETY: the caller's promise is passed on.
        unsafe { versioned::write(stats, &sender.stats()?) }.map(|()| 0)
    })
}

/// ringmsg_sender_free: frees a sender and its reference to the socket. Socket options that it has
/// set stay on.
///
/// **Ownership:** the handle is invalid afterwards. NULL is allowed.
/// **Threads:** any.
/// **Returns:** 0; -EBUSY (another thread is in a call on it: nothing is freed); -EINVAL (freed
/// before, unless a new sender has its place by now).
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_sender_free(sender: Option<NonNull<Sender>>) -> c_int {
    without_ring(|| known(sender).map_or(Ok(0), |sender| sender.free().map(|()| 0)))
}
