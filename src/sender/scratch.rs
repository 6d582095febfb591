//! The memory in which a call builds what it gives to the kernel. It is the thread's, not each
//! sender's: a thread's first call allocates it, a larger batch enlarges it, nothing after that.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use crate::error::{Error, Result};

use super::encode::{BARE_MAX, CONTROL_MAX};
use super::group::{Group, Link};
use super::table::Tables;

/// Datagrams of a train that go out singly in one system call.
pub(super) const PIECES: usize = 64;

/// Types for which all zero is a value.
///
/// # Safety
/// It is; and there is nothing to drop.
pub(super) unsafe trait Zeroed: Copy {}

// SAFETY: integers and raw pointers.
unsafe impl Zeroed for u64 {}
// SAFETY: as above.
unsafe impl Zeroed for libc::iovec {}
// SAFETY: as above.
unsafe impl Zeroed for libc::mmsghdr {}

/// A boxed slice that begins as zeroes, and whose allocation may fail. Pages that nothing is
/// written to use no memory.
pub(super) struct Array<T> {
    base: NonNull<T>,
    length: usize,
}

impl<T: Zeroed> Array<T> {
    pub(super) fn new(length: usize) -> Result<Self> {
        let layout = Layout::array::<T>(length).map_err(|_| NONE_LEFT)?;
        assert!(layout.size() > 0);
        // SAFETY: the size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }.cast()).ok_or(NONE_LEFT)?;
        Ok(Self { base, length })
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        let layout = Layout::array::<T>(self.length).expect("it was one before");
        // SAFETY: allocated with this layout.
        unsafe { dealloc(self.base.as_ptr().cast(), layout) };
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements, zeroed or written since.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Array<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.length) }
    }
}

const NONE_LEFT: Error = Error::new(libc::ENOMEM, "send: no memory for this thread's scratch space");

/// Box::new, whose allocation may fail.
fn boxed<T>(value: T) -> Result<Box<T>> {
    const { assert!(size_of::<T>() > 0) }
    // SAFETY: the size is not zero.
    let place = unsafe { alloc(Layout::new::<T>()) }.cast::<T>();
    if place.is_null() {
        return Err(NONE_LEFT);
    }
    // SAFETY: allocated as a box is, and written before it is one.
    unsafe {
        place.write(value);
        Ok(Box::from_raw(place))
    }
}

/// Room for a batch of messages.
pub(super) struct Scratch {
    /// Messages grouped at once.
    pub batch: usize,
    /// The payload of each message, in the order in which they are given.
    pub parts: Array<libc::iovec>,
    /// Which message each part belongs to, and which follows in its group.
    pub links: Array<Link>,
    pub groups: Array<Group>,
    pub tables: Tables,
    /// The parts of groups whose messages do not follow each other.
    pub gathered: Array<libc::iovec>,
    /// One for each group, which points to an address once and for all; the addresses; the control
    /// messages.
    pub headers: Array<libc::mmsghdr>,
    pub names: Array<u64>,
    pub control: Array<u64>,
    /// The control messages of groups on bare paths.
    pub bare_control: Array<u64>,
    /// The same for a train that goes out in pieces: one header and part for each piece.
    pub piece_headers: Array<libc::mmsghdr>,
    pub piece_parts: Array<libc::iovec>,
    pub piece_control: Array<u64>,
}

/// Words for one address (a sockaddr_in6 has 28 bytes), and for the control messages of a group.
pub(super) const NAME_WORDS: usize = 4;
pub(super) const CONTROL_WORDS: usize = CONTROL_MAX / size_of::<u64>();
pub(super) const BARE_WORDS: usize = BARE_MAX / size_of::<u64>();

impl Scratch {
    fn new(batch: usize) -> Result<Box<Self>> {
        let mut headers = Array::<libc::mmsghdr>::new(batch)?;
        let mut names = Array::<u64>::new(batch * NAME_WORDS)?;
        for (header, name) in headers.iter_mut().zip(names.chunks_mut(NAME_WORDS)) {
            header.msg_hdr.msg_name = name.as_mut_ptr().cast();
        }
        boxed(Self {
            batch,
            parts: Array::new(batch)?,
            links: Array::new(batch)?,
            groups: Array::new(batch + 1)?, // one that never has room
            tables: Tables::new(batch)?,
            gathered: Array::new(batch)?,
            headers,
            names,
            control: Array::new(batch * CONTROL_WORDS)?,
            bare_control: Array::new(batch * BARE_WORDS)?,
            piece_headers: Array::new(PIECES)?,
            piece_parts: Array::new(PIECES)?,
            piece_control: Array::new(2 * CONTROL_WORDS)?,
        })
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Runs `body` with this thread's scratch space, which holds at least `batch` messages. A call
/// in a signal handler that interrupted another finds it taken, and makes one of its own.
pub(super) fn with<R>(batch: usize, body: impl FnOnce(&mut Scratch) -> Result<R>) -> Result<R> {
    let mut scratch = match SCRATCH.try_with(Cell::take).ok().flatten() {
        Some(scratch) if scratch.batch >= batch => scratch,
        smaller => match Scratch::new(batch) {
            Ok(larger) => larger,
            Err(error) => {
                // Senders with smaller batches go on without an allocation.
                keep(smaller);
                return Err(error);
            }
        },
    };
    let result = body(&mut scratch);
    keep(Some(scratch));
    result
}

/// Keeps it for the thread's next call. A thread that is being torn down keeps nothing.
fn keep(scratch: Option<Box<Scratch>>) {
    let _ = SCRATCH.try_with(|kept| kept.set(scratch));
}
