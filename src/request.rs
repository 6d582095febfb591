//! Requests: what is in flight, and what to do when the kernel ends one.

use std::time::Duration;

use io_uring::types::Timespec;

use crate::engine::Receive;
use crate::error::{Error, Result};
use crate::socket::Kind;
use crate::stats::Stats;

/// One record per datagram instead of one per GRO train.
pub const RINGMSG_RECV_SPLIT: u32 = 1u32 << 0;
/// Wait for data before the first attempt: saves a failed attempt when none is expected yet.
pub const RINGMSG_RECV_POLL_FIRST: u32 = 1u32 << 1;
/// Report every end of a request as FINAL instead of arming it again.
pub const RINGMSG_RECV_NO_REARM: u32 = 1u32 << 2;

/// How long a request pauses after -ENOMEM.
pub(crate) const PAUSE: Duration = Duration::from_millis(1);
/// So many failures without data, within so long, and a request is over.
const FAILURES_MAX: u32 = 16;
const FAILURES_WITHIN_NS: u64 = 10_000_000;

/// The msg_flags of a single-shot's msghdr that the kernel has not written to: no flags that it
/// ever writes.
pub(crate) const NOT_FILLED: i32 = -1;

/// What the kernel reads and writes while a request is in flight. Boxed: it never moves.
pub(crate) struct KernelSide {
    pub message: libc::msghdr,
    pub part: libc::iovec,
    pub pause: Timespec,
}

/// Memory of the caller's, as its msghdr described it when the request was made.
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
pub(crate) enum Form {
    /// Single-shot, into the caller's own msghdr. What that had room for.
    Caller { message: *mut libc::msghdr, name: Area, control: Area, payload: u32 },
    /// Single-shot, into this buffer of the pool.
    Once { buffer: u16 },
    /// Multishot, into published buffers of the pool.
    Multishot,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The slot is free.
    Vacant,
    /// In the kernel, or on its way there.
    Armed,
    /// Waits for a release.
    Starved,
    /// Waits for the end of a pause.
    Paused,
    /// Over: its FINAL record is on the way to the caller.
    Over,
}

/// Whether a request is to be cancelled and armed again: see `Pass::look_for_end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Restart {
    No,
    /// It is, and the kernel has not been told.
    Due,
    /// The kernel knows.
    Told,
}

/// What to do with a request that the kernel has ended with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Rearm,
    Pause,
    End,
}

pub(crate) struct Request {
    pub state: State,
    pub form: Form,
    pub user_data: u64,
    /// The socket's place in the ring's list, and what it is.
    pub socket: usize,
    pub kind: Kind,
    pub pool: u16,
    pub msg_flags: u32,
    pub flags: u32,
    pub cancelled: bool,
    /// The kernel knows that it is cancelled.
    pub cancel_told: bool,
    pub restart: Restart,
    pub passes_descriptors: bool,
    failures: u32,
    failing_since_ns: u64,
    pub drops_before: u32,
    pub stats: Stats,
    kernel_side: Box<std::cell::UnsafeCell<KernelSide>>,
}

// SAFETY: the raw pointers in there belong to the kernel's side of a request; they are only
// followed under the ring's lock.
unsafe impl Send for Request {}

impl Request {
    fn vacant() -> Self {
        // SAFETY: all-zero is a valid msghdr and iovec.
        let (message, part) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            state: State::Vacant,
            form: Form::Multishot,
            user_data: 0,
            socket: 0,
            kind: Kind { domain: 0, kind: 0 },
            pool: 0,
            msg_flags: 0,
            flags: 0,
            cancelled: false,
            cancel_told: false,
            restart: Restart::No,
            passes_descriptors: false,
            failures: 0,
            failing_since_ns: 0,
            drops_before: 0,
            stats: Stats::default(),
            kernel_side: Box::new(KernelSide { message, part, pause: Timespec::new() }.into()),
        }
    }

    /// The kernel's side. Only to be written while the kernel has not got it.
    pub(crate) fn kernel_side(&self) -> *mut KernelSide {
        self.kernel_side.get()
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn is_multishot(&self) -> bool {
        self.form == Form::Multishot
    }

    pub(crate) fn pool(&self) -> Option<u16> {
        (!matches!(self.form, Form::Caller { .. })).then_some(self.pool)
    }

    /// What to tell the engine to arm the request in `slot`.
    pub(crate) fn receive(&self, slot: u32, fd: std::os::fd::RawFd) -> Receive {
        let message = match self.form {
            Form::Caller { message, .. } => message,
            // SAFETY: only the address is taken.
            _ => unsafe { &raw mut (*self.kernel_side()).message },
        };
        Receive {
            slot,
            fd,
            message,
            msg_flags: self.msg_flags,
            poll_first: self.has(RINGMSG_RECV_POLL_FIRST),
            pool: self.is_multishot().then_some(self.pool),
            waits_for_all: self.kind.is_connection() && self.msg_flags & libc::MSG_WAITALL as u32 != 0,
            ends_when_empty: self.kind.is_connection() || self.has(RINGMSG_RECV_NO_REARM),
        }
    }

    /// Data arrived: earlier failures are forgotten.
    #[inline]
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The re-arm policy for errors other than a want of buffers.
    pub(crate) fn failed(&mut self, errno: i32, now_ns: u64) -> Verdict {
        if self.cancelled {
            return Verdict::End;
        }
        if errno == libc::ECANCELED && self.restart == Restart::Told {
            return Verdict::Rearm;
        }
        if self.has(RINGMSG_RECV_NO_REARM) {
            return Verdict::End;
        }
        // The thread that armed it has exited (plain, COOP): nobody asked for this.
        let unasked = errno == libc::ECANCELED;
        if !unasked && (!self.is_multishot() || self.kind.is_connection()) {
            return Verdict::End;
        }
        match errno {
            libc::ENOTSOCK | libc::EFAULT | libc::EINVAL | libc::EBADF => Verdict::End,
            _ if is_icmp(errno) => Verdict::Rearm,
            _ if self.fails_too_often(now_ns) => Verdict::End,
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
        self.failures >= FAILURES_MAX
    }
}

/// What an ICMP error becomes (net/ipv4/icmp.c, net/ipv6/icmp.c). A peer can send as many as
/// it likes, so they never end a request.
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
            | libc::EACCES
            | libc::EOPNOTSUPP
    )
}

/// A ring's requests, by slot.
#[derive(Default)]
pub(crate) struct Requests {
    slots: Vec<Request>,
    vacant: Vec<u32>,
    /// Slots in state Over whose FINAL record no completion will bring.
    finals: Vec<u32>,
}

impl Requests {
    /// A vacant slot. Allocates when there is none, and then also the room that cancelling
    /// and finishing will need, so that reaping allocates nothing.
    pub(crate) fn reserve(&mut self) -> u32 {
        if let Some(slot) = self.vacant.pop() {
            return slot;
        }
        self.slots.push(Request::vacant());
        let slots = self.slots.len();
        self.vacant.reserve(slots - self.vacant.len());
        self.finals.reserve(slots - self.finals.len());
        (slots - 1) as u32
    }

    pub(crate) fn vacate(&mut self, slot: u32) {
        self.slots[slot as usize].state = State::Vacant;
        self.vacant.push(slot);
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> &Request {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> &mut Request {
        &mut self.slots[slot as usize]
    }

    /// The slots in use.
    pub(crate) fn live(&self) -> impl Iterator<Item = (u32, &Request)> {
        let numbered = self.slots.iter().enumerate().map(|(slot, request)| (slot as u32, request));
        numbered.filter(|(_, request)| request.state != State::Vacant)
    }

    pub(crate) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Notes that `slot` is over and that its FINAL record is still to be made.
    pub(crate) fn finish_later(&mut self, slot: u32) {
        self.get_mut(slot).state = State::Over;
        self.finals.push(slot);
    }

    pub(crate) fn next_final(&mut self) -> Option<u32> {
        self.finals.pop()
    }

    pub(crate) fn has_finals(&self) -> bool {
        !self.finals.is_empty()
    }

    /// Operations the kernel has not completed.
    pub(crate) fn in_kernel(&self) -> usize {
        self.live().filter(|(_, r)| matches!(r.state, State::Armed | State::Paused)).count()
    }
}

/// Refuses flags that a form does not take.
pub(crate) fn check_flags(what: &str, given: u32, allowed: u32) -> Result<()> {
    if given & !allowed != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format!("{what}: flags {:#x} are unknown, or not for this call", given & !allowed),
        ));
    }
    Ok(())
}

/// What a multishot request may ask of the socket. The others end it, or repeat one datagram
/// for ever (MSG_PEEK: 33 times per kernel entry).
pub(crate) const MULTISHOT_MSG_FLAGS: u32 =
    (libc::MSG_ERRQUEUE | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC) as u32;

pub(crate) fn check_msg_flags(given: i32, multishot: bool, kind: Kind) -> Result<u32> {
    let given = given as u32;
    if multishot && given & !MULTISHOT_MSG_FLAGS != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format!(
                "multishot: msg_flags {:#x} do not go with a lasting request; only MSG_ERRQUEUE, \
             MSG_CMSG_CLOEXEC and MSG_TRUNC do",
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
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: i32) -> Request {
        Request { kind: Kind { domain: libc::AF_INET, kind }, ..Request::vacant() }
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
    fn want_of_memory_pauses_and_misuse_ends() {
        let mut request = request(libc::SOCK_DGRAM);
        assert_eq!(request.failed(libc::ENOMEM, 0), Verdict::Pause);
        assert_eq!(request.failed(libc::ENOTSOCK, 0), Verdict::End);
        assert_eq!(request.failed(libc::EFAULT, 0), Verdict::End);
        assert_eq!(request.failed(libc::EINVAL, 0), Verdict::End);
    }

    #[test]
    fn any_error_ends_a_connection_but_an_unasked_cancellation() {
        for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
            assert_eq!(request(kind).failed(libc::ECONNRESET, 0), Verdict::End);
            assert_eq!(request(kind).failed(libc::ECANCELED, 0), Verdict::Rearm);
        }
    }

    #[test]
    fn cancelled_and_no_rearm_requests_end() {
        let mut cancelled = Request { cancelled: true, ..request(libc::SOCK_DGRAM) };
        assert_eq!(cancelled.failed(libc::ECANCELED, 0), Verdict::End);
        let mut once = Request { flags: RINGMSG_RECV_NO_REARM, ..request(libc::SOCK_DGRAM) };
        assert_eq!(once.failed(libc::ECONNREFUSED, 0), Verdict::End);
    }
}
