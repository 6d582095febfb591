//! How other threads, signal handlers and other event loops reach the reaper.

use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Release, SeqCst},
    fence,
};

use once_cell::sync::OnceCell;

use crate::error::Result;
use crate::sys::fd::OwnedFd;

/// The flags and descriptors of one ring. Everything here is safe in a signal handler.
pub(crate) struct Wakeup {
    /// Written only while the reaper sleeps in the kernel. The engine polls it there.
    sleeper: OwnedFd,
    /// What ringmsg_ring_fd() hands out. Created on first use.
    ready: OnceCell<OwnedFd>,
    sleeping: AtomicBool,
    /// ringmsg_wake() was called: the current or next reap returns.
    woken: AtomicBool,
    /// There is work for the reaper that no completion will announce.
    work: AtomicBool,
}

fn write(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes. It fails only when the counter is full, that is, readable.
    unsafe { libc::write(fd, (&raw const one).cast(), size_of::<u64>()) };
}

impl Wakeup {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            sleeper: OwnedFd::eventfd()?,
            ready: OnceCell::new(),
            sleeping: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            work: AtomicBool::new(false),
        })
    }

    /// The eventfd that ends the reaper's sleep.
    pub(crate) fn sleeper(&self) -> RawFd {
        self.sleeper.raw()
    }

    // --- from anywhere -----------------------------------------------------------------------

    /// Makes the current or next reap return.
    pub(crate) fn wake(&self) {
        self.woken.store(true, SeqCst);
        self.wake_reaper();
    }

    /// Makes the reaper run a pass, wherever it sleeps. Costs no system call if it is due already.
    pub(crate) fn post_work(&self) {
        if !self.work.swap(true, SeqCst) {
            self.wake_reaper();
        }
    }

    /// Ends the reaper's sleep, in a reap or in the program's own event loop.
    pub(crate) fn wake_reaper(&self) {
        // Order: this thread stores its flag before it loads `sleeping`; the reaper stores
        // `sleeping` before it loads the flags (`fall_asleep`). All four are SeqCst, so at least
        // one of the two sees the other's store.
        if self.sleeping.load(SeqCst) {
            write(self.sleeper.raw());
        }
        self.notify_ready_fd();
    }

    /// Makes ring_fd readable, if the program has asked for it.
    pub(crate) fn notify_ready_fd(&self) {
        if let Some(ready) = self.ready.get() {
            write(ready.raw());
        }
    }

    // --- from the reaper ---------------------------------------------------------------------

    /// Announces that the reaper is about to sleep. False: there is something to do first.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        if self.woken.load(SeqCst) || self.work.load(SeqCst) {
            self.sleeping.store(false, SeqCst);
            return false;
        }
        true
    }

    pub(crate) fn stop_sleeping(&self) {
        // Release: a waker that still reads `sleeping` as true makes one redundant write.
        self.sleeping.store(false, Release);
    }

    #[inline]
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(SeqCst)
    }

    /// Clears the wake, if there is one; it has had its effect once a reap returns.
    #[inline]
    pub(crate) fn take_wake(&self) -> bool {
        self.woken.load(SeqCst) && self.woken.swap(false, SeqCst)
    }

    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        self.work.load(SeqCst)
    }

    #[inline]
    pub(crate) fn take_work(&self) -> bool {
        self.work.load(SeqCst) && self.work.swap(false, SeqCst)
    }

    /// Leaves work for the next reap.
    #[inline]
    pub(crate) fn leave_work(&self) {
        self.work.store(true, SeqCst);
    }

    // --- ring_fd -----------------------------------------------------------------------------

    pub(crate) fn ready_fd(&self) -> Option<RawFd> {
        self.ready.get().map(OwnedFd::raw)
    }

    /// ring_fd; created on first use.
    pub(crate) fn create_ready_fd(&self) -> Result<RawFd> {
        self.ready.get_or_try_init(OwnedFd::eventfd).map(OwnedFd::raw)
    }

    /// Makes ring_fd unreadable. Returns whether it was readable.
    #[inline]
    pub(crate) fn drain_ready_fd(&self) -> bool {
        let mut count = 0u64;
        if let Some(ready) = self.ready.get() {
            // SAFETY: eight writable bytes; the descriptor does not block.
            unsafe { libc::read(ready.raw(), (&raw mut count).cast(), size_of::<u64>()) };
        }
        count > 0
    }

    /// Orders the store that switches notifications on before the loads that look for what came
    /// meanwhile. Pairs with the kernel's barrier between posting a completion and reading the
    /// flag (io_eventfd_signal).
    #[inline]
    pub(crate) fn fence(&self) {
        fence(SeqCst);
    }
}
