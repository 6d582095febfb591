//! The reaper: the one thread that takes completions, and the order of a reap.
//!
//! A reap takes what is there; if nothing is, it spins, then sleeps, then takes again. In DEFER
//! mode the sleep itself is the kernel entry that receives, so a batch costs one.

use std::time::Duration;

use parking_lot::MutexGuard;

use crate::config::Wait;
use crate::engine::{Engine, Waited};
use crate::error::{Error, Result, describe};
use crate::ring::{ReaperState, Ring, Taken};
use crate::sys::clock::now_ns;
use crate::sys::signals::Blocked;

mod completion;
mod emit;
mod linger;
mod output;
mod pass;
mod ready;
mod rearm;
mod run;
mod sleep;

pub(crate) use output::Output;
use pass::CompletionPass;
use sleep::Deadline;

/// How often a non-blocking reap goes back for deferred work: the kernel hands over 33 completions
/// of a socket at a time.
const ROUNDS: u32 = 16;
/// How many items of deferred task work the kernel runs per entry (since 6.13).
const TASK_WORK_MAX: u32 = 20;

/// The right to reap, and what only the reaper may touch. One thread has it at a time: its lock
/// is tried, never waited for, and may be held asleep.
pub(crate) struct Reaper<'a> {
    ring: &'a Ring,
    engine: &'a Engine,
    state: MutexGuard<'a, ReaperState>,
}

impl Ring {
    /// The right to reap, if no thread has it.
    #[inline]
    pub(crate) fn try_reaper(&self) -> Option<Reaper<'_>> {
        self.reaper.try_lock().map(|state| Reaper { ring: self, engine: self.engine(), state })
    }

    /// The right to reap, or -EBUSY.
    #[inline]
    pub(crate) fn become_reaper(&self) -> Result<Reaper<'_>> {
        self.try_reaper().ok_or(Error::new(libc::EBUSY, "reap: another thread is in reap on this ring"))
    }
}

impl<'a> Reaper<'a> {
    /// Fills `out` with records, waiting as `wait` says.
    pub(crate) fn reap(mut self, out: &mut Output<'_>, wait: &Wait) -> Result<usize> {
        let thread = self.ring.note_service_thread();
        self.ring.tallies.reaps.add_one();
        let fired = self.silence_ready_fd();
        let result = self.reap_silenced(out, wait);
        self.note_reap(wait, thread);
        self.announce_ready_fd(fired);
        let releases_sockets = std::mem::take(&mut self.state.releases_sockets);
        let ring = self.ring;
        drop(self);
        if releases_sockets {
            ring.close_released_sockets();
        }
        result
    }

    fn reap_silenced(&mut self, out: &mut Output<'_>, wait: &Wait) -> Result<usize> {
        self.take(out);
        if wait.timeout_ns == 0 {
            self.state.refused = None;
            if out.filled() == 0 {
                // The requests just submitted (single-shots, re-arms) may have completed already.
                self.take(out);
            }
            self.take_deferred(out);
            return self.outcome(out, false).unwrap_or_else(|| self.nothing_or_refused(out));
        }
        if self.may_return(out) {
            if let Some(outcome) = self.outcome(out, false) {
                return outcome;
            }
        }
        let deadline = Deadline::after(wait.timeout_ns);
        let linger_us = self.linger_us(wait);
        let sleeps_twice = linger_us > 0 && !self.engine.traits().min_wait;
        if wait.spin_us > 0 || sleeps_twice {
            return self.wait_with_signals_blocked(out, wait.spin_us, linger_us, deadline);
        }
        self.sleep_until_outcome(out, linger_us, (deadline, deadline.left_at_first()), None)
    }

    /// The end of a reap that found nothing and does not wait. One that waits meets the refusal
    /// there; a loop of these would never hear of it.
    #[inline(never)]
    fn nothing_or_refused(&mut self, out: &mut Output<'_>) -> Result<usize> {
        // If the kernel has not taken the submissions, nothing was deferred that had failed.
        if self.state.stuck && self.engine.queued() > 0 && self.run_deferred() {
            self.take(out);
        }
        if out.filled() > 0 {
            return Ok(out.filled());
        }
        match self.state.refused {
            Some(errno) => Err(self.refused(errno)),
            None => Ok(0),
        }
    }

    fn refused(&self, errno: i32) -> Error {
        let call = self.engine.waits_by();
        // Those would say that nothing was done: but records may have been released.
        let returned = match errno {
            libc::EINVAL | libc::EBADFD | libc::EBUSY | libc::EOWNERDEAD => libc::EIO,
            other => other,
        };
        Error::with(
            returned,
            format_args!(
                "reap: {call}: {}; if a seccomp filter forbids it, allow what docs/security.md lists",
                describe(errno)
            ),
        )
    }

    /// Where a wait takes more than one system call, signals are blocked outside of them, so that
    /// each falls into one and ends it.
    #[inline(never)]
    fn wait_with_signals_blocked(
        &mut self,
        out: &mut Output<'_>,
        spin_us: u32,
        linger_us: u32,
        deadline: Deadline,
    ) -> Result<usize> {
        let blocked = Blocked::all();
        if spin_us > 0 {
            let interrupted = self.spin(out, spin_us, deadline, &blocked);
            if let Some(outcome) = self.outcome(out, interrupted) {
                return outcome;
            }
        }
        self.sleep_until_outcome(out, linger_us, (deadline, deadline.left()), Some(blocked.before()))
    }

    /// Sleeps as often as it takes, at first for `left` at most.
    #[inline(always)]
    fn sleep_until_outcome(
        &mut self,
        out: &mut Output<'_>,
        mut linger_us: u32,
        (deadline, mut left): (Deadline, Option<Duration>),
        signals: Option<&libc::sigset_t>,
    ) -> Result<usize> {
        loop {
            if linger_us > 0 && self.look_after_pools(out) {
                if let Some(outcome) = self.outcome(out, false) {
                    return outcome;
                }
            }
            let waited = self.sleep(out, linger_us, left, signals);
            self.take(out);
            if let Some(outcome) = self.outcome(out, waited == Waited::Interrupted) {
                return outcome;
            }
            if let Waited::Refused(errno) = waited {
                return Err(self.refused(errno));
            }
            if deadline.has_passed() {
                return Ok(0);
            }
            left = deadline.left();
            // The linger is over, and nothing came: now wait for a first record. (Without a timeout
            // the kernel ends the wait at its minimum, so a further linger would wake up each
            // time.)
            linger_us = 0;
        }
    }

    /// Whether there is an outcome, unless a signal is one.
    #[inline]
    fn may_return(&self, out: &Output<'_>) -> bool {
        let ring = self.ring;
        out.filled() > 0 || ring.wakeup.is_woken() || ring.gate.is_closing() || self.engine.dropped()
    }

    /// How the reap ends, if it does. Records are returned before any other result.
    #[inline(never)]
    fn outcome(&mut self, out: &mut Output<'_>, interrupted: bool) -> Option<Result<usize>> {
        let ring = self.ring;
        if interrupted || ring.wakeup.is_woken() {
            self.take_before_end(out);
        }
        if out.filled() > 0 {
            self.take_rest(out);
            ring.wakeup.take_wake();
            return Some(Ok(out.filled()));
        }
        self.outcome_without_records(interrupted)
    }

    /// A wake or a signal ends the reap: completions from before it may still be deferred.
    #[inline(never)]
    fn take_before_end(&mut self, out: &mut Output<'_>) {
        if out.filled() == 0 {
            self.take_deferred(out);
        }
        self.state.policy.void();
    }

    #[inline(never)]
    fn outcome_without_records(&mut self, interrupted: bool) -> Option<Result<usize>> {
        let ring = self.ring;
        if ring.gate.is_closing() {
            return Some(Err(Error::new(libc::ECANCELED, "reap: the ring is being freed")));
        }
        if self.engine.dropped() {
            // Their buffers are lost, and requests may have ended. The library cannot repair that,
            // and must not hide it.
            return Some(Err(Error::new(
                libc::EBADR,
                "reap: the kernel had no memory, and dropped completions; free the ring and make a new one",
            )));
        }
        if ring.wakeup.take_wake() {
            ring.tallies.wakes.add_one();
            return Some(Ok(0));
        }
        interrupted.then(|| Err(Error::new(libc::EINTR, "reap: interrupted by a signal; call it again")))
    }

    /// Takes what is there, if anything is.
    #[inline]
    fn take(&mut self, out: &mut Output<'_>) {
        if self.engine.ready() || self.ring.wakeup.has_work() {
            let now_ns = now_ns();
            let datagrams = self.collect(out, now_ns);
            let taken = &mut self.state.taken;
            *taken = Taken { at_ns: now_ns, datagrams: taken.datagrams + datagrams };
        }
    }

    /// Takes what the sockets hold beyond the kernel's limits: 33 datagrams of a socket and, in
    /// DEFER mode, 20 sockets per entry, and the published buffers. Enters the kernel again only if
    /// the last entry may have met a limit: what arrives one by one meanwhile is for the next reap.
    #[inline]
    fn take_rest(&mut self, out: &mut Output<'_>) {
        while out.room() > 0 {
            let has_more = self.engine.ready() || (self.met_limit() && self.engine.pending());
            if !has_more || !self.take_more(out) {
                return;
            }
        }
    }

    /// Whether the kernel, or the engine, may have stopped although there is more.
    fn met_limit(&self) -> bool {
        self.state.since_entry >= TASK_WORK_MAX || self.engine.traits().exact
    }

    /// One more pass. False: it brought no record.
    #[inline(never)]
    fn take_more(&mut self, out: &mut Output<'_>) -> bool {
        if !self.engine.ready() {
            self.state.since_entry = 0;
            self.run_deferred();
        }
        let before = out.filled();
        self.take(out);
        out.filled() > before
    }

    /// Looks after pools on which a request was armed since the last pass: they may have few
    /// buffers published, and a wait for a batch must not wait for more.
    /// Returns whether there were any.
    fn look_after_pools(&mut self, out: &mut Output<'_>) -> bool {
        let due = !self.ring.pools_to_look_after.is_empty();
        if due {
            self.ring.wakeup.leave_work();
            self.take(out);
        }
        due
    }

    /// Runs a pass over the completions. Returns how many datagrams it handed out.
    fn collect(&mut self, out: &mut Output<'_>, now_ns: u64) -> u64 {
        let work = self.ring.wakeup.take_work();
        let mut core = self.ring.core();
        let before = core.stats.datagrams;
        CompletionPass::new(self.ring, self.engine, &mut core, &mut self.state, out, now_ns).run(work);
        core.stats.datagrams - before
    }

    /// Takes deferred work, without sleeping.
    fn take_deferred(&mut self, out: &mut Output<'_>) {
        for round in 0..ROUNDS {
            let due = self.engine.pending() || (round == 0 && !self.engine.traits().flags_pending);
            if !due || out.room() == 0 {
                return;
            }
            if self.engine.overflowed() {
                self.ring.tallies.cq_overflows.add_one();
            }
            if !self.run_deferred() {
                return;
            }
            self.take(out);
        }
    }

    /// Runs deferred task work until a completion appears. Does not loop on IORING_SQ_TASKRUN:
    /// Linux 7.3 can leave it set with nothing behind it (when a receive that yields after 33
    /// datagrams is queued and run in the same pass).
    fn run_deferred(&mut self) -> bool {
        self.state.refused = match self.engine.poll() {
            Waited::Refused(errno) => Some(errno),
            _ => None,
        };
        if !self.engine.ready() && self.engine.pending() {
            // Some items bring nothing, and each request has one at most.
            let requests = self.ring.core().requests.slots();
            for _ in 0..requests / TASK_WORK_MAX {
                self.engine.poll();
                if self.engine.ready() || !self.engine.pending() {
                    break;
                }
            }
        }
        self.engine.ready()
    }

    /// Arms again what waits for buffers, and submits it. For a release by the thread that serves
    /// the ring.
    pub(crate) fn rearm_now(mut self) {
        let mut nowhere = Output::new(&mut [], None);
        let ring: &'a Ring = self.ring;
        let wakeup = &ring.wakeup;
        wakeup.leave_work();
        self.collect(&mut nowhere, now_ns());
        if self.engine.needs_reaper() {
            wakeup.leave_work();
        }
        drop(self);
        if wakeup.has_work() {
            // What is left is for a reap, and another thread may have gone to sleep in one.
            wakeup.wake_reaper();
        }
    }
}
