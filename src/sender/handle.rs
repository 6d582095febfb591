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
use super::tally::Tally;

/// Sends messages on one socket. Opaque.
pub struct Sender {
    /// The fork generation in which it was used last, and a phase. The acquire of `enter` pairs
    /// with the release of the last guard, of `open`, or of `free`: it shows the channel as they
    /// left it.
    state: AtomicU64,
    channel: UnsafeCell<Option<Channel>>,
    counters: Counters,
    /// The next of the freed ones. Relaxed: `FREED_HANDLES` orders it.
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
pub(super) struct Guard<'a> {
    sender: &'a Sender,
    /// A panic was under way already, which is not this call's: a destructor sends.
    was_panicking: bool,
}

impl Guard<'_> {
    pub(super) fn channel(&mut self) -> &mut Channel {
        // SAFETY: the phase is BUSY, and there is one guard.
        unsafe { (*self.sender.channel.get()).as_mut() }.expect("a sender that is not freed has its channel")
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking() && !self.was_panicking;
        let phase = if panicked { POISONED } else { IDLE };
        self.sender.state.store(state(phase), Ordering::Release);
    }
}

impl Sender {
    pub(crate) fn open(fd: RawFd, config: &SenderConfig) -> Result<NonNull<Self>> {
        fork::notice_forks();
        let handle = take_freed().map_or_else(allocate, Ok)?;
        // Nothing fails after it: it sets options of the socket.
        let channel = Channel::new(fd, config).inspect_err(|_| {
            // SAFETY: handles are never deallocated.
            keep_freed(unsafe { handle.as_ref() });
        })?;
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
        if self.state.compare_exchange(idle, busy, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.enter_slowly(false)?;
        }
        Ok(Guard { sender: self, was_panicking: std::thread::panicking() })
    }

    /// Makes the sender BUSY. `to_free`: also if it is poisoned.
    #[cold]
    fn enter_slowly(&self, to_free: bool) -> Result<()> {
        let mut seen = self.state.load(Ordering::Relaxed);
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
                POISONED if to_free => {}
                POISONED => {
                    return Err(Error::new(
                        libc::ENOTRECOVERABLE,
                        "sender: an internal error has poisoned it; free it and make a new one",
                    ));
                }
                _ => return Err(Error::new(libc::EINVAL, "sender: it was freed")),
            }
            match self.state.compare_exchange(seen, state(BUSY), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    pub(crate) fn free(&self) -> Result<()> {
        self.enter_slowly(true)?;
        // SAFETY: BUSY, and no guard: nobody else is inside.
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

/// Freed handles. The acquire of `take_freed` pairs with the release of `push`: it shows `next`.
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

/// Written by whoever is inside, read by anybody. Relaxed, and no pair: counts order nothing.
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::message::{Message, Shape, Source, Traits};
    use super::super::{Path, Pointers};
    use super::*;

    fn sender() -> NonNull<Sender> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        Sender::open(socket.as_raw_fd(), &SenderConfig::default()).unwrap()
    }

    /// Sends nothing, which enters and leaves all the same.
    fn send_nothing(sender: &Sender) -> Result<u32> {
        // SAFETY: of no messages.
        sender.send(unsafe { Pointers::new(std::ptr::dangling_mut::<Message>(), 0) }, 0)
    }

    /// An array whose every use is a bug.
    struct Panics;

    impl Source for Panics {
        fn count(&self) -> u32 {
            panic!("a bug")
        }
        fn path_key(&self, _: u32) -> usize {
            unreachable!()
        }
        fn path(&self, _: usize) -> Option<*const Path> {
            unreachable!()
        }
        fn is_none(&self, _: usize) -> bool {
            unreachable!()
        }
        fn shape(&self, _: u32) -> Shape {
            unreachable!()
        }
        fn traits(&self, _: u32) -> Traits {
            unreachable!()
        }
        fn reserved(&self, _: u32) -> u64 {
            unreachable!()
        }
        fn payload(&mut self, _: u32, _: u32) -> Option<*const u8> {
            unreachable!()
        }
        fn empty_payload(&mut self, _: u32) -> Option<*const u8> {
            unreachable!()
        }
        fn skip(&mut self, _: u32) {
            unreachable!()
        }
        fn result(&self, _: u32) -> i32 {
            unreachable!()
        }
        fn set_result(&mut self, _: u32, _: i32) {
            unreachable!()
        }
        fn timestamp_id(&self, _: u32) -> u32 {
            unreachable!()
        }
    }

    fn errno<T>(result: Result<T>) -> i32 {
        result.err().map_or(0, |error| error.errno())
    }

    #[test]
    fn a_panic_within_a_call_poisons_the_sender_which_can_be_freed_once() {
        for _ in 0..100 {
            let handle = sender();
            // SAFETY: handles are never deallocated.
            let sender = unsafe { handle.as_ref() };
            assert!(catch_unwind(AssertUnwindSafe(|| sender.send(Panics, 0))).is_err());
            assert_eq!(errno(send_nothing(sender)), libc::ENOTRECOVERABLE);
            assert_eq!(errno(sender.stats()), 0);
            let start = std::sync::Barrier::new(2);
            let free = || {
                start.wait();
                errno(sender.free())
            };
            let (first, second) = std::thread::scope(|scope| {
                let other = scope.spawn(free);
                (free(), other.join().unwrap())
            });
            let refused = if first == 0 { second } else { first };
            assert!(first == 0 || second == 0, "{first} {second}");
            assert!(refused == libc::EINVAL || refused == libc::EBUSY, "{first} {second}");
            assert_eq!(errno(send_nothing(sender)), libc::EINVAL);
        }
    }

    #[test]
    fn a_destructor_that_sends_during_a_panic_does_not_poison() {
        struct SendsAtTheEnd<'a>(&'a Sender);
        impl Drop for SendsAtTheEnd<'_> {
            fn drop(&mut self) {
                assert_eq!(errno(send_nothing(self.0)), 0);
            }
        }
        let handle = sender();
        // SAFETY: handles are never deallocated.
        let sender = unsafe { handle.as_ref() };
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let _sends = SendsAtTheEnd(sender);
            panic!("the caller's own");
        }));
        assert!(outcome.is_err());
        assert_eq!(errno(send_nothing(sender)), 0);
        assert_eq!(errno(sender.free()), 0);
    }
}
