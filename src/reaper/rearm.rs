//! What happens to a request that the kernel has ended: it is armed again, waits, or is over.

use super::pass::{CompletionPass, current_pool};
use crate::engine::Token;
use crate::ids::{PoolId, Slot};
use crate::request::*;
use crate::socket;

impl CompletionPass<'_, '_> {
    /// The kernel ended a request with data in hand.
    pub(super) fn ended(&mut self, slot: Slot, over: bool) {
        match (over, self.core.requests.get(slot).is_multishot()) {
            (false, _) => self.rearm(slot),
            (true, true) => self.disarm(slot, State::Over),
            (true, false) => self.core.requests.set_state(slot, State::Over),
        }
    }

    /// Arms the request again. It keeps its place in the pool.
    pub(super) fn rearm(&mut self, slot: Slot) {
        let requests = &mut self.core.requests;
        requests.cancel_retry(slot);
        requests.set_state(slot, State::Armed);
        let request = requests.get_mut(slot);
        request.stats.rearms += 1;
        request.cancellation = Cancellation::None;
        self.core.stats.rearms += 1;
        if self.core.requests.get(slot).arm(slot, self.engine).is_err() {
            // The queue is full, and the kernel does not take it now.
            if self.core.requests.get(slot).is_multishot() {
                self.pool_of(slot).disarm();
            }
            self.wait_for_queue_space(slot);
        }
    }

    /// Has the next reap, which is due, try to arm the request.
    fn wait_for_queue_space(&mut self, slot: Slot) {
        self.core.requests.set_state(slot, State::Waiting(For::QueueSpace));
        self.core.requests.retry_later(slot);
        self.state.stuck = true;
        self.ring.wakeup.leave_work();
    }

    /// Has the request wait for a release.
    pub(super) fn starve(&mut self, slot: Slot) {
        let id = self.core.requests.get(slot).target.pool().expect("only multishots starve");
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id);
        pool.disarm();
        self.core.requests.starve(&mut pool.starved, slot);
    }

    /// Has the request wait a moment: the kernel is out of memory.
    pub(super) fn pause(&mut self, slot: Slot) {
        self.disarm(slot, State::Paused);
        // SAFETY: only the address is taken; the request is not in the kernel.
        let place = unsafe { &raw mut (*self.core.requests.get(slot).kernel_side()).pause };
        if self.engine.pause(Token::Pause(slot), PAUSE, place).is_err() {
            self.wait_for_queue_space(slot);
        }
    }

    pub(super) fn pause_ended(&mut self, slot: Slot) {
        if self.core.requests.get(slot).is_cancelled() {
            return self.fail(slot, libc::ECANCELED, true);
        }
        self.pool_of(slot).arm();
        self.rearm(slot);
    }

    /// The kernel no longer takes buffers for this multishot.
    pub(super) fn disarm(&mut self, slot: Slot, state: State) {
        self.core.requests.set_state(slot, state);
        self.pool_of(slot).disarm();
    }

    /// Submits again what the kernel could not take before.
    pub(super) fn retry(&mut self) {
        for _ in 0..self.core.requests.retries() {
            let Some(slot) = self.core.requests.next_retry() else { break };
            let request = self.core.requests.get(slot);
            match (request.state(), request.cancellation) {
                (State::Armed, Cancellation::Wanted(then)) => {
                    self.ring.send_cancellation(self.core, slot, then);
                }
                (State::Waiting(For::QueueSpace), _) => self.rearm_waiting(slot),
                _ => {}
            }
        }
    }

    /// Sends a cancellation again that found nothing although the kernel has the request. The
    /// kernel does not find a request whose task work is queued; with an unread error queue, task
    /// work tries a receive 128 times, and a worker thread then waits for data.
    #[inline(never)]
    pub(super) fn cancellation_done(&mut self, slot: Slot, result: i32) {
        let request = self.core.requests.get(slot);
        if let (State::Armed, Cancellation::Sent(then)) = (request.state(), request.cancellation) {
            if result == -libc::ENOENT {
                self.ring.send_cancellation(self.core, slot, then);
            }
        }
    }

    fn rearm_waiting(&mut self, slot: Slot) {
        if let Target::Multishot { pool: id } = self.core.requests.get(slot).target {
            let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id);
            if !pool.has_buffers() {
                return self.core.requests.starve(&mut pool.starved, slot);
            }
            pool.arm();
        }
        self.rearm(slot);
    }

    /// Arms what waits for buffers of a pool, if there are some now. The one that is armed first
    /// may get all of them: a kernel without a limit (6.1) receives from a flooded socket as long
    /// as there are any. So another request is the first each time.
    pub(super) fn rearm_starved(&mut self, id: PoolId) {
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id);
        let waiting = pool.starved.len();
        if waiting == 0 || !pool.has_buffers() {
            return;
        }
        for _ in 0..pool.starved_turn % waiting {
            self.core.requests.rotate(&mut pool.starved);
        }
        pool.starved_turn = pool.starved_turn.wrapping_add(1);
        for _ in 0..waiting {
            let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, id);
            if !pool.has_buffers() {
                break;
            }
            let Some(slot) = self.core.requests.next_starved(&mut pool.starved) else { break };
            pool.arm();
            self.rearm(slot);
        }
    }

    /// The same for every pool that this pass has drawn from.
    pub(super) fn rearm_starved_of_touched(&mut self) {
        for at in 0..self.state.touched.len() {
            self.rearm_starved(self.state.touched[at]);
        }
    }

    /// Some kernels (6.18.15 and 7.3.4; not 6.12.117, 7.0.13) lose the end of a local stream that
    /// comes right behind its last data: they treat the received data as all there is, and report
    /// nothing more from the socket. A request that is cancelled and armed again finds the end.
    #[inline(never)]
    pub(super) fn look_for_end(&mut self, slot: Slot) {
        let request = self.core.requests.get(slot);
        if request.cancellation == Cancellation::None && socket::is_at_end(request.fd) {
            self.ring.send_cancellation(self.core, slot, Then::Rearm);
        }
    }
}
