//! The operating system's side of the library: descriptors, fork(2), memory, signals, clocks,
//! threads. Nothing here knows of rings.

pub(crate) mod cancel;
pub(crate) mod clock;
pub(crate) mod fd;
pub(crate) mod fork;
pub(crate) mod hash;
mod life;
pub(crate) mod memory;
pub(crate) mod signals;
pub(crate) mod sockopt;
pub(crate) mod thread;

/// The errno of the system call that has just failed.
pub(crate) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
