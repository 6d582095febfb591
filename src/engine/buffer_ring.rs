//! The ring of published buffers: the memory through which a pool offers buffers, and an engine
//! takes them. Its layout is the kernel's (struct io_uring_buf_ring), and on io_uring the kernel
//! itself takes; the recvmmsg engine takes in the same way.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;

use crate::error::Result;
use crate::memory::Mapping;

/// The pool's end: one entry a buffer, a tail that only we move.
pub(crate) struct BufferRing {
    entries: Mapping,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    pub(crate) fn new(count: u32) -> Result<Self> {
        let entries = Mapping::new(count as usize * size_of::<BufRingEntry>())?;
        Ok(Self { entries, mask: (count - 1) as u16, tail: 0 })
    }

    pub(crate) fn entries(&self) -> &Mapping {
        &self.entries
    }

    /// Writes the entry behind the last one. The kernel sees it after `commit`.
    #[inline]
    pub(crate) fn push(&mut self, address: u64, length: u32, buffer: u16) {
        let at = usize::from(self.tail & self.mask);
        // SAFETY: `at` is less than the number of entries. The kernel does not read entries
        // behind the tail it knows. Field by field: the first entry's last field is that tail.
        let entry = unsafe { &mut *self.entries.base().cast::<BufRingEntry>().as_ptr().add(at) };
        entry.set_addr(address);
        entry.set_len(length);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Takes back the last `count` entries. Only while no request can take buffers.
    pub(crate) fn retract(&mut self, count: u16, each: impl FnMut(u16)) {
        self.last(count).for_each(each);
        self.tail = self.tail.wrapping_sub(count);
        self.commit();
    }

    /// The buffers of the last `count` entries, the last first.
    pub(crate) fn last(&self, count: u16) -> impl Iterator<Item = u16> {
        (1..=count).map(|back| {
            let at = usize::from(self.tail.wrapping_sub(back) & self.mask);
            // SAFETY: `at` is less than the number of entries; the kernel writes none of them.
            unsafe { &*self.entries.base().cast::<BufRingEntry>().as_ptr().add(at) }.bid()
        })
    }

    /// Shows the kernel what was pushed.
    #[inline]
    pub(crate) fn commit(&self) {
        // SAFETY: the mapping is page-aligned and starts with an entry, whose last field is the
        // tail; the kernel reads it with acquire.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.base().as_ptr().cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// struct io_uring_buf
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    buffer: u16,
    _reserved_or_tail: u16,
}

/// A buffer that was published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    pub at: NonNull<u8>,
    pub length: u32,
    pub buffer: u16,
}

/// The engine's end, where the engine is ours: what the kernel does on io_uring.
#[derive(Debug)]
pub(super) struct Taker {
    entries: NonNull<BufRingEntry>,
    mask: u16,
    head: u16,
}

// SAFETY: the entries belong to a pool, which keeps them until the taker is gone; who may take
// when is decided by the engine's lock.
unsafe impl Send for Taker {}

impl Taker {
    /// Takes from the ring in `entries`, which stays mapped until the taker is dropped.
    pub(super) fn new(entries: &Mapping, count: u16) -> Self {
        Self { entries: entries.base().cast(), mask: count - 1, head: 0 }
    }

    /// How many buffers are there to take.
    #[inline]
    pub(super) fn published(&self) -> u16 {
        // SAFETY: the mapping starts with an entry, whose last field is the tail.
        let tail = unsafe {
            AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()).load(Ordering::Acquire)
        };
        tail.wrapping_sub(self.head)
    }

    /// The buffer `ahead` of the next one. Less than `published`.
    #[inline]
    pub(super) fn peek(&self, ahead: u16) -> Published {
        let at = usize::from(self.head.wrapping_add(ahead) & self.mask);
        // SAFETY: `at` is less than the number of entries, and the pool wrote these fields before
        // it moved the tail. Field by field: the first entry's last field is the tail.
        let (address, length, buffer) = unsafe {
            let entry = self.entries.as_ptr().cast::<Entry>().add(at);
            ((*entry).address, (*entry).length, (*entry).buffer)
        };
        let at = NonNull::new(address as *mut u8).expect("a pool is not mapped at 0");
        Published { at, length, buffer }
    }

    /// The buffers from `start` to before `end` ahead of the next one. At most `published`.
    #[inline]
    pub(super) fn ahead(&self, start: usize, end: usize) -> impl Iterator<Item = Published> + '_ {
        (start as u16..end as u16).map(|ahead| self.peek(ahead))
    }

    /// The first `count` are taken.
    #[inline]
    pub(super) fn take(&mut self, count: u16) {
        self.head = self.head.wrapping_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_taken_in_order_once_it_is_committed() {
        let mut ring = BufferRing::new(4).unwrap();
        let mut taker = Taker::new(ring.entries(), 4);
        for lap in 0..40u16 {
            ring.push(0x1000 + u64::from(lap), 64, lap % 4);
            assert_eq!(taker.published(), 0);
            ring.commit();
            assert_eq!(taker.published(), 1);
            let taken = taker.peek(0);
            assert_eq!(
                (taken.at.as_ptr() as u64, taken.length, taken.buffer),
                (0x1000 + u64::from(lap), 64, lap % 4)
            );
            taker.take(1);
        }
    }

    #[test]
    fn what_is_retracted_is_not_taken() {
        let mut ring = BufferRing::new(4).unwrap();
        let taker = Taker::new(ring.entries(), 4);
        for buffer in 0..3 {
            ring.push(0x1000, 64, buffer);
        }
        ring.commit();
        let mut back = Vec::new();
        ring.retract(2, |buffer| back.push(buffer));
        assert_eq!(back, [2, 1]);
        assert_eq!(taker.published(), 1);
        assert_eq!(taker.peek(0).buffer, 0);
    }
}
