//! One pass over the completions: they become records, and requests that ended are armed again.

use super::output::Output;
use crate::engine::{Completion, Engine, Token};
use crate::ids::{PoolId, Slot};
use crate::pool::{Buffers, Locked, Pool};
use crate::ring::{Core, ReaperState, Ring};

/// A walk over the completions. Only the reaper has one: `state` is what its lock guards.
pub(super) struct CompletionPass<'a, 'o> {
    pub ring: &'a Ring,
    pub engine: &'a Engine,
    pub core: &'a mut Core,
    pub state: &'a mut ReaperState,
    pub out: &'a mut Output<'o>,
    pub now_ns: u64,
    /// The pool of the last completion, kept locked: the next one is likely of the same.
    pub current_pool: Option<(PoolId, Locked<'a>)>,
    /// A request ran out of buffers, and its pool has some by now.
    pub refilled: bool,
}

impl<'a, 'o> CompletionPass<'a, 'o> {
    pub(super) fn new(
        ring: &'a Ring,
        engine: &'a Engine,
        core: &'a mut Core,
        state: &'a mut ReaperState,
        out: &'a mut Output<'o>,
        now_ns: u64,
    ) -> Self {
        Self { ring, engine, core, state, out, now_ns, current_pool: None, refilled: false }
    }

    /// Makes records of what is there, as far as they fit, and re-arms what has ended. `work`:
    /// there is something to do that no completion announces.
    #[inline]
    pub(super) fn run(mut self, work: bool) {
        self.state.stuck = false;
        self.continue_train();
        if work {
            self.do_work();
        }
        let engine = self.engine;
        let mut ready = engine.completions();
        let mut next = None;
        while next.is_some() || self.out.room() > 0 {
            let Some(completion) = next.take().or_else(|| ready.next()) else { break };
            next = self.take(completion, &mut ready);
        }
        drop(ready);
        if self.refilled {
            self.rearm_starved_of_touched();
        }
        self.refill_pools();
        if self.engine.queued() > 0 && self.engine.flush().is_err() {
            // The kernel is short of memory, or its queue is full: the next reap tries again.
            self.state.stuck = true;
            self.ring.wakeup.leave_work();
        }
        if self.state.train.is_some() || self.core.requests.has_finals() {
            self.ring.wakeup.leave_work();
        }
    }

    #[inline(never)]
    fn do_work(&mut self) {
        self.make_finals();
        self.retry();
        let ring = self.ring;
        ring.pools_to_look_after.drain(|id| {
            // It may have been freed since. (At most one pool is locked at a time.)
            self.current_pool = None;
            if ring.pools.get(id).and_then(Pool::lock).is_some() {
                self.rearm_starved(id);
            }
        });
    }

    /// Takes a completion, and what can be taken with it from `ready`. Returns one that came behind
    /// these and belongs to something else; there is room for its record.
    #[inline]
    fn take(
        &mut self,
        completion: Completion,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        match completion.token() {
            Token::Receive(slot) if completion.buffer().is_some() => {
                return self.run_of_data(slot, completion, ready);
            }
            Token::Receive(slot) => self.received(slot, &completion),
            Token::Pause(slot) => self.pause_ended(slot),
            Token::Wakeup => self.state.wakeup_polled = completion.more(),
            Token::Cancel(slot) => self.cancellation_done(slot, completion.result),
            Token::CancelAll => {}
        }
        None
    }

    /// The pool `id`, locked.
    #[inline]
    pub(super) fn pool(&mut self, id: PoolId) -> &mut Buffers {
        current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id)
    }

    /// The pool that the request in `slot` receives into. Only for requests that have one.
    pub(super) fn pool_of(&mut self, slot: Slot) -> &mut Buffers {
        let id = self.core.requests.get(slot).target.pool().expect("a request of a pool form");
        self.pool(id)
    }

    /// Refills the windows of the pools that were drawn from.
    #[inline]
    fn refill_pools(&mut self) {
        while let Some(id) = self.state.touched.pop() {
            let (now_ns, engine) = (self.now_ns, self.engine);
            let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id);
            pool.end_of_reap(now_ns, engine.traits().defers_refill);
            // After the refill: a completion that is there by now may have missed it.
            if !engine.ready() && !engine.overflowed() {
                pool.note_caught_up();
            }
            let published = (pool.armed > 0).then_some(pool.published);
            if std::mem::replace(&mut pool.reported, published) != published {
                self.state.fewest_published.set(id, published);
            }
        }
        self.current_pool = None;
    }
}

/// The pool `id`, locked: the current one, or fetched.
#[inline]
pub(super) fn current_pool<'h, 'a>(
    current: &'h mut Option<(PoolId, Locked<'a>)>,
    ring: &'a Ring,
    touched: &mut Vec<PoolId>,
    id: PoolId,
) -> &'h mut Buffers {
    if current.as_ref().is_none_or(|(held, _)| *held != id) {
        fetch(current, ring, touched, id);
    }
    &mut current.as_mut().expect("just fetched").1
}

// Not cold: each pass begins with it.
#[inline(never)]
fn fetch<'a>(
    current: &mut Option<(PoolId, Locked<'a>)>,
    ring: &'a Ring,
    touched: &mut Vec<PoolId>,
    id: PoolId,
) {
    // One lock at a time.
    *current = None;
    let mut pool = ring.pools.get(id).and_then(Pool::lock).expect("a pool with requests is not freed");
    if !pool.touched {
        pool.touched = true;
        touched.push(id);
    }
    *current = Some((id, pool));
}
