//! Whether a thread is still alive. A pthread_key_create(3) destructor notes its exit: unlike a
//! thread_local! with a destructor, that neither aborts without memory nor misses threads that
//! Rust did not start.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use once_cell::sync::OnceCell;

use super::memory::try_box;
use crate::error::{Error, Result};

/// A thread's life: one for each thread that ever owned a ring, shared by that thread and the
/// rings.
struct Shared {
    alive: AtomicBool,
    references: AtomicU32,
}

/// A reference to a thread's life.
#[derive(Debug)]
pub(crate) struct Life(NonNull<Shared>);

// SAFETY: what it refers to is atomic, and lives until the last reference is dropped.
unsafe impl Send for Life {}
// SAFETY: as above.
unsafe impl Sync for Life {}

impl Life {
    pub(crate) fn of_current_thread() -> Result<Self> {
        static KEY: OnceCell<libc::pthread_key_t> = OnceCell::new();
        let key = *KEY.get_or_try_init(create_key)?;
        // SAFETY: the key is valid; its value is NULL or what was set below.
        let known = NonNull::new(unsafe { libc::pthread_getspecific(key) }.cast::<Shared>());
        let shared = match known {
            Some(shared) => shared,
            None => begin_life(key)?,
        };
        // SAFETY: the thread's own reference keeps it.
        unsafe { shared.as_ref() }.references.fetch_add(1, Ordering::Relaxed);
        Ok(Self(shared))
    }

    pub(crate) fn is_alive(&self) -> bool {
        // SAFETY: this reference keeps it.
        unsafe { self.0.as_ref() }.alive.load(Ordering::Acquire)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // SAFETY: this reference is given up, once.
        unsafe { release(self.0) };
    }
}

fn create_key() -> Result<libc::pthread_key_t> {
    let mut key = 0;
    // SAFETY: `key` is writable; the destructor takes what `begin_life` sets.
    match unsafe { libc::pthread_key_create(&mut key, Some(end_life)) } {
        0 => Ok(key),
        errno => Err(Error::new(errno, "ring: the process has no thread-specific key left")),
    }
}

/// Makes the calling thread's life, with the thread's own reference.
fn begin_life(key: libc::pthread_key_t) -> Result<NonNull<Shared>> {
    let shared = try_box(Shared { alive: true.into(), references: 1.into() })?;
    let shared = NonNull::from(Box::leak(shared));
    // SAFETY: the key is valid.
    match unsafe { libc::pthread_setspecific(key, shared.as_ptr().cast()) } {
        0 => Ok(shared),
        errno => {
            // SAFETY: nobody else knows of it.
            unsafe { release(shared) };
            Err(Error::new(errno, "ring: no memory for the thread's data"))
        }
    }
}

extern "C" fn end_life(shared: *mut libc::c_void) {
    if let Some(shared) = NonNull::new(shared.cast::<Shared>()) {
        // SAFETY: the exiting thread's reference is given up, once.
        unsafe {
            // Release, paired with the acquire in `is_alive`: what the thread did came before.
            shared.as_ref().alive.store(false, Ordering::Release);
            release(shared);
        }
    }
}

/// Gives up a reference.
///
/// # Safety
/// The caller has one, and does not use it afterwards.
unsafe fn release(shared: NonNull<Shared>) {
    // SAFETY: the caller's reference keeps it until here.
    if unsafe { shared.as_ref() }.references.fetch_sub(1, Ordering::AcqRel) == 1 {
        // SAFETY: that was the last; it came from Box::leak.
        drop(unsafe { Box::from_raw(shared.as_ptr()) });
    }
}
