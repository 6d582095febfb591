//! Intrusive lists of requests: a ring's and its pools' lists of requests that wait for something.
//! The ends are where the list belongs, the links are in the requests; so adding and removing
//! allocates nothing and costs the same whatever the number of requests. A request is in at most
//! one list at a time.

use crate::ids::Slot;

const NONE: u32 = u32::MAX;

/// The ends of a list.
#[derive(Debug)]
pub(crate) struct SlotList {
    first: u32,
    last: u32,
    length: u32,
}

impl Default for SlotList {
    fn default() -> Self {
        Self { first: NONE, last: NONE, length: 0 }
    }
}

/// A request's neighbours in the list that it is in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    previous: u32,
    next: u32,
}

impl Links {
    pub(crate) const UNLINKED: Self = Self { previous: NONE, next: NONE };
}

/// Where the links are.
pub(crate) trait Linked {
    fn links(&mut self, slot: Slot) -> &mut Links;
}

impl SlotList {
    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn len(&self) -> u32 {
        self.length
    }

    pub(crate) fn push_back(&mut self, all: &mut impl Linked, slot: Slot) {
        *all.links(slot) = Links { previous: self.last, next: NONE };
        match self.last {
            NONE => self.first = slot.0,
            last => all.links(Slot(last)).next = slot.0,
        }
        self.last = slot.0;
        self.length += 1;
    }

    pub(crate) fn pop_front(&mut self, all: &mut impl Linked) -> Option<Slot> {
        if self.first == NONE {
            return None;
        }
        let slot = Slot(self.first);
        self.remove(all, slot);
        Some(slot)
    }

    /// Takes out `slot`, which is in this list.
    pub(crate) fn remove(&mut self, all: &mut impl Linked, slot: Slot) {
        let Links { previous, next } = std::mem::replace(all.links(slot), Links::UNLINKED);
        match previous {
            NONE => self.first = next,
            previous => all.links(Slot(previous)).next = next,
        }
        match next {
            NONE => self.last = previous,
            next => all.links(Slot(next)).previous = previous,
        }
        self.length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Linked for Vec<Links> {
        fn links(&mut self, slot: Slot) -> &mut Links {
            &mut self[slot.index()]
        }
    }

    fn drain(list: &mut SlotList, all: &mut Vec<Links>) -> Vec<u32> {
        std::iter::from_fn(|| list.pop_front(all)).map(|slot| slot.0).collect()
    }

    #[test]
    fn slots_come_out_in_the_order_in_which_they_went_in() {
        let (mut all, mut list) = (vec![Links::UNLINKED; 5], SlotList::default());
        for slot in [3, 0, 4, 1] {
            list.push_back(&mut all, Slot(slot));
        }
        assert_eq!(list.len(), 4);
        assert_eq!(drain(&mut list, &mut all), [3, 0, 4, 1]);
        assert!(list.is_empty());
    }

    #[test]
    fn the_first_the_last_and_one_between_can_be_removed() {
        for gone in [0, 1, 2] {
            let (mut all, mut list) = (vec![Links::UNLINKED; 3], SlotList::default());
            (0..3).for_each(|slot| list.push_back(&mut all, Slot(slot)));
            list.remove(&mut all, Slot(gone));
            list.push_back(&mut all, Slot(gone));
            let expected: Vec<u32> = (0..3).filter(|&slot| slot != gone).chain([gone]).collect();
            assert_eq!(drain(&mut list, &mut all), expected);
        }
    }
}
