//! Returning buffers, from any thread, and taking the descriptors that came with them.

use crate::error::{Error, Result};
use crate::ids::{BufferId, PoolId};
use crate::pool::{Locked, Pool};
use crate::record::*;
use crate::ring::Ring;
use crate::sys::memory::try_vec;

const NOT_HELD: Error = Error::new(
    libc::EINVAL,
    "release: a record is not held: released before, twice in this array, or of a freed pool; \
     nothing was released",
);

impl Ring {
    /// Releases every one of `records`, or none. True: the next pass must look after a pool, since
    /// a request waits for what was released.
    pub(crate) fn release_only(&self, records: &[Record]) -> Result<bool> {
        // Records without a buffer belong to no pool.
        let Some(id) = pool_of_first(records) else { return Ok(false) };
        let mut buffers = self.pools.get(id).and_then(Pool::lock).ok_or(NOT_HELD)?;
        let done = buffers.release(id, records).ok_or(NOT_HELD)?;
        if done < records.len() {
            buffers.undo_release(&records[..done]);
            drop(buffers);
            return self.release_across_pools(records);
        }
        let unblocks = buffers.commit_release();
        if unblocks {
            self.pools_to_look_after.insert(id);
        }
        Ok(unblocks)
    }

    /// The same for records of several pools. All of these stay locked until it is known whether
    /// every record is held, so nobody sees a release that is undone.
    #[cold]
    fn release_across_pools(&self, records: &[Record]) -> Result<bool> {
        let mut locked = self.lock_pools_of(records)?;
        let mut done = 0;
        while let Some(id) = pool_of_first(&records[done..]) {
            match find(&mut locked, id).release(id, &records[done..]) {
                Some(released) => done += released,
                None => {
                    let held = |record: &&Record| record.flags & RINGMSG_RECORD_BUFFER != 0;
                    for record in records[..done].iter().filter(held) {
                        find(&mut locked, PoolId(record.pool)).undo_release(std::slice::from_ref(record));
                    }
                    return Err(NOT_HELD);
                }
            }
        }
        let mut unblocks = false;
        for (id, buffers) in &mut locked {
            if buffers.commit_release() {
                self.pools_to_look_after.insert(*id);
                unblocks = true;
            }
        }
        Ok(unblocks)
    }

    /// Locks the pools that `records` hold buffers of, in the order of their ids, so that no two
    /// threads wait for each other.
    fn lock_pools_of(&self, records: &[Record]) -> Result<Vec<(PoolId, Locked<'_>)>> {
        let mut ids = try_vec(records.len())?;
        ids.extend(records.iter().filter(|r| r.flags & RINGMSG_RECORD_BUFFER != 0).map(|r| r.pool));
        ids.sort_unstable();
        ids.dedup();
        let mut locked = try_vec(ids.len())?;
        for id in ids.into_iter().map(PoolId) {
            locked.push((id, self.pools.get(id).and_then(Pool::lock).ok_or(NOT_HELD)?));
        }
        Ok(locked)
    }

    /// Releases, and arms again what waited for it: here, in the thread that serves the ring, else
    /// by waking that thread.
    pub(crate) fn release(&self, records: &[Record]) -> Result<()> {
        if !self.release_only(records)? {
            return Ok(());
        }
        if self.is_service_thread() && self.gate.check_owner().is_ok() {
            if let Some(reaper) = self.try_reaper() {
                reaper.rearm_now();
                return Ok(());
            }
        }
        self.wakeup.post_work();
        Ok(())
    }

    /// Hands over descriptors that arrived with a held record.
    pub(crate) fn take_fds(&self, record: &Record, to: &mut [i32]) -> Result<usize> {
        let mut buffers = self.pools.get(PoolId(record.pool)).and_then(Pool::lock).ok_or(NOT_HELD)?;
        if !buffers.is_held(record) {
            return Err(Error::new(libc::EINVAL, "take_fds: the record is no longer held"));
        }
        let received = buffers.received_fds.as_mut();
        Ok(received.map_or(0, |received| received.take(BufferId(record.buffer), to)))
    }
}

/// The pool of the first record that holds a buffer.
#[inline]
fn pool_of_first(records: &[Record]) -> Option<PoolId> {
    let holds = |record: &&Record| record.flags & RINGMSG_RECORD_BUFFER != 0;
    records.iter().find(holds).map(|record| PoolId(record.pool))
}

fn find<'l, 'a>(locked: &'l mut [(PoolId, Locked<'a>)], id: PoolId) -> &'l mut Locked<'a> {
    let at = locked.iter().position(|(locked, _)| *locked == id);
    &mut locked[at.expect("every pool of the records is locked")].1
}
