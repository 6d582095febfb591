//! Which paths took no trains lately: a bounded table. A path is tried again after a second, and
//! after twice as long each time it refuses again.

use crate::error::Result;

use super::path::Path;
use super::scratch::{Array, Zeroed};

const WAYS: usize = 4;
const SETS: usize = 64;
const SECOND_NS: u64 = 1_000_000_000;
const PAUSE_MAX_NS: u64 = 64 * SECOND_NS;

/// Why a path took no train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Datagrams of this size are above its MTU; smaller ones may do.
    Size(u32),
    /// Something else: a firewall, a transform.
    Trains,
}

#[derive(Clone, Copy)]
struct Entry {
    /// A hash of the whole path; 0: the entry is free.
    path: u64,
    until_ns: u64,
    pause_ns: u64,
    /// Datagrams below this size are taken; 0: none.
    below: u64,
}

// SAFETY: integers.
unsafe impl Zeroed for Entry {}

/// The paths of one sender that took no trains.
pub(super) struct Refused {
    entries: Array<Entry>,
    /// When the last entry ends: nothing is looked up then.
    until_ns: u64,
    keys: [u64; 2],
}

impl Refused {
    pub(super) fn new() -> Result<Self> {
        let random = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0u8);
        Ok(Self { entries: Array::new(WAYS * SETS)?, until_ns: 0, keys: [random(), random()] })
    }

    /// Whether there is anything to look up.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.until_ns == 0
    }

    /// Empties the table once its last entry has ended.
    pub(super) fn expire(&mut self, now_ns: u64) {
        if now_ns >= self.until_ns {
            self.until_ns = 0;
        }
    }

    /// Whether a train of datagrams of `size` bytes is not to be tried on `path`.
    pub(super) fn has(&self, path: &Path, size: u32, now_ns: u64) -> bool {
        let hash = self.hash(path);
        let entry = self.set(hash).iter().find(|entry| entry.path == hash);
        entry.is_some_and(|entry| now_ns < entry.until_ns && u64::from(size) >= entry.below)
    }

    /// `path` refused a train, and took its datagrams.
    pub(super) fn note(&mut self, path: &Path, cause: Cause, now_ns: u64) {
        let hash = self.hash(path);
        let at = hash as usize % SETS * WAYS;
        let set = &mut self.entries[at..at + WAYS];
        let chosen = match set.iter().position(|entry| entry.path == hash) {
            Some(known) => known,
            None => (0..WAYS).min_by_key(|&way| set[way].until_ns).expect("there are ways"),
        };
        let entry = &mut set[chosen];
        let size = if let Cause::Size(size) = cause { u64::from(size) } else { 0 };
        if entry.path != hash {
            *entry = Entry { path: hash, until_ns: 0, pause_ns: 0, below: size };
        }
        let was_over = now_ns >= entry.until_ns;
        entry.below = if was_over { size } else { size.min(entry.below) };
        if was_over {
            entry.pause_ns = (2 * entry.pause_ns).clamp(SECOND_NS, PAUSE_MAX_NS);
            entry.until_ns = now_ns + entry.pause_ns;
        }
        self.until_ns = self.until_ns.max(entry.until_ns);
    }

    fn set(&self, hash: u64) -> &[Entry] {
        &self.entries[hash as usize % SETS * WAYS..][..WAYS]
    }

    fn hash(&self, path: &Path) -> u64 {
        let mix = |hash: u64, &word: &u32| {
            let product = u128::from(hash ^ u64::from(word)) * u128::from(self.keys[1] | 1);
            product as u64 ^ (product >> 64) as u64
        };
        path.words().iter().fold(self.keys[0], mix).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000 * SECOND_NS;

    fn path(port: u16) -> Path {
        Path { remote_port: port, ..Path::default() }
    }

    #[test]
    fn a_size_above_the_mtu_is_refused_and_smaller_ones_are_not() {
        let mut refused = Refused::new().unwrap();
        assert!(refused.is_empty() && !refused.has(&path(1), 2000, NOW));
        refused.note(&path(1), Cause::Size(2000), NOW);
        assert!(!refused.is_empty());
        assert!(refused.has(&path(1), 2000, NOW) && refused.has(&path(1), 3000, NOW));
        assert!(!refused.has(&path(1), 1999, NOW) && !refused.has(&path(2), 2000, NOW));
        refused.note(&path(1), Cause::Size(1800), NOW);
        assert!(refused.has(&path(1), 1800, NOW));
        refused.note(&path(1), Cause::Trains, NOW);
        assert!(refused.has(&path(1), 1, NOW));
    }

    #[test]
    fn a_path_is_tried_again_after_a_second_and_then_after_two() {
        let mut refused = Refused::new().unwrap();
        refused.note(&path(1), Cause::Trains, NOW);
        assert!(refused.has(&path(1), 1, NOW + SECOND_NS - 1) && !refused.has(&path(1), 1, NOW + SECOND_NS));
        refused.note(&path(1), Cause::Size(100), NOW + SECOND_NS);
        assert!(refused.has(&path(1), 100, NOW + 3 * SECOND_NS - 1));
        assert!(!refused.has(&path(1), 99, NOW + SECOND_NS), "the older cause is over");
        assert!(!refused.has(&path(1), 100, NOW + 3 * SECOND_NS));
        refused.expire(NOW + 3 * SECOND_NS);
        assert!(refused.is_empty());
    }

    #[test]
    fn the_pause_is_bounded() {
        let mut refused = Refused::new().unwrap();
        let mut now = NOW;
        for _ in 0..20 {
            refused.note(&path(1), Cause::Trains, now);
            now = refused.until_ns;
        }
        refused.note(&path(1), Cause::Trains, now);
        assert_eq!(refused.until_ns - now, PAUSE_MAX_NS);
    }

    #[test]
    fn more_paths_than_it_holds_displace_those_that_end_first() {
        let mut refused = Refused::new().unwrap();
        for port in 0..u16::MAX {
            refused.note(&path(port), Cause::Trains, NOW + u64::from(port));
        }
        let known = (0..u16::MAX).filter(|&port| refused.has(&path(port), 1, NOW + SECOND_NS / 2)).count();
        assert_eq!(known, WAYS * SETS);
        assert!(refused.has(&path(u16::MAX - 1), 1, NOW + SECOND_NS / 2));
    }
}
