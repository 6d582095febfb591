//! A ring's requests, by slot, and the lists that they are in.

use super::index::{Index, IndexLinks, Indexed};
use super::{For, Request, State};
use crate::error::Result;
use crate::ids::Slot;
use crate::slot_list::{Linked, Links, SlotList};
use crate::sys::memory::{try_reserve_one, try_reserve_total};

/// A ring's requests. Nothing here walks all of them.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Requests {
    // Each pass touches the first two.
    slots: Slots,
    /// In state Over, and no completion will bring the FINAL record.
    finals: SlotList,
    /// To be submitted again, because the kernel could not take it before.
    retries: SlotList,
    /// Armed or paused: operations that the kernel has not completed.
    in_kernel: u32,
    vacant: Vec<Slot>,
    index: Index,
}

#[derive(Default)]
struct Slots(Vec<Request>);

impl Linked for Slots {
    fn links(&mut self, slot: Slot) -> &mut Links {
        &mut self.0[slot.index()].links
    }
}

impl Indexed for Slots {
    fn user_data(&self, slot: Slot) -> u64 {
        self.0[slot.index()].user_data
    }

    fn index_links(&mut self, slot: Slot) -> &mut IndexLinks {
        &mut self.0[slot.index()].index_links
    }

    fn next_in_chain(&self, slot: Slot) -> u32 {
        self.0[slot.index()].index_links.next()
    }
}

impl Requests {
    /// A vacant slot, which stays vacant until `occupy`. Allocates if there is none, and then also
    /// what cancelling and finishing will need, so that reaping allocates nothing.
    pub(crate) fn reserve(&mut self) -> Result<Slot> {
        if let Some(&slot) = self.vacant.last() {
            return Ok(slot);
        }
        let count = self.slots.0.len();
        try_reserve_one(&mut self.slots.0)?;
        try_reserve_total(&mut self.vacant, count + 1)?;
        self.reindex(count + 1)?;
        self.slots.0.push(Request::vacant()?);
        let slot = Slot(count as u32);
        self.vacant.push(slot);
        Ok(slot)
    }

    /// Doubles the index when it is too small. (The cost of this is shared by as many requests.)
    fn reindex(&mut self, requests: usize) -> Result<()> {
        // No slot is vacant: every request is in the index.
        let linked = (0..self.slots.0.len() as u32).map(Slot);
        self.index.reserve(requests, &mut self.slots, linked)
    }

    /// Puts the reserved `slot` to use: it is found by its user_data from now on.
    pub(crate) fn occupy(&mut self, slot: Slot, state: State) {
        let reserved = self.vacant.pop();
        debug_assert_eq!(reserved, Some(slot));
        self.index.insert(&mut self.slots, slot);
        self.set_state(slot, state);
    }

    pub(crate) fn free_slot(&mut self, slot: Slot) {
        self.index.remove(&mut self.slots, slot);
        self.set_state(slot, State::Vacant);
        self.vacant.push(slot);
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> &Request {
        &self.slots.0[slot.index()]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Request {
        &mut self.slots.0[slot.index()]
    }

    pub(crate) fn set_state(&mut self, slot: Slot, state: State) {
        let is_in_kernel = |state| matches!(state, State::Armed | State::Paused);
        let before = std::mem::replace(&mut self.get_mut(slot).state, state);
        self.in_kernel -= u32::from(is_in_kernel(before));
        self.in_kernel += u32::from(is_in_kernel(state));
    }

    /// How many operations the kernel has not completed.
    pub(crate) fn in_kernel(&self) -> u32 {
        self.in_kernel
    }

    /// How many requests there were at most at one time.
    pub(crate) fn slots(&self) -> u32 {
        self.slots.0.len() as u32
    }

    /// The requests with this user_data.
    pub(crate) fn with_user_data(&self, user_data: u64) -> impl Iterator<Item = Slot> + '_ {
        let first = self.index.first(&self.slots, user_data);
        std::iter::successors(first, |&slot| Index::next(&self.slots, slot))
    }

    /// The first request with this user_data; `next_with_same_user_data` leads on, also while
    /// requests change.
    pub(crate) fn first_with_user_data(&self, user_data: u64) -> Option<Slot> {
        self.index.first(&self.slots, user_data)
    }

    pub(crate) fn next_with_same_user_data(&self, slot: Slot) -> Option<Slot> {
        Index::next(&self.slots, slot)
    }

    /// The slots in use. Walks all: only for the ring's end.
    pub(crate) fn live(&self) -> impl Iterator<Item = (Slot, &Request)> {
        let numbered = self.slots.0.iter().enumerate().map(|(slot, request)| (Slot(slot as u32), request));
        numbered.filter(|(_, request)| request.state != State::Vacant)
    }

    // --- lists -------------------------------------------------------------------------------

    /// Ends the request; its FINAL record is made by the next pass.
    pub(crate) fn finish_later(&mut self, slot: Slot) {
        self.set_state(slot, State::Over);
        self.finals.push_back(&mut self.slots, slot);
    }

    pub(crate) fn next_final(&mut self) -> Option<Slot> {
        self.finals.pop_front(&mut self.slots)
    }

    pub(crate) fn has_finals(&self) -> bool {
        !self.finals.is_empty()
    }

    /// Tries again, in the next pass, what the kernel could not take: arming the request, or
    /// cancelling it.
    pub(crate) fn retry_later(&mut self, slot: Slot) {
        let request = self.get_mut(slot);
        if !std::mem::replace(&mut request.is_in_retries, true) {
            self.retries.push_back(&mut self.slots, slot);
        }
    }

    pub(crate) fn retries(&self) -> u32 {
        self.retries.len()
    }

    pub(crate) fn next_retry(&mut self) -> Option<Slot> {
        let slot = self.retries.pop_front(&mut self.slots)?;
        self.get_mut(slot).is_in_retries = false;
        Some(slot)
    }

    /// Takes the request off the list of retries, if it is there.
    pub(crate) fn cancel_retry(&mut self, slot: Slot) {
        if std::mem::take(&mut self.get_mut(slot).is_in_retries) {
            self.retries.remove(&mut self.slots, slot);
        }
    }

    /// Puts the request into its pool's list of those that wait for buffers.
    pub(crate) fn starve(&mut self, starved: &mut SlotList, slot: Slot) {
        self.set_state(slot, State::Waiting(For::Buffers));
        starved.push_back(&mut self.slots, slot);
    }

    pub(crate) fn next_starved(&mut self, starved: &mut SlotList) -> Option<Slot> {
        starved.pop_front(&mut self.slots)
    }

    pub(crate) fn remove_starved(&mut self, starved: &mut SlotList, slot: Slot) {
        starved.remove(&mut self.slots, slot);
    }

    /// Puts the first of a list behind its last.
    pub(crate) fn rotate(&mut self, starved: &mut SlotList) {
        if let Some(slot) = starved.pop_front(&mut self.slots) {
            starved.push_back(&mut self.slots, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(requests: &mut Requests, user_data: u64) -> Slot {
        let slot = requests.reserve().unwrap();
        requests.get_mut(slot).user_data = user_data;
        requests.occupy(slot, State::Armed);
        slot
    }

    fn found(requests: &Requests, user_data: u64) -> Vec<u32> {
        let mut slots: Vec<u32> = requests.with_user_data(user_data).map(|slot| slot.0).collect();
        slots.sort_unstable();
        slots
    }

    #[test]
    fn requests_are_found_by_user_data_through_growth_and_removal() {
        let mut requests = Requests::default();
        assert_eq!(found(&requests, 0), []);
        let slots: Vec<Slot> = (0..1000).map(|i| occupied(&mut requests, i % 100)).collect();
        assert_eq!(requests.in_kernel(), 1000);
        for user_data in 0..100 {
            let expected: Vec<u32> = (0..10).map(|i| slots[user_data + 100 * i].0).collect();
            assert_eq!(found(&requests, user_data as u64), expected);
        }
        for &slot in slots.iter().skip(100) {
            requests.free_slot(slot);
        }
        assert_eq!(requests.in_kernel(), 100);
        assert_eq!(found(&requests, 7), [slots[7].0]);
        assert_eq!(found(&requests, 100), []);
        let again = occupied(&mut requests, 7);
        assert_eq!(found(&requests, 7).len(), 2);
        assert_eq!((requests.slots(), again.0 < 1000), (1000, true));
    }

    #[test]
    fn a_retry_is_noted_once_and_can_be_taken_back() {
        let mut requests = Requests::default();
        let (one, two) = (occupied(&mut requests, 1), occupied(&mut requests, 2));
        requests.retry_later(one);
        requests.retry_later(two);
        requests.retry_later(one);
        requests.cancel_retry(one);
        requests.cancel_retry(one);
        assert_eq!((requests.retries(), requests.next_retry(), requests.next_retry()), (1, Some(two), None));
    }
}
