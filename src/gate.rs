//! The gate every call passes: it keeps count of who is inside, so that freeing can wait for
//! them, and turns away calls on rings that are being freed, broken, or somebody else's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::error::{Error, Result};
use crate::fork;
use crate::thread::Owner;

const CLOSING: u32 = 1 << 31;
const POISONED: u32 = 1 << 30;
const INSIDE: u32 = POISONED - 1;

pub(crate) struct Gate {
    state: AtomicU32,
    generation: u32,
    /// The ring belongs to one thread: this one, once it is known.
    bound: bool,
    owner: OnceCell<Owner>,
}

/// Permission to be inside. Dropped when the call returns.
pub(crate) struct Pass<'a>(&'a Gate);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

impl Gate {
    /// A gate for a ring that is bound or not; `owner` when it is known already.
    pub(crate) fn new(bound: bool, owner: Option<Owner>) -> Self {
        let owner = owner.map_or_else(OnceCell::new, OnceCell::with_value);
        Self { state: AtomicU32::new(0), generation: fork::generation(), bound, owner }
    }

    /// The ring belongs to the parent of this process.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != fork::generation()
    }

    #[inline]
    pub(crate) fn enter(&self) -> Result<Pass<'_>> {
        if self.is_foreign() {
            return Err(Error::new(
                libc::EPERM,
                "ring: it belongs to the parent process; a child makes its own, and may only free this one",
            ));
        }
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let pass = Pass(self);
        if before & CLOSING != 0 {
            return Err(Error::new(libc::ECANCELED, "ring: it is being freed"));
        }
        if before & POISONED != 0 {
            return Err(Error::new(
                libc::ENOTRECOVERABLE,
                "ring: an internal error has poisoned it; free it and make a new one",
            ));
        }
        Ok(pass)
    }

    /// Lets the owner through, and everybody where there is none.
    #[inline]
    pub(crate) fn check_owner(&self) -> Result<()> {
        if !self.bound {
            return Ok(());
        }
        match self.owner.get() {
            // Created disabled: whoever enables it will be the owner.
            None => Ok(()),
            Some(owner) if owner.is_current() => Ok(()),
            Some(owner) if owner.is_alive() => Err(Error::with(
                libc::EPERM,
                format!(
                    "ring: only its owner, thread {}, may do this (SINGLE_ISSUER or DEFER_TASKRUN); \
                 create it with R_DISABLED and enable it in the thread that reaps, or use another mode",
                    owner.tid()
                ),
            )),
            Some(owner) => Err(Error::with(
                libc::EOWNERDEAD,
                format!("ring: its owner, thread {}, has exited; free it and make a new one", owner.tid()),
            )),
        }
    }

    /// The calling thread becomes the owner.
    pub(crate) fn own(&self) {
        let _ = self.owner.set(Owner::current());
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.get().filter(|_| self.bound)
    }

    #[inline]
    pub(crate) fn is_closing(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSING != 0
    }

    pub(crate) fn close(&self) {
        self.state.fetch_or(CLOSING, Ordering::AcqRel);
    }

    pub(crate) fn poison(&self) {
        self.state.fetch_or(POISONED, Ordering::AcqRel);
    }

    /// Waits until nobody is inside any more.
    pub(crate) fn wait_until_empty(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }
}
