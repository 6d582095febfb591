//! Requests by user_data: a hash table whose chains run through the requests themselves, so that
//! removing one allocates nothing and costs the same whatever the number of requests.

use crate::error::Result;
use crate::ids::Slot;
use crate::sys::hash::mix;
use crate::sys::memory::try_slice;

const NONE: u32 = u32::MAX;
const BUCKETS_MIN: usize = 16;

/// A request's neighbours in its chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexLinks {
    previous: u32,
    next: u32,
}

impl Default for IndexLinks {
    fn default() -> Self {
        Self { previous: NONE, next: NONE }
    }
}

/// What is indexed.
pub(super) trait Indexed {
    fn user_data(&self, slot: Slot) -> u64;
    fn index_links(&mut self, slot: Slot) -> &mut IndexLinks;
    fn next_in_chain(&self, slot: Slot) -> u32;
}

/// The heads of the chains: a power of two, at least as many as there are requests.
#[derive(Debug, Default)]
pub(super) struct Index {
    buckets: Box<[u32]>,
}

impl Index {
    fn bucket(&mut self, user_data: u64) -> &mut u32 {
        let at = mix(user_data) as usize & (self.buckets.len() - 1);
        &mut self.buckets[at]
    }

    /// Room for `requests`: `linked` are in the index now.
    pub(super) fn reserve(
        &mut self,
        requests: usize,
        all: &mut impl Indexed,
        linked: impl Iterator<Item = Slot>,
    ) -> Result<()> {
        if requests <= self.buckets.len() {
            return Ok(());
        }
        let buckets = requests.next_power_of_two().max(BUCKETS_MIN);
        self.buckets = try_slice(buckets, || NONE)?;
        linked.for_each(|slot| self.insert(all, slot));
        Ok(())
    }

    pub(super) fn insert(&mut self, all: &mut impl Indexed, slot: Slot) {
        let bucket = self.bucket(all.user_data(slot));
        let next = std::mem::replace(bucket, slot.0);
        *all.index_links(slot) = IndexLinks { previous: NONE, next };
        if next != NONE {
            all.index_links(Slot(next)).previous = slot.0;
        }
    }

    pub(super) fn remove(&mut self, all: &mut impl Indexed, slot: Slot) {
        let IndexLinks { previous, next } = std::mem::take(all.index_links(slot));
        match previous {
            NONE => *self.bucket(all.user_data(slot)) = next,
            previous => all.index_links(Slot(previous)).next = next,
        }
        if next != NONE {
            all.index_links(Slot(next)).previous = previous;
        }
    }

    /// The first request with `user_data`; `next` leads on.
    pub(super) fn first(&self, all: &impl Indexed, user_data: u64) -> Option<Slot> {
        if self.buckets.is_empty() {
            return None;
        }
        let head = self.buckets[mix(user_data) as usize & (self.buckets.len() - 1)];
        Self::find(all, head, user_data)
    }

    /// The request with the same user_data after `slot`.
    pub(super) fn next(all: &impl Indexed, slot: Slot) -> Option<Slot> {
        Self::find(all, all.next_in_chain(slot), all.user_data(slot))
    }

    fn find(all: &impl Indexed, mut at: u32, user_data: u64) -> Option<Slot> {
        while at != NONE {
            let slot = Slot(at);
            if all.user_data(slot) == user_data {
                return Some(slot);
            }
            at = all.next_in_chain(slot);
        }
        None
    }
}

impl IndexLinks {
    pub(super) fn next(&self) -> u32 {
        self.next
    }
}
