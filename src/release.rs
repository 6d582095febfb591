//! Giving buffers back, from any thread; and taking over descriptors that came with them.

use crate::error::{Error, Result};
use crate::pool::{Locked, Pool};
use crate::record::*;
use crate::ring::Ring;

const NOT_HELD: Error = Error::new(
    libc::EINVAL,
    "release: a record is not held: released before, twice in this array, or of a freed pool; \
     nothing was released",
);

/// The records of one pool that follow each other, and that pool.
struct Run<'a, 'r> {
    pool: &'a Pool,
    records: &'r [Record],
}

impl Ring {
    /// Releases every one of `records`, or none. True: a request waits for what was released.
    pub(crate) fn release_only(&self, records: &[Record]) -> Result<bool> {
        let Some(first) = self.next_run(records)? else { return Ok(false) };
        if first.records.len() == records.len() {
            // The usual case, all of one pool: one lock for both steps.
            let mut buffers = first.pool.lock().ok_or(NOT_HELD)?;
            if !buffers.release(records) {
                return Err(NOT_HELD);
            }
            buffers.settle(records);
            return Ok(buffers.starved > 0 && buffers.has_buffers());
        }
        self.claim_runs(records)?;
        let mut unblocks = false;
        self.each_run(records, |run, mut buffers| {
            buffers.settle(run.records);
            unblocks |= buffers.starved > 0 && buffers.has_buffers();
            true
        })?;
        Ok(unblocks)
    }

    /// The first step for records of several pools: takes the claims off, or leaves them all.
    fn claim_runs(&self, records: &[Record]) -> Result<()> {
        let mut claimed = 0;
        let result = self.each_run(records, |run, mut buffers| {
            let held = buffers.release(run.records);
            claimed += if held { run.records.len() } else { 0 };
            held
        });
        result.inspect_err(|_| {
            let _ = self.each_run(&records[..claimed], |run, mut buffers| {
                buffers.unrelease(run.records);
                true
            });
        })
    }

    fn each_run<'r>(
        &self,
        records: &'r [Record],
        mut body: impl FnMut(&Run<'_, 'r>, Locked<'_>) -> bool,
    ) -> Result<()> {
        let mut rest = records;
        while let Some(run) = self.next_run(rest)? {
            let buffers = run.pool.lock().ok_or(NOT_HELD)?;
            if !body(&run, buffers) {
                return Err(NOT_HELD);
            }
            rest = &rest[run.records.len()..];
        }
        Ok(())
    }

    /// The records up to the first of another pool. Records without a buffer belong anywhere.
    fn next_run<'r>(&self, records: &'r [Record]) -> Result<Option<Run<'_, 'r>>> {
        let holds = |record: &&Record| record.flags & RINGMSG_RECORD_BUFFER != 0;
        let Some(id) = records.iter().find(holds).map(|record| record.pool) else { return Ok(None) };
        let stranger = |record: &Record| holds(&record) && record.pool != id;
        let length = records.iter().position(stranger).unwrap_or(records.len());
        let pool = self.pools.get(id).ok_or(NOT_HELD)?;
        Ok(Some(Run { pool, records: &records[..length] }))
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
