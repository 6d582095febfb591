//! Pools of a ring: made, registered with its engine, and freed.

use std::ptr::NonNull;

use super::Ring;
use crate::config::PoolConfig;
use crate::engine::Engine;
use crate::engine::uring::closed;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::layout::Layout;
use crate::pool::{Buffers, Pool};

/// What the buffers are aligned to.
const ALIGNMENT: usize = 64;

/// Refuses memory of the caller's that cannot be a pool.
fn check_memory(memory: NonNull<[u8]>, layout: &Layout) -> Result<()> {
    let needed = layout.stride as usize * layout.buffers as usize;
    if memory.cast::<u8>().addr().get() % ALIGNMENT != 0 {
        return Err(Error::new(libc::EINVAL, "pool: memory is not aligned to 64 bytes"));
    }
    if memory.len() < needed {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("pool: its buffers take {needed} bytes of memory, not {}", memory.len()),
        ));
    }
    Ok(())
}

fn register(engine: &Engine, id: PoolId, buffers: &Buffers) -> Result<()> {
    engine.register_pool(id, buffers.ring_entries(), buffers.layout.buffers as u16)
}

impl Ring {
    /// `memory`: the caller's, for the buffers.
    pub(crate) fn new_pool(&self, config: &PoolConfig, memory: Option<NonNull<[u8]>>) -> Result<&Pool> {
        let layout = Layout::new(config)?;
        if let Some(memory) = memory {
            check_memory(memory, &layout)?;
        }
        let lacks_memory = |(error, by_engine): &(Error, bool)| *by_engine && error.errno() == libc::ENOMEM;
        match closed::retry(|| self.add_pool(layout, memory), lacks_memory) {
            Err((error, true)) if error.errno() == libc::ENOMEM && self.change_engine()? => {
                self.add_pool(layout, memory).map_err(|(error, _)| error)
            }
            added => added.map_err(|(error, _)| error),
        }
    }

    /// On failure also returns whether the engine refused the pool.
    fn add_pool(
        &self,
        layout: Layout,
        memory: Option<NonNull<[u8]>>,
    ) -> std::result::Result<&Pool, (Error, bool)> {
        let mut refused = false;
        let mut add = || {
            let buffers = Buffers::new(layout, memory, self.traits().window_max)?;
            let mut core = self.core();
            let owner = std::ptr::from_ref(self).cast();
            self.pools.add(&mut core.pool_ids, owner, buffers, |id, buffers| {
                let registered = register(self.engine(), id, buffers);
                refused = registered.is_err();
                registered
            })
        };
        add().map_err(|error| (error, refused))
    }

    /// Changes to the recvmmsg engine where io_uring has no memory for a pool (RLIMIT_MEMLOCK), as
    /// long as the program cannot have noticed which engine it is: it left the choice to the
    /// library, nothing was armed, no thread is in reap, and ring_fd was not requested. The former
    /// engine stays, idle, until the ring is freed. False: it cannot be changed.
    fn change_engine(&self) -> Result<bool> {
        let Some(setup) = self.engines.alternative else { return Ok(false) };
        let Some(mut reaper) = self.reaper.try_lock() else { return Ok(false) };
        let core = self.core();
        let is_used = core.requests.slots() > 0 || self.wakeup.ready_fd().is_some();
        if is_used || self.engines.second.get().is_some() {
            return Ok(false);
        }
        let second = Engine::new(setup)?;
        for pool in self.pools.iter() {
            if let Some(buffers) = pool.lock() {
                register(&second, pool.id(), &buffers)?;
            }
        }
        for pool in self.pools.iter().filter(|pool| pool.lock().is_some()) {
            // Its memory must not be pinned by an engine that is not used.
            let _ = self.engines.first.unregister_pool(pool.id());
        }
        reaper.wakeup_polled = false;
        self.gate.set_bound(setup.bound());
        Ok(self.engines.second.set(second).is_ok())
    }

    pub(crate) fn free_pool(&self, pool: &Pool) -> Result<()> {
        let mut core = self.core();
        self.pools.remove(&mut core.pool_ids, pool, |id| self.engine().unregister_pool(id))
    }

    /// Refuses a pool of another ring, and one that is freed.
    pub(crate) fn check_pool(&self, pool: &Pool) -> Result<()> {
        if !std::ptr::eq(pool.owner(), std::ptr::from_ref(self).cast()) {
            return Err(Error::new(libc::EINVAL, "pool: it belongs to another ring"));
        }
        pool.lock_existing().map(drop)
    }
}
