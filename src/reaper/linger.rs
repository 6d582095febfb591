//! How long a reap lingers, and what it reports to AUTO's policy.

use super::Reaper;
use crate::config::Wait;
use crate::linger::Linger;
use crate::linger::policy::Report;
use crate::linger::trial::Reading;
use crate::ring::Taken;
use crate::sys::clock::thread_cpu_ns;

/// The most sockets whose drop counters a reading gets: a system call for each.
const SOCKETS: usize = 4;

impl Reaper<'_> {
    /// How long to linger for a batch.
    pub(super) fn linger_us(&mut self, wait: &Wait) -> u32 {
        if !self.engine.traits().lingers {
            return 0;
        }
        match Linger::of(wait.linger_us) {
            Linger::Fixed(us) => us,
            Linger::Auto { bound_us } => self.state.policy.linger_us(bound_us),
        }
    }

    /// Reports a finished reap to the policy. A reap that would be the same with another linger
    /// tells it nothing; during a trial it is a disturbance, because its cost says nothing about
    /// the arm.
    #[inline]
    pub(super) fn note_reap(&mut self, wait: &Wait, thread: u64) {
        let Taken { at_ns, datagrams } = std::mem::take(&mut self.state.taken);
        if !self.engine.traits().lingers {
            return;
        }
        let state = &mut *self.state;
        let is_other_thread = std::mem::replace(&mut state.reaping_thread, thread) != thread;
        let may_linger = wait.timeout_ns != 0 && wait.spin_us == 0 && Linger::is_auto(wait.linger_us);
        if is_other_thread || !may_linger {
            state.policy.void();
        }
        if may_linger && state.policy.note(at_ns, datagrams) {
            self.read_clock();
        }
        if let Some(report) = self.state.policy.take_report() {
            self.show(report);
        }
    }

    /// Reads the thread's CPU clock for the policy, and what sockets have dropped.
    #[cold]
    #[inline(never)]
    fn read_clock(&mut self) {
        let mut drops = 0;
        loop {
            drops = self.ring.drops_of_first_sockets(SOCKETS).unwrap_or(drops);
            // Last: between two readings lies what one costs.
            let reading = Reading { drops, cpu_ns: thread_cpu_ns() };
            if !self.state.policy.reading(reading) {
                return;
            }
        }
    }

    /// For ringmsg_ring_stats(), which any thread may call.
    #[cold]
    #[inline(never)]
    fn show(&self, report: Report) {
        let tallies = &self.ring.tallies;
        tallies.linger_us.set(report.linger_us.into());
        tallies.linger_trials.set(report.trials);
        tallies.linger_trial_ns.set(report.trial_ns);
    }
}
