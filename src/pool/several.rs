//! Records of several pools, released together.

use super::{Buffers, POOLS_MAX, Pools};
use crate::record::*;

/// A set of pool ids.
#[derive(Default)]
struct IdSet([u64; POOLS_MAX / 64]);

impl IdSet {
    /// None: there can be no such pool.
    fn insert(&mut self, id: u16) -> Option<()> {
        *self.0.get_mut(usize::from(id / 64))? |= 1 << (id % 64);
        Some(())
    }

    fn has(&self, id: u16) -> bool {
        self.0.get(usize::from(id / 64)).is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    /// The ids, the lowest first.
    fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        let (mut words, mut at) = (self.0, 0);
        std::iter::from_fn(move || {
            while *words.get(at)? == 0 {
                at += 1;
            }
            let bit = words[at].trailing_zeros();
            words[at] &= words[at] - 1;
            Some(at as u16 * 64 + bit as u16)
        })
    }
}

impl Pools {
    /// Locks the pools that `records` hold buffers of. None: one of them does not exist.
    pub(crate) fn lock_those_of(&self, records: &[Record]) -> Option<Several<'_>> {
        let mut ids = IdSet::default();
        for record in records.iter().filter(|record| record.flags & RINGMSG_RECORD_BUFFER != 0) {
            ids.insert(record.pool)?;
        }
        let mut several = Several { pools: self, locked: IdSet::default() };
        for id in ids.iter() {
            let buffers = self.get(id)?.buffers.lock();
            let exists = buffers.is_some();
            std::mem::forget(buffers);
            several.locked.insert(id)?;
            exists.then_some(())?;
        }
        Some(several)
    }
}

/// Several pools, locked: in the order of their ids, so that no two threads wait for each other.
/// (No array of guards: it would have to have room for every pool, or be allocated.)
pub(crate) struct Several<'a> {
    pools: &'a Pools,
    locked: IdSet,
}

impl Several<'_> {
    pub(crate) fn get(&mut self, id: u16) -> Option<&mut Buffers> {
        let pool = self.pools.get(id).filter(|_| self.locked.has(id))?;
        // SAFETY: `lock_those_of` locked it, and `drop` will unlock it; `self` is borrowed meanwhile.
        unsafe { &mut *pool.buffers.data_ptr() }.as_deref_mut()
    }

    pub(crate) fn each(&mut self, mut body: impl FnMut(&mut Buffers)) {
        for id in self.locked.iter() {
            if let Some(buffers) = self.get(id) {
                body(buffers);
            }
        }
    }
}

impl Drop for Several<'_> {
    fn drop(&mut self) {
        for pool in self.locked.iter().filter_map(|id| self.pools.get(id)) {
            // SAFETY: `lock_those_of` locked it and forgot the guard.
            unsafe { pool.buffers.force_unlock() };
        }
    }
}
