//! Who holds a buffer.

use crate::layout::SEGMENTS_MAX;
use crate::record::Record;

/// Who holds a buffer: one bit a segment, for this generation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Holders {
    segments: [u64; 2],
    generation: u32,
}

impl Holders {
    /// The first `count` segments, of this generation.
    #[inline]
    pub(super) fn new(count: u32, generation: u32) -> Self {
        let word = |count: u32| if count >= 64 { u64::MAX } else { (1 << count) - 1 };
        let segments = match count {
            1 => [1, 0],
            many => [word(many), word(many.saturating_sub(64))],
        };
        Self { segments, generation }
    }

    /// The word and the bit of a segment; None where there is no such segment.
    #[inline]
    fn place(segment: u16) -> Option<(usize, u64)> {
        (u32::from(segment) < SEGMENTS_MAX).then(|| (usize::from(segment >> 6), 1 << (segment & 63)))
    }

    #[inline]
    pub(super) fn has(&self, record: &Record) -> bool {
        let place = Self::place(record.segment);
        self.generation == record.generation
            && place.is_some_and(|(word, bit)| self.segments[word] & bit != 0)
    }

    #[inline]
    pub(super) fn flip(&mut self, segment: u16) {
        if let Some((word, bit)) = Self::place(segment) {
            self.segments[word] ^= bit;
        }
    }

    #[inline]
    pub(super) fn is_nobody(&self) -> bool {
        self.segments[0] | self.segments[1] == 0
    }
}
