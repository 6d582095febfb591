//! Engines: what turns armed requests into completions.
//!
//! An engine knows sockets, buffers and completions, but neither records nor policy. There are
//! two: `uring`, on io_uring, and `mmsg`, on epoll and recvmmsg(2), which plays the kernel's part
//! where io_uring is not to be had. Both take published buffers from the same ring, write the
//! same layout into them, and bring the same completions, so that nothing above notices.

use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::types::Timespec;

use crate::error::Result;
use crate::memory::Mapping;
use crate::mode::Setup;

pub(crate) mod buffer_ring;
mod mmsg;
mod queue;
pub(crate) mod uring;

pub(crate) use buffer_ring::BufferRing;
use mmsg::Mmsg;
use uring::Uring;

/// Which request, or which internal operation, a completion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A receive of the request in this slot.
    Receive(u32),
    /// The pause of the request in this slot is over.
    Pause(u32),
    /// A cancellation was carried out. How the request ended is told by its own completion.
    Cancel,
    /// Somebody wrote to the wake descriptor.
    Wake,
}

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        match self {
            Token::Receive(slot) => slot as u64,
            Token::Pause(slot) => 1 << 32 | slot as u64,
            Token::Cancel => 2 << 32,
            Token::Wake => 3 << 32,
        }
    }

    #[inline]
    pub(crate) const fn unpack(word: u64) -> Self {
        match word >> 32 {
            0 => Token::Receive(word as u32),
            1 => Token::Pause(word as u32),
            2 => Token::Cancel,
            _ => Token::Wake,
        }
    }
}

/// One completion, as the kernel reports it: packed, since nearly all of them are alike.
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
    fn data(slot: u32, result: i32, buffer: u16, more: bool) -> Self {
        let flags = BUFFER | u32::from(buffer) << BUFFER_SHIFT | if more { MORE } else { 0 };
        Self { word: Token::Receive(slot).pack(), result, flags }
    }

    #[inline]
    pub(crate) const fn token(&self) -> Token {
        Token::unpack(self.word)
    }

    /// The pool buffer it filled.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.flags & BUFFER != 0).then_some((self.flags >> BUFFER_SHIFT) as u16)
    }

    /// The operation goes on.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// The pool buffer it filled, if it is data of the same operation as `other`.
    #[inline]
    pub(crate) fn buffer_like(&self, other: &Completion) -> Option<u16> {
        if self.word == other.word { self.buffer() } else { None }
    }
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// There is, or was, something to look at.
    Woken,
    TimedOut,
    Interrupted,
    /// The kernel refuses to wait, with this errno: it will not change its mind.
    Refused(i32),
}

/// Where a receive lands and what it asks for.
pub(crate) struct Receive {
    pub slot: u32,
    pub fd: RawFd,
    pub message: *mut libc::msghdr,
    pub msg_flags: u32,
    pub poll_first: bool,
    /// The pool that provides the buffers of a multishot; None: single-shot.
    pub pool: Option<u16>,
    /// A message of no bytes ends it: on stream and seqpacket sockets it is the end, and with
    /// NO_REARM an end that io_uring makes is one here, too.
    pub ends_when_empty: bool,
    /// A single-shot with MSG_WAITALL on a stream: goes on until its parts are full.
    pub waits_for_all: bool,
}

/// The engine of a ring.
///
/// Submissions (`receive`, `cancel`, `watch`, `pause`, `flush`) are pushed by whoever holds the
/// ring's `core` lock. Completions are popped by the one reaper, who holds it too. Looking
/// (`ready`, `pending`, `queued`) and waiting need no lock.
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
        Ok(match setup.is_recvmmsg() {
            true => Engine::Mmsg(Box::new(Mmsg::new(setup)?)),
            false => Engine::Uring(Box::new(Uring::new(setup)?)),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        either!(self, engine => engine.setup())
    }

    /// Submission and completion entries.
    pub(crate) fn entries(&self) -> (u32, u32) {
        either!(self, engine => engine.entries())
    }

    /// Kernel entries so far.
    pub(crate) fn enters(&self) -> u64 {
        either!(self, engine => engine.enters())
    }

    /// A wait can have a minimum: one sleep, however much arrives in it.
    pub(crate) fn has_min_wait(&self) -> bool {
        either!(self, engine => engine.has_min_wait())
    }

    /// Waiting for company saves something: completions wait to be asked for.
    #[inline]
    pub(crate) fn lingers(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.setup().defer(),
            Engine::Mmsg(_) => true,
        }
    }

    /// `pending` tells of everything that can be had. Otherwise only asking tells.
    #[inline]
    pub(crate) fn announces(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.setup().announces(),
            Engine::Mmsg(_) => false,
        }
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

    /// Queues the end of what `token` names.
    pub(crate) fn cancel(&self, token: Token) -> Result<()> {
        either!(self, engine => engine.cancel(token))
    }

    /// Queues the end of everything. For the ring's end.
    pub(crate) fn cancel_all(&self) -> Result<()> {
        either!(self, engine => engine.cancel_all())
    }

    /// Has `fd` end every sleep that it becomes readable in.
    pub(crate) fn watch(&self, fd: RawFd) -> Result<()> {
        either!(self, engine => engine.watch(fd))
    }

    /// Completes `token` after `pause`. `place` is for the kernel's copy of it, and must stay
    /// until then.
    pub(crate) fn pause(&self, token: Token, pause: Duration, place: *mut Timespec) -> Result<()> {
        match self {
            Engine::Uring(engine) => engine.pause(token, pause, place),
            Engine::Mmsg(engine) => engine.pause(token, pause),
        }
    }

    /// Submissions the kernel has not been told of.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        either!(self, engine => engine.queued())
    }

    /// Tells the kernel what is queued. On an error it stays queued.
    pub(crate) fn flush(&self) -> Result<()> {
        either!(self, engine => engine.flush())
    }

    /// What was submitted is for the reaper to do or to take, and nothing will tell it so.
    pub(crate) fn needs_reaper(&self) -> bool {
        match self {
            Engine::Uring(_) => false,
            Engine::Mmsg(engine) => engine.ready() || engine.pending(),
        }
    }

    /// `fd` has no more requests, and is closed next.
    pub(crate) fn forget(&self, fd: RawFd) {
        if let Engine::Mmsg(engine) = self {
            engine.forget(fd);
        }
    }

    /// The end of a local stream may not be told.
    pub(crate) fn loses_ends(&self) -> bool {
        matches!(self, Engine::Uring(_))
    }

    // --- completions -------------------------------------------------------------------------

    /// The completions in the queue, taken one by one; only one such iterator may exist.
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

    /// `pending` can be relied on. io_uring may have set its mark for what is done by now.
    pub(crate) fn is_exact(&self) -> bool {
        matches!(self, Engine::Mmsg(_))
    }

    /// Whether the completion queue was too small.
    pub(crate) fn overflowed(&self) -> bool {
        either!(self, engine => engine.overflowed())
    }

    /// Completions are gone for good: what they told of is not known.
    pub(crate) fn dropped(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.dropped(),
            Engine::Mmsg(_) => false,
        }
    }

    // --- waiting -----------------------------------------------------------------------------

    /// Fetches what can be had without sleeping.
    pub(crate) fn poll(&self) {
        either!(self, engine => engine.poll());
    }

    /// Sleeps until `want` completions are there, or one after `min_wait_us`, or for `timeout`.
    pub(crate) fn wait(&self, want: u32, min_wait_us: u32, timeout: Option<Duration>) -> Waited {
        either!(self, engine => engine.wait(want, min_wait_us, timeout))
    }

    // --- readiness for other loops -----------------------------------------------------------

    /// The descriptor that is readable when a reap would find something, if the engine has one
    /// of its own. It is readable too when `bell` is.
    pub(crate) fn ready_fd(&self, bell: RawFd) -> Result<Option<RawFd>> {
        match self {
            Engine::Uring(_) => Ok(None),
            Engine::Mmsg(engine) => engine.ready_fd(bell).map(Some),
        }
    }

    /// Has the kernel write to `eventfd` when a reap would find something.
    pub(crate) fn register_eventfd(&self, eventfd: RawFd) -> Result<()> {
        match self {
            Engine::Uring(engine) => engine.register_eventfd(eventfd),
            Engine::Mmsg(_) => Ok(()),
        }
    }

    /// Makes that registration anew.
    pub(crate) fn renew_eventfd(&self, eventfd: RawFd) {
        if let Engine::Uring(engine) = self {
            engine.renew_eventfd(eventfd);
        }
    }

    /// Whether what happens from here on is announced.
    pub(crate) fn eventfd_registered(&self) -> bool {
        match self {
            Engine::Uring(engine) => engine.eventfd_registered(),
            Engine::Mmsg(_) => true,
        }
    }

    /// From here on completions are the reaper's own business.
    #[inline]
    pub(crate) fn mute_eventfd(&self) {
        if let Engine::Uring(engine) = self {
            engine.mute_eventfd();
        }
    }

    #[inline]
    pub(crate) fn unmute_eventfd(&self) {
        if let Engine::Uring(engine) = self {
            engine.unmute_eventfd();
        }
    }

    /// How many published buffers of a pool the engine has use for at most.
    pub(crate) fn widest_window(&self) -> u32 {
        match self {
            Engine::Uring(_) => u32::MAX,
            Engine::Mmsg(_) => mmsg::WINDOW,
        }
    }

    // --- buffer groups, and the end ----------------------------------------------------------

    /// Takes buffers for `pool` from the buffer ring in `entries`, which stays mapped until
    /// `unregister_pool` or the end of the ring.
    pub(crate) fn register_pool(&self, pool: u16, entries: &Mapping, count: u16) -> Result<()> {
        either!(self, engine => engine.register_pool(pool, entries, count))
    }

    pub(crate) fn unregister_pool(&self, pool: u16) -> Result<()> {
        either!(self, engine => engine.unregister_pool(pool))
    }

    /// Ends the engine. False: the kernel may still write to memory it was given, `patience`
    /// later.
    pub(crate) fn close(self, patience: Duration) -> bool {
        match self {
            Engine::Uring(engine) => engine.close(patience),
            Engine::Mmsg(_) => true,
        }
    }
}

/// See `Engine::completions`.
pub(crate) enum Completions<'a, I> {
    Uring(I),
    Mmsg(queue::Popping<'a>),
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

    #[test]
    fn tokens_survive_the_trip_through_the_kernel() {
        for token in [Receive(0), Receive(u32::MAX), Pause(7), Cancel, Wake] {
            assert_eq!(super::Token::unpack(token.pack()), token);
        }
    }
}
