//! Requests: what is in flight, and what to do when the kernel ends one.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::engine::{Engine, KernelTime, Receive};
use crate::error::{Error, Result};
use crate::ids::{BufferId, PoolId, Slot, SocketId};
use crate::slot_list::Links;
use crate::socket::Kind;
use crate::stats::Stats;
use crate::sys::memory::try_box;

mod index;
mod table;

use index::IndexLinks;
pub(crate) use table::Requests;

/// One record per datagram instead of one per GRO train.
pub const RINGMSG_RECV_SPLIT: u32 = 1u32 << 0;
/// Wait for data before the first attempt: saves a failed attempt when none is expected yet.
pub const RINGMSG_RECV_POLL_FIRST: u32 = 1u32 << 1;
/// Report every end of a request as FINAL instead of arming it again.
pub const RINGMSG_RECV_NO_REARM: u32 = 1u32 << 2;

/// How long a request pauses after -ENOMEM, and between failures that may be ICMP's but are too
/// many.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
/// End a request after this many failures without data within this interval.
const FAILURES_MAX: u32 = 16;
const FAILURES_WITHIN_NS: u64 = 10_000_000;

/// The msg_flags of a single-shot's msghdr that the kernel has not written to: the kernel never
/// writes this value.
pub(crate) const NOT_FILLED: i32 = -1;

/// What the kernel reads and writes while a request is in flight. Boxed, so that it never moves.
pub(crate) struct KernelSide {
    pub message: libc::msghdr,
    pub part: libc::iovec,
    pub pause: KernelTime,
}

/// A part of the caller's memory, as its msghdr described it when the request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Area {
    pub at: *mut u8,
    pub length: u32,
}

impl Area {
    pub(crate) fn new(at: *mut libc::c_void, length: u32) -> Self {
        Self { at: at.cast(), length: if at.is_null() { 0 } else { length } }
    }

    /// The first `filled` bytes.
    ///
    /// # Safety
    /// The area is still there, and nobody writes to it.
    pub(crate) unsafe fn filled<'a>(self, filled: u32) -> &'a [u8] {
        match filled.min(self.length) {
            0 => &[],
            // SAFETY: not empty, so not NULL; the rest is the caller's promise.
            length => unsafe { std::slice::from_raw_parts(self.at, length as usize) },
        }
    }
}

/// Where a request's data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Single-shot, into the caller's own msghdr. The capacities are what that had room for.
    Caller { message: *mut libc::msghdr, name: Area, control: Area, payload: u32 },
    /// Single-shot, into this buffer of the pool.
    Once { pool: PoolId, buffer: BufferId },
    /// Multishot, into published buffers of the pool.
    Multishot { pool: PoolId },
    /// Nowhere: the request waits until the socket takes data. `by_edge`: for the next edge, not
    /// for the state: see `CompletionPass::polled`.
    Writable { by_edge: bool },
}

impl Target {
    pub(crate) fn pool(&self) -> Option<PoolId> {
        match *self {
            Target::Caller { .. } | Target::Writable { .. } => None,
            Target::Once { pool, .. } | Target::Multishot { pool } => Some(pool),
        }
    }
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is free.
    Vacant,
    /// In the kernel, or on its way there.
    Armed,
    /// To be armed again once there is room.
    Waiting(For),
    /// Waits for the end of a pause.
    Paused,
    /// Over: its FINAL record is on the way to the caller.
    Over,
}

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// A release. The request is in its pool's list.
    Buffers,
    /// Space in the submission queue. The request is in the list of retries.
    QueueSpace,
}

/// Whether an armed request is to be cancelled, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancellation {
    None,
    /// The cancellation is to be submitted: the request is in the list of retries.
    Wanted(Then),
    /// The cancellation was submitted.
    Sent(Then),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The caller asked for it: the request ends.
    End,
    /// It is armed again: see `look_for_end`.
    Rearm,
    /// It has what it waited for: it ends with a record that says so.
    ReportWritable,
}

/// What to do with a request that the kernel has ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Rearm,
    Pause,
    End,
}

/// The first 64 bytes, and the target, are all that a datagram touches: with 10,000 sockets the
/// caches hold no more.
#[repr(C)]
pub(crate) struct Request {
    failures: u32,
    pub flags: u32,
    pub user_data: u64,
    /// What the socket is.
    pub kind: Kind,
    state: State,
    pub passes_descriptors: bool,
    is_in_retries: bool,
    /// The counters of data come first.
    pub stats: Stats,
    pub target: Target,
    /// The socket's place in the ring's list, and our descriptor for it.
    pub socket: SocketId,
    pub fd: RawFd,
    pub msg_flags: u32,
    pub cancellation: Cancellation,
    failing_since_ns: u64,
    pub drops_before: u32,
    links: Links,
    index_links: IndexLinks,
    kernel_side: Box<std::cell::UnsafeCell<KernelSide>>,
}

const _: () = assert!(std::mem::offset_of!(Request, stats) == 32);

// SAFETY: the raw pointers in there belong to the kernel's side of a request; they are only
// followed under the ring's lock.
unsafe impl Send for Request {}

impl Request {
    fn vacant() -> Result<Self> {
        // SAFETY: all-zero is a valid msghdr and iovec.
        let (message, part) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Ok(Self {
            state: State::Vacant,
            target: Target::Multishot { pool: PoolId(0) },
            user_data: 0,
            socket: SocketId(0),
            fd: -1,
            kind: Kind { domain: 0, kind: 0, protocol: 0 },
            msg_flags: 0,
            flags: 0,
            cancellation: Cancellation::None,
            passes_descriptors: false,
            failures: 0,
            failing_since_ns: 0,
            drops_before: 0,
            stats: Stats::default(),
            links: Links::UNLINKED,
            is_in_retries: false,
            index_links: IndexLinks::default(),
            kernel_side: try_box(KernelSide { message, part, pause: KernelTime::default() }.into())?,
        })
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// The kernel's side. Only to be written while the kernel does not have it.
    pub(crate) fn kernel_side(&self) -> *mut KernelSide {
        self.kernel_side.get()
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// It receives what the socket's error queue holds, not datagrams.
    #[inline]
    pub(crate) fn reads_error_queue(&self) -> bool {
        self.msg_flags & libc::MSG_ERRQUEUE as u32 != 0
    }

    pub(crate) fn is_multishot(&self) -> bool {
        matches!(self.target, Target::Multishot { .. })
    }

    /// The caller has cancelled it.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.cancellation, Cancellation::Wanted(Then::End) | Cancellation::Sent(Then::End))
    }

    /// Has the engine arm the request, which is in `slot`.
    pub(crate) fn arm(&self, slot: Slot, engine: &Engine) -> Result<()> {
        match self.target {
            Target::Writable { by_edge } => engine.poll_writable(slot, self.fd, by_edge),
            _ => engine.receive(&self.receive(slot)),
        }
    }

    fn receive(&self, slot: Slot) -> Receive {
        let message = match self.target {
            Target::Caller { message, .. } => message,
            // SAFETY: only the address is taken.
            _ => unsafe { &raw mut (*self.kernel_side()).message },
        };
        Receive {
            slot,
            fd: self.fd,
            message,
            msg_flags: self.msg_flags,
            poll_first: self.has(RINGMSG_RECV_POLL_FIRST),
            pool: self.target.pool().filter(|_| self.is_multishot()),
            waits_for_all: self.msg_flags & libc::MSG_WAITALL as u32 != 0,
            ends_when_empty: self.kind.is_connection() || self.has(RINGMSG_RECV_NO_REARM),
        }
    }

    /// Data arrived: earlier failures no longer count.
    #[inline]
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The re-arm policy for errors other than buffer exhaustion.
    pub(crate) fn failed(&mut self, errno: i32, now_ns: u64) -> Verdict {
        if self.is_cancelled() {
            return Verdict::End;
        }
        if errno == libc::ECANCELED && self.cancellation == Cancellation::Sent(Then::Rearm) {
            return Verdict::Rearm;
        }
        if self.has(RINGMSG_RECV_NO_REARM) {
            return Verdict::End;
        }
        // The kernel cancelled it because the arming thread exited (plain and COOP mode).
        let thread_exited = errno == libc::ECANCELED;
        if !thread_exited && (!self.is_multishot() || self.kind.is_connection()) {
            return Verdict::End;
        }
        match errno {
            libc::ENOTSOCK | libc::EFAULT | libc::EINVAL | libc::EBADF => Verdict::End,
            _ if is_icmp(errno) => Verdict::Rearm,
            _ if self.fails_too_often(now_ns) => {
                if is_icmp_or_policy(errno) {
                    Verdict::Pause
                } else {
                    Verdict::End
                }
            }
            libc::ENOMEM => Verdict::Pause,
            _ => Verdict::Rearm,
        }
    }

    fn fails_too_often(&mut self, now_ns: u64) -> bool {
        if self.failures == 0 || now_ns.saturating_sub(self.failing_since_ns) > FAILURES_WITHIN_NS {
            self.failures = 0;
            self.failing_since_ns = now_ns;
        }
        self.failures += 1;
        let is_too_often = self.failures >= FAILURES_MAX;
        if is_too_often {
            // After a pause the next one counts as well.
            self.failing_since_ns = now_ns;
        }
        is_too_often
    }
}

/// What an ICMP error becomes (net/ipv4/icmp.c, net/ipv6/icmp.c), and nothing else. A peer can send
/// any number of them, so they never end a request.
fn is_icmp(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENONET
            | libc::ENOPROTOOPT
            | libc::EMSGSIZE
            | libc::EPROTO
    )
}

/// These can be ICMP errors, too, but also come from a security module, a seccomp filter or a
/// protocol, and then repeat at once: a request that is armed again at once would loop without end.
fn is_icmp_or_policy(errno: i32) -> bool {
    matches!(errno, libc::EACCES | libc::EOPNOTSUPP)
}

/// Refuses flags that a call does not take.
pub(crate) fn check_flags(what: &str, given: u32, allowed: u32) -> Result<()> {
    if given & !allowed != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("{what}: flags {:#x} are unknown, or not for this call", given & !allowed),
        ));
    }
    Ok(())
}

/// The msg_flags of a multishot. The others end it, or repeat one datagram without end (MSG_PEEK:
/// 33 times per kernel entry).
pub(crate) const MULTISHOT_MSG_FLAGS: u32 =
    (libc::MSG_ERRQUEUE | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC) as u32;

/// Refuses or takes off MSG_WAITALL where the engines would not do what recvmsg(2) does: they
/// receive again and append, so after MSG_PEEK they would append the bytes they have already, and
/// on a socket with messages the next message.
pub(crate) fn check_waits_for_all(given: i32, kind: Kind) -> Result<u32> {
    let peeks = given & libc::MSG_PEEK != 0;
    match (given & libc::MSG_WAITALL != 0, kind.has_messages()) {
        (true, false) if peeks => Err(Error::new(
            libc::EINVAL,
            "recvmsg: MSG_WAITALL with MSG_PEEK would repeat the first bytes; peek without MSG_WAITALL",
        )),
        (true, true) => Ok((given & !libc::MSG_WAITALL) as u32),
        _ => Ok(given as u32),
    }
}

/// Refuses the flags of a pool form that do not work with one.
pub(crate) fn check_msg_flags(given: i32, multishot: bool, kind: Kind) -> Result<()> {
    let given = given as u32;
    if multishot && given & !MULTISHOT_MSG_FLAGS != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format_args!(
                "multishot: msg_flags {:#x} cannot be used with a multishot; only MSG_ERRQUEUE, \
                 MSG_CMSG_CLOEXEC and MSG_TRUNC can",
                given & !MULTISHOT_MSG_FLAGS
            ),
        ));
    }
    if given & libc::MSG_TRUNC as u32 != 0 && !kind.has_messages() {
        return Err(Error::new(
            libc::EINVAL,
            "recvmsg: MSG_TRUNC on a stream throws the bytes away instead of delivering them",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: i32) -> Request {
        Request { kind: Kind { domain: libc::AF_INET, kind, protocol: 0 }, ..Request::vacant().unwrap() }
    }

    #[test]
    fn icmp_errors_never_end_a_datagram_request() {
        let mut request = request(libc::SOCK_DGRAM);
        for now_ns in 0..1000 {
            assert_eq!(request.failed(libc::ECONNREFUSED, now_ns), Verdict::Rearm);
        }
    }

    #[test]
    fn sixteen_other_failures_in_ten_milliseconds_do() {
        let mut request = request(libc::SOCK_DGRAM);
        for now_ns in 0..15 {
            assert_eq!(request.failed(libc::EIO, now_ns), Verdict::Rearm);
        }
        assert_eq!(request.failed(libc::EIO, 15), Verdict::End);
    }

    #[test]
    fn sixteen_that_may_be_icmp_errors_pause_until_data_or_quiet() {
        for errno in [libc::EACCES, libc::EOPNOTSUPP] {
            let mut request = request(libc::SOCK_DGRAM);
            for now_ns in 0..15 {
                assert_eq!(request.failed(errno, now_ns), Verdict::Rearm);
            }
            let pause_ns = PAUSE.as_nanos() as u64;
            for pauses in 0..100 {
                assert_eq!(request.failed(errno, 15 + pauses * pause_ns), Verdict::Pause);
            }
            request.succeeded();
            assert_eq!(request.failed(errno, 100 * pause_ns), Verdict::Rearm);
        }
    }

    #[test]
    fn failures_apart_or_with_data_between_do_not() {
        let mut request = request(libc::SOCK_DGRAM);
        for i in 0..100 {
            assert_eq!(request.failed(libc::EIO, i * FAILURES_WITHIN_NS), Verdict::Rearm);
        }
        for i in 0..100 {
            assert_eq!(request.failed(libc::EIO, i), Verdict::Rearm);
            request.succeeded();
        }
    }

    #[test]
    fn out_of_memory_pauses_and_misuse_ends() {
        let mut request = request(libc::SOCK_DGRAM);
        assert_eq!(request.failed(libc::ENOMEM, 0), Verdict::Pause);
        assert_eq!(request.failed(libc::ENOTSOCK, 0), Verdict::End);
        assert_eq!(request.failed(libc::EFAULT, 0), Verdict::End);
        assert_eq!(request.failed(libc::EINVAL, 0), Verdict::End);
    }

    #[test]
    fn any_error_ends_a_connection_but_the_cancellation_of_an_exited_thread() {
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
            assert_eq!(request(kind).failed(libc::ECONNRESET, 0), Verdict::End);
            assert_eq!(request(kind).failed(libc::ECANCELED, 0), Verdict::Rearm);
        }
    }

    #[test]
    fn cancelled_and_no_rearm_requests_end() {
        let cancellation = Cancellation::Sent(Then::End);
        let mut cancelled = Request { cancellation, ..request(libc::SOCK_DGRAM) };
        assert_eq!(cancelled.failed(libc::ECANCELED, 0), Verdict::End);
        let mut once = Request { flags: RINGMSG_RECV_NO_REARM, ..request(libc::SOCK_DGRAM) };
        assert_eq!(once.failed(libc::ECONNREFUSED, 0), Verdict::End);
    }
}
