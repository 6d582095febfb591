//! The fewest buffers that any armed pool has published: what a wait for a batch may wait for.

use super::POOLS_MAX;
use crate::error::Result;
use crate::ids::PoolId;
use crate::sys::memory::try_slice;

const BLOCK: usize = 32;
/// No request can be served from the pool, so it is no limit. (A pool has 32,768 buffers at most.)
const NOT_ARMED: u16 = u16::MAX;

/// A minimum that is kept up to date pool by pool: in blocks, so that a change costs two short
/// scans, whatever the number of pools.
pub(crate) struct FewestPublished {
    pools: Box<[u16]>,
    blocks: [u16; POOLS_MAX / BLOCK],
}

impl FewestPublished {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { pools: try_slice(POOLS_MAX, || NOT_ARMED)?, blocks: [NOT_ARMED; POOLS_MAX / BLOCK] })
    }

    /// The pool has `published` buffers published; None: no request is armed on it.
    #[inline]
    pub(crate) fn set(&mut self, pool: PoolId, published: Option<u32>) {
        let now = published.map_or(NOT_ARMED, |count| count as u16);
        let before = std::mem::replace(&mut self.pools[pool.index()], now);
        let block = pool.index() / BLOCK;
        if now < self.blocks[block] {
            self.blocks[block] = now;
        } else if before == self.blocks[block] && now > before {
            self.blocks[block] = fewest(&self.pools[block * BLOCK..][..BLOCK]);
        }
    }

    /// None: no pool is armed.
    #[inline]
    pub(crate) fn get(&self) -> Option<u32> {
        Some(fewest(&self.blocks)).filter(|&count| count != NOT_ARMED).map(u32::from)
    }
}

#[inline]
fn fewest(counts: &[u16]) -> u16 {
    counts.iter().fold(NOT_ARMED, |fewest, &count| fewest.min(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_follows_every_change() {
        let mut fewest = FewestPublished::new().unwrap();
        assert_eq!(fewest.get(), None);
        let mut counts = [None; POOLS_MAX];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pool = (seed >> 33) as usize % POOLS_MAX;
            let count = (seed >> 20) as u32 % 40_000;
            counts[pool] = (count <= 32_768).then_some(count);
            fewest.set(PoolId(pool as u16), counts[pool]);
            assert_eq!(fewest.get(), counts.iter().flatten().min().copied());
        }
    }
}
