//! Pools: memory for what arrives, and the ids by which records name it.

use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use once_cell::sync::OnceCell;
use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::sys::fork;
use crate::sys::memory::{try_box, try_reserve_one, try_slice};

pub(crate) mod buffer_ring;
mod buffers;
mod fewest;
mod holders;
mod window;

pub(crate) use buffer_ring::BufferRing;
pub(crate) use buffers::Buffers;
pub(crate) use fewest::FewestPublished;

/// How many pools a ring can have.
pub(crate) const POOLS_MAX: usize = 1024;

/// A pool of buffers. Opaque to C. The handle outlives the pool itself, so that a stale handle or
/// record gets an error and never reads freed memory.
pub struct Pool {
    id: PoolId,
    /// The ring it belongs to: only to tell rings apart, and for the C interface to find it.
    owner: *const (),
    /// The process it is mapped in: see `sys::fork`.
    generation: u32,
    /// Both: every acquire pairs with the release that comes after mapping, or before unmapping. A
    /// thread that gets the pool in another way is ordered by that.
    base: AtomicPtr<u8>,
    size: AtomicUsize,
    buffers: Mutex<Option<Box<Buffers>>>,
}

// SAFETY: `owner` is never followed here; everything else is atomic or locked.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

/// A locked pool that exists.
pub(crate) type Locked<'a> = parking_lot::MappedMutexGuard<'a, Buffers>;

impl Pool {
    pub(crate) fn id(&self) -> PoolId {
        self.id
    }

    pub(crate) fn owner(&self) -> *const () {
        self.owner
    }

    /// NULL once it is freed, and in a forked child, where nothing is mapped.
    pub(crate) fn base(&self) -> *const u8 {
        if self.is_mapped() { self.base.load(Ordering::Acquire) } else { std::ptr::null() }
    }

    /// 0 where `base` is NULL.
    pub(crate) fn size(&self) -> usize {
        if self.is_mapped() { self.size.load(Ordering::Acquire) } else { 0 }
    }

    fn is_mapped(&self) -> bool {
        self.generation == fork::generation()
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.buffers.is_locked()
    }

    /// The pool's state; None once it is freed.
    #[inline]
    pub(crate) fn lock(&self) -> Option<Locked<'_>> {
        MutexGuard::try_map(self.buffers.lock(), |buffers| buffers.as_deref_mut()).ok()
    }

    /// The pool's state, or the error for a pool that is freed.
    pub(crate) fn lock_existing(&self) -> Result<Locked<'_>> {
        self.lock().ok_or(Error::new(libc::EINVAL, "pool: it is freed"))
    }
}

/// A set of pools to which any thread adds, and which one thread empties.
#[derive(Debug, Default)]
pub(crate) struct PoolSet([AtomicU64; POOLS_MAX / 64]);

impl PoolSet {
    pub(crate) fn insert(&self, pool: PoolId) {
        // Release, paired with the acquire in `drain`: what was done to the pool is seen there.
        self.0[pool.index() / 64].fetch_or(1 << (pool.0 % 64), Ordering::Release);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    /// Takes all pools out of the set, and calls `each` with them.
    pub(crate) fn drain(&self, mut each: impl FnMut(PoolId)) {
        for (at, word) in self.0.iter().enumerate() {
            let mut bits = match word.load(Ordering::Relaxed) {
                0 => continue,
                _ => word.swap(0, Ordering::Acquire),
            };
            while bits != 0 {
                each(PoolId((at * 64) as u16 + bits.trailing_zeros() as u16));
                bits &= bits - 1;
            }
        }
    }
}

/// Which ids are not in use. Behind the ring's `core` lock.
#[derive(Debug, Default)]
pub(crate) struct VacantIds {
    /// Ids from here on were never used.
    fresh: u16,
    freed: Vec<PoolId>,
}

/// A ring's pools, by id.
pub(crate) struct Pools {
    places: Box<[OnceCell<Box<Pool>>]>,
}

impl Pools {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { places: try_slice(POOLS_MAX, OnceCell::new)? })
    }

    /// The pool's place, whether or not the pool still exists.
    #[inline]
    pub(crate) fn get(&self, id: PoolId) -> Option<&Pool> {
        self.places.get(id.index())?.get().map(|pool| &**pool)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.places.iter().map_while(|place| place.get().map(|pool| &**pool))
    }

    /// Makes a pool of `buffers`, which `register` shows to the engine under the pool's id.
    pub(crate) fn add(
        &self,
        ids: &mut VacantIds,
        owner: *const (),
        buffers: Box<Buffers>,
        register: impl FnOnce(PoolId, &Buffers) -> Result<()>,
    ) -> Result<&Pool> {
        let reused = ids.freed.last().copied();
        let id = reused.unwrap_or(PoolId(ids.fresh));
        let Some(place) = self.places.get(id.index()) else {
            return Err(Error::with(
                libc::ENOSPC,
                format_args!("pool: a ring holds at most {POOLS_MAX} pools"),
            ));
        };
        // Room for the id to come back, so that freeing allocates nothing.
        try_reserve_one(&mut ids.freed)?;
        let pool = place.get_or_try_init(|| {
            try_box(Pool {
                id,
                owner,
                generation: fork::generation(),
                base: AtomicPtr::default(),
                size: AtomicUsize::default(),
                buffers: Mutex::new(None),
            })
        })?;
        register(id, &buffers)?;
        match reused {
            Some(_) => drop(ids.freed.pop()),
            None => ids.fresh += 1,
        }
        pool.base.store(buffers.base().as_ptr(), Ordering::Release);
        pool.size.store(buffers.size(), Ordering::Release);
        *pool.buffers.lock() = Some(buffers);
        Ok(pool)
    }

    /// Unmaps a pool that nothing refers to, once `unregister` has taken it from the engine.
    pub(crate) fn remove(
        &self,
        ids: &mut VacantIds,
        pool: &Pool,
        unregister: impl FnOnce(PoolId) -> Result<()>,
    ) -> Result<()> {
        let mut place = pool.buffers.lock();
        let Some(buffers) = place.as_ref() else {
            return Err(Error::new(libc::EINVAL, "pool: it is freed already"));
        };
        buffers.check_unused()?;
        unregister(pool.id)?;
        pool.base.store(std::ptr::null_mut(), Ordering::Release);
        pool.size.store(0, Ordering::Release);
        *place = None;
        ids.freed.push(pool.id);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_set_gives_each_pool_once() {
        let set = PoolSet::default();
        for id in [5, 1023, 64, 5, 0] {
            set.insert(PoolId(id));
        }
        let mut given = Vec::new();
        set.drain(|pool| given.push(pool.0));
        assert_eq!(given, [0, 5, 64, 1023]);
        set.drain(|_| panic!("it is empty"));
    }
}
