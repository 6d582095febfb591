//! The caller's arrays, and how far they are filled.

use std::mem::MaybeUninit;

use crate::record::{Metadata, Record};

pub(crate) struct Output<'a> {
    records: &'a mut [MaybeUninit<Record>],
    metadata: Option<&'a mut [MaybeUninit<Metadata>]>,
    filled: usize,
}

impl<'a> Output<'a> {
    /// Arrays of the same length.
    pub(crate) fn new(
        records: &'a mut [MaybeUninit<Record>],
        metadata: Option<&'a mut [MaybeUninit<Metadata>]>,
    ) -> Self {
        Self { records, metadata, filled: 0 }
    }

    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.records.len() - self.filled
    }

    pub(crate) fn wants_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// The places of the records that are still to come, and of their metadata. `METADATA`: they
    /// are wanted.
    #[inline]
    pub(super) fn places<const METADATA: bool>(&mut self) -> Places<'_, METADATA> {
        let metadata = self.metadata.as_deref_mut().map_or(&mut [][..], |array| &mut array[self.filled..]);
        Places { records: &mut self.records[self.filled..], metadata, filled: 0 }
    }

    /// Hands out `count` records, which were written to their places.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// The next `count` records: `first` and the segments after it, all of its length.
    #[inline]
    pub(crate) fn push_segments(&mut self, first: &Record, metadata: &Metadata, count: usize) {
        let places = self.filled..self.filled + count;
        let records = &mut self.records[places.clone()];
        repeat(records, first);
        let (mut payload_offset, mut segment) = (first.payload_offset, first.segment);
        for record in records {
            // SAFETY: `repeat` has written every one of them.
            let record = unsafe { record.assume_init_mut() };
            (record.payload_offset, record.segment) = (payload_offset, segment);
            payload_offset = payload_offset.wrapping_add(first.payload_length);
            segment = segment.wrapping_add(1);
        }
        if let Some(array) = self.metadata.as_deref_mut() {
            repeat(&mut array[places], metadata);
        }
        self.filled += count;
    }

    /// The next record, with this metadata.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record, metadata: &Metadata) {
        if let Some(array) = self.metadata.as_deref_mut() {
            array[self.filled].write(*metadata);
        }
        self.records[self.filled].write(*record);
        self.filled += 1;
    }
}

/// Writes `value` to every place: one copy doubles what is written, so that memcpy can use the
/// processor's wide registers.
#[inline]
fn repeat<T: Copy>(places: &mut [MaybeUninit<T>], value: &T) {
    let Some(first) = places.first_mut() else { return };
    first.write(*value);
    let mut written = 1;
    while written < places.len() {
        let count = written.min(places.len() - written);
        places.copy_within(..count, written);
        written += count;
    }
}

/// See `Output::places`.
pub(super) struct Places<'o, const METADATA: bool> {
    records: &'o mut [MaybeUninit<Record>],
    metadata: &'o mut [MaybeUninit<Metadata>],
    filled: usize,
}

/// Where a record goes, and its metadata, if they are wanted.
pub(super) type Place<'p> = (&'p mut MaybeUninit<Record>, Option<&'p mut MaybeUninit<Metadata>>);

impl<const METADATA: bool> Places<'_, METADATA> {
    #[inline(always)]
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// The next place; None: there is no more room.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Place<'_>> {
        let metadata = if METADATA { Some(self.metadata.get_mut(self.filled)?) } else { None };
        Some((self.records.get_mut(self.filled)?, metadata))
    }

    /// The next place of a record alone.
    #[inline(always)]
    pub(super) fn next_record(&mut self) -> Option<&mut MaybeUninit<Record>> {
        self.records.get_mut(self.filled)
    }

    /// The records that were filled since `before` were, and the places of their metadata: none
    /// where they are not wanted.
    #[inline(always)]
    pub(super) fn filled_since(
        &mut self,
        before: usize,
    ) -> impl Iterator<Item = (&Record, &mut MaybeUninit<Metadata>)> {
        let metadata = if METADATA { &mut self.metadata[before..self.filled] } else { &mut [] };
        // SAFETY: `advance` is called for places that were written.
        let records =
            self.records[before..self.filled].iter().map(|place| unsafe { place.assume_init_ref() });
        records.zip(metadata)
    }

    /// The next place is filled.
    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.filled += 1;
    }

    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.filled == self.records.len()
    }
}
