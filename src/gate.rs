//! The gate that every call on a ring passes. It counts the calls inside, so that freeing can wait
//! for them, and it refuses calls on rings that are being freed, poisoned, or the parent
//! process's.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use once_cell::sync::OnceCell;

use crate::error::{Error, Result};
use crate::sys::fork;
use crate::sys::thread::Owner;

const CLOSING: u32 = 1 << 31;
const POISONED: u32 = 1 << 30;
const INSIDE: u32 = POISONED - 1;

pub(crate) struct Gate {
    /// Flag bits, and the number of calls inside. The acquire of `wait_until_empty` pairs with the
    /// release of a guard's drop, so the effects of the calls are visible. `enter` and `close`
    /// change one word, so one of them is first.
    state: AtomicU32,
    generation: u32,
    /// The ring belongs to one thread: `owner`, once it is known. The acquire of
    /// `is_bound` pairs with the release of `set_bound`, which shows the engine.
    bound: AtomicBool,
    owner: OnceCell<Owner>,
}

/// A call inside. Dropped when it returns.
pub(crate) struct CallGuard<'a>(&'a Gate);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

impl Gate {
    /// A gate for a ring that is bound to a thread or not; to `owner` if that is known already.
    pub(crate) fn new(bound: bool, owner: Option<Owner>) -> Self {
        let owner = owner.map_or_else(OnceCell::new, OnceCell::with_value);
        Self { state: AtomicU32::new(0), generation: fork::generation(), bound: bound.into(), owner }
    }

    /// The ring belongs to the parent of this process.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != fork::generation()
    }

    #[inline]
    pub(crate) fn enter(&self) -> Result<CallGuard<'_>> {
        if self.is_foreign() {
            return Err(foreign());
        }
        let before = self.state.fetch_add(1, Ordering::Acquire);
        let inside = CallGuard(self);
        if before & (CLOSING | POISONED) != 0 {
            return Err(closed(before));
        }
        Ok(inside)
    }

    #[inline]
    fn is_bound(&self) -> bool {
        self.bound.load(Ordering::Acquire)
    }

    /// The ring has changed its engine, and with it whether it belongs to one thread.
    pub(crate) fn set_bound(&self, bound: bool) {
        self.bound.store(bound, Ordering::Release);
    }

    /// Lets the owner through, and any thread where there is no owner.
    #[inline]
    pub(crate) fn check_owner(&self) -> Result<()> {
        // Created disabled, it has no owner: the thread that enables it will be the owner.
        match self.owner() {
            Some(owner) if !owner.is_current() => Err(not_the_owner(owner)),
            _ => Ok(()),
        }
    }

    /// The ring belongs to `owner` from now on.
    pub(crate) fn own(&self, owner: Owner) {
        let _ = self.owner.set(owner);
    }

    #[inline]
    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.get().filter(|_| self.is_bound())
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

    /// Waits until no call is inside, for `limit` at most.
    pub(crate) fn wait_until_empty(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.state.load(Ordering::Acquire) & INSIDE != 0 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }
}

#[cold]
fn foreign() -> Error {
    Error::new(
        libc::EPERM,
        "ring: it belongs to the parent process; a child makes its own, and may only free this one",
    )
}

/// The error of a gate in this state.
#[cold]
fn closed(state: u32) -> Error {
    if state & CLOSING != 0 {
        return Error::new(libc::ECANCELED, "ring: it is being freed");
    }
    Error::new(libc::ENOTRECOVERABLE, "ring: an internal error has poisoned it; free it and make a new one")
}

#[cold]
fn not_the_owner(owner: &Owner) -> Error {
    if !owner.is_alive() {
        return Error::with(
            libc::EOWNERDEAD,
            format_args!("ring: its owner, thread {}, has exited; free it and make a new one", owner.tid()),
        );
    }
    Error::with(
        libc::EPERM,
        format_args!(
            "ring: only its owner, thread {}, may do this (SINGLE_ISSUER or DEFER_TASKRUN); \
             create it with R_DISABLED and enable it in the thread that reaps, or use another mode",
            owner.tid()
        ),
    )
}
