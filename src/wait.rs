//! Waiting: for a first record, for company, for a wake, for a signal.
//!
//! The order of a reap: take what is there; if nothing is, spin, then sleep; take again.
//! In DEFER mode the sleep itself is the kernel entry that receives, so a batch costs one.
//!
//! What must never happen, and has to others: to wait for more completions than there are
//! published buffers (the request ends when it takes the last one, and the wait then sits out
//! its linger with nothing armed), or for more than one without a bound on the time (one armed
//! multishot is one item of task work, however many datagrams it has).

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::now_ns;
use crate::config::*;
use crate::engine::Waited;
use crate::error::{Error, Result, describe};
use crate::linger::Linger;
use crate::pool::Pool;
use crate::reap::Output;
use crate::ring::Ring;

/// How often a non-blocking reap goes back for what the kernel put off: it hands over 33
/// completions of a socket at a time.
const ROUNDS: u32 = 16;
/// How many items of what it put off the kernel works off at a time (since 6.13).
const ITEMS: u32 = 20;
/// Without a watch on the wake descriptor (the submission queue could not take it) sleep no
/// longer than this.
const BLIND_NAP: Duration = Duration::from_millis(5);

/// When a reap must return.
#[derive(Clone, Copy)]
struct Deadline(Option<u64>);

impl Deadline {
    fn after(timeout_ns: i64) -> Self {
        Self(u64::try_from(timeout_ns).ok().and_then(|timeout| now_ns().checked_add(timeout)))
    }

    fn has_passed(&self) -> bool {
        self.0.is_some_and(|at| now_ns() >= at)
    }

    /// What is left; None: for ever.
    fn left(&self) -> Option<Duration> {
        self.0.map(|at| Duration::from_nanos(at.saturating_sub(now_ns())))
    }

    fn earlier(self, other: u64) -> u64 {
        self.0.map_or(other, |at| at.min(other))
    }
}

/// The right to reap; given back when dropped.
pub(crate) struct Reaper<'a>(&'a Ring);

impl Drop for Reaper<'_> {
    fn drop(&mut self) {
        self.0.reaping.store(false, Ordering::Release);
    }
}

impl Ring {
    /// The right to reap, which one thread has at a time.
    pub(crate) fn become_reaper(&self) -> Result<Reaper<'_>> {
        if self.reaping.swap(true, Ordering::Acquire) {
            return Err(Error::new(libc::EBUSY, "reap: another thread is in reap on this ring"));
        }
        Ok(Reaper(self))
    }

    /// Fills `out` with records, waiting as `wait` says.
    pub(crate) fn reap(&self, reaper: Reaper<'_>, out: &mut Output<'_>, wait: &Wait) -> Result<usize> {
        self.make_home();
        self.tallies.reaps.add_one();
        let told = self.signals.ready_fd().is_some() && self.hush();
        let result = self.reap_quietly(out, wait);
        // Whatever happens from here on is announced again. (ring_fd may be younger than this.)
        if self.signals.ready_fd().is_some() {
            self.unhush(told);
        }
        drop(reaper);
        result
    }

    /// From here on completions are this reap's own business. Whether they were announced.
    fn hush(&self) -> bool {
        if !self.engine.eventfd_registered() {
            if let Some(fd) = self.signals.ready_fd() {
                // On failure ring_fd stays readable, which costs empty wake-ups but no record.
                let _ = self.engine.register_eventfd(fd);
            }
        }
        self.engine.mute_eventfd();
        self.signals.drain_bell()
    }

    /// Announces completions again, and what is left behind.
    fn unhush(&self, told: bool) {
        if let Some(fd) = self.signals.ready_fd().filter(|_| told && self.renews.load(Ordering::Relaxed)) {
            self.engine.renew_eventfd(fd);
        }
        self.engine.unmute_eventfd();
        self.signals.fence();
        if self.look() || self.has_something() || !self.engine.eventfd_registered() {
            self.signals.ring_bell();
        }
    }

    /// Whether there are completions, or some can be had.
    fn look(&self) -> bool {
        self.engine.ready() || (self.engine.pending() && (self.engine.is_exact() || self.ask()))
    }

    /// Asks the kernel for what it has put off, until there is a completion. Not until the mark is gone:
    /// Linux 7.3 leaves it set when a receive puts itself off while it is being run, as it does after 33
    /// datagrams, and is then run in the same pass.
    fn ask(&self) -> bool {
        self.engine.poll();
        if !self.engine.ready() && self.engine.pending() {
            // Some of what is put off brings nothing, and each request has it once at most.
            let requests = self.core().requests.slots();
            for _ in 0..requests / ITEMS {
                self.engine.poll();
                if self.engine.ready() || !self.engine.pending() {
                    break;
                }
            }
        }
        self.engine.ready()
    }

    /// Whether a reap would find something to do right now, besides what is put off.
    pub(crate) fn has_something(&self) -> bool {
        self.engine.ready()
            || self.signals.wants_attention()
            || self.signals.is_woken()
            || self.engine.dropped()
    }

    fn reap_quietly(&self, out: &mut Output<'_>, wait: &Wait) -> Result<usize> {
        self.take(out);
        if wait.timeout_ns == 0 {
            if out.filled() == 0 {
                // What that submitted (single-shots, re-arms) may be done already.
                self.take(out);
            }
            self.take_deferred(out);
            return self.outcome(out, false).unwrap_or(Ok(0));
        }
        if let Some(outcome) = self.outcome(out, false) {
            return outcome;
        }
        let deadline = Deadline::after(wait.timeout_ns);
        self.spin(out, wait.spin_us, deadline);
        let mut linger_us = self.linger_us(wait);
        loop {
            if let Some(outcome) = self.outcome(out, false) {
                return outcome;
            }
            let waited = self.sleep(out.room() as u32, linger_us, deadline);
            self.take(out);
            if let Some(outcome) = self.outcome(out, waited == Waited::Interrupted) {
                return outcome;
            }
            if let Waited::Refused(errno) = waited {
                return Err(Error::with(errno, format!("reap: io_uring_enter: {}", describe(errno))));
            }
            if deadline.has_passed() {
                return Ok(0);
            }
            // That was the linger, and nothing came. Now for a first one. (Without a time-out
            // the kernel ends the wait with its minimum, so this would get up every linger.)
            linger_us = 0;
        }
    }

    /// How the reap ends, if it does. Records win over every other outcome.
    fn outcome(&self, out: &mut Output<'_>, interrupted: bool) -> Option<Result<usize>> {
        if out.filled() == 0 && (interrupted || self.signals.is_woken()) {
            // What came before the wake may not have been asked for yet.
            self.take_deferred(out);
        }
        if out.filled() > 0 {
            self.signals.take_wake();
            return Some(Ok(out.filled()));
        }
        if self.gate.is_closing() {
            return Some(Err(Error::new(libc::ECANCELED, "reap: the ring is being freed")));
        }
        if self.engine.dropped() {
            // Buffers are gone with them, and requests may have ended: not to be mended from here,
            // and never to be passed over in silence.
            return Some(Err(Error::new(
                libc::EBADR,
                "reap: the kernel had no memory, and dropped completions; free the ring and make a new one",
            )));
        }
        if self.signals.take_wake() {
            self.tallies.wakes.add_one();
            return Some(Ok(0));
        }
        interrupted.then(|| Err(Error::new(libc::EINTR, "reap: interrupted by a signal; call it again")))
    }

    /// Takes what lies ready, if anything does.
    #[inline]
    fn take(&self, out: &mut Output<'_>) {
        if self.engine.ready() || self.signals.wants_attention() {
            let now = now_ns();
            let mut core = self.core();
            let completions = self.collect(&mut core, out, now);
            core.arrivals.note(completions, now);
            self.arrivals_per_us.store(core.arrivals.per_us().to_bits(), Ordering::Relaxed);
        }
    }

    /// Takes what the kernel has put off, without sleeping.
    fn take_deferred(&self, out: &mut Output<'_>) {
        for round in 0..ROUNDS {
            let due = self.engine.pending() || (round == 0 && !self.engine.announces());
            if !due || out.room() == 0 {
                return;
            }
            if self.engine.overflowed() {
                self.tallies.cq_overflows.add_one();
            }
            if !self.ask() {
                return;
            }
            self.take(out);
        }
    }

    /// Polls for up to `spin_us` before sleeping: waking up is what costs latency.
    fn spin(&self, out: &mut Output<'_>, spin_us: u32, deadline: Deadline) {
        if spin_us == 0 {
            return;
        }
        let until = deadline.earlier(now_ns() + u64::from(spin_us) * 1000);
        while out.filled() == 0 && !self.signals.is_woken() && now_ns() < until {
            self.take(out);
            self.take_deferred(out);
            std::hint::spin_loop();
        }
    }

    /// How long to wait for company. Only where completions wait to be asked for: elsewhere
    /// each of them wakes the sleeper anyway.
    fn linger_us(&self, wait: &Wait) -> u32 {
        if !self.engine.lingers() {
            return 0;
        }
        let arrivals_per_us = f32::from_bits(self.arrivals_per_us.load(Ordering::Relaxed));
        Linger::of(wait.linger_us).us(arrivals_per_us)
    }

    /// Sleeps until there is reason to look.
    fn sleep(&self, room: u32, linger_us: u32, deadline: Deadline) -> Waited {
        let watching = self.watch_sleeper();
        let left = if watching {
            deadline.left()
        } else {
            Some(deadline.left().map_or(BLIND_NAP, |left| left.min(BLIND_NAP)))
        };
        if self.engine.overflowed() {
            self.tallies.cq_overflows.add_one();
        }
        let want = match (linger_us > 0, self.engine.is_exact()) {
            (false, _) => 1,
            (true, false) => self.reachable(room),
            (true, true) => room, // it stops by itself when it runs out of buffers
        };
        let linger_us = match left {
            Some(left) => linger_us.min(left.as_micros().min(u128::from(u32::MAX)) as u32),
            None => linger_us,
        };
        if !self.signals.fall_asleep() {
            if !self.stuck.load(Ordering::Relaxed) || self.signals.is_woken() {
                return Waited::Woken;
            }
            // What was refused is tried again soon; meanwhile the others are not kept waiting.
            return self.engine.wait(1, 0, Some(left.map_or(BLIND_NAP, |left| left.min(BLIND_NAP))));
        }
        let waited = match (want > 1 && linger_us > 0, self.engine.has_min_wait()) {
            (false, _) => self.engine.wait(1, 0, left),
            (true, true) => self.engine.wait(want, linger_us, left),
            (true, false) => self.engine.wait(want, 0, Some(Duration::from_micros(linger_us.into()))),
        };
        self.signals.wake_up();
        if waited == Waited::Woken {
            self.tallies.wakes.add_one();
        }
        waited
    }

    /// How many completions can be waited for: half of the fewest buffers published in any pool
    /// that is armed, since the kernel takes 33 of a socket at a time, and must not run dry.
    fn reachable(&self, room: u32) -> u32 {
        let published = self.pools.iter().filter_map(Pool::lock).filter(|pool| pool.armed > 0);
        let fewest = published.map(|pool| pool.published).min().unwrap_or(1);
        room.min(fewest / 2).max(1)
    }

    /// Sees to it that a wake ends the sleep. False: it could not be arranged now.
    fn watch_sleeper(&self) -> bool {
        if self.watching.load(Ordering::Relaxed) {
            return true;
        }
        let _core = self.core();
        let watched = self.engine.watch(self.signals.sleeper()).and_then(|()| self.engine.flush()).is_ok();
        self.watching.store(watched, Ordering::Relaxed);
        watched
    }
}
