//! The path of nearly every record: a datagram of a multishot.

use super::completion::{Deposit, read_metadata, split_of};
use super::emit::count_unusual;
use super::output::Places;
use super::pass::{CompletionPass, current_pool};
use crate::engine::Completion;
use crate::ids::{BufferId, Generation, PoolId, Slot};
use crate::pool::Buffers;
use crate::record::Metadata;
use crate::request::{Request, Target};
use crate::stats::Stats;

impl CompletionPass<'_, '_> {
    /// Takes `first`, which filled a buffer, and those behind it that are data of the same
    /// multishot: what they have in common is looked up once, and counted at the end. Returns the
    /// completion that came instead, if one did. There is room for a record.
    #[inline]
    pub(super) fn run_of_data(
        &mut self,
        slot: Slot,
        first: Completion,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        // Two loops, so that neither checks for each datagram whether the caller wants metadata.
        match self.out.wants_metadata() {
            true => self.take_run::<true>(slot, first, ready),
            false => self.take_run::<false>(slot, first, ready),
        }
    }

    fn take_run<const METADATA: bool>(
        &mut self,
        slot: Slot,
        first: Completion,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        let request = self.core.requests.get_mut(slot);
        let Target::Multishot { pool: pool_id } = request.target else {
            unreachable!("only multishots fill published buffers")
        };
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, pool_id);
        let places = self.out.places::<METADATA>();
        let generation = self.state.generation;
        let mut run = Run { request, pool, pool_id, places, generation, bytes: 0 };
        let (mut more_datagrams, mut unusual) = (0, None);
        // A train, or the last record before the kernel ended the request.
        let mut special = None;
        let mut next = Some(first);
        let other = loop {
            let Some(completion) = next.and_then(|next| run.take_plain(&first, next, ready)) else {
                break None;
            };
            let Some(buffer) = completion.buffer_like(&first) else { break Some(completion) };
            let deposit = run.deposit(completion.result, buffer);
            run.generation = deposit.generation;
            let Some((place, metadata)) = run.places.next() else { unreachable!("there is room") };
            let (record, metadata) = deposit.write(run.pool, place, metadata);
            let split = split_of(request, record);
            run.pool.hold(buffer, run.generation, split.map_or(1, |split| split.records));
            if split.is_some() || !completion.more() {
                let metadata = metadata.map_or(Metadata::NONE, |metadata| *metadata);
                special = Some((split, *record, metadata, completion.more()));
                break None;
            }
            run.bytes += u64::from(record.payload_length);
            let counted = unusual.get_or_insert_with(Stats::default);
            more_datagrams += count_unusual(counted, request.kind.is_connection(), record) as i64 - 1;
            run.places.advance();
            next = if run.places.is_full() { None } else { ready.next() };
        };
        let records = run.places.filled() as u32;
        let Run { generation, bytes, .. } = run;
        self.state.generation = generation;
        request.succeeded();
        let (datagrams, received) = match request.reads_error_queue() {
            true => (0, 0),
            false => (u64::from(records).wrapping_add_signed(more_datagrams), bytes),
        };
        for stats in [&mut request.stats, &mut self.core.stats] {
            stats.add_data(records.into(), datagrams, received);
            if let Some(unusual) = &unusual {
                stats.add_request(unusual);
            }
        }
        let special_bytes = special.as_ref().map_or(0, |(_, record, ..)| u64::from(record.payload_length));
        let drawn = records + u32::from(special.is_some());
        pool.filled(drawn, bytes + special_bytes);
        pool.held += drawn;
        self.state.since_entry = self.state.since_entry.saturating_add(drawn);
        self.out.advance(records as usize);
        let looks_for_end = request.kind.is_local_stream() && special.is_none_or(|(.., more)| more);
        if let Some((split, record, metadata, more)) = special {
            self.train_or_last(slot, record, metadata, split, more);
        }
        if looks_for_end && self.engine.traits().loses_stream_end {
            self.look_for_end(slot);
        }
        other
    }
}

/// Consecutive completions of one multishot, on their way to records.
struct Run<'r, 'o, const METADATA: bool> {
    request: &'r Request,
    pool: &'r mut Buffers,
    pool_id: PoolId,
    places: Places<'o, METADATA>,
    generation: Generation,
    /// Of the payloads.
    bytes: u64,
}

impl<'r, const METADATA: bool> Run<'r, '_, METADATA> {
    /// What the next completion brought into `buffer`.
    #[inline(always)]
    fn deposit(&self, result: i32, buffer: BufferId) -> Deposit<'r> {
        let generation = self.generation.next();
        Deposit { request: self.request, pool_id: self.pool_id, buffer, result, generation }
    }

    /// Makes records of whole datagrams that have the row of control messages that the pool
    /// remembers: of `completion`, and of those behind it that are `ready`, as long as they are of
    /// the multishot of `first`. Returns the first completion that is something else, for whose
    /// record there is room.
    #[inline(never)]
    fn take_plain(
        &mut self,
        first: &Completion,
        mut completion: Completion,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        if self.pool.row.is_of_trains() {
            return Some(completion);
        }
        let before = self.places.filled();
        let mut bytes = 0;
        let rest = loop {
            let Some(buffer) = completion.goes_on_like(first) else { break Some(completion) };
            let deposit = self.deposit(completion.result, buffer);
            let Some(place) = self.places.next_record() else { break None };
            let Some(length) = deposit.write_plain::<false>(self.pool, place, None) else {
                break Some(completion);
            };
            self.places.advance();
            self.generation = deposit.generation;
            self.pool.hold_single(buffer, deposit.generation);
            bytes += u64::from(length);
            if self.places.is_full() {
                break None;
            }
            match ready.next() {
                Some(next) => completion = next,
                None => break None,
            }
        };
        self.bytes += bytes;
        // In a loop of its own: what the row is like stays in registers.
        for (record, metadata) in self.places.filled_since(before) {
            read_metadata(self.pool, record, metadata);
        }
        rest
    }
}
