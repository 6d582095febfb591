//! Which records hold a buffer.

use crate::ids::Generation;
use crate::layout::SEGMENTS_MAX;
use crate::record::{RINGMSG_RECORD_BUFFER, Record};

/// How many records, from the first on, are consecutive segments of one train.
#[inline]
fn run_length(records: &[Record]) -> u32 {
    let Some(first) = records.first() else { return 0 };
    let whole = use_of_buffer(first);
    let follow = |(record, segment): &(&Record, u32)| {
        u32::from(record.segment) == *segment
            && use_of_buffer(record) == whole
            && record.flags & RINGMSG_RECORD_BUFFER != 0
    };
    let numbered = records.iter().zip(u32::from(first.segment)..);
    numbered.take_while(follow).count() as u32
}

/// Pool, buffer and generation, which lie side by side, in one number.
#[inline(always)]
fn use_of_buffer(record: &Record) -> u64 {
    u64::from(record.pool) | u64::from(record.buffer) << 16 | u64::from(record.generation) << 32
}

/// One bit for each segment whose record is held, in this generation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holders {
    segments: [u64; 2],
    generation: Generation,
}

impl Holders {
    /// The first `count` segments, of this generation.
    #[inline]
    pub(super) fn new(count: u32, generation: Generation) -> Self {
        let word = |count: u32| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        let segments = match count {
            1 => [1, 0],
            many => [word(many), word(many.saturating_sub(64))],
        };
        Self { segments, generation }
    }

    /// The holders that are empty are to hold one record more, of a single datagram.
    #[inline(always)]
    pub(super) fn hold_single(&mut self, generation: Generation) {
        self.segments[0] = 1;
        self.generation = generation;
    }

    /// The word and the bit of a segment; None where there is no such segment.
    #[inline]
    fn place(segment: u16) -> Option<(usize, u64)> {
        (u32::from(segment) < SEGMENTS_MAX).then(|| (usize::from(segment >> 6), 1 << (segment & 63)))
    }

    #[inline]
    pub(super) fn has(&self, record: &Record) -> bool {
        let place = Self::place(record.segment);
        self.generation.0 == record.generation
            && place.is_some_and(|(word, bit)| self.segments[word] & bit != 0)
    }

    /// Takes off the claim of `record` if it holds the buffer alone, and is no part of a train.
    #[inline(always)]
    pub(super) fn release_single(&mut self, record: &Record) -> bool {
        // One number, for one comparison.
        let is_single = u32::from(record.segment) | u32::from(record.segments) << 16 == 1 << 16;
        if !is_single || self.generation.0 != record.generation || self.segments[0] != 1 {
            return false;
        }
        self.segments[0] = 0;
        true
    }

    /// Takes off the claims of the first of `records`, which is held, and of those of its train
    /// that follow, as far as they are held. Returns how many these are.
    #[inline(never)]
    pub(super) fn release_run(&mut self, records: &[Record]) -> usize {
        let first = u32::from(records[0].segment);
        let held = u128::from(self.segments[0]) | u128::from(self.segments[1]) << 64;
        // From the first on, how many bits are set without a gap.
        let count = run_length(records).min((held >> first).trailing_ones());
        let left = held & !((u128::MAX >> (SEGMENTS_MAX - count)) << first);
        self.segments = [left as u64, (left >> 64) as u64];
        count as usize
    }

    #[inline]
    pub(super) fn flip(&mut self, segment: u16) {
        if let Some((word, bit)) = Self::place(segment) {
            self.segments[word] ^= bit;
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.segments[0] | self.segments[1] == 0
    }
}
