//! Who is calling, and whether a ring's owner still lives.
//!
//! The kernel compares tasks, and a thread id can be used again by a later thread. So threads
//! are told apart here by a number that is never given twice.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The calling thread's number: never 0, and never given to another thread.
#[inline]
pub(crate) fn current() -> u64 {
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
    alive: Arc<AtomicBool>,
}

/// Cleared by the thread's own exit, through the destructor of its thread-local.
struct Life(Arc<AtomicBool>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Owner {
    /// The calling thread as an owner.
    pub(crate) fn current() -> Self {
        thread_local!(static LIFE: Life = Life(Arc::new(AtomicBool::new(true))));
        // A thread that is past its thread-locals is as good as gone.
        let alive = LIFE.try_with(|life| life.0.clone()).unwrap_or_default();
        // SAFETY: gettid has no preconditions.
        let tid = unsafe { libc::gettid() };
        Self { number: current(), tid, alive }
    }

    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.number == current()
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    pub(crate) fn tid(&self) -> libc::pid_t {
        self.tid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_its_thread_and_dies_with_it() {
        let owner = std::thread::spawn(|| {
            let owner = Owner::current();
            assert!(owner.is_current() && owner.is_alive());
            owner
        });
        let owner = owner.join().unwrap();
        assert!(!owner.is_current());
        assert!(!owner.is_alive());
        assert!(Owner::current().is_current());
    }
}
