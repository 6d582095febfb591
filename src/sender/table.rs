//! Which group a message may join: the latest of its peer. Two hash tables for a batch, by the key
//! of a path (all that is needed while messages share path structs) and by its content.

use crate::error::Result;

use super::path::{Path, RINGMSG_PATH_REMOTE};
use super::scratch::{Array, Zeroed};

/// A place of the table of peers: the stamp of the batch that it is of, some bits of the hash, and
/// the peer's latest group.
#[derive(Clone, Copy)]
struct Place(u64);

/// A path that was looked up in a batch by its key, and a group on it.
#[derive(Clone, Copy)]
struct Seen {
    key: usize,
    stamp: u32,
    group: u32,
}

// SAFETY: integers.
unsafe impl Zeroed for Place {}
// SAFETY: as above.
unsafe impl Zeroed for Seen {}

/// A group's number fits: a batch has at most 32,768.
const GROUP_BITS: u32 = 16;

impl Place {
    /// Without its group.
    #[inline(always)]
    fn new(stamp: u32, hash: u64) -> Self {
        Self(u64::from(stamp) << 32 | hash >> 48 << GROUP_BITS)
    }

    #[inline(always)]
    fn is_of(self, stamp: u32) -> bool {
        (self.0 >> 32) as u32 == stamp
    }

    /// It is of the same batch and may be of the same peer.
    #[inline(always)]
    fn resembles(self, other: Self) -> bool {
        (self.0 ^ other.0) >> GROUP_BITS == 0
    }

    #[inline(always)]
    fn group(self) -> u32 {
        self.0 as u32 & ((1 << GROUP_BITS) - 1)
    }
}

/// Where a peer's latest group is noted, and which it is, if there is one.
#[derive(Clone, Copy)]
pub(super) struct Found {
    place: Place,
    at: usize,
    pub group: Option<u32>,
}

/// After this many keys were not found, none is looked up: every message has a path struct of its
/// own.
const MISSES_MAX: u32 = 64;

/// The tables. Nothing is cleared between batches: a new stamp empties them.
pub(super) struct Tables {
    peers: Array<Place>,
    peers_mask: usize,
    seen: Array<Seen>,
    seen_mask: usize,
    /// The stamp of the running batch.
    stamp: u32,
    /// Secret, so that nobody can choose addresses that collide.
    keys: [u64; 3],
    /// Keys that were looked up in vain since one was found.
    misses: u32,
}

impl Tables {
    pub(super) fn new(batch: usize) -> Result<Self> {
        let places = batch.next_power_of_two();
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Ok(Self {
            peers: Array::new(4 * places)?,
            peers_mask: 4 * places - 1,
            seen: Array::new(places)?,
            seen_mask: places - 1,
            stamp: 0,
            keys: [random(), random() | 1, random() | 1],
            misses: 0,
        })
    }

    /// Empties the tables, for a new batch.
    pub(super) fn begin(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            self.peers.fill(Place(0));
            self.seen.fill(Seen { key: 0, stamp: 0, group: 0 });
            self.stamp = 1;
        }
    }

    /// A group on the path that has this key. It is closed if it is no longer its peer's latest.
    #[inline(always)]
    pub(super) fn known(&mut self, key: usize) -> Option<u32> {
        if self.misses > MISSES_MAX {
            return None;
        }
        // SAFETY: within the table.
        let seen = unsafe { &*self.seen.as_ptr().add(self.seen_at(key)) };
        if seen.key == key && seen.stamp == self.stamp {
            self.misses = 0;
            return Some(seen.group);
        }
        self.misses += 1;
        None
    }

    /// Looks a path up by its hash alone: the group may be another peer's, once in many thousand
    /// times.
    #[inline(always)]
    pub(super) fn look(&self, hash: u64) -> Found {
        let place = Place::new(self.stamp, hash);
        let mut at = hash as usize & self.peers_mask;
        loop {
            // SAFETY: within the table.
            let there = unsafe { *self.peers.as_ptr().add(at) };
            if !there.is_of(self.stamp) {
                return Found { place, at, group: None };
            }
            if there.resembles(place) {
                return Found { place, at, group: Some(there.group()) };
            }
            at = (at + 1) & self.peers_mask;
        }
    }

    /// Looks a path up. `is_of` says whether a group is of its peer.
    pub(super) fn find(&self, path: &Path, is_of: impl Fn(u32) -> bool) -> Found {
        let hash = self.hash(path);
        let place = Place::new(self.stamp, hash);
        let mut at = hash as usize & self.peers_mask;
        loop {
            let there = self.peers[at];
            if !there.is_of(self.stamp) {
                return Found { place, at, group: None };
            }
            if there.resembles(place) && is_of(there.group()) {
                return Found { place, at, group: Some(there.group()) };
            }
            at = (at + 1) & self.peers_mask;
        }
    }

    /// Notes a path's group, by its key; `shares`: another message has the same path struct.
    #[inline(always)]
    pub(super) fn note_key(&mut self, key: usize, group: u32, shares: bool) {
        if shares {
            self.misses = 0;
        }
        if self.misses <= MISSES_MAX {
            let at = self.seen_at(key);
            // SAFETY: within the table.
            unsafe { self.seen.as_mut_ptr().add(at).write(Seen { key, stamp: self.stamp, group }) };
        }
    }

    /// Notes a peer's latest group.
    #[inline(always)]
    pub(super) fn note_group(&mut self, found: &Found, group: u32) {
        // SAFETY: within the table.
        unsafe { self.peers.as_mut_ptr().add(found.at).write(Place(found.place.0 | u64::from(group))) };
    }

    #[inline(always)]
    fn seen_at(&self, key: usize) -> usize {
        // Keys are indexes, or addresses of structs of 64 bytes.
        (key ^ key >> 6) & self.seen_mask
    }

    /// Of the peer only.
    #[inline(always)]
    pub(super) fn hash(&self, path: &Path) -> u64 {
        if !path.has(RINGMSG_PATH_REMOTE) {
            return 0;
        }
        if path.family == libc::AF_INET as u16 {
            return self.hash_v4(path);
        }
        self.hash_v6(path)
    }

    /// The same with an IPv6 address.
    #[inline(always)]
    pub(super) fn hash_v6(&self, path: &Path) -> u64 {
        let [high, low] = path.other_peer_words();
        let hash = fold(path.peer_word() ^ self.keys[0], self.keys[1] ^ high);
        fold(fold(hash ^ low, self.keys[2]), self.keys[1])
    }

    /// The same with an IPv4 address: family, port and that are one word. All is folded twice: with
    /// some keys addresses that follow each other would collide if it were once.
    #[inline(always)]
    pub(super) fn hash_v4(&self, path: &Path) -> u64 {
        fold(fold(path.peer_word() ^ self.keys[0], self.keys[1]), self.keys[2])
    }
}

/// Both halves of a product, mixed.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_may_wrap() {
        let mut tables = Tables::new(4).unwrap();
        tables.stamp = u32::MAX - 1;
        tables.begin();
        assert_eq!(tables.stamp, u32::MAX);
        tables.peers[0] = Place::new(1, 0);
        tables.begin();
        assert_eq!(tables.stamp, 1);
        assert!(!tables.peers[0].is_of(1), "what carried the stamp long ago is gone");
    }

    #[test]
    fn keys_are_looked_up_as_long_as_some_are_found() {
        let mut tables = Tables::new(256).unwrap();
        tables.begin();
        for key in 1..=MISSES_MAX as usize {
            assert_eq!(tables.known(key), None);
            tables.note_key(key, 7, false);
        }
        assert_eq!(tables.known(5), Some(7), "found before patience is out");
        for key in 1000..2000 {
            assert_eq!(tables.known(key), None);
            tables.note_key(key, 7, false);
        }
        assert_eq!(tables.known(5), None, "no longer looked up");
        tables.note_key(3, 9, true);
        assert_eq!(tables.known(3), Some(9), "paths are shared after all");
    }
}
