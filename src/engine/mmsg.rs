//! The recvmmsg engine: epoll(7) tells which sockets have something, recvmmsg(2) fetches it.
//!
//! It plays the part the kernel plays on io_uring: takes published buffers from a pool's ring,
//! writes `[header][name][control][payload]` into them, and queues completions that say so.
//! Like a ring in DEFER mode it receives only when asked to, in `poll` and `wait`.
//!
//! Everything that changes is behind one lock, which is never held in a sleep. The completion
//! queue is apart from it, so that the reaper may arm requests while it reads.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::Mutex;

use super::buffer_ring::Taker;
use super::queue::{Popping, Queue};
use super::{Completion, Receive, Token};
use crate::clock::now_ns;
use crate::error::{Error, Result};
use crate::fork::Descriptor;
use crate::memory::Mapping;
use crate::mode::Setup;
use crate::stats::Tally;

mod epoll;
mod receive;
mod waiting;
mod watches;

use epoll::Epoll;
use receive::{Armed, Batch};
use watches::Watches;

/// How many completions one harvest makes at least before it stops to hand them over, if it has the buffers.
const HARVEST: u32 = 256;

/// Running out of published buffers while there are others costs nothing here: see `receive_for`.
/// So a pool goes round in few of them, which the caches hold; and in as many as AUTO lingers for.
pub(super) const WINDOW: u32 = 128;

pub(crate) struct Mmsg {
    epoll: Epoll,
    /// What `ready_fd` hands out: an epoll instance that holds ours, and the bell.
    outer: OnceCell<Epoll>,
    /// Makes `ready_fd` readable when a pause is over.
    timer: OnceCell<Descriptor>,
    setup: Setup,
    queue: Queue,
    state: Mutex<State>,
    /// `poll` would find something, whether or not epoll knows.
    backlog: AtomicBool,
    /// Sockets that epoll has not been told of.
    unsettled: AtomicU32,
    /// When the first pause is over; NEVER: there is none.
    next_pause_ns: AtomicU64,
    /// Added to under the lock.
    enters: Tally,
}

const NEVER: u64 = u64::MAX;

struct State {
    watches: Watches,
    /// By slot: what is to be received.
    armed: Vec<Option<Armed>>,
    /// By pool: where published buffers are taken.
    pools: Vec<Option<Taker>>,
    /// When each is over, by `clock::now_ns`.
    pauses: Vec<(u64, Token)>,
    /// Completions the queue had no room for.
    late: VecDeque<Completion>,
    batch: Batch,
}

impl Mmsg {
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        let (_, cq_entries) = setup.entries();
        Ok(Self {
            epoll: Epoll::new()?,
            outer: OnceCell::new(),
            timer: OnceCell::new(),
            setup,
            queue: Queue::new(cq_entries)?,
            state: Mutex::new(State {
                watches: Watches::default(),
                armed: Vec::new(),
                pools: Vec::new(),
                pauses: Vec::new(),
                late: VecDeque::new(),
                batch: Batch::new(),
            }),
            backlog: AtomicBool::new(false),
            unsettled: AtomicU32::new(0),
            next_pause_ns: AtomicU64::new(NEVER),
            enters: Tally::default(),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn entries(&self) -> (u32, u32) {
        self.setup.entries()
    }

    pub(crate) fn has_min_wait(&self) -> bool {
        true
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters.get()
    }

    // --- submissions -------------------------------------------------------------------------

    pub(crate) fn receive(&self, receive: &Receive) -> Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        let slot = receive.slot as usize;
        if state.armed.len() <= slot {
            state.armed.resize_with(slot + 1, || None);
            // What an end needs, so that a harvest allocates nothing.
            state.late.reserve(2 * (slot + 1) + 1);
            state.pauses.reserve(slot + 1);
        }
        // A single-shot waits to be submitted.
        let epoll = receive.pool.is_some().then_some(&self.epoll);
        let (watch, is_new) = state.watches.arm(receive.fd, receive.slot, epoll)?;
        state.armed[slot] = Some(Armed::new(receive, watch));
        state.batch.forget();
        // epoll tells what a socket has when it is added. One that was added before has told; and a
        // single-shot may fail at once, without anything to tell.
        if receive.pool.is_none() || !is_new {
            state.watches.is_readable(watch);
            self.backlog.store(true, Ordering::Relaxed);
        } else {
            self.enters.add_one();
        }
        self.note_unsettled(state);
        Ok(())
    }

    pub(crate) fn cancel(&self, token: Token) -> Result<()> {
        if let Token::Receive(slot) = token {
            let mut state = self.state.lock();
            if let Some(armed) = state.armed.get(slot as usize).and_then(Option::as_ref) {
                let result = armed.cancelled();
                self.end(&mut state, slot, result);
            }
        }
        Ok(())
    }

    pub(crate) fn cancel_all(&self) -> Result<()> {
        let mut state = self.state.lock();
        for slot in 0..state.armed.len() as u32 {
            if state.armed[slot as usize].is_some() {
                self.end(&mut state, slot, -libc::ECANCELED);
            }
        }
        while let Some((_, token)) = state.pauses.pop() {
            self.post(&mut state.late, Completion::end(token, 0));
        }
        self.note_pauses(&state);
        self.post(&mut state.late, Completion::end(Token::Wake, 0));
        Ok(())
    }

    pub(crate) fn watch(&self, fd: RawFd) -> Result<()> {
        self.epoll.add_waker(fd)
    }

    pub(crate) fn pause(&self, token: Token, pause: Duration) -> Result<()> {
        let mut state = self.state.lock();
        state.pauses.push((now_ns() + pause.as_nanos() as u64, token));
        self.note_pauses(&state);
        Ok(())
    }

    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.unsettled.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.state.lock();
        let settled = state.watches.settle(&self.epoll, &self.enters);
        self.note_unsettled(&mut state);
        settled
    }

    pub(crate) fn forget(&self, fd: RawFd) {
        let mut state = self.state.lock();
        state.watches.forget(fd, &self.epoll);
        self.note_unsettled(&mut state);
    }

    fn note_unsettled(&self, state: &mut State) {
        self.unsettled.store(state.watches.unsettled(), Ordering::Relaxed);
    }

    /// The request in `slot` is over, as far as the engine goes.
    fn end(&self, state: &mut State, slot: u32, result: i32) {
        state.disarm(slot);
        self.note_unsettled(state);
        self.post(&mut state.late, Completion::end(Token::Receive(slot), result));
    }

    /// Queues a completion. What the queue cannot take comes later, in order.
    fn post(&self, late: &mut VecDeque<Completion>, completion: Completion) {
        if !late.is_empty() || !self.queue.push(&completion) {
            late.push_back(completion);
            self.backlog.store(true, Ordering::Relaxed);
        }
    }

    // --- completions -------------------------------------------------------------------------

    /// The completions in the queue, taken one by one; only one such iterator may exist.
    #[inline]
    pub(crate) fn completions(&self) -> Popping<'_> {
        self.queue.popping()
    }

    #[inline]
    pub(crate) fn ready(&self) -> bool {
        !self.queue.is_empty()
    }

    #[inline]
    pub(crate) fn pending(&self) -> bool {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Nothing is received that the queue has no room for.
    pub(crate) fn overflowed(&self) -> bool {
        false
    }

    // --- receiving ---------------------------------------------------------------------------

    /// Receives from the sockets that have something, each in its turn, a batch at a time.
    fn harvest(&self, state: &mut State) {
        while let Some(completion) = state.late.front() {
            if !self.queue.push(completion) {
                break;
            }
            state.late.pop_front();
        }
        let before = self.queue.room();
        for _ in 0..state.watches.readable() {
            if !state.late.is_empty() || before.saturating_sub(self.queue.room()) >= HARVEST {
                break;
            }
            let Some(watch) = state.watches.next_readable() else { break };
            let before = (self.queue.len(), state.late.len());
            if self.serve(state, watch) {
                continue;
            }
            if before == (self.queue.len(), state.late.len()) {
                // It got nothing, for want of published buffers or of room: it is the first to get some.
                state.watches.is_next(watch);
                break;
            }
            state.watches.is_readable(watch);
        }
        let backlog = !state.late.is_empty() || state.watches.readable() > 0;
        self.backlog.store(backlog, Ordering::Relaxed);
    }

    /// Serves the requests of a socket. True: it has nothing more for any of them.
    fn serve(&self, state: &mut State, watch: u32) -> bool {
        let mut drained = true;
        let mut at = 0;
        while let Some(slot) = state.watches.request(watch, at) {
            drained &= self.receive_for(state, slot);
            // One that ended is no longer in the list.
            at += usize::from(state.armed[slot as usize].is_some());
        }
        drained
    }

    /// Receives for one request. True: the socket has nothing more for it.
    fn receive_for(&self, state: &mut State, slot: u32) -> bool {
        if self.queue.room() == 0 {
            return false;
        }
        let armed = state.armed[slot as usize].as_mut().expect("a listed request is armed");
        let Some(pool) = armed.pool else {
            self.enters.add_one();
            return match receive::single(armed) {
                result if armed.would_wait(result) => true,
                result if result == -libc::EINTR => false,
                result => {
                    self.end(state, slot, result);
                    true
                }
            };
        };
        let taker = state.pools[usize::from(pool)].as_mut().expect("a pool that receives is registered");
        if taker.published() == 0 {
            if self.ready() {
                // There may be more once these have been looked at.
                return false;
            }
            self.end(state, slot, -libc::ENOBUFS);
            return true;
        }
        let mut over = false;
        let (ends_when_empty, payload_at) = (armed.ends_when_empty, armed.payload_at());
        let mut completions = self.queue.pushing();
        let received = state.batch.receive(armed, taker, self.queue.room(), |result, buffer| {
            over |= ends_when_empty && result as u32 == payload_at;
            completions.push(&Completion::data(slot, result, buffer, !over));
        });
        drop(completions);
        self.enters.add(received.calls);
        if over {
            state.disarm(slot);
            self.note_unsettled(state);
            return true;
        }
        match received.error {
            0 => received.drained,
            errno => {
                self.end(state, slot, -errno);
                true
            }
        }
    }

    // --- readiness for other loops -----------------------------------------------------------

    pub(crate) fn ready_fd(&self, bell: RawFd) -> Result<RawFd> {
        let outer = self.outer.get_or_try_init(|| {
            let outer = Epoll::new()?;
            outer.add_level(self.epoll.fd())?;
            outer.add_level(bell)?;
            Ok::<_, Error>(outer)
        })?;
        self.watch_pauses()?;
        Ok(outer.fd())
    }

    // --- buffer groups -----------------------------------------------------------------------

    pub(crate) fn register_pool(&self, pool: u16, entries: &Mapping, count: u16) -> Result<()> {
        let mut state = self.state.lock();
        let at = usize::from(pool);
        if state.pools.len() <= at {
            state.pools.resize_with(at + 1, || None);
        }
        state.pools[at] = Some(Taker::new(entries, count));
        Ok(())
    }

    pub(crate) fn unregister_pool(&self, pool: u16) -> Result<()> {
        if let Some(taker) = self.state.lock().pools.get_mut(usize::from(pool)) {
            *taker = None;
        }
        Ok(())
    }
}

impl State {
    fn disarm(&mut self, slot: u32) {
        if let Some(armed) = self.armed[slot as usize].take() {
            self.watches.disarm(armed.watch, slot);
        }
    }
}

/// One of the engine's descriptors: closed on drop and in a forked child.
fn open(what: &str, call: impl FnOnce() -> RawFd) -> Result<Descriptor> {
    let [descriptor] = Descriptor::open(what, |[fd]| {
        *fd = call();
        *fd
    })?;
    Ok(descriptor)
}
