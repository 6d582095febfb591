//! What a forked child must not keep.
//!
//! A child's copy of a ring's descriptor, or of a socket's, would keep the parent's ports bound
//! for as long as the child lives (measured: after the parent freed its ring the port could not
//! be bound again). So every descriptor of the library is listed here, and a pthread_atfork(3)
//! handler closes them in the child. Mappings are MADV_DONTFORK. What is left of a ring in the
//! child is plain memory, which `ringmsg_ring_free` frees; every other call is refused.

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::error::{Error, Result};

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that loaded the library. An object made
/// in another generation belongs to the parent.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// A spin lock, since it must be taken before a fork and given back in the child, where a
/// waiting thread's place in a lock's queue would be a place nobody leaves again. It is held
/// while a descriptor is opened or closed, so that no fork comes in between.
struct Registry {
    locked: AtomicBool,
    listed: UnsafeCell<Listed>,
}

#[derive(Default)]
struct Listed {
    descriptors: Vec<RawFd>,
    rings: Option<HashSet<usize>>,
}

// SAFETY: `listed` is only reached through `with` or the fork handlers, which hold `locked`.
unsafe impl Sync for Registry {}

static REGISTRY: Registry = Registry {
    locked: AtomicBool::new(false),
    listed: UnsafeCell::new(Listed { descriptors: Vec::new(), rings: None }),
};

impl Registry {
    fn lock(&self) {
        while self.locked.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    fn unlock(&self) {
        self.locked.store(false, Ordering::Release);
    }

    fn with<R>(&self, body: impl FnOnce(&mut Listed) -> R) -> R {
        static HANDLERS: Once = Once::new();
        HANDLERS.call_once(|| {
            // SAFETY: the handlers live as long as the library, which a C library that hands
            // out function pointers to the C library must anyway.
            unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        });
        self.lock();
        // SAFETY: the lock is held.
        let result = body(unsafe { &mut *self.listed.get() });
        self.unlock();
        result
    }
}

extern "C" fn before() {
    REGISTRY.lock();
}

extern "C" fn in_parent() {
    REGISTRY.unlock();
}

extern "C" fn in_child() {
    // SAFETY: `before` took the lock in this very thread, the only one the child has.
    let listed = unsafe { &mut *REGISTRY.listed.get() };
    for &fd in &listed.descriptors {
        // SAFETY: a listed descriptor is the library's own, and open: it is unlisted first.
        unsafe { libc::close(fd) };
    }
    listed.descriptors.clear();
    GENERATION.fetch_add(1, Ordering::Relaxed);
    REGISTRY.unlock();
}

/// A descriptor of the library: closed on drop, and closed in every forked child.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: RawFd,
    generation: u32,
}

impl Descriptor {
    /// Opens N descriptors with the system call `what`: `call` fills them in and returns its
    /// result, -1 with errno set on failure. No fork comes between them and their place on the
    /// list.
    pub(crate) fn open<const N: usize>(
        what: &str,
        call: impl FnOnce(&mut [RawFd; N]) -> i32,
    ) -> Result<[Self; N]> {
        let mut opened = [-1; N];
        REGISTRY
            .with(|listed| {
                if call(&mut opened) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                listed.descriptors.extend(opened);
                Ok(())
            })
            .map_err(|error| Error::from_io(what, &error))?;
        Ok(opened.map(|fd| Self { fd, generation: generation() }))
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        close_listed(self.fd, self.generation, || {
            // SAFETY: the descriptor is ours and was open until now.
            unsafe { libc::close(self.fd) };
        });
    }
}

/// Makes something that owns a descriptor and closes it by itself (the ring). No fork comes
/// between: a child would keep a ring that nobody can close there, and with it the parent's
/// ports.
pub(crate) fn open_listed<T: AsRawFd>(make: impl FnOnce() -> Result<T>) -> Result<T> {
    REGISTRY.with(|listed| make().inspect(|made| listed.descriptors.push(made.as_raw_fd())))
}

/// Takes a descriptor off the list and runs `close`, which closes it, without a fork between.
/// A descriptor listed by the parent of this process is left alone: its number means nothing
/// here.
pub(crate) fn close_listed(fd: RawFd, generation: u32, close: impl FnOnce()) {
    if generation != self::generation() {
        return;
    }
    REGISTRY.with(|listed| {
        if let Some(at) = listed.descriptors.iter().position(|&other| other == fd) {
            listed.descriptors.swap_remove(at);
        }
        close();
    });
}

/// From now on forks are counted, even if no descriptor is listed.
pub(crate) fn notice_forks() {
    REGISTRY.with(|_| ());
}

/// Notes that a ring lives at this address.
pub(crate) fn ring_born(address: usize) {
    REGISTRY.with(|listed| listed.rings.get_or_insert_default().insert(address));
}

/// Notes that the ring at this address is gone. False: there was none, so it is being freed
/// for the second time.
pub(crate) fn ring_gone(address: usize) -> bool {
    REGISTRY.with(|listed| listed.rings.get_or_insert_default().remove(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_keeps_no_descriptor_and_drops_none() {
        // SAFETY: plain system calls; the child only touches async-signal-safe ones.
        unsafe {
            let [fd] = Descriptor::open("eventfd", |[fd]| {
                *fd = libc::eventfd(0, libc::EFD_CLOEXEC);
                *fd
            })
            .unwrap();
            let pid = libc::fork();
            if pid == 0 {
                let closed = libc::fcntl(fd.raw(), libc::F_GETFD) == -1;
                let stranger = libc::dup(2);
                let same_number = stranger == fd.raw();
                drop(fd); // must not close the stranger that took the number
                let kept = libc::fcntl(stranger, libc::F_GETFD) != -1;
                libc::_exit(i32::from(!(closed && same_number && kept)));
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            assert_eq!(status, 0, "the child kept the descriptor, or closed somebody else's");
            assert_ne!(libc::fcntl(fd.raw(), libc::F_GETFD), -1, "the parent lost its own");
        }
    }
}
