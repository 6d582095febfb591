//! pthread_cancel(3).

use std::ffi::c_int;

unsafe extern "C" {
    /// libc has it for some C libraries only.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}

const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// The calling thread cannot be cancelled until this is dropped. The C library cancels a thread
/// by unwinding its stack from the system call it is in, which Rust answers with an abort. So a
/// cancellation that comes during a call takes effect at the thread's next cancellation point.
pub(crate) struct NotCancelled {
    before: c_int,
}

impl NotCancelled {
    #[inline]
    pub(crate) fn begin() -> Self {
        let mut before = 0;
        // SAFETY: the state is a valid one, and `before` is writable. Async-signal-safe.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &mut before) };
        Self { before }
    }
}

impl Drop for NotCancelled {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the state is the one that was in force.
        unsafe { pthread_setcancelstate(self.before, std::ptr::null_mut()) };
    }
}
