//! Memory of rings that this process has closed.
//!
//! Linux counts a ring against RLIMIT_MEMLOCK until a worker has taken it apart, 10 to 60 ms after
//! the ring was closed. A program that frees rings and makes others would be refused memory that it
//! has given back, or would get the other engine. So for a while -ENOMEM is not final.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::sys::clock::now_ns;

/// How long a closed ring may be counted: several times what the worker takes, for a busy machine.
const COUNTED_NS: u64 = 250_000_000;
const PAUSE: Duration = Duration::from_millis(5);

/// When a ring was last freed, by `now_ns`. Relaxed, and no pair: only a time.
static LAST_NS: AtomicU64 = AtomicU64::new(0);

/// Notes that the program has freed a ring.
pub(super) fn note() {
    LAST_NS.store(now_ns(), Ordering::Relaxed);
}

/// Calls `attempt` again while it is refused memory, until no ring that was freed before can be
/// counted any more. A program that has not freed a ring never waits.
pub(crate) fn retry<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    lacks_memory: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let until = match LAST_NS.load(Ordering::Relaxed) {
        0 => 0,
        at => at + COUNTED_NS,
    };
    loop {
        match attempt() {
            Err(error) if lacks_memory(&error) && now_ns() < until => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
}
