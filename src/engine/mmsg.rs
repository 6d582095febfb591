//! The recvmmsg engine: epoll(7) reports which sockets have something, recvmmsg(2) fetches it.
//!
//! It does what the kernel does on io_uring: takes published buffers from a pool's ring, writes
//! `[header][name][control][payload]` into them, and queues completions that say so. Like a ring
//! in DEFER mode it receives only when asked to, in `poll` and `wait`.
//!
//! Everything that changes is behind one lock, which is never held in a sleep. The completion
//! queue is outside of it, so that the reaper may arm requests while it reads.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;
use parking_lot::Mutex;

use super::{Announce, Completion, Receive, Token, Traits};
use crate::error::{Error, Result};
use crate::ids::{PoolId, Slot};
use crate::mode::Setup;
use crate::pool::buffer_ring::Consumer;
use crate::stats::Tally;
use crate::sys::clock::now_ns;
use crate::sys::fd::OwnedFd;
use crate::sys::memory::{Mapping, OUT_OF_MEMORY};

mod epoll;
mod interest;
mod queue;
mod receive;
mod waiting;

use epoll::Epoll;
use interest::InterestList;
pub(crate) use queue::Popping;
use queue::Queue;
use receive::{Armed, Batch};

/// A pass over the readable sockets stops, to hand over what it has, after this many completions.
const PASS_ENOUGH: u32 = 256;

/// Running out of published buffers while there are others costs nothing here: see `receive_for`.
/// So a pool cycles through few of them, which the caches hold.
const WINDOW_MAX: u32 = 128;

pub(crate) struct Mmsg {
    epoll: Epoll,
    /// What `open_ready_fd` returns: an epoll instance that holds ours, and the eventfd.
    outer: OnceCell<Epoll>,
    /// Makes that one readable when a pause is over.
    timer: OnceCell<OwnedFd>,
    setup: Setup,
    queue: Queue,
    state: Mutex<State>,
    // The four atomics are copies of what `state` has, stored under its lock, so that the reaper
    // need not take it to see that there is nothing. Relaxed: whoever acts on them takes the lock,
    // which orders the rest.
    /// `poll` would find something, whether or not epoll knows.
    backlog: AtomicBool,
    /// epoll's events were fetched, all of them, since a reap began.
    events_fetched: AtomicBool,
    /// Sockets that epoll's interest list must gain or lose.
    changes: AtomicU32,
    /// When the first pause is over; NEVER: there is none.
    next_pause_ns: AtomicU64,
    /// Added to under the lock.
    enters: Tally,
}

const NEVER: u64 = u64::MAX;

struct State {
    sockets: InterestList,
    /// By slot: what is to be received.
    armed: Vec<Option<Armed>>,
    /// By pool: where published buffers are taken.
    pools: Vec<Option<Consumer>>,
    /// When each is over, by `now_ns`; all are equally long, so the first ends first.
    pauses: VecDeque<(u64, Token)>,
    /// Completions that the queue had no room for.
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
                sockets: InterestList::default(),
                armed: Vec::new(),
                pools: Vec::new(),
                pauses: VecDeque::new(),
                late: VecDeque::new(),
                batch: Batch::new()?,
            }),
            backlog: AtomicBool::new(false),
            events_fetched: AtomicBool::new(false),
            changes: AtomicU32::new(0),
            next_pause_ns: AtomicU64::new(NEVER),
            enters: Tally::default(),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    #[inline]
    pub(crate) fn traits(&self) -> Traits {
        Traits {
            lingers: true,
            min_wait: true,
            flags_pending: false,
            exact: true,
            loses_stream_end: false,
            defers_refill: false,
            window_max: WINDOW_MAX,
        }
    }

    pub(crate) fn entries(&self) -> (u32, u32) {
        self.setup.entries()
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters.get()
    }

    // --- submissions -------------------------------------------------------------------------

    pub(crate) fn receive(&self, receive: &Receive) -> Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.make_room(receive.slot)?;
        // A single-shot waits to be submitted.
        let epoll = receive.pool.is_some().then_some(&self.epoll);
        let mut armed = Armed::new(receive)?;
        let (socket, is_new) = state.sockets.arm(receive.fd, receive.slot, epoll)?;
        armed.socket = socket;
        state.armed[receive.slot.index()] = Some(armed);
        state.batch.invalidate();
        // epoll reports what a socket has when the socket is added. It has reported that already
        // for one that was added before; and a single-shot may fail at once, without an event.
        if receive.pool.is_none() || !is_new {
            state.sockets.mark_readable(socket);
            self.backlog.store(true, Ordering::Relaxed);
        } else {
            self.enters.add_one();
        }
        self.note_changes(state);
        Ok(())
    }

    pub(crate) fn poll_writable(&self, slot: Slot, fd: RawFd) -> Result<()> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.make_room(slot)?;
        let socket = state.sockets.arm_writer(fd, slot, &self.epoll)?;
        state.armed[slot.index()] = Some(Armed::writer(fd, socket));
        self.enters.add_one();
        self.note_changes(state);
        Ok(())
    }

    pub(crate) fn cancel(&self, slot: Slot) -> Result<()> {
        let mut state = self.state.lock();
        if let Some(armed) = state.armed.get(slot.index()).and_then(Option::as_ref) {
            let result = armed.cancelled();
            self.end(&mut state, slot, result);
        }
        Ok(())
    }

    pub(crate) fn cancel_all(&self) -> Result<()> {
        let mut state = self.state.lock();
        for slot in 0..state.armed.len() {
            if state.armed[slot].is_some() {
                self.end(&mut state, Slot(slot as u32), -libc::ECANCELED);
            }
        }
        while let Some((_, token)) = state.pauses.pop_front() {
            self.post(&mut state.late, Completion::end(token, 0));
        }
        self.note_pauses(&state);
        self.post(&mut state.late, Completion::end(Token::Wakeup, 0));
        Ok(())
    }

    pub(crate) fn poll_wakeup(&self, fd: RawFd) -> Result<()> {
        self.epoll.add_waker(fd)
    }

    pub(crate) fn pause(&self, token: Token, pause: Duration) -> Result<()> {
        let mut state = self.state.lock();
        state.pauses.push_back((now_ns() + pause.as_nanos() as u64, token));
        self.note_pauses(&state);
        Ok(())
    }

    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.changes.load(Ordering::Relaxed) as usize
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let mut state = self.state.lock();
        let applied = state.sockets.apply_changes(&self.epoll, &self.enters);
        self.note_changes(&mut state);
        applied
    }

    pub(crate) fn unregister_fd(&self, fd: RawFd) {
        let mut state = self.state.lock();
        state.sockets.remove(fd, &self.epoll);
        self.note_changes(&mut state);
    }

    fn note_changes(&self, state: &mut State) {
        self.changes.store(state.sockets.changes(), Ordering::Relaxed);
    }

    /// Ends the request in `slot`, as far as the engine goes.
    fn end(&self, state: &mut State, slot: Slot, result: i32) {
        state.disarm(slot);
        self.note_changes(state);
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

    // --- receiving ---------------------------------------------------------------------------

    /// Ends the requests that wait until this socket takes data.
    fn end_writers(&self, state: &mut State, socket: u32, events: i32) {
        while let Some(slot) = state.sockets.next_writer(socket) {
            self.end(state, slot, events);
        }
    }

    /// Receives from the sockets that have something, each in its turn, a batch at a time.
    fn receive_readable(&self, state: &mut State) {
        while let Some(completion) = state.late.front() {
            if !self.queue.push(completion) {
                break;
            }
            state.late.pop_front();
        }
        let room_before = self.queue.room();
        for _ in 0..state.sockets.readable() {
            if !state.late.is_empty() || room_before.saturating_sub(self.queue.room()) >= PASS_ENOUGH {
                break;
            }
            let Some(socket) = state.sockets.next_readable() else { break };
            let before = (self.queue.len(), state.late.len());
            if self.serve(state, socket) {
                continue;
            }
            if before == (self.queue.len(), state.late.len()) {
                // There was no published buffer for it, or no room: it is the first to get some.
                state.sockets.put_first(socket);
                break;
            }
            state.sockets.mark_readable(socket);
        }
        let backlog = !state.late.is_empty() || state.sockets.readable() > 0;
        self.backlog.store(backlog, Ordering::Relaxed);
    }

    /// Serves the requests of a socket. True: it has nothing more for any of them.
    fn serve(&self, state: &mut State, socket: u32) -> bool {
        let mut drained = true;
        let mut at = 0;
        while let Some(slot) = state.sockets.request(socket, at) {
            drained &= self.receive_for(state, slot);
            // A request that ended is no longer in the list.
            at += usize::from(state.armed[slot.index()].is_some());
        }
        drained
    }

    /// Receives for one request. True: the socket has nothing more for it.
    fn receive_for(&self, state: &mut State, slot: Slot) -> bool {
        if self.queue.room() == 0 {
            return false;
        }
        let armed = state.armed[slot.index()].as_mut().expect("a listed request is armed");
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
        let consumer = state.pools[pool.index()].as_mut().expect("a pool that receives is registered");
        if consumer.published() == 0 {
            if self.ready() {
                // The reaper publishes more once it has looked at these completions.
                return false;
            }
            self.end(state, slot, -libc::ENOBUFS);
            return true;
        }
        let mut over = false;
        let mut completions = self.queue.pushing();
        let received = state.batch.receive(armed, consumer, self.queue.room(), |result, buffer, ends| {
            over = ends;
            completions.push(&Completion::data(slot, result, buffer, !ends));
        });
        drop(completions);
        self.enters.add(received.calls);
        if over {
            state.disarm(slot);
            self.note_changes(state);
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

    pub(crate) fn open_ready_fd(&self, eventfd: RawFd) -> Result<RawFd> {
        let outer = self.outer.get_or_try_init(|| {
            let outer = Epoll::new()?;
            outer.add_level(self.epoll.fd())?;
            outer.add_level(eventfd)?;
            Ok::<_, Error>(outer)
        })?;
        self.time_pauses()?;
        Ok(outer.fd())
    }

    /// Its descriptor is readable without a write; but an edge-triggered loop sees only new events.
    #[inline]
    pub(crate) fn announce(&self, announce: Announce) {
        match announce {
            Announce::Off => self.begin_silence(),
            Announce::On { .. } => self.end_silence(),
        }
    }

    // --- buffer groups -----------------------------------------------------------------------

    pub(crate) fn register_pool(&self, pool: PoolId, entries: &Mapping, count: u16) -> Result<()> {
        let mut state = self.state.lock();
        let missing = (pool.index() + 1).saturating_sub(state.pools.len());
        state.pools.try_reserve(missing).map_err(|_| OUT_OF_MEMORY)?;
        (0..missing).for_each(|_| state.pools.push(None));
        state.pools[pool.index()] = Some(Consumer::new(entries, count));
        Ok(())
    }

    pub(crate) fn unregister_pool(&self, pool: PoolId) -> Result<()> {
        if let Some(consumer) = self.state.lock().pools.get_mut(pool.index()) {
            *consumer = None;
        }
        Ok(())
    }
}

impl State {
    /// Room for a request in `slot`, and for all that its end needs, so that receiving allocates
    /// nothing.
    fn make_room(&mut self, slot: Slot) -> Result<()> {
        let slots = slot.index() + 1;
        let missing = slots.saturating_sub(self.armed.len());
        self.armed.try_reserve(missing).map_err(|_| OUT_OF_MEMORY)?;
        let late = (2 * slots + 1).saturating_sub(self.late.len());
        self.late.try_reserve(late).map_err(|_| OUT_OF_MEMORY)?;
        let pauses = slots.saturating_sub(self.pauses.len());
        self.pauses.try_reserve(pauses).map_err(|_| OUT_OF_MEMORY)?;
        self.armed.resize_with(slots.max(self.armed.len()), || None);
        Ok(())
    }

    fn disarm(&mut self, slot: Slot) {
        if let Some(armed) = self.armed[slot.index()].take() {
            self.sockets.disarm(armed.socket, slot);
        }
    }
}
