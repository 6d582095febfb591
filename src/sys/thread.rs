//! Which thread is calling, and whether a ring's owner is still alive.
//!
//! The kernel compares tasks, and a later thread can get the thread id of one that has exited. So
//! the library numbers threads itself, and never gives a number twice.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The calling thread's number. It is never 0, and no other thread ever gets it.
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
        // TLS already destroyed: the thread is exiting. Treat it as dead.
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

/// Runs `trial`, which makes and frees io_urings, in a thread of its own. When a ring ends, the
/// kernel interrupts the threads that used it, some milliseconds later: the caller's next
/// epoll_wait(2) would fail with EINTR. Where no thread can be had, `trial` runs here.
pub(crate) fn run_aside<T: Send>(trial: fn() -> T) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("ringmsg-probe".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, trial);
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => trial(),
        }
    })
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
