//! A completion queue like the kernel's: a fixed ring that one side fills and the other empties.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::engine::Completion;
use crate::error::{Error, Result};

/// One thread at a time pushes (the holder of the engine's lock), and one pops (the reaper). The
/// producer stores `tail` with release after it has written entries, and the consumer loads it
/// with acquire before it reads them; likewise `head`, the other way round, before entries are
/// overwritten.
#[derive(Debug)]
pub(super) struct Queue {
    entries: Box<[[AtomicU64; 2]]>,
    head: AtomicU32,
    tail: AtomicU32,
}

impl Queue {
    /// A queue of this many completions, a power of two. Programs choose the number, so there may
    /// not be memory for it.
    pub(super) fn new(entries: u32) -> Result<Self> {
        let mut places = Vec::new();
        places.try_reserve_exact(entries as usize).map_err(|_| {
            Error::new(libc::ENOMEM, "ring: no memory for the completion queue; ask for fewer cq_entries")
        })?;
        places.resize_with(entries as usize, Default::default);
        Ok(Self { entries: places.into(), head: AtomicU32::new(0), tail: AtomicU32::new(0) })
    }

    #[inline]
    fn place(&self, at: u32) -> &[AtomicU64; 2] {
        &self.entries[at as usize & (self.entries.len() - 1)]
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == self.tail.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.tail.load(Ordering::Relaxed).wrapping_sub(self.head.load(Ordering::Acquire))
    }

    /// How many more it takes.
    #[inline]
    pub(super) fn room(&self) -> u32 {
        self.entries.len() as u32 - self.len()
    }

    /// False: it is full.
    #[inline]
    pub(super) fn push(&self, completion: &Completion) -> bool {
        if self.room() == 0 {
            return false;
        }
        self.pushing().push(completion);
        true
    }

    /// Pushes several, at most `room`. The reaper sees them when this is dropped.
    #[inline]
    pub(super) fn pushing(&self) -> Pushing<'_> {
        Pushing { queue: self, tail: self.tail.load(Ordering::Relaxed) }
    }

    /// The completions that are there now, taken one by one. Their places are free again when this
    /// is dropped; only one may exist.
    #[inline]
    pub(super) fn popping(&self) -> Popping<'_> {
        let (head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Acquire));
        Popping { queue: self, head, tail }
    }
}

/// See `Queue::pushing`.
pub(super) struct Pushing<'q> {
    queue: &'q Queue,
    tail: u32,
}

impl Pushing<'_> {
    #[inline]
    pub(super) fn push(&mut self, completion: &Completion) {
        let [word, rest] = self.queue.place(self.tail);
        word.store(completion.word, Ordering::Relaxed);
        rest.store(
            u64::from(completion.result as u32) | u64::from(completion.flags) << 32,
            Ordering::Relaxed,
        );
        self.tail = self.tail.wrapping_add(1);
    }
}

impl Drop for Pushing<'_> {
    #[inline]
    fn drop(&mut self) {
        self.queue.tail.store(self.tail, Ordering::Release);
    }
}

/// See `Queue::popping`.
pub(crate) struct Popping<'q> {
    queue: &'q Queue,
    head: u32,
    tail: u32,
}

impl Iterator for Popping<'_> {
    type Item = Completion;

    #[inline]
    fn next(&mut self) -> Option<Completion> {
        if self.head == self.tail {
            return None;
        }
        let [word, rest] = self.queue.place(self.head).each_ref().map(|half| half.load(Ordering::Relaxed));
        self.head = self.head.wrapping_add(1);
        Some(Completion::from_entry(word, rest as u32 as i32, (rest >> 32) as u32))
    }
}

impl Drop for Popping<'_> {
    #[inline]
    fn drop(&mut self) {
        self.queue.head.store(self.head, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_come_out_as_they_went_in_and_a_full_queue_takes_no_more() {
        let queue = Queue::new(2).unwrap();
        for (result, flags) in [(-105, 0), (7, 1 << 31 | 2), (0, u32::MAX)] {
            let made = Completion::from_entry(9, result, flags);
            for _ in 0..2 {
                assert!(queue.push(&made));
            }
            assert!(!queue.push(&made));
            let mut popping = queue.popping();
            for _ in 0..2 {
                let popped = popping.next().unwrap();
                assert_eq!((popped.word, popped.result, popped.flags), (9, result, flags));
            }
            assert!(popping.next().is_none() && !queue.push(&made));
            drop(popping);
            assert!(queue.is_empty());
        }
    }
}
