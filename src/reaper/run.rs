//! The way of nearly every record: a datagram of a multishot.

use super::completion::{deposit, split_of};
use super::emit::{count_unusual, is_one_datagram};
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
        mut completion: Completion,
        mut buffer: BufferId,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        let request = self.core.requests.get_mut(slot);
        let Target::Multishot { pool: pool_id } = request.target else {
            unreachable!("only multishots fill published buffers")
        };
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, pool_id);
        let mut places = self.out.places();
        let mut generation = self.state.generation;
        let mut counted = Stats::default();
        // What the run ends with: a train, or the last record before the kernel ended the request;
        // or a completion of something else.
        let (mut special, mut other) = (None, None);
        while let Some((place, mut metadata)) = places.next() {
            generation = generation.next();
            let result = completion.result;
            let record =
                deposit((place, metadata.as_deref_mut()), pool, request, pool_id, buffer, result, generation);
            let split = split_of(request, record);
            pool.hold(buffer, generation, split.map_or(1, |split| split.records));
            if split.is_some() || !completion.more() {
                special = Some((split, *record, metadata.map_or(Metadata::NONE, |metadata| *metadata)));
                break;
            }
            counted.records += 1;
            counted.datagrams += match is_one_datagram(record) {
                true => 1,
                false => count_unusual(&mut counted, request.kind.is_connection(), record),
            };
            counted.payload_bytes += u64::from(record.payload_length);
            if places.is_empty() {
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
        request.stats.add_request(&counted);
        self.core.stats.add_request(&counted);
        let specials = u32::from(special.is_some());
        let special_bytes = special.as_ref().map_or(0, |(_, record, _)| u64::from(record.payload_length));
        let drawn = counted.records as u32 + specials;
        pool.filled(drawn, counted.payload_bytes + special_bytes);
        self.completions += drawn;
        self.out.advance(counted.records as usize);
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
