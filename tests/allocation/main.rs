//! The library allocates during set-up only: reaping, releasing and re-arming allocate nothing. And
//! an allocation that fails is -ENOMEM, never an abort. The allocator counts the allocations of the
//! test's own thread, and fails on request.

#[path = "../toolchain/mod.rs"]
mod toolchain;

mod receiving;
mod sending;
mod without_memory;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_int;
use std::net::UdpSocket;
use std::ptr::null_mut;

use ringmsg::capi::support::ringmsg_last_error;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// How many allocations succeed before all fail.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        if LEFT.get() == 0 {
            return null_mut();
        }
        LEFT.with(|left| left.set(left.get().saturating_sub(u64::from(left.get() != u64::MAX))));
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts the allocations that `work` makes in this thread.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[track_caller]
fn ok(value: c_int) -> usize {
    if let Ok(value) = usize::try_from(value) {
        return value;
    }
    let mut sentence = [0u8; 256];
    // SAFETY: the buffer has the length that is passed.
    unsafe { ringmsg_last_error(sentence.as_mut_ptr().cast(), sentence.len()) };
    let sentence = std::ffi::CStr::from_bytes_until_nul(&sentence).unwrap();
    panic!("{value}: {}", sentence.to_string_lossy());
}

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (receiver, sender)
}

/// Runs `call` with no memory, then with one allocation, and so on, until it succeeds. Each time
/// before it must return -ENOMEM, and have done nothing: the next attempt finds things as they
/// were.
#[track_caller]
fn succeeds_once_there_is_memory(what: &str, mut call: impl FnMut() -> c_int) {
    for allocations in 0..200 {
        LEFT.set(allocations);
        let result = call();
        LEFT.set(u64::MAX);
        if result >= 0 {
            return;
        }
        assert_eq!(result, -libc::ENOMEM, "{what}, with {allocations} allocations");
    }
    panic!("{what}: it still fails with 200 allocations");
}

#[test]
fn the_counter_counts_an_allocation() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}
