//! Counters. Those of requests are plain numbers under the ring's lock; those of the reaper are
//! tallies that only it changes.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a ring, or one request, has done so far.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// sizeof(struct ringmsg_stats), set by the caller.
    pub size: u32,
    /// 0
    pub reserved: u32,
    /// Records handed out, errors and FINALs included.
    pub records: u64,
    /// Datagrams (or stream chunks) received; a train counts its segments, split or not. An entry
    /// of the error queue (MSG_ERRQUEUE) is not a datagram: it counts only as a record.
    pub datagrams: u64,
    /// Payload bytes received.
    pub payload_bytes: u64,
    /// Calls of ringmsg_reap() and ringmsg_next(). Ring only.
    pub reaps: u64,
    /// Kernel entries: io_uring_enter(2); on the recvmmsg engine all its system calls. Ring only.
    pub enters: u64,
    /// Wake-ups: waits that ended before their timeout, and ringmsg_wake() calls that ended a reap
    /// before it slept. Ring only.
    pub wakes: u64,
    /// How often a multishot request ended in the kernel and was armed again.
    pub rearms: u64,
    /// How often a request found every buffer of its pool filled: held by the caller, or still
    /// to be reaped.
    pub starvations: u64,
    /// How often a request found no published buffer although others were free: the hot window
    /// was too narrow, and was widened.
    pub window_misses: u64,
    /// How often the completion queue was found to have overflowed (nothing is lost). Ring only.
    pub cq_overflows: u64,
    /// Records with RINGMSG_RECORD_TRUNCATED.
    pub truncated: u64,
    /// Records with RINGMSG_RECORD_CONTROL_TRUNCATED.
    pub control_truncated: u64,
    /// Zero-length datagrams.
    pub zero_length: u64,
    /// Records whose result is an error other than a requested -ECANCELED.
    pub errors: u64,
    /// Socket buffers the kernel dropped since the request was armed, from SO_MEMINFO; with GRO
    /// these are trains. Right even when no datagram followed the last drop.
    pub socket_drops: u64,
    /// Pool buffers that records hold now, of all pools; for a request, those of its pool,
    /// including records of other requests.
    pub buffers_held: u64,
    /// Pool buffers that are published to the kernel now; counted in the same way.
    pub buffers_published: u64,
    /// The linger that RINGMSG_LINGER_AUTO uses now outside of trials, in microseconds; 0 also
    /// while there is nothing to save. Ring only.
    pub linger_us: u64,
    /// How many trials AUTO has begun: short times in which it compares lingers. Ring only.
    pub linger_trials: u64,
    /// How long the finished trials have lasted, in ns. Ring only.
    pub linger_trial_ns: u64,
}

const _: () = assert!(size_of::<Stats>() == 8 + 20 * 8);

impl Stats {
    /// Counts records that brought data.
    #[inline]
    pub(crate) fn add_data(&mut self, records: u64, datagrams: u64, payload_bytes: u64) {
        self.records += records;
        self.datagrams += datagrams;
        self.payload_bytes += payload_bytes;
    }

    /// Adds the counters that belong to requests.
    pub(crate) fn add_request(&mut self, other: &Stats) {
        self.records += other.records;
        self.datagrams += other.datagrams;
        self.payload_bytes += other.payload_bytes;
        self.rearms += other.rearms;
        self.starvations += other.starvations;
        self.window_misses += other.window_misses;
        self.truncated += other.truncated;
        self.control_truncated += other.control_truncated;
        self.zero_length += other.zero_length;
        self.errors += other.errors;
    }
}

/// A count which one thread at a time changes, and which any thread may read.
#[derive(Debug, Default)]
// Relaxed, and no pair: a count orders nothing.
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Not a read-modify-write: nobody else adds meanwhile.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn add_one(&self) {
        self.add(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a ring counts outside of its lock. Only the reaper changes tallies.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub reaps: Tally,
    pub wakes: Tally,
    pub cq_overflows: Tally,
    pub linger_us: Tally,
    pub linger_trials: Tally,
    pub linger_trial_ns: Tally,
    /// Drops of sockets that the ring holds no more.
    pub drops_of_closed: AtomicU64,
}
