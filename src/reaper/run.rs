//! The way of nearly every record: a datagram of a multishot.

use super::completion::{Deposit, split_of};
use super::emit::count_unusual;
use super::pass::{CompletionPass, current_pool};
use crate::engine::Completion;
use crate::ids::{BufferId, Slot};
use crate::record::Metadata;
use crate::request::Target;
use crate::stats::Stats;

impl CompletionPass<'_, '_> {
    /// Takes `completion`, which filled `buffer`, and those behind it that are data of the same
    /// multishot: what they have in common is looked up once, and counted at the end. Returns the
    /// completion that came instead, if one did. There is room for a record.
    #[inline]
    pub(super) fn run_of_data(
        &mut self,
        slot: Slot,
        completion: Completion,
        buffer: BufferId,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        // Two loops, neither of which asks for each datagram what the caller wants.
        match self.out.wants_metadata() {
            true => self.run_of_records::<true>(slot, completion, buffer, ready),
            false => self.run_of_records::<false>(slot, completion, buffer, ready),
        }
    }

    #[inline(always)]
    fn run_of_records<const METADATA: bool>(
        &mut self,
        slot: Slot,
        mut completion: Completion,
        mut buffer: BufferId,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        let request = self.core.requests.get_mut(slot);
        let Target::Multishot { pool: pool_id } = request.target else {
            unreachable!("only multishots fill published buffers")
        };
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, pool_id);
        let mut places = self.out.places::<METADATA>();
        let mut generation = self.state.generation;
        let (mut records, mut more_datagrams, mut bytes) = (0u64, 0, 0);
        // What the run ends with: a train, or the last record before the kernel ended the request;
        // or a completion of something else.
        let (mut special, mut other) = (None, None);
        let mut next = places.next();
        while let Some((place, mut metadata)) = next {
            generation = generation.next();
            let result = completion.result;
            let deposit = || Deposit { request, pool_id, buffer, result, generation };
            let segment_size = deposit().plain(pool, place, metadata.as_deref_mut());
            if segment_size.is_none() {
                place.write(deposit().any(pool, metadata.as_deref_mut()));
            }
            // SAFETY: one of the two has written it.
            let record = unsafe { place.assume_init_ref() };
            let is_plain = segment_size == Some(0);
            let split = if is_plain { None } else { split_of(request, record) };
            match split {
                None => pool.hold_single(buffer, generation),
                Some(split) => pool.hold(buffer, generation, split.records),
            }
            if split.is_some() || !completion.more() {
                special = Some((split, *record, metadata.map_or(Metadata::NONE, |metadata| *metadata)));
                break;
            }
            records += 1;
            bytes += u64::from(record.payload_length);
            if !is_plain {
                let mut counted = Stats::default();
                let datagrams = count_unusual(&mut counted, request.kind.is_connection(), record);
                more_datagrams += datagrams as i64 - 1;
                request.stats.add_request(&counted);
                self.core.stats.add_request(&counted);
            }
            next = places.next();
            if next.is_none() {
                break;
            }
            let Some(another) = ready.next() else { break };
            match another.buffer_like(&completion) {
                Some(its_buffer) => (completion, buffer) = (another, its_buffer),
                None => {
                    other = Some(another);
                    break;
                }
            }
        }
        self.state.generation = generation;
        request.succeeded();
        let datagrams = records.wrapping_add_signed(more_datagrams);
        request.stats.add_data(records, datagrams, bytes);
        self.core.stats.add_data(records, datagrams, bytes);
        let specials = u32::from(special.is_some());
        let special_bytes = special.as_ref().map_or(0, |(_, record, _)| u64::from(record.payload_length));
        let drawn = records as u32 + specials;
        pool.filled(drawn, bytes + special_bytes);
        pool.held += drawn;
        self.completions += drawn;
        self.out.advance(records as usize);
        let looks_for_end = request.kind.is_local_stream() && completion.more();
        if let Some((split, record, metadata)) = special {
            self.train_or_last(slot, record, metadata, split, completion.more());
        }
        if looks_for_end && self.engine.traits().loses_stream_end {
            self.look_for_end(slot);
        }
        other
    }
}
