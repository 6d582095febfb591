//! Giving buffers back, from any thread; and taking over descriptors that came with them.

use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::record::*;
use crate::ring::Ring;

const NOT_HELD: Error = Error::new(
    libc::EINVAL,
    "release: a record is not held: released before, twice in this array, or of a freed pool; \
     nothing was released",
);

impl Ring {
    /// Releases every one of `records`, or none. True: a request waits for what was released.
    pub(crate) fn release_only(&self, records: &[Record]) -> Result<bool> {
        // Records without a buffer belong to any pool.
        let Some(id) = pool_of_first(records) else { return Ok(false) };
        let mut buffers = self.pools.get(id).and_then(Pool::lock).ok_or(NOT_HELD)?;
        let done = buffers.release(id, records).ok_or(NOT_HELD)?;
        if done < records.len() {
            buffers.undo(&records[..done]);
            drop(buffers);
            return self.release_of_several(records);
        }
        Ok(buffers.settle())
    }

    /// The same for records of several pools. All of these are locked until it is known whether
    /// every record is held: nobody sees a release that is undone.
    #[cold]
    fn release_of_several(&self, records: &[Record]) -> Result<bool> {
        let mut pools = self.pools.lock_those_of(records).ok_or(NOT_HELD)?;
        let mut done = 0;
        while let Some(id) = pool_of_first(&records[done..]) {
            match pools.get(id).and_then(|buffers| buffers.release(id, &records[done..])) {
                Some(released) => done += released,
                None => {
                    for record in &records[..done] {
                        if let Some(buffers) = pools.get(record.pool) {
                            buffers.undo(std::slice::from_ref(record));
                        }
                    }
                    return Err(NOT_HELD);
                }
            }
        }
        let mut unblocks = false;
        pools.each(|buffers| unblocks |= buffers.settle());
        Ok(unblocks)
    }

    /// Releases, and arms again what waited for it: here, in the thread that serves the ring,
    /// else by waking that thread.
    pub(crate) fn release(&self, records: &[Record]) -> Result<()> {
        if !self.release_only(records)? {
            return Ok(());
        }
        if self.is_home() && self.gate.check_owner().is_ok() {
            self.rearm_now();
        } else {
            self.signals.call_for_attention();
        }
        Ok(())
    }

    /// Hands over descriptors that arrived with a held record.
    pub(crate) fn take_fds(&self, record: &Record, to: &mut [i32]) -> Result<usize> {
        let mut buffers = self.pools.get(record.pool).and_then(Pool::lock).ok_or(NOT_HELD)?;
        if !buffers.is_held(record) {
            return Err(Error::new(libc::EINVAL, "take_fds: the record is not held any more"));
        }
        Ok(buffers.descriptors.as_mut().map_or(0, |descriptors| descriptors.take(record.buffer, to)))
    }
}

/// The pool of the first record that holds a buffer.
#[inline]
fn pool_of_first(records: &[Record]) -> Option<u16> {
    let holds = |record: &&Record| record.flags & RINGMSG_RECORD_BUFFER != 0;
    records.iter().find(holds).map(|record| record.pool)
}
