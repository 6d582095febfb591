//! What becomes of a request that the kernel has ended: armed again, waiting, or over.

use std::sync::atomic::Ordering;

use super::Pass;
use crate::engine::Token;
use crate::request::*;

impl Pass<'_, '_> {
    /// The kernel ended a request with data in hand.
    pub(super) fn ended(&mut self, slot: u32, over: bool) {
        match (over, self.core.requests.get(slot).is_multishot()) {
            (false, _) => self.rearm(slot),
            (true, true) => self.disarm(slot, State::Over),
            (true, false) => self.core.requests.get_mut(slot).state = State::Over,
        }
    }

    /// Arms the request again. It keeps its place in the pool.
    pub(super) fn rearm(&mut self, slot: u32) {
        let request = self.core.requests.get_mut(slot);
        request.stats.rearms += 1;
        request.state = State::Armed;
        request.restart = Restart::No;
        let receive = request.receive(slot, self.core.sockets.fd(request.socket));
        if self.ring.engine.receive(&receive).is_err() {
            // The queue is full and the kernel does not take it: it waits like a starved one,
            // and the next reap, which is due, tries again.
            self.starve_or_retry(slot);
        }
    }

    /// Some kernels (6.18.15 and 7.3.4; not 6.12.117, 7.0.13) lose the end of a local stream that comes
    /// right behind its last data: they take what they have received for all there is, and nothing more happens on
    /// the socket. A request that is armed anew meets the end.
    #[inline(never)]
    pub(super) fn look_for_end(&mut self, slot: u32) {
        let request = self.core.requests.get_mut(slot);
        if !request.cancelled && request.restart == Restart::No && self.core.sockets.is_at_end(request.socket)
        {
            request.restart = Restart::Due;
            self.restart(slot);
        }
    }

    fn restart(&mut self, slot: u32) {
        match self.ring.engine.cancel(Token::Receive(slot)) {
            Ok(()) => self.core.requests.get_mut(slot).restart = Restart::Told,
            // The queue is full and the kernel does not take it: the next reap tries again.
            Err(_) => self.ring.signals.leave_attention(),
        }
    }

    pub(super) fn starve_or_retry(&mut self, slot: u32) {
        if self.core.requests.get(slot).is_multishot() {
            self.starve(slot);
        } else {
            self.core.requests.get_mut(slot).state = State::Starved;
        }
        self.ring.stuck.store(true, Ordering::Relaxed);
        self.ring.signals.leave_attention();
    }

    pub(super) fn starve(&mut self, slot: u32) {
        self.disarm(slot, State::Starved);
        let id = self.core.requests.get(slot).pool;
        self.pool(id).starved += 1;
    }

    pub(super) fn pause(&mut self, slot: u32) {
        self.disarm(slot, State::Paused);
        // SAFETY: only the address is taken; the request is not in the kernel.
        let place = unsafe { &raw mut (*self.core.requests.get(slot).kernel_side()).pause };
        if self.ring.engine.pause(Token::Pause(slot), PAUSE, place).is_err() {
            self.core.requests.get_mut(slot).state = State::Starved;
            let id = self.core.requests.get(slot).pool;
            self.pool(id).starved += 1;
            self.ring.signals.leave_attention();
        }
    }

    pub(super) fn paused(&mut self, slot: u32) {
        let request = self.core.requests.get(slot);
        let id = request.pool;
        if request.cancelled {
            return self.fail(slot, libc::ECANCELED, true);
        }
        self.pool(id).arm();
        self.rearm(slot);
    }

    /// The kernel no longer takes buffers for this multishot.
    pub(super) fn disarm(&mut self, slot: u32, state: State) {
        let request = self.core.requests.get_mut(slot);
        request.state = state;
        let id = request.pool;
        self.pool(id).disarm();
    }

    /// Arms what waits for buffers, where there are some now. Who is armed first may get all of them: a kernel
    /// without a limit (6.1) receives from a flooded socket as long as there are any. So the first is
    /// another one each time.
    pub(super) fn rearm_starved(&mut self) {
        let (slots, turn) = (self.core.requests.slots(), self.core.turn);
        let mut first = None;
        for slot in (turn.min(slots)..slots).chain(0..turn.min(slots)) {
            let request = self.core.requests.get_mut(slot);
            if request.state == State::Armed && request.cancelled && !request.cancel_told {
                self.ring.cancel_in_kernel(request, slot);
            }
            if request.state == State::Armed && request.restart == Restart::Due {
                self.restart(slot);
                continue;
            }
            if request.state != State::Starved {
                continue;
            }
            if request.is_multishot() {
                let id = request.pool;
                let pool = self.pool(id);
                if !pool.has_buffers() {
                    continue;
                }
                pool.starved -= 1;
                pool.arm();
                first.get_or_insert(slot);
            }
            self.rearm(slot);
        }
        self.core.turn = first.map_or(turn, |slot| slot + 1);
    }
}
