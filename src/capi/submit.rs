//! Requests: arming and cancelling them.

use std::ffi::c_int;
use std::ptr::NonNull;

use libc::msghdr;

use crate::arm::RecvArgs;
use crate::error::Result;
use crate::pool::Pool;
use crate::ring::Ring;
use crate::sys::cancel::NotCancelled;

use super::{Caller, known, null, with_ring};

/// Runs `arm` with a pool that is this ring's.
fn with_pool(
    ring: Option<&Ring>,
    pool: Option<&Pool>,
    arm: impl FnOnce(&Ring, &Pool) -> Result<()>,
) -> c_int {
    with_ring(ring, Caller::Owner, |ring| {
        let pool = pool.ok_or_else(|| null("pool"))?;
        ring.check_enabled()?;
        ring.check_pool(pool)?;
        arm(ring, pool).map(|()| 0)
    })
}

/// ringmsg_recvmsg: receives one message into the caller's own msghdr, as recvmsg(2) does: the
/// kernel fills payload, name, control messages and flags by the time the FINAL record is reaped.
/// The library adds no flag to `msg_flags`. As with recvmsg(2), MSG_WAITALL has no effect on a
/// socket that keeps message boundaries (SOCK_SEQPACKET). On a stream with MSG_WAITALL the record
/// comes when the payload is full or, if `msg` has room for control messages, with the first data,
/// as io_uring behaves. The request is queued: ringmsg_submit() or the next reap submits it to the
/// kernel.
///
/// The request refers to the socket, not to the number `fd`, which may be closed and used again.
///
/// **Ownership:** `msg` and all it points to stay the caller's and must live, unmoved, until the
/// record is reaped or ringmsg_ring_free() has returned 0. Descriptors in it are the caller's.
/// (Languages whose objects move in memory use ringmsg_recvmsg_once().)
/// **Threads:** [owner].
/// **Returns:** 0; -EINVAL (NULL, unknown flags: POLL_FIRST and NO_REARM are known; MSG_WAITALL
/// with MSG_PEEK on a stream: the kernel's io_uring repeats the first bytes); -EBADF, -ENOTSOCK;
/// -EMFILE, -ENFILE; -EAGAIN, -EBUSY, -ENOMEM (the submission queue is full, and the kernel cannot
/// take it now); -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
///
/// # Safety
/// `msg` is NULL, or as said above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_recvmsg(
    ring: Option<NonNull<Ring>>,
    fd: c_int,
    msg: *mut msghdr,
    msg_flags: c_int,
    flags: u32,
    user_data: u64,
) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        if msg.is_null() {
            return Err(null("msg"));
        }
        // SAFETY: the caller's promise is passed on.
        unsafe { ring.recvmsg(msg, RecvArgs { fd, msg_flags, flags, user_data }) }.map(|()| 0)
    })
}

/// ringmsg_recvmsg_once: receives one message into a buffer of `pool`; its record reads like one of
/// a multishot. It takes a buffer that is not published. A busy multishot may have all of them, so
/// give single-shots a pool of their own. Queued like ringmsg_recvmsg().
///
/// `flags`: RINGMSG_RECV_SPLIT, _POLL_FIRST, _NO_REARM. `msg_flags`: those of recvmsg(2);
/// MSG_TRUNC (not on streams) and MSG_CMSG_CLOEXEC are added, and not shown. MSG_WAITALL as in
/// ringmsg_recvmsg(), where room for control messages is the pool's control_capacity.
///
/// **Threads:** [owner].
/// **Returns:** 0; -ENOBUFS (no unpublished buffer); -EINVAL (NULL, unknown flags, a pool of
/// another ring, SPLIT without space for the segment size, MSG_TRUNC on a stream, MSG_WAITALL with
/// MSG_PEEK on a stream); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY, -ENOMEM (the
/// submission queue is full, and the kernel cannot take it now); -EBADFD (not enabled); -EPERM,
/// -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_recvmsg_once(
    ring: Option<NonNull<Ring>>,
    pool: Option<&Pool>,
    fd: c_int,
    msg_flags: c_int,
    flags: u32,
    user_data: u64,
) -> c_int {
    with_pool(known(ring), pool, |ring, pool| {
        ring.recvmsg_once(pool, RecvArgs { fd, msg_flags, flags, user_data })
    })
}

/// ringmsg_recvmsg_multishot: receives until cancelled: every message lands in a buffer of `pool`
/// and becomes a record, or, with RINGMSG_RECV_SPLIT, a record for each datagram of a GRO train.
/// The call submits the request.
///
/// The request never stops without a record that says so. When the kernel ends it (buffers used up,
/// a zero-length datagram, an ICMP error, a full completion queue) it is armed again, at once or as
/// soon as a buffer is released. On datagram sockets errors are records and the request goes on,
/// except after ENOTSOCK, EFAULT, EINVAL, and sixteen failures without data within 10 ms. ICMP
/// errors never end it. Sixteen EACCES or EOPNOTSUPP, which may come from a peer's ICMP errors or
/// from a security module, make it try once a millisecond. On stream and seqpacket sockets result 0
/// is the end, and so is any error. Closing `fd` does not end it: ringmsg_cancel() does.
///
/// **On a socket that other rings or processes receive from, too,** cancel before the thread stops
/// reaping: in plain and COOP mode and with SQPOLL the kernel receives for whatever is armed, and
/// no other receiver gets those datagrams. In DEFER mode and on the recvmmsg engine the kernel
/// receives only during a reap.
///
/// `flags`: RINGMSG_RECV_SPLIT, _POLL_FIRST, _NO_REARM. `msg_flags`: MSG_ERRQUEUE,
/// MSG_CMSG_CLOEXEC, MSG_TRUNC; the library adds the latter two where they apply, and does not show
/// them.
///
/// **Threads:** [owner]. In plain and COOP mode completions run in the thread that armed.
/// **Returns:** 0; -EINVAL (NULL, unknown flags or msg_flags, a pool of another ring, SPLIT
/// without space for the segment size); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY,
/// -ENOMEM (the submission queue is full, and the kernel cannot take it now); -EBADFD (not
/// enabled); -EPERM, -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_recvmsg_multishot(
    ring: Option<NonNull<Ring>>,
    pool: Option<&Pool>,
    fd: c_int,
    msg_flags: c_int,
    flags: u32,
    user_data: u64,
) -> c_int {
    with_pool(known(ring), pool, |ring, pool| {
        ring.recvmsg_multishot(pool, RecvArgs { fd, msg_flags, flags, user_data })
    })
}

/// ringmsg_writable: waits until `fd` takes data again, for a program that found its socket full
/// (-EAGAIN): one record, RINGMSG_RECORD_WRITABLE | RINGMSG_RECORD_FINAL with result 0 and no
/// buffer, as soon as the socket has room; at once if it has room already. The call submits the
/// request. An unread error queue (transmit timestamps, ICMP errors) does not end the wait, and
/// costs no processor time. The end of the connection does: the next send returns the reason.
///
/// After the record, send what was left with RINGMSG_SEND_RESUME, and call this again if that
/// leaves messages with -EAGAIN. Any number of requests may wait on one socket.
///
/// **Ownership:** the request refers to the socket, not to the number `fd`, which may be closed and
/// used again.
/// **Threads:** [owner]. In plain and COOP mode the wait belongs to the thread that called: if that
/// thread exits, the one that reaps continues the wait.
/// **Returns:** 0; -EOPNOTSUPP (an AF_UNIX socket that is not connected, which the kernel always
/// reports as writable); -EINVAL (NULL); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY,
/// -ENOMEM (the submission queue is full, and the kernel cannot take it now); -EBADFD (not
/// enabled); -EPERM, -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_writable(ring: Option<NonNull<Ring>>, fd: c_int, user_data: u64) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        ring.check_enabled()?;
        ring.writable(fd, user_data).map(|()| 0)
    })
}

/// ringmsg_cancel: ends every request with `user_data`. Each ends with exactly one FINAL record:
/// its own result if that came first, else -ECANCELED. Datagrams that are still in the socket stay
/// there. With the last request of a socket the ring closes its reference, in the reap that returns
/// the record: if `fd` is closed by then, that is the last close, which waits on a TCP socket with
/// SO_LINGER.
///
/// **Threads:** [owner].
/// **Returns:** 0: the FINAL records will follow; -ENOENT (no such request); -EINVAL (NULL);
/// -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_cancel(ring: Option<NonNull<Ring>>, user_data: u64) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| ring.cancel(user_data).map(|()| 0))
}

/// ringmsg_submit: submits queued single-shots to the kernel now. A reap does so, too.
///
/// **Threads:** [owner].
/// **Returns:** 0; -EINVAL (NULL); -EBUSY, -EAGAIN (the kernel cannot take them now; they stay
/// queued); -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_submit(ring: Option<NonNull<Ring>>) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        ring.check_enabled()?;
        ring.submit().map(|()| 0)
    })
}

/// ringmsg_wake: makes the current or, if there is none, the next reap return; makes ring_fd
/// readable. Several wakes before that count as one. A reap that lingers may return late by up to
/// the linger time.
///
/// **Threads:** any; also from a signal handler. Leaves no sentence for ringmsg_last_error().
/// **Returns:** 0; -EINVAL (NULL); -EPERM (after fork); -ECANCELED (being freed).
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_wake(ring: Option<&Ring>) -> c_int {
    // Not `with_ring`: keeping a sentence may allocate, which a signal handler must not.
    let Some(ring) = ring else { return -libc::EINVAL };
    let _not_cancelled = NotCancelled::begin();
    match ring.gate.enter() {
        Ok(_inside) => {
            ring.wakeup.wake();
            0
        }
        Err(error) => -error.errno(),
    }
}
