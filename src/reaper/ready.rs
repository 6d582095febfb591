//! ring_fd: what makes it readable. During a reap completions raise no notification, because the
//! reap takes them. When it returns, ring_fd reports new completions and those that were left.

use super::Reaper;
use crate::engine::Announce;

impl Reaper<'_> {
    /// Suppresses notifications during the reap. Returns whether ring_fd was readable.
    #[inline]
    pub(super) fn silence_ready_fd(&self) -> bool {
        let Some(eventfd) = self.ring.wakeup.ready_fd() else { return false };
        self.engine.announce(eventfd, Announce::Off);
        self.ring.wakeup.drain_ready_fd()
    }

    /// Lets completions make ring_fd readable again, and makes it so for those that are there.
    #[inline]
    pub(super) fn announce_ready_fd(&mut self, fired: bool) {
        // ring_fd may be younger than this reap.
        let Some(eventfd) = self.ring.wakeup.ready_fd() else { return };
        let announced = self.engine.announce(eventfd, Announce::On { fired });
        self.ring.wakeup.fence();
        if !announced || self.has_more() || self.ring.has_something() {
            self.ring.wakeup.notify_ready_fd();
        }
    }

    /// Whether there are completions, or deferred work that brings some.
    fn has_more(&mut self) -> bool {
        let engine = self.engine;
        engine.ready() || (engine.pending() && (engine.traits().exact || self.run_deferred()))
    }
}
