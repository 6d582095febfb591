//! The ring of published buffers: the memory through which a pool provides buffers, and an engine
//! takes them. Its layout is the kernel's (struct io_uring_buf_ring): with io_uring the kernel is
//! the consumer, with the recvmmsg engine `Consumer` is.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::error::Result;
use crate::ids::BufferId;
use crate::sys::memory::Mapping;

/// struct io_uring_buf. The last field of the first entry is the ring's tail.
#[repr(C)]
struct Entry {
    address: u64,
    length: u32,
    buffer: u16,
    reserved_or_tail: u16,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// The ring's tail. The producer stores it with release after it has written entries; the
/// consumer (the kernel: smp_load_acquire, or `Consumer::published`) loads it with acquire
/// before it reads them.
///
/// # Safety
/// `entries` is the mapping of a buffer ring, and outlives the reference.
#[inline]
unsafe fn tail<'a>(entries: NonNull<u8>) -> &'a AtomicU16 {
    // SAFETY: the mapping is page-aligned and starts with an entry.
    unsafe {
        let entry = entries.cast::<Entry>().as_ptr();
        AtomicU16::from_ptr(&raw mut (*entry).reserved_or_tail)
    }
}

/// The producer: one entry for each buffer, and a tail that only the pool moves.
pub(crate) struct BufferRing {
    entries: Mapping,
    mask: u16,
    tail: u16,
}

impl BufferRing {
    pub(crate) fn new(count: u32) -> Result<Self> {
        let entries = Mapping::new(count as usize * size_of::<Entry>())?;
        Ok(Self { entries, mask: (count - 1) as u16, tail: 0 })
    }

    pub(crate) fn entries(&self) -> &Mapping {
        &self.entries
    }

    #[inline]
    fn entry(&self, at: u16) -> *mut Entry {
        // SAFETY: the masked index is less than the number of entries.
        unsafe { self.entries.base().cast::<Entry>().as_ptr().add(usize::from(at & self.mask)) }
    }

    /// Writes the entry behind the last one. The consumer sees it after `commit`.
    #[inline]
    pub(crate) fn push(&mut self, address: u64, length: u32, buffer: BufferId) {
        let entry = self.entry(self.tail);
        // SAFETY: the entry lies in the mapping, and the consumer reads no entry behind the tail it
        // knows. Field by field: the first entry's last field is that tail.
        unsafe {
            (*entry).address = address;
            (*entry).length = length;
            (*entry).buffer = buffer.0;
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Takes back the last `count` entries. Only while no request can take buffers.
    pub(crate) fn retract(&mut self, count: u16, each: impl FnMut(BufferId)) {
        self.last(count).for_each(each);
        self.tail = self.tail.wrapping_sub(count);
        self.commit();
    }

    /// The buffers of the last `count` entries, the last first.
    pub(crate) fn last(&self, count: u16) -> impl Iterator<Item = BufferId> {
        (1..=count).map(|back| {
            // SAFETY: the entry lies in the mapping; the consumer writes none of them.
            BufferId(unsafe { (*self.entry(self.tail.wrapping_sub(back))).buffer })
        })
    }

    /// Shows the consumer what was pushed.
    #[inline]
    pub(crate) fn commit(&self) {
        // SAFETY: the mapping is this ring's, and lives as long as it.
        unsafe { tail(self.entries.base()) }.store(self.tail, Ordering::Release);
    }
}

/// A buffer that was published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    pub at: NonNull<u8>,
    pub length: u32,
    pub buffer: BufferId,
}

/// Consumer side for the recvmmsg engine, mirroring the kernel's.
#[derive(Debug)]
pub(crate) struct Consumer {
    entries: NonNull<u8>,
    mask: u16,
    head: u16,
}

// SAFETY: the entries belong to a pool, which keeps them until the consumer is gone; the engine's
// lock decides who may take, and when.
unsafe impl Send for Consumer {}

impl Consumer {
    /// Takes from the ring in `entries`, which stays mapped until the consumer is dropped.
    pub(crate) fn new(entries: &Mapping, count: u16) -> Self {
        Self { entries: entries.base(), mask: count - 1, head: 0 }
    }

    /// How many buffers there are to take.
    #[inline]
    pub(crate) fn published(&self) -> u16 {
        // SAFETY: see `new`.
        unsafe { tail(self.entries) }.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// The buffer `ahead` of the next one. Less than `published`.
    #[inline]
    pub(crate) fn peek(&self, ahead: u16) -> Published {
        let at = usize::from(self.head.wrapping_add(ahead) & self.mask);
        // SAFETY: `at` is less than the number of entries, and the pool wrote these fields before
        // it moved the tail. Field by field: the first entry's last field is the tail.
        let (address, length, buffer) = unsafe {
            let entry = self.entries.cast::<Entry>().as_ptr().add(at);
            ((*entry).address, (*entry).length, (*entry).buffer)
        };
        let at = NonNull::new(address as *mut u8).expect("a pool is not mapped at 0");
        Published { at, length, buffer: BufferId(buffer) }
    }

    /// The buffers from `start` to before `end` ahead of the next one. At most `published`.
    #[inline]
    pub(crate) fn ahead(&self, start: usize, end: usize) -> impl Iterator<Item = Published> + '_ {
        (start as u16..end as u16).map(|ahead| self.peek(ahead))
    }

    /// The first `count` are taken.
    #[inline]
    pub(crate) fn take(&mut self, count: u16) {
        self.head = self.head.wrapping_add(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_taken_in_order_once_it_is_committed() {
        let mut ring = BufferRing::new(4).unwrap();
        let mut consumer = Consumer::new(ring.entries(), 4);
        for lap in 0..40u16 {
            ring.push(0x1000 + u64::from(lap), 64, BufferId(lap % 4));
            assert_eq!(consumer.published(), 0);
            ring.commit();
            assert_eq!(consumer.published(), 1);
            let taken = consumer.peek(0);
            assert_eq!(
                (taken.at.as_ptr() as u64, taken.length, taken.buffer),
                (0x1000 + u64::from(lap), 64, BufferId(lap % 4))
            );
            consumer.take(1);
        }
    }

    #[test]
    fn what_is_retracted_is_not_taken() {
        let mut ring = BufferRing::new(4).unwrap();
        let consumer = Consumer::new(ring.entries(), 4);
        for buffer in 0..3 {
            ring.push(0x1000, 64, BufferId(buffer));
        }
        ring.commit();
        let mut back = Vec::new();
        ring.retract(2, |buffer| back.push(buffer.0));
        assert_eq!(back, [2, 1]);
        assert_eq!(consumer.published(), 1);
        assert_eq!(consumer.peek(0).buffer, BufferId(0));
    }
}
