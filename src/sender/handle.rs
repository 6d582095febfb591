//! What C holds: who may use it now, and what it has done so far.
//!
//! Handles are never given back to the allocator but used again for later senders, the oldest
//! first. So a freed one still answers, with -EINVAL, as long as no new sender has its place.

use std::alloc::{Layout, alloc};
use std::cell::UnsafeCell;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::sys::fork;

use super::Channel;
use super::config::{SenderConfig, SenderStats};
use super::submit::Tally;

/// Sends messages on one socket. Opaque.
pub struct Sender {
    /// The fork generation in which it was used last, and a phase.
    state: AtomicU64,
    channel: UnsafeCell<Option<Channel>>,
    counters: Counters,
    /// The next of the freed ones.
    next: AtomicPtr<Sender>,
}

// SAFETY: `channel` is touched only by whoever holds the guard, or makes or frees the sender.
unsafe impl Sync for Sender {}

const IDLE: u32 = 1;
const BUSY: u32 = 2;
const POISONED: u32 = 3;
const FREED: u32 = 4;

fn state(phase: u32) -> u64 {
    u64::from(fork::generation()) << 32 | u64::from(phase)
}

/// The right to use a sender until it is dropped.
pub(super) struct Guard<'a>(&'a Sender);

impl Guard<'_> {
    pub(super) fn channel(&mut self) -> &mut Channel {
        // SAFETY: the phase is BUSY, and there is one guard.
        unsafe { (*self.0.channel.get()).as_mut() }.expect("a sender that is not freed has its channel")
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let phase = if std::thread::panicking() { POISONED } else { IDLE };
        self.0.state.store(state(phase), Ordering::Release);
    }
}

impl Sender {
    pub(crate) fn open(fd: RawFd, config: &SenderConfig) -> Result<NonNull<Self>> {
        fork::notice_forks();
        let channel = Channel::new(fd, config)?;
        let handle = take_freed().map_or_else(allocate, Ok)?;
        // SAFETY: nobody else knows this handle, unless it uses it after it was freed: that looks
        // at `state` only, which says FREED until the last line.
        unsafe {
            (*handle.as_ref().channel.get()) = Some(channel);
            handle.as_ref().counters.clear();
            handle.as_ref().state.store(state(IDLE), Ordering::Release);
        }
        Ok(handle)
    }

    /// The sender is the caller's until the guard is dropped.
    #[inline]
    pub(super) fn enter(&self) -> Result<Guard<'_>> {
        let (idle, busy) = (state(IDLE), state(BUSY));
        let mut seen = match self.state.compare_exchange(idle, busy, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Ok(Guard(self)),
            Err(seen) => seen,
        };
        loop {
            // A thread that was inside while this process was forked is not here to leave.
            let from_parent = seen >> 32 != u64::from(fork::generation());
            match seen as u32 {
                IDLE => {}
                BUSY if from_parent => {}
                BUSY => {
                    return Err(Error::new(
                        libc::EBUSY,
                        "sender: another thread is in a call on it; every thread makes a sender of its own",
                    ));
                }
                POISONED => {
                    return Err(Error::new(
                        libc::ENOTRECOVERABLE,
                        "sender: an internal error has poisoned it; free it and make a new one",
                    ));
                }
                _ => return Err(Error::new(libc::EINVAL, "sender: it was freed")),
            }
            match self.state.compare_exchange(seen, busy, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(Guard(self)),
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn free(&self) -> Result<()> {
        match self.enter() {
            Ok(guard) => std::mem::forget(guard),
            Err(error) if error.errno() == libc::ENOTRECOVERABLE => {}
            Err(error) => return Err(error),
        }
        // SAFETY: it was entered, and the guard is not dropped; or it is poisoned, and nobody
        // enters it.
        let channel = unsafe { (*self.channel.get()).take() };
        self.state.store(state(FREED), Ordering::Release);
        keep_freed(self);
        drop(channel); // closes the socket; that may block
        Ok(())
    }

    pub(crate) fn stats(&self) -> Result<SenderStats> {
        if self.state.load(Ordering::Acquire) as u32 == FREED {
            return Err(Error::new(libc::EINVAL, "sender: it was freed"));
        }
        Ok(self.counters.read())
    }

    pub(super) fn add(&self, tally: &Tally) {
        self.counters.add(tally);
    }
}

/// Freed handles.
static FREED_HANDLES: AtomicPtr<Sender> = AtomicPtr::new(std::ptr::null_mut());

fn keep_freed(sender: &Sender) {
    push(std::ptr::from_ref(sender).cast_mut(), std::ptr::from_ref(sender).cast_mut());
}

/// Puts a chain, linked from `first` to `last`, in front of the freed ones.
fn push(first: *mut Sender, last: *mut Sender) {
    let mut head = FREED_HANDLES.load(Ordering::Relaxed);
    loop {
        // SAFETY: handles are never deallocated.
        unsafe { (*last).next.store(head, Ordering::Relaxed) };
        match FREED_HANDLES.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Takes the handle that was freed first. Who takes the whole chain is alone with it.
fn take_freed() -> Option<NonNull<Sender>> {
    let first = FREED_HANDLES.swap(std::ptr::null_mut(), Ordering::Acquire);
    let (mut before, mut oldest) = (std::ptr::null_mut::<Sender>(), first);
    // SAFETY: handles are never deallocated, and the chain is ours.
    unsafe {
        while !oldest.is_null() && !(*oldest).next.load(Ordering::Relaxed).is_null() {
            before = oldest;
            oldest = (*oldest).next.load(Ordering::Relaxed);
        }
    }
    if !before.is_null() {
        push(first, before);
    }
    NonNull::new(oldest)
}

fn allocate() -> Result<NonNull<Sender>> {
    const NONE_LEFT: Error = Error::new(libc::ENOMEM, "sender: no memory for it");
    // SAFETY: a Sender is not of size zero.
    let handle: NonNull<Sender> =
        NonNull::new(unsafe { alloc(Layout::new::<Sender>()) }.cast()).ok_or(NONE_LEFT)?;
    let fresh = Sender {
        state: AtomicU64::new(state(FREED)),
        channel: UnsafeCell::new(None),
        counters: Counters::default(),
        next: AtomicPtr::new(std::ptr::null_mut()),
    };
    // SAFETY: allocated for it just now.
    unsafe { handle.write(fresh) };
    Ok(handle)
}

/// Written by whoever is inside, read by anybody.
#[derive(Default)]
struct Counters {
    last_socket_error: AtomicI32,
    counts: [AtomicU64; Tally::COUNTS],
}

impl Counters {
    fn clear(&self) {
        self.last_socket_error.store(0, Ordering::Relaxed);
        for count in &self.counts {
            count.store(0, Ordering::Relaxed);
        }
    }

    fn add(&self, tally: &Tally) {
        if tally.last_socket_error != 0 {
            self.last_socket_error.store(tally.last_socket_error, Ordering::Relaxed);
        }
        for (count, more) in self.counts.iter().zip(tally.counts()) {
            count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        }
    }

    fn read(&self) -> SenderStats {
        let [
            messages,
            datagrams,
            payload_bytes,
            calls,
            trains,
            grouped,
            fallbacks,
            would_block,
            errors,
            socket_errors,
        ] = std::array::from_fn(|i| self.counts[i].load(Ordering::Relaxed));
        SenderStats {
            size: size_of::<SenderStats>() as u32,
            last_socket_error: self.last_socket_error.load(Ordering::Relaxed),
            messages,
            datagrams,
            payload_bytes,
            calls,
            trains,
            grouped,
            fallbacks,
            would_block,
            errors,
            socket_errors,
        }
    }
}
