//! What a ring reports about itself: its properties, its counters, and those of its requests.

use std::sync::atomic::Ordering;

use super::Ring;
use crate::config::*;
use crate::error::{Error, Result};
use crate::ids::PoolId;
use crate::mode::EngineKind;
use crate::pool::Pool;
use crate::socket::Sockets;
use crate::stats::Stats;
use crate::sys::memory::try_reserve_one;
use crate::sys::thread::Owner;

impl Ring {
    pub(crate) fn info(&self) -> RingInfo {
        let (sq_entries, cq_entries) = self.engine().entries();
        let setup = self.engine().setup();
        let is_uring = setup.engine == EngineKind::IoUring;
        let mut features = 0;
        if self.engine().has_multishot() {
            features |= RINGMSG_FEATURE_MULTISHOT;
        }
        if is_uring && self.traits().min_wait {
            features |= RINGMSG_FEATURE_MIN_WAIT;
        }
        RingInfo {
            engine: if is_uring { RINGMSG_ENGINE_IO_URING } else { RINGMSG_ENGINE_RECVMMSG },
            flags: setup.flags,
            features,
            sq_entries,
            cq_entries,
            owner_thread: self.gate.owner().map_or(0, Owner::tid),
            ..RingInfo::default()
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.core().stats;
        stats.enters = self.engine().enters();
        stats.reaps = self.tallies.reaps.get();
        stats.wakes = self.tallies.wakes.get();
        stats.cq_overflows = self.tallies.cq_overflows.get();
        stats.linger_us = self.tallies.linger_us.get();
        stats.linger_trials = self.tallies.linger_trials.get();
        stats.linger_trial_ns = self.tallies.linger_trial_ns.get();
        for buffers in self.pools.iter().filter_map(Pool::lock) {
            stats.buffers_held += u64::from(buffers.held);
            stats.buffers_published += u64::from(buffers.published);
        }
        // A system call for each socket, under a lock for which no reap waits.
        stats.socket_drops = self.sockets.lock().drops_so_far();
        stats.socket_drops += self.tallies.drops_of_closed.load(Ordering::Relaxed);
        self.close_released_sockets();
        stats
    }

    /// What the first few of the ring's sockets have dropped so far; None: another thread has their
    /// lock. For a comparison that must not cost a system call for each of many sockets.
    pub(crate) fn drops_of_first_sockets(&self, count: usize) -> Option<u64> {
        let drops = self.sockets.try_lock()?.drops_of_first(count);
        // Whoever has held that lock closes what others could not.
        self.close_released_sockets();
        Some(drops)
    }

    pub(crate) fn request_stats(&self, user_data: u64) -> Result<Stats> {
        let stats = self.sum_of_requests(user_data, &self.sockets.lock());
        self.close_released_sockets();
        stats
    }

    fn sum_of_requests(&self, user_data: u64, sockets: &Sockets) -> Result<Stats> {
        let mut stats = Stats::default();
        let (mut drops, mut pools) = (Vec::new(), Vec::new());
        {
            let core = self.core();
            for request in core.requests.with_user_data(user_data).map(|slot| core.requests.get(slot)) {
                stats.add_request(&request.stats);
                try_reserve_one(&mut drops)?;
                drops.push((request.socket, request.drops_before));
                try_reserve_one(&mut pools)?;
                pools.extend(request.target.pool().map(|pool| pool.0));
            }
        }
        if drops.is_empty() {
            return Err(Error::with(
                libc::ENOENT,
                format_args!("stats: no request with user_data {user_data}"),
            ));
        }
        for (socket, before) in drops {
            stats.socket_drops += u64::from(sockets.get(socket).drops().wrapping_sub(before));
        }
        pools.sort_unstable();
        pools.dedup();
        for buffers in pools.into_iter().filter_map(|id| self.pools.get(PoolId(id))).filter_map(Pool::lock) {
            stats.buffers_held += u64::from(buffers.held);
            stats.buffers_published += u64::from(buffers.published);
        }
        Ok(stats)
    }
}
