//! Maps keyed by integers that the kernel or the library chose: socket cookies, descriptors,
//! addresses. Nobody can choose them so that they collide, so a multiplication mixes them well
//! enough, and no random seed has to be read.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type IntMap<V> = HashMap<u64, V, BuildHasherDefault<IntHasher>>;
pub(crate) type IntSet = HashSet<u64, BuildHasherDefault<IntHasher>>;

/// Mixes `key` so that its high bits and its low bits are fit to choose a bucket.
#[inline]
pub(crate) const fn mix(key: u64) -> u64 {
    // 2^64 divided by the golden ratio: consecutive keys end up far apart.
    let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[derive(Debug, Default)]
pub(crate) struct IntHasher(u64);

impl Hasher for IntHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn write_u64(&mut self, key: u64) {
        self.0 = mix(self.0 ^ key);
    }
}
