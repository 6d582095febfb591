//! Engines: what turns armed requests into completions.
//!
//! An engine knows sockets, buffers and completions, but neither records nor policy. There are
//! two: `uring`, on io_uring, and `mmsg`, on epoll and recvmmsg(2), which plays the kernel's part
//! where io_uring is unavailable. Both take published buffers from the same ring, write the same
//! layout into them, and deliver the same completions, so that nothing above them differs.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::error::Result;
use crate::ids::{BufferId, PoolId, Slot};
use crate::mode::{EngineKind, Setup};
use crate::sys::memory::{Mapping, try_box};

mod mmsg;
pub(crate) mod uring;

use mmsg::Mmsg;
use uring::Uring;

/// Which request, or which internal operation, a completion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The request in this slot: a receive, or a poll.
    Receive(Slot),
    /// The pause of the request in this slot is over.
    Pause(Slot),
    /// A cancellation of the request in this slot was carried out. The request's own completion
    /// says how it ended.
    Cancel(Slot),
    /// The same for all requests.
    CancelAll,
    /// The wake-up descriptor became readable.
    Wakeup,
}

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        match self {
            Token::Receive(slot) => slot.0 as u64,
            Token::Pause(slot) => 1 << 32 | slot.0 as u64,
            Token::Cancel(slot) => 2 << 32 | slot.0 as u64,
            Token::CancelAll => 4 << 32,
            Token::Wakeup => 3 << 32,
        }
    }

    #[inline]
    pub(crate) const fn unpack(word: u64) -> Self {
        let slot = Slot(word as u32);
        match word >> 32 {
            0 => Token::Receive(slot),
            1 => Token::Pause(slot),
            2 => Token::Cancel(slot),
            4 => Token::CancelAll,
            _ => Token::Wakeup,
        }
    }
}

/// One completion, packed as the kernel reports it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    word: u64,
    /// Bytes, or -errno.
    pub result: i32,
    flags: u32,
}

// linux/io_uring.h: IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, IORING_CQE_BUFFER_SHIFT
const BUFFER: u32 = 1 << 0;
const MORE: u32 = 1 << 1;
const BUFFER_SHIFT: u32 = 16;

impl Completion {
    /// From the fields of a completion queue entry.
    #[inline]
    pub(crate) const fn from_entry(word: u64, result: i32, flags: u32) -> Self {
        Self { word, result, flags }
    }

    /// The end of an operation that filled no buffer.
    fn end(token: Token, result: i32) -> Self {
        Self { word: token.pack(), result, flags: 0 }
    }

    /// `buffer` was filled for the request in `slot`.
    #[inline]
    fn data(slot: Slot, result: i32, buffer: BufferId, more: bool) -> Self {
        let flags = BUFFER | u32::from(buffer.0) << BUFFER_SHIFT | if more { MORE } else { 0 };
        Self { word: Token::Receive(slot).pack(), result, flags }
    }

    #[inline]
    pub(crate) const fn token(&self) -> Token {
        Token::unpack(self.word)
    }

    /// The pool buffer that it filled.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<BufferId> {
        (self.flags & BUFFER != 0).then_some(BufferId((self.flags >> BUFFER_SHIFT) as u16))
    }

    /// The operation goes on.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// The pool buffer that it filled, if it is data of the same operation as `other`.
    #[inline]
    pub(crate) fn buffer_like(&self, other: &Completion) -> Option<BufferId> {
        if self.word == other.word { self.buffer() } else { None }
    }

    /// The same, if the operation also goes on.
    #[inline(always)]
    pub(crate) fn goes_on_like(&self, other: &Completion) -> Option<BufferId> {
        let goes_on = self.word == other.word && self.flags & (BUFFER | MORE) == BUFFER | MORE;
        goes_on.then_some(BufferId((self.flags >> BUFFER_SHIFT) as u16))
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is, or was, something to look at.
    Woken,
    TimedOut,
    Interrupted,
    /// The kernel refuses to wait, with this errno, and would refuse again.
    Refused(i32),
}

/// How long to sleep, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Sleep<'a> {
    /// Until this many completions are there.
    pub want: u32,
    /// Or one, after this long.
    pub min_wait_us: u32,
    /// Or for this long. None: no limit.
    pub timeout: Option<Duration>,
    /// The signal mask while asleep. None: the one that is in force.
    pub signals: Option<&'a libc::sigset_t>,
}

impl Sleep<'_> {
    /// Until there is one completion, or for `timeout`.
    pub(crate) fn for_one(timeout: Option<Duration>) -> Self {
        Self { want: 1, min_wait_us: 0, timeout, signals: None }
    }
}

/// Where a receive lands and what it asks for.
pub(crate) struct Receive {
    pub slot: Slot,
    pub fd: RawFd,
    pub message: *mut libc::msghdr,
    pub msg_flags: u32,
    pub poll_first: bool,
    /// The pool that provides the buffers of a multishot; None: single-shot.
    pub pool: Option<PoolId>,
    /// A message of no bytes ends it: on stream and seqpacket sockets it is the end of the data,
    /// and with NO_REARM the recvmmsg engine ends where io_uring would.
    pub ends_when_empty: bool,
    /// A single-shot with MSG_WAITALL on a stream goes on until its parts are full.
    pub waits_for_all: bool,
}

/// Room for the kernel's copy of a time: struct __kernel_timespec.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KernelTime {
    pub seconds: i64,
    pub nanoseconds: i64,
}

/// How the engines differ, as far as the reaper must know. Constant for a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    /// Completions wait until the reaper asks for them, so that lingering for a batch saves work.
    /// (In plain and COOP mode each of them wakes a sleeping reaper anyway.)
    pub lingers: bool,
    /// A wait can have a minimum: one sleep, however much arrives in it.
    pub min_wait: bool,
    /// `pending` is set whenever there is something to ask for. Otherwise only `poll` shows it.
    pub flags_pending: bool,
    /// `pending` is never set in vain, and a wait for a batch ends when its buffers run out.
    pub exact: bool,
    /// The end of a local stream may not be reported.
    pub loses_stream_end: bool,
    /// Published buffers are drawn from during a reap only, and a request that finds none says so:
    /// what a batch has emptied need not be refilled before the batch is released.
    pub defers_refill: bool,
    /// More published buffers of one pool than this are of no use.
    pub window_max: u32,
}

/// Whether new completions make ring_fd readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announce {
    /// They do not: the reaper is inside.
    Off,
    /// They do. `fired`: they did so since the last call.
    On { fired: bool },
}

/// The engine of a ring.
///
/// Submissions (`receive`, `poll_writable`, `cancel`, `poll_wakeup`, `pause`, `flush`) are pushed
/// by whoever holds the ring's `core` lock. Completions are popped by the reaper, who holds it too.
/// Looking (`ready`, `pending`, `queued`) and waiting need no lock.
pub(crate) enum Engine {
    Uring(Box<Uring>),
    Mmsg(Box<Mmsg>),
}

/// The same call on whichever engine it is.
macro_rules! either {
    ($self:expr, $engine:ident => $call:expr) => {
        match $self {
            Engine::Uring($engine) => $call,
            Engine::Mmsg($engine) => $call,
        }
    };
}

impl Engine {
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        Ok(match setup.engine {
            EngineKind::Recvmmsg => Engine::Mmsg(try_box(Mmsg::new(setup)?)?),
            EngineKind::IoUring => Engine::Uring(try_box(Uring::new(setup)?)?),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        either!(self, engine => engine.setup())
    }

    #[inline]
    pub(crate) fn traits(&self) -> Traits {
        either!(self, engine => engine.traits())
    }

    /// Whether multishot receives work.
    pub(crate) fn has_multishot(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.has_multishot(),
            Engine::Mmsg(_) => true,
        }
    }

    /// Submission and completion queue entries.
    pub(crate) fn entries(&self) -> (u32, u32) {
        either!(self, engine => engine.entries())
    }

    /// Kernel entries so far.
    pub(crate) fn enters(&self) -> u64 {
        either!(self, engine => engine.enters())
    }

    pub(crate) fn enable(&self) -> Result<()> {
        match self {
            Engine::Uring(engine) => engine.enable(),
            Engine::Mmsg(_) => Ok(()),
        }
    }

    // --- submissions -------------------------------------------------------------------------

    /// Queues a receive.
    pub(crate) fn receive(&self, receive: &Receive) -> Result<()> {
        either!(self, engine => engine.receive(receive))
    }

    /// Queues a poll of the request in `slot`: it completes with the events once `fd` takes data or
    /// has hung up. On io_uring it also completes, with other events, where POLLERR is set. With
    /// `by_edge` each such event is a completion, and the poll goes on until it is cancelled.
    pub(crate) fn poll_writable(&self, slot: Slot, fd: RawFd, by_edge: bool) -> Result<()> {
        match self {
            Engine::Uring(engine) => engine.poll_writable(slot, fd, by_edge),
            Engine::Mmsg(engine) => engine.poll_writable(slot, fd),
        }
    }

    /// Queues the cancellation of the request in `slot`.
    pub(crate) fn cancel(&self, slot: Slot) -> Result<()> {
        either!(self, engine => engine.cancel(slot))
    }

    /// Queues the cancellation of everything. For the ring's end.
    pub(crate) fn cancel_all(&self) -> Result<()> {
        either!(self, engine => engine.cancel_all())
    }

    /// Polls `fd`, the wake-up descriptor: each time it becomes readable a sleep ends.
    pub(crate) fn poll_wakeup(&self, fd: RawFd) -> Result<()> {
        either!(self, engine => engine.poll_wakeup(fd))
    }

    /// Completes `token` after `pause`. `place` is for the kernel's copy of it, and must stay
    /// until then.
    pub(crate) fn pause(&self, token: Token, pause: Duration, place: *mut KernelTime) -> Result<()> {
        match self {
            Engine::Uring(engine) => engine.pause(token, pause, place),
            Engine::Mmsg(engine) => engine.pause(token, pause),
        }
    }

    /// How many submissions the kernel has not taken yet.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        either!(self, engine => engine.queued())
    }

    /// Pushes what is queued to the kernel. On an error it stays queued.
    pub(crate) fn flush(&self) -> Result<()> {
        either!(self, engine => engine.flush())
    }

    /// Submitted work needs a reap, and raises no wakeup.
    pub(crate) fn needs_reaper(&self) -> bool {
        match self {
            Engine::Uring(_) => false,
            Engine::Mmsg(engine) => engine.ready() || engine.pending(),
        }
    }

    /// `fd` has no more requests, and is closed next.
    pub(crate) fn unregister_fd(&self, fd: RawFd) {
        if let Engine::Mmsg(engine) = self {
            engine.unregister_fd(fd);
        }
    }

    // --- completions -------------------------------------------------------------------------

    /// The completions in the queue, taken one by one; only one such iterator may exist, and only
    /// the reaper may have it.
    #[inline]
    pub(crate) fn completions(&self) -> Completions<'_, impl Iterator<Item = Completion> + '_> {
        match self {
            Engine::Uring(engine) => Completions::Uring(engine.completions()),
            Engine::Mmsg(engine) => Completions::Mmsg(engine.completions()),
        }
    }

    /// Whether completions lie in the queue.
    #[inline]
    pub(crate) fn ready(&self) -> bool {
        either!(self, engine => engine.ready())
    }

    /// Whether a `poll` would turn up completions that are not in the queue yet.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        either!(self, engine => engine.pending())
    }

    /// Whether the completion queue was too small.
    pub(crate) fn overflowed(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.overflowed(),
            // It receives nothing that the queue has no room for.
            Engine::Mmsg(_) => false,
        }
    }

    /// Whether completions are lost: what they reported is unknown.
    pub(crate) fn dropped(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.dropped(),
            Engine::Mmsg(_) => false,
        }
    }

    // --- waiting -----------------------------------------------------------------------------

    /// The system calls by which it waits, for a person.
    pub(crate) fn waits_by(&self) -> &'static str {
        match self {
            Engine::Uring(_) => "io_uring_enter",
            Engine::Mmsg(_) => "epoll_pwait or ppoll",
        }
    }

    /// Runs what is deferred, without sleeping.
    pub(crate) fn poll(&self) -> Waited {
        either!(self, engine => engine.poll())
    }

    /// Sleeps as `sleep` says.
    pub(crate) fn wait(&self, sleep: Sleep<'_>) -> Waited {
        either!(self, engine => engine.wait(sleep))
    }

    // --- readiness for other loops -----------------------------------------------------------

    /// The descriptor that is readable when a reap would find something: `eventfd`, or one that is
    /// readable too when `eventfd` is. `may_register`: the calling thread may register it with the
    /// kernel; otherwise the first reap does.
    pub(crate) fn open_ready_fd(&self, eventfd: RawFd, may_register: bool) -> Result<RawFd> {
        match self {
            Engine::Uring(engine) => engine.open_ready_fd(eventfd, may_register).map(|()| eventfd),
            Engine::Mmsg(engine) => engine.open_ready_fd(eventfd),
        }
    }

    /// Says whether new completions are to make `eventfd` readable. False: they will not, since
    /// the eventfd could not be registered.
    #[inline]
    pub(crate) fn announce(&self, eventfd: RawFd, announce: Announce) -> bool {
        match self {
            Engine::Uring(engine) => engine.announce(eventfd, announce),
            Engine::Mmsg(engine) => {
                engine.announce(announce);
                true
            }
        }
    }

    // --- buffer groups, and the end ----------------------------------------------------------

    /// Takes buffers for `pool` from the buffer ring in `entries`, which stays mapped until
    /// `unregister_pool` or the end of the ring.
    pub(crate) fn register_pool(&self, pool: PoolId, entries: &Mapping, count: u16) -> Result<()> {
        either!(self, engine => engine.register_pool(pool, entries, count))
    }

    pub(crate) fn unregister_pool(&self, pool: PoolId) -> Result<()> {
        either!(self, engine => engine.unregister_pool(pool))
    }

    /// Ends the engine. False: after `limit` the kernel may still write to memory it was given.
    pub(crate) fn close(self, limit: Duration) -> bool {
        match self {
            Engine::Uring(engine) => engine.close(limit),
            Engine::Mmsg(_) => true,
        }
    }
}

/// See `Engine::completions`.
pub(crate) enum Completions<'a, I> {
    Uring(I),
    Mmsg(mmsg::Popping<'a>),
}

impl<I: Iterator<Item = Completion>> Iterator for Completions<'_, I> {
    type Item = Completion;

    #[inline]
    fn next(&mut self) -> Option<Completion> {
        match self {
            Completions::Uring(queue) => queue.next(),
            Completions::Mmsg(queue) => queue.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Token::*;
    use crate::ids::Slot;

    #[test]
    fn tokens_survive_the_trip_through_the_kernel() {
        for token in
            [Receive(Slot(0)), Receive(Slot(u32::MAX)), Pause(Slot(7)), Cancel(Slot(9)), CancelAll, Wakeup]
        {
            assert_eq!(super::Token::unpack(token.pack()), token);
        }
    }
}
