//! The way of nearly every record: a datagram of a multishot.

use super::completion::{deposit, next, split_of};
use super::emit::{count_unusual, is_one_datagram};
use super::{Pass, at_hand};
use crate::engine::Completion;

impl Pass<'_, '_> {
    /// Takes `completion`, which filled `buffer`, and those behind it that are data of the same
    /// multishot: what they have in common is looked up once, and counted at the end. Returns the
    /// completion that came instead, if one did. There is room for a record.
    #[inline]
    pub(super) fn run(
        &mut self,
        slot: u32,
        mut completion: Completion,
        mut buffer: u16,
        ready: &mut impl Iterator<Item = Completion>,
    ) -> Option<Completion> {
        let core = &mut *self.core;
        let request = core.requests.get_mut(slot);
        let pool = at_hand(&mut self.at_hand, self.ring, &mut core.touched, request.pool);
        let mut places = self.out.places();
        let (mut generation, mut whole, mut bytes) = (core.generation, 0, 0);
        let (mut unusual, mut their_datagrams) = (0, 0);
        // What the run ends with: a record that takes more than to be written, or another's completion.
        let (mut special, mut other) = (None, None);
        while let Some(place) = places.next() {
            generation = next(generation);
            let record = deposit(place, pool, request, buffer, completion.result, generation);
            let split = split_of(request, record);
            pool.hold(buffer, generation, split.map_or(1, |split| split.records));
            if split.is_some() || !completion.more() {
                special = Some((split, record.payload_length));
                break;
            }
            whole += 1;
            if !is_one_datagram(record) {
                unusual += 1;
                their_datagrams += count_unusual(request, record);
            }
            bytes += u64::from(record.payload_length);
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
        core.generation = generation;
        request.succeeded();
        request.stats.records += whole;
        request.stats.datagrams += whole - unusual + their_datagrams;
        request.stats.payload_bytes += bytes;
        let specials = u32::from(special.is_some());
        let drawn = whole as u32 + specials;
        pool.filled(drawn, bytes + special.map_or(0, |(_, bytes)| u64::from(bytes)));
        self.completions += drawn;
        self.out.advance(whole as usize);
        let looks_for_end = request.kind.is_local_stream() && completion.more();
        if let Some((split, _)) = special {
            self.train_or_last(slot, split, completion.more());
        }
        if looks_for_end && self.ring.engine.loses_ends() {
            self.look_for_end(slot);
        }
        other
    }
}
