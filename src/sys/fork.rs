//! What a forked child must not keep.
//!
//! A child's copy of a ring's descriptor, or of a socket's, would keep the parent's ports bound
//! for as long as the child lives (measured: after the parent freed its ring the port could not
//! be bound again). So every descriptor of the library is listed here, and a pthread_atfork(3)
//! handler closes the listed ones in the child. Mappings are MADV_DONTFORK. What is left of a
//! ring in the child is plain memory, which `ringmsg_ring_free` frees; every other call is
//! refused.
//!
//! The list has one lock. A fork takes it, so that no descriptor is open and unlisted, or listed
//! and closed, when the child is made. Three rules keep that lock harmless:
//! - all signals are blocked while it is held, so that a handler that forks finds it free;
//! - no call that may block is made under it: see `OwnedFd::drop` for closing a socket;
//! - it is std's mutex, a single futex word: a waiter sleeps in the kernel, and the child can
//!   unlock it although other threads of the parent were waiting.

use std::cell::UnsafeCell;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::hash::IntSet;
use super::signals::Blocked;
use crate::error::{Error, Result};

// Relaxed, and no pair: it changes in a child that has one thread.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many forks lie between this process and the one that loaded the library. An object made
/// in another generation belongs to the parent.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// From now on forks are counted, even if nothing is listed.
pub(crate) fn notice_forks() {
    with(|_| ());
}

const VACANT: RawFd = -1;
const OUT_OF_MEMORY: Error = Error::new(libc::ENOMEM, "out of memory for the list of descriptors");

#[derive(Default)]
struct Registry {
    /// By place: the library's descriptors, or VACANT.
    descriptors: Vec<RawFd>,
    vacant: Vec<u32>,
    /// See `Placeholder`: its descriptor and place, and how many are held.
    placeholder: Option<(RawFd, Listing)>,
    placeholders_held: u32,
    /// Addresses of the rings and senders that programs hold.
    handles: Option<IntSet>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

type Guard = MutexGuard<'static, Option<Registry>>;

/// What a fork holds from `before` to `in_parent` or `in_child`.
struct HeldByFork(UnsafeCell<Option<(Guard, Blocked)>>);

// SAFETY: only the thread that forks touches it, between locking the registry and unlocking it.
unsafe impl Sync for HeldByFork {}

static HELD_BY_FORK: HeldByFork = HeldByFork(UnsafeCell::new(None));

fn lock() -> Guard {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with<R>(body: impl FnOnce(&mut Registry) -> R) -> R {
    static HANDLERS: Once = Once::new();
    HANDLERS.call_once(|| {
        // SAFETY: the handlers live as long as the library, which must not be unloaded.
        unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    });
    let _blocked = Blocked::all();
    body(lock().get_or_insert_default())
}

extern "C" fn before() {
    let blocked = Blocked::all();
    let guard = lock();
    // SAFETY: the registry is locked by this fork.
    unsafe { *HELD_BY_FORK.0.get() = Some((guard, blocked)) };
}

extern "C" fn in_parent() {
    // SAFETY: `before` locked the registry in this thread.
    drop(unsafe { (*HELD_BY_FORK.0.get()).take() });
}

extern "C" fn in_child() {
    // SAFETY: `before` locked the registry in this thread, the only one that the child has.
    let held = unsafe { (*HELD_BY_FORK.0.get()).take() };
    let Some((mut guard, blocked)) = held else { return };
    if let Some(registry) = &mut *guard {
        for &fd in registry.descriptors.iter().filter(|&&fd| fd != VACANT) {
            // SAFETY: a listed descriptor is open and the library's own.
            unsafe { libc::close(fd) };
        }
        registry.descriptors.clear();
        registry.vacant.clear();
        registry.placeholder = None;
        registry.placeholders_held = 0;
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    drop(guard);
    drop(blocked);
}

impl Registry {
    /// Makes room for `count` more, so that listing them cannot fail.
    fn reserve(&mut self, count: usize) -> Result<()> {
        let places = self.descriptors.len() + count;
        self.descriptors.try_reserve(count).map_err(|_| OUT_OF_MEMORY)?;
        self.vacant.try_reserve(places - self.vacant.len()).map_err(|_| OUT_OF_MEMORY)
    }

    fn list(&mut self, fd: RawFd) -> Listing {
        let place = match self.vacant.pop() {
            Some(place) => place,
            None => {
                self.descriptors.push(VACANT);
                (self.descriptors.len() - 1) as u32
            }
        };
        self.descriptors[place as usize] = fd;
        Listing { place, generation: generation() }
    }

    fn unlist(&mut self, listing: &Listing) {
        self.descriptors[listing.place as usize] = VACANT;
        self.vacant.push(listing.place);
    }
}

/// A descriptor's place on the list.
#[derive(Debug)]
pub(crate) struct Listing {
    place: u32,
    generation: u32,
}

impl Listing {
    /// It was made by the parent of this process: the number means nothing here.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.generation != generation()
    }

    /// Takes the descriptor off the list and runs `close`, which closes it without blocking. No
    /// fork comes between.
    pub(crate) fn close(&self, close: impl FnOnce()) {
        if self.is_foreign() {
            return;
        }
        with(|registry| {
            registry.unlist(self);
            close();
        });
    }
}

/// Opens N descriptors: `call` fills them in and returns its system call's result, -1 with errno
/// set on failure. No fork comes between them and their places on the list.
pub(crate) fn open<const N: usize>(
    what: &str,
    call: impl FnOnce(&mut [RawFd; N]) -> i32,
) -> Result<[(RawFd, Listing); N]> {
    let mut opened = [VACANT; N];
    with(|registry| {
        registry.reserve(N)?;
        if call(&mut opened) < 0 {
            return Err(Error::last_os(what));
        }
        Ok(opened.map(|fd| (fd, registry.list(fd))))
    })
}

/// Makes an object that owns a descriptor and closes it itself: an io_uring.
pub(crate) fn open_owner<T: AsRawFd>(make: impl FnOnce() -> Result<T>) -> Result<(T, Listing)> {
    with(|registry| {
        registry.reserve(1)?;
        let made = make()?;
        let listing = registry.list(made.as_raw_fd());
        Ok((made, listing))
    })
}

/// A descriptor that takes the number of a socket while the socket itself is closed without the
/// lock. The process has one, as long as it is held.
#[derive(Debug)]
pub(crate) struct Placeholder {
    fd: RawFd,
    generation: u32,
}

impl Placeholder {
    pub(crate) fn hold() -> Result<Self> {
        let fd = with(|registry| {
            if registry.placeholder.is_none() {
                registry.reserve(1)?;
                // SAFETY: no preconditions.
                let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
                if fd < 0 {
                    return Err(Error::last_os("eventfd"));
                }
                registry.placeholder = Some((fd, registry.list(fd)));
            }
            registry.placeholders_held += 1;
            Ok(registry.placeholder.as_ref().map_or(VACANT, |(fd, _)| *fd))
        })?;
        Ok(Self { fd, generation: generation() })
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        if self.generation != generation() {
            return;
        }
        with(|registry| {
            registry.placeholders_held -= 1;
            if registry.placeholders_held > 0 {
                return;
            }
            if let Some((fd, listing)) = registry.placeholder.take() {
                registry.unlist(&listing);
                // SAFETY: the descriptor is ours and open.
                unsafe { libc::close(fd) };
            }
        });
    }
}

/// Notes that a program holds a handle to the object at this address.
pub(crate) fn handle_created(address: usize) -> Result<()> {
    with(|registry| {
        let handles = registry.handles.get_or_insert_default();
        handles.try_reserve(1).map_err(|_| OUT_OF_MEMORY)?;
        handles.insert(address as u64);
        Ok(())
    })
}

/// Notes that the handle is gone. False: there is no such handle; it was freed before.
pub(crate) fn handle_freed(address: usize) -> bool {
    with(|registry| registry.handles.as_mut().is_some_and(|handles| handles.remove(&(address as u64))))
}
