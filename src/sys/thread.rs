//! Which thread is calling, and whether a ring's owner is still alive.
//!
//! The kernel compares tasks, and a later thread can get the thread id of one that has exited. So
//! the library numbers threads itself, and never gives a number twice.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::life::Life;
use crate::error::Result;

/// The calling thread's number. It is never 0, and no other thread ever gets it.
#[inline]
pub(crate) fn current() -> u64 {
    // Relaxed, and no pair: only that no number comes twice.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| {
        if number.get() == 0 {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// A thread that owns a ring.
#[derive(Debug)]
pub(crate) struct Owner {
    number: u64,
    tid: libc::pid_t,
    life: Life,
}

impl Owner {
    /// The calling thread as an owner.
    pub(crate) fn current() -> Result<Self> {
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() };
        Ok(Self { number: current(), tid, life: Life::of_current_thread()? })
    }

    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.number == current()
    }

    /// Its number.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    pub(crate) fn tid(&self) -> libc::pid_t {
        self.tid
    }
}

/// Runs `trial`, which makes and frees io_urings, in a thread of its own. When a ring ends, the
/// kernel interrupts the threads that used it, some milliseconds later: the caller's next
/// epoll_wait(2) would fail with EINTR. Where no thread can be had, `trial` runs here. (Not
/// std::thread, which aborts without memory.)
pub(crate) fn run_aside<T>(trial: fn() -> T) -> T {
    struct Aside<T> {
        trial: fn() -> T,
        outcome: Option<std::thread::Result<T>>,
    }
    extern "C" fn run<T>(aside: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the spawning thread waits, and touches nothing of it until this one has ended.
        let aside = unsafe { &mut *aside.cast::<Aside<T>>() };
        aside.outcome = Some(std::panic::catch_unwind(aside.trial));
        std::ptr::null_mut()
    }
    let mut aside = Aside { trial, outcome: None };
    let mut thread = std::mem::MaybeUninit::uninit();
    // SAFETY: `run` gets what it expects, which outlives the thread: it is joined here.
    unsafe {
        let argument = (&raw mut aside).cast();
        if libc::pthread_create(thread.as_mut_ptr(), std::ptr::null(), run::<T>, argument) == 0 {
            libc::pthread_join(thread.assume_init(), std::ptr::null_mut());
        }
    }
    match aside.outcome {
        Some(Ok(outcome)) => outcome,
        Some(Err(panic)) => std::panic::resume_unwind(panic),
        None => trial(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_its_thread_and_dies_with_it() {
        let owner = std::thread::spawn(|| {
            let owner = Owner::current().unwrap();
            assert!(owner.is_current() && owner.is_alive());
            owner
        });
        let owner = owner.join().unwrap();
        assert!(!owner.is_current());
        assert!(!owner.is_alive());
        assert!(Owner::current().unwrap().is_current());
    }
}
