//! Waiting: for a first completion, for a batch, for a wake, for a signal.
//!
//! Two errors must never happen, and have happened in other programs. A reaper must not wait for
//! more completions than there are published buffers: the request ends when it takes the last one,
//! and the wait then lasts to the end of its linger with nothing armed. And it must not wait for
//! more than one without a limit on the time: one armed multishot is one item of task work, however
//! many datagrams it has.

use std::time::Duration;

use super::{Output, Reaper};
use crate::engine::{Sleep, Waited};
use crate::sys::clock::now_ns;
use crate::sys::signals::Blocked;

/// Without a poll on the wake-up descriptor (the submission queue could not take it), and while a
/// submission is to be tried again, sleep no longer than this.
const RETRY: Duration = Duration::from_millis(5);

/// How often a spin looks for a pending signal: each look is a system call.
const SIGNAL_ROUNDS: u32 = 8;

/// When a reap must return.
#[derive(Clone, Copy)]
pub(super) struct Deadline {
    /// None: there is no limit.
    at_ns: Option<u64>,
    timeout_ns: i64,
}

impl Deadline {
    #[inline]
    pub(super) fn after(timeout_ns: i64) -> Self {
        let timeout = u64::try_from(timeout_ns).ok();
        Self { at_ns: timeout.and_then(|timeout| now_ns().checked_add(timeout)), timeout_ns }
    }

    pub(super) fn has_passed(&self) -> bool {
        self.at_ns.is_some_and(|at| now_ns() >= at)
    }

    /// The time that is left. None: no limit.
    pub(super) fn left(&self) -> Option<Duration> {
        self.at_ns.map(|at| Duration::from_nanos(at.saturating_sub(now_ns())))
    }

    /// The same right after `after`, without another look at the clock.
    #[inline]
    pub(super) fn left_at_first(&self) -> Option<Duration> {
        self.at_ns.map(|_| Duration::from_nanos(self.timeout_ns as u64))
    }

    fn earlier(self, other: u64) -> u64 {
        self.at_ns.map_or(other, |at| at.min(other))
    }
}

impl Reaper<'_> {
    /// Polls for up to `spin_us` before sleeping: a wake-up is what costs latency. Returns whether
    /// a signal ended it.
    pub(super) fn spin(
        &mut self,
        out: &mut Output<'_>,
        spin_us: u32,
        deadline: Deadline,
        blocked: &Blocked,
    ) -> bool {
        let until = deadline.earlier(now_ns() + u64::from(spin_us) * 1000);
        for round in 0u32.. {
            self.take(out);
            self.take_deferred(out);
            if out.filled() > 0 || self.ring.wakeup.is_woken() || now_ns() >= until {
                break;
            }
            if round % SIGNAL_ROUNDS == 0 && blocked.is_pending() {
                return true;
            }
            std::hint::spin_loop();
        }
        blocked.is_pending()
    }

    /// Sleeps until there is reason to look, for `left` at most.
    #[inline]
    pub(super) fn sleep(
        &mut self,
        out: &mut Output<'_>,
        linger_us: u32,
        left: Option<Duration>,
        signals: Option<&libc::sigset_t>,
    ) -> Waited {
        let polled = self.poll_wakeup();
        let left = match (polled, left) {
            (true, left) => left,
            (false, left) => Some(left.map_or(RETRY, |left| left.min(RETRY))),
        };
        if self.engine.overflowed() {
            self.ring.tallies.cq_overflows.add_one();
        }
        let linger_us = match left {
            Some(left) => linger_us.min(left.as_micros().min(u128::from(u32::MAX)) as u32),
            None => linger_us,
        };
        let want = if linger_us > 0 { self.batch(out.room()) } else { 1 };
        if !self.ring.wakeup.fall_asleep() {
            if !self.state.stuck || self.ring.wakeup.is_woken() {
                return Waited::Woken;
            }
            // A refused submission is tried again soon; meanwhile the other requests are served.
            let timeout = left.map_or(RETRY, |left| left.min(RETRY));
            return self.engine.wait(Sleep { signals, ..Sleep::for_one(Some(timeout)) });
        }
        self.state.since_entry = 0;
        let waited = self.wait(want, linger_us, left, signals);
        self.ring.wakeup.stop_sleeping();
        if waited == Waited::Woken {
            self.ring.tallies.wakes.add_one();
        }
        waited
    }

    fn wait(
        &self,
        want: u32,
        linger_us: u32,
        left: Option<Duration>,
        signals: Option<&libc::sigset_t>,
    ) -> Waited {
        if want <= 1 || linger_us == 0 {
            return self.engine.wait(Sleep { signals, ..Sleep::for_one(left) });
        }
        if self.engine.traits().min_wait {
            return self.engine.wait(Sleep { want, min_wait_us: linger_us, timeout: left, signals });
        }
        let linger = Duration::from_micros(linger_us.into());
        self.engine.wait(Sleep { want, signals, ..Sleep::for_one(Some(linger)) })
    }

    /// How many completions to wait for: half of the fewest buffers published in any armed pool,
    /// since the kernel takes 33 of a socket at a time, and must not run out of them.
    fn batch(&self, room: usize) -> u32 {
        if self.engine.traits().exact {
            return room as u32;
        }
        let fewest = self.state.fewest_published.get().unwrap_or(1);
        (room as u32).min(fewest / 2).max(1)
    }

    /// Ensures that a wake ends the sleep. False: it cannot be arranged now.
    #[inline]
    fn poll_wakeup(&mut self) -> bool {
        self.state.wakeup_polled || self.begin_to_poll_wakeup()
    }

    #[cold]
    fn begin_to_poll_wakeup(&mut self) -> bool {
        let _core = self.ring.core();
        let polled = self.engine.poll_wakeup(self.ring.wakeup.sleeper());
        self.state.wakeup_polled = polled.and_then(|()| self.engine.flush()).is_ok();
        self.state.wakeup_polled
    }
}
