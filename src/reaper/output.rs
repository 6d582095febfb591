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

    pub(super) fn wants_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    /// The places of the records that are still to come, and of their metadata, if they are wanted.
    #[inline]
    pub(super) fn places(&mut self) -> Places<'_> {
        Places {
            records: self.records[self.filled..].iter_mut(),
            metadata: self.metadata.as_deref_mut().map(|array| array[self.filled..].iter_mut()),
        }
    }

    /// Hands out `count` records, which were written to their places.
    #[inline]
    pub(super) fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// The next `count` records: `first` and the segments after it, all of its length.
    #[inline]
    pub(super) fn push_segments(&mut self, first: &Record, metadata: &Metadata, count: usize) {
        let places = self.filled..self.filled + count;
        let mut record = *first;
        for place in &mut self.records[places.clone()] {
            place.write(record);
            record.payload_offset = record.payload_offset.wrapping_add(record.payload_length);
            record.segment = record.segment.wrapping_add(1);
        }
        if let Some(array) = self.metadata.as_deref_mut() {
            for place in &mut array[places] {
                place.write(*metadata);
            }
        }
        self.filled += count;
    }

    /// The next record, with this metadata.
    #[inline]
    pub(super) fn push(&mut self, record: &Record, metadata: &Metadata) {
        if let Some(array) = self.metadata.as_deref_mut() {
            array[self.filled].write(*metadata);
        }
        self.records[self.filled].write(*record);
        self.filled += 1;
    }
}

/// See `Output::places`.
pub(super) struct Places<'o> {
    records: std::slice::IterMut<'o, MaybeUninit<Record>>,
    metadata: Option<std::slice::IterMut<'o, MaybeUninit<Metadata>>>,
}

/// Where a record goes, and its metadata, which are emptied.
pub(super) type Place<'o> = (&'o mut MaybeUninit<Record>, Option<&'o mut Metadata>);

impl<'o> Places<'o> {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.records.as_slice().is_empty()
    }

    #[inline]
    pub(super) fn next(&mut self) -> Option<Place<'o>> {
        let metadata = match &mut self.metadata {
            Some(places) => Some(places.next()?.write(Metadata::NONE)),
            None => None,
        };
        Some((self.records.next()?, metadata))
    }
}
