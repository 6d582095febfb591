//! How other threads, signal handlers and other event loops reach the reaper.

use std::os::fd::RawFd;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Release, SeqCst},
    fence,
};

use once_cell::sync::OnceCell;

use crate::error::Result;
use crate::fork::Descriptor;

/// The flags and descriptors of one ring. Everything here is safe in a signal handler.
pub(crate) struct Signals {
    /// Written only while the reaper sleeps in the kernel, which watches it.
    sleeper: Descriptor,
    /// What ringmsg_ring_fd() hands out. Created on first use.
    ready: OnceCell<Descriptor>,
    sleeping: AtomicBool,
    /// ringmsg_wake() was called: the current or next reap returns.
    woken: AtomicBool,
    /// There is work for the reaper that no completion will announce.
    attention: AtomicBool,
}

fn eventfd() -> Result<Descriptor> {
    let [eventfd] = Descriptor::open("eventfd", |[fd]| {
        // SAFETY: no preconditions.
        *fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        *fd
    })?;
    Ok(eventfd)
}

fn write(fd: RawFd) {
    let one = 1u64;
    // SAFETY: eight readable bytes. It fails only when the counter is full, that is, readable.
    unsafe { libc::write(fd, (&raw const one).cast(), size_of::<u64>()) };
}

impl Signals {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            sleeper: eventfd()?,
            ready: OnceCell::new(),
            sleeping: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            attention: AtomicBool::new(false),
        })
    }

    /// What the engine watches while the reaper sleeps.
    pub(crate) fn sleeper(&self) -> RawFd {
        self.sleeper.raw()
    }

    // --- from anywhere -----------------------------------------------------------------------

    /// Makes the current or next reap return.
    pub(crate) fn wake(&self) {
        self.woken.store(true, SeqCst);
        self.rouse();
    }

    /// Makes the reaper look after something, wherever it sleeps. Cheap when it knows already.
    pub(crate) fn call_for_attention(&self) {
        if !self.attention.swap(true, SeqCst) {
            self.rouse();
        }
    }

    /// Ends the reaper's sleep, wherever it sleeps.
    pub(crate) fn rouse(&self) {
        // Order: our flag is stored before `sleeping` is read; the reaper stores `sleeping`
        // before it reads the flags. One of the two sees the other.
        if self.sleeping.load(SeqCst) {
            write(self.sleeper.raw());
        }
        self.ring_bell();
    }

    /// Makes ring_fd readable, if somebody has it.
    pub(crate) fn ring_bell(&self) {
        if let Some(ready) = self.ready.get() {
            write(ready.raw());
        }
    }

    // --- from the reaper ---------------------------------------------------------------------

    /// Announces that the reaper is about to sleep. False: it has no reason to.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        if self.woken.load(SeqCst) || self.attention.load(SeqCst) {
            self.sleeping.store(false, SeqCst);
            return false;
        }
        true
    }

    pub(crate) fn wake_up(&self) {
        // Who still sees it asleep writes for nothing.
        self.sleeping.store(false, Release);
    }

    #[inline]
    pub(crate) fn is_woken(&self) -> bool {
        self.woken.load(SeqCst)
    }

    /// Takes the wake, if there is one: it has done its duty once a reap returns.
    #[inline]
    pub(crate) fn take_wake(&self) -> bool {
        self.woken.load(SeqCst) && self.woken.swap(false, SeqCst)
    }

    #[inline]
    pub(crate) fn wants_attention(&self) -> bool {
        self.attention.load(SeqCst)
    }

    #[inline]
    pub(crate) fn take_attention(&self) -> bool {
        self.attention.load(SeqCst) && self.attention.swap(false, SeqCst)
    }

    /// Notes that something is left for the next reap.
    #[inline]
    pub(crate) fn leave_attention(&self) {
        self.attention.store(true, SeqCst);
    }

    // --- ring_fd -----------------------------------------------------------------------------

    pub(crate) fn ready_fd(&self) -> Option<RawFd> {
        self.ready.get().map(Descriptor::raw)
    }

    /// ring_fd; made on first use.
    pub(crate) fn create_ready_fd(&self) -> Result<RawFd> {
        self.ready.get_or_try_init(eventfd).map(Descriptor::raw)
    }

    /// Makes ring_fd unreadable. Whether it was readable.
    #[inline]
    pub(crate) fn drain_bell(&self) -> bool {
        let mut count = 0u64;
        if let Some(ready) = self.ready.get() {
            // SAFETY: eight writable bytes; the descriptor does not block.
            unsafe { libc::read(ready.raw(), (&raw mut count).cast(), size_of::<u64>()) };
        }
        count > 0
    }

    /// Orders what was written to the ring before what is read from it next.
    #[inline]
    pub(crate) fn fence(&self) {
        fence(SeqCst);
    }
}
