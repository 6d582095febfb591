//! Completions in, records out. Everything here runs in the one reaper, under the core lock.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;

use crate::clock::now_ns;
use crate::engine::{Completion, Token};
use crate::pool::{Buffers, Locked, Pool};
use crate::record::*;
use crate::ring::{Core, Ring};

mod completion;
mod emit;
mod rearm;
mod run;

/// The caller's arrays, and how far they are filled.
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

    /// The places of the records that are still to come, and of their metadata, if they are wanted.
    #[inline]
    fn places(&mut self) -> Places<'_> {
        Places {
            records: self.records[self.filled..].iter_mut(),
            metadata: self.metadata.as_deref_mut().map(|array| array[self.filled..].iter_mut()),
        }
    }

    /// A copy of the next record, and of its metadata.
    ///
    /// # Safety
    /// They were written to the first of the `places`.
    unsafe fn begun(&self) -> (Record, Metadata) {
        let metadata = self.metadata.as_deref().map(|array| &array[self.filled]);
        // SAFETY: the caller's promise.
        unsafe {
            (
                self.records[self.filled].assume_init(),
                metadata.map_or(Metadata::NONE, |metadata| metadata.assume_init()),
            )
        }
    }

    /// Hands out `count` records, which were written to their places.
    #[inline]
    fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// The next `count` records: `first` and the segments after it, all of its length.
    #[inline]
    pub(crate) fn push_segments(&mut self, first: &Record, metadata: &Metadata, count: usize) {
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
    pub(crate) fn push(&mut self, record: &Record, metadata: &Metadata) {
        if let Some(array) = self.metadata.as_deref_mut() {
            array[self.filled].write(*metadata);
        }
        self.records[self.filled].write(*record);
        self.filled += 1;
    }
}

/// See `Output::places`.
struct Places<'o> {
    records: std::slice::IterMut<'o, MaybeUninit<Record>>,
    metadata: Option<std::slice::IterMut<'o, MaybeUninit<Metadata>>>,
}

impl<'o> Places<'o> {
    #[inline]
    fn is_empty(&self) -> bool {
        self.records.as_slice().is_empty()
    }

    /// The next place, the metadata emptied.
    #[inline]
    fn next(&mut self) -> Option<(&'o mut MaybeUninit<Record>, Option<&'o mut Metadata>)> {
        let metadata = match &mut self.metadata {
            Some(places) => Some(places.next()?.write(Metadata::NONE)),
            None => None,
        };
        Some((self.records.next()?, metadata))
    }
}

/// One pass over the completions.
struct Pass<'a, 'o> {
    ring: &'a Ring,
    core: &'a mut Core,
    out: &'a mut Output<'o>,
    now_ns: u64,
    /// The pool of the last completion, kept locked: the next is likely of the same.
    at_hand: Option<(u16, Locked<'a>)>,
    completions: u32,
    /// A request ran out of buffers, and there are some by now.
    refilled: bool,
}

impl Ring {
    /// Makes records of what is there, as far as they fit, and re-arms what has ended.
    pub(crate) fn collect(&self, core: &mut Core, out: &mut Output<'_>, now_ns: u64) -> u32 {
        let attention = self.signals.take_attention();
        self.stuck.store(false, Ordering::Relaxed);
        let mut pass = Pass { ring: self, core, out, now_ns, at_hand: None, completions: 0, refilled: false };
        pass.continue_train();
        if attention {
            pass.make_finals();
            pass.rearm_starved();
        }
        let mut ready = self.engine.completions();
        let mut next = None;
        while next.is_some() || pass.out.room() > 0 {
            let Some(completion) = next.take().or_else(|| ready.next()) else { break };
            next = pass.take(completion, &mut ready);
        }
        drop(ready);
        if pass.refilled {
            pass.rearm_starved();
        }
        let completions = pass.completions;
        pass.look_after_pools();
        drop(pass);
        if self.engine.queued() > 0 && self.engine.flush().is_err() {
            // The kernel is short of memory, or its queue is full: the next reap tries again.
            self.stuck.store(true, Ordering::Relaxed);
            self.signals.leave_attention();
        }
        if core.train.is_some() || core.requests.has_finals() {
            self.signals.leave_attention();
        }
        completions
    }

    /// Arms what waits for buffers, and submits it. For a release by the thread that reaps.
    pub(crate) fn rearm_now(&self) {
        let mut core = self.core();
        let mut nowhere = Output::new(&mut [], None);
        self.signals.leave_attention();
        self.collect(&mut core, &mut nowhere, now_ns());
        if self.engine.needs_reaper() {
            self.signals.leave_attention();
        }
        if self.signals.wants_attention() {
            // What is left is for the reaper, who may have fallen asleep since.
            self.signals.rouse();
        }
    }
}

impl Pass<'_, '_> {
    /// Takes a completion, and what can be taken with it from `ready`. Returns one that was met
    /// behind these; there is room for its record.
    #[inline]
    fn take(
        &mut self,
        completion: Completion,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        match completion.token() {
            Token::Receive(slot) => match completion.buffer() {
                Some(buffer) => return self.run(slot, completion, buffer, ready),
                None => self.received(slot, completion.result),
            },
            Token::Pause(slot) => self.paused(slot),
            Token::Wake => self.ring.watching.store(completion.more(), Ordering::Relaxed),
            Token::Cancel => {}
        }
        None
    }

    /// Locks the pool `id`, or finds it locked.
    #[inline]
    fn pool(&mut self, id: u16) -> &mut Buffers {
        at_hand(&mut self.at_hand, self.ring, &mut self.core.touched, id)
    }

    /// Tops up the windows of the pools that were drawn from.
    #[inline]
    fn look_after_pools(&mut self) {
        while let Some(id) = self.core.touched.pop() {
            let now_ns = self.now_ns;
            self.pool(id).look(now_ns);
            // After the top-up: a completion that is there by now may have missed it.
            if !self.ring.engine.ready() && !self.ring.engine.overflowed() {
                self.pool(id).is_caught_up();
            }
        }
        self.at_hand = None;
    }
}

/// The pool `id`, locked: the one at hand, or fetched.
#[inline]
fn at_hand<'h, 'a>(
    hand: &'h mut Option<(u16, Locked<'a>)>,
    ring: &'a Ring,
    touched: &mut Vec<u16>,
    id: u16,
) -> &'h mut Buffers {
    if hand.as_ref().is_none_or(|(held, _)| *held != id) {
        fetch(hand, ring, touched, id);
    }
    &mut hand.as_mut().expect("just fetched").1
}

#[cold]
fn fetch<'a>(hand: &mut Option<(u16, Locked<'a>)>, ring: &'a Ring, touched: &mut Vec<u16>, id: u16) {
    // One lock at a time.
    *hand = None;
    let mut pool = ring.pools.get(id).and_then(Pool::lock).expect("a pool with requests is not freed");
    if !pool.touched {
        pool.touched = true;
        touched.push(id);
    }
    *hand = Some((id, pool));
}
