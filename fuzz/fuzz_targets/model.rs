//! The model: predicts the results of calls from the results of earlier calls.

use std::collections::{HashMap, HashSet};
use std::ffi::c_void;

use ringmsg::config::*;
use ringmsg::record::{
    Metadata, RINGMSG_POOL_NONE, RINGMSG_RECORD_BUFFER, RINGMSG_RECORD_FINAL, RINGMSG_RECORD_WRITABLE, Record,
};
use ringmsg::stats::Stats;

#[path = "faults.rs"]
mod faults;
#[path = "own_message.rs"]
mod own_message;
#[path = "sockets.rs"]
mod sockets;
#[path = "without_ring.rs"]
mod without_ring;
use own_message::OwnMessage;
use sockets::Sockets;

type Handle = *mut c_void;

// The symbols that a C program links with.
unsafe extern "C" {
    fn ringmsg_ring_new(config: *const RingConfig, ring: *mut Handle) -> i32;
    fn ringmsg_ring_free(ring: Handle) -> i32;
    fn ringmsg_ring_fd(ring: Handle) -> i32;
    fn ringmsg_ring_enable(ring: Handle) -> i32;
    fn ringmsg_ring_stats(ring: Handle, stats: *mut Stats) -> i32;
    fn ringmsg_pool_new(ring: Handle, config: *const PoolConfig, pool: *mut Handle) -> i32;
    fn ringmsg_pool_free(pool: Handle) -> i32;
    fn ringmsg_pool_id(pool: Handle) -> u16;
    fn ringmsg_pool_base(pool: Handle) -> *const u8;
    fn ringmsg_ring_pool(ring: Handle, id: u16) -> Handle;
    fn ringmsg_recvmsg(r: Handle, fd: i32, h: *mut libc::msghdr, msg: i32, flags: u32, user_data: u64)
    -> i32;
    fn ringmsg_recvmsg_once(r: Handle, p: Handle, fd: i32, msg: i32, flags: u32, user_data: u64) -> i32;
    fn ringmsg_recvmsg_multishot(r: Handle, p: Handle, fd: i32, msg: i32, flags: u32, user_data: u64) -> i32;
    fn ringmsg_writable(ring: Handle, fd: i32, user_data: u64) -> i32;
    fn ringmsg_cancel(ring: Handle, user_data: u64) -> i32;
    fn ringmsg_submit(ring: Handle) -> i32;
    fn ringmsg_wake(ring: Handle) -> i32;
    fn ringmsg_request_stats(ring: Handle, user_data: u64, stats: *mut Stats) -> i32;
    fn ringmsg_next(
        ring: Handle,
        done: *const Record,
        done_count: u32,
        records: *mut Record,
        metadata: *mut Metadata,
        capacity: u32,
        wait: *const Wait,
    ) -> i32;
    fn ringmsg_release(ring: Handle, records: *const Record, count: u32) -> i32;
    fn ringmsg_take_fds(ring: Handle, record: *const Record, fds: *mut i32, capacity: u32) -> i32;
}

const EINVAL: i32 = -libc::EINVAL;
/// Setup flags and engine of a ring.
const MODES: [(u32, u32); 9] = [
    (0, RINGMSG_ENGINE_IO_URING),
    (RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_ENGINE_IO_URING),
    (RINGMSG_SETUP_DEFER_TASKRUN, RINGMSG_ENGINE_IO_URING),
    (RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, RINGMSG_ENGINE_IO_URING),
    (0, RINGMSG_ENGINE_RECVMMSG),
    (RINGMSG_SETUP_AUTO, RINGMSG_ENGINE_AUTO),
    (RINGMSG_SETUP_SINGLE_ISSUER, RINGMSG_ENGINE_IO_URING),
    (RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_R_DISABLED, RINGMSG_ENGINE_IO_URING),
    (RINGMSG_SETUP_SINGLE_ISSUER | RINGMSG_SETUP_R_DISABLED, RINGMSG_ENGINE_RECVMMSG),
];

/// Message flags to receive with; the usual one more than once.
const MSG_FLAGS: [i32; 12] = [
    0,
    0,
    0,
    0,
    libc::MSG_TRUNC,
    libc::MSG_CMSG_CLOEXEC,
    libc::MSG_DONTWAIT,
    libc::MSG_PEEK,
    libc::MSG_ERRQUEUE,
    libc::MSG_WAITALL,
    libc::MSG_WAITALL | libc::MSG_PEEK,
    1 << 30,
];

/// In `Model::requests` in place of a pool's index: the request receives into an `OwnMessage`, or
/// waits until a socket takes data.
const NO_POOL: usize = usize::MAX;

/// The fields that identify a claim on a buffer.
type Claim = (u16, u16, u32, u16);

fn claim(record: &Record) -> Claim {
    (record.pool, record.buffer, record.generation, record.segment)
}

struct Pool {
    handle: Handle,
    id: u16,
    requests: i64,
    buffers: u32,
}

struct Model {
    ring: Handle,
    pools: Vec<Pool>,
    freed: Vec<Handle>,
    held: Vec<(Record, u64)>,
    released: Vec<Record>,
    /// The armed requests by user_data; for each its pool, as an index into `pools`, or NO_POOL.
    requests: HashMap<u64, Vec<usize>>,
    /// The messages of the caller's that requests may receive into, until the ring is freed.
    own: Vec<Box<OwnMessage>>,
}


/// A hash of a held record's payload, which must not change.
fn digest(ring: Handle, record: &Record) -> u64 {
    let (offset, length) = (record.payload_offset as usize, record.payload_length as usize);
    // SAFETY: the record is held, so its slice is readable.
    let payload = unsafe {
        std::slice::from_raw_parts(
            ringmsg_pool_base(ringmsg_ring_pool(ring, record.pool)).add(offset),
            length,
        )
    };
    payload
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Without an injected fault a call is refused only for its own reasons.
fn assert_refused(code: i32, reasons: &[i32]) {
    assert!(reasons.contains(&code) || faults::may_cause(code), "refused with {code}");
}

struct Input<'a>(std::slice::Iter<'a, u8>);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }
    fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit.max(1)
    }
}

/// Plays one input.
pub fn play(bytes: &[u8]) {
    thread_local!(static SOCKETS: Sockets = Sockets::new());
    SOCKETS.with(|sockets| {
        sockets.drain();
        let before = sockets::open_descriptors();
        let mut input = Input(bytes.iter());
        faults::clear();
        let mut model = Model::new(MODES[input.below(MODES.len())], [0, 2, 8][input.below(3)]);
        while input.0.len() > 0 {
            model.step(&mut input, sockets);
            model.check();
        }
        faults::clear();
        // SAFETY: the ring is live and is not used again.
        assert_eq!(unsafe { ringmsg_ring_free(model.ring) }, 0);
        // Descriptors that arrived in the caller's own messages are the caller's.
        model.own.clear();
        assert_eq!(sockets::open_descriptors(), before, "descriptors leaked");
    });
}

impl Model {
    fn new((flags, engine): (u32, u32), entries: u32) -> Self {
        let (sq_entries, cq_entries) = (entries, entries);
        let config = RingConfig { flags, engine, sq_entries, cq_entries, ..RingConfig::default() };
        let mut ring = std::ptr::null_mut();
        // SAFETY: both pointers are valid.
        assert_eq!(unsafe { ringmsg_ring_new(&config, &mut ring) }, 0);
        if flags & RINGMSG_SETUP_R_DISABLED != 0 {
            // SAFETY: the ring is live; nothing is armed on it.
            unsafe {
                assert_eq!(ringmsg_cancel(ring, 1), -libc::EBADFD);
                assert_eq!(ringmsg_ring_enable(ring), 0);
            }
        }
        let (held, released) = (Vec::new(), Vec::new());
        let (requests, own) = (HashMap::new(), Vec::new());
        Self { ring, pools: Vec::new(), freed: Vec::new(), held, released, requests, own }
    }

    fn step(&mut self, input: &mut Input<'_>, sockets: &Sockets) {
        match input.below(20) {
            0 => self.new_pool(input),
            1 => self.free_pool(input),
            2 | 3 => self.arm(input, sockets),
            4 => self.cancel(input),
            5..=8 => sockets.send(input.byte(), input.byte()),
            9 | 10 => self.next(input, false),
            11 => self.next(input, true),
            12 => self.release(input),
            13 => self.release_invalid(input),
            14 => self.take_fds(input),
            15 => self.receive_into_own(input, sockets),
            16 => faults::inject(input.byte(), input.byte()),
            17 => sockets.disturb(input.byte()),
            18 => without_ring::call(input, sockets),
            _ => self.small_calls(input),
        }
    }

    /// Compares the library's statistics with the model.
    fn check(&self) {
        let mut stats = Stats::default();
        stats.size = size_of::<Stats>() as u32;
        // SAFETY: the ring is live.
        assert_eq!(unsafe { ringmsg_ring_stats(self.ring, &mut stats) }, 0);
        let buffers: HashSet<_> = self.held.iter().map(|(record, _)| (record.pool, record.buffer)).collect();
        // A train whose last segments did not fit into the reap holds its buffer as well.
        assert!(stats.buffers_held >= buffers.len() as u64);
        assert!(stats.buffers_held <= buffers.len() as u64 + 1);
    }

    fn new_pool(&mut self, input: &mut Input<'_>) {
        let config = PoolConfig {
            buffers: u32::from(input.byte() % 20),
            payload_capacity: [0, 8, 100, 2048, 65536][input.below(5)],
            control_capacity: [0, 16, 64, 256][input.below(4)],
            name_capacity: [0, 4, 16, 128][input.below(4)],
            ..PoolConfig::default()
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: all pointers are valid.
        let made = unsafe { ringmsg_pool_new(self.ring, &config, &mut handle) };
        if !config.buffers.is_power_of_two() {
            assert_eq!((made, handle.is_null()), (EINVAL, true));
            return;
        }
        assert_eq!(made, 0);
        // SAFETY: the pool is live.
        let id = unsafe { ringmsg_pool_id(handle) };
        self.freed.retain(|&freed| freed != handle);
        self.pools.push(Pool { handle, id, requests: 0, buffers: config.buffers });
    }

    fn free_pool(&mut self, input: &mut Input<'_>) {
        if input.byte() & 1 == 1 {
            if let Some(&stale) = self.freed.first() {
                // SAFETY: handles of freed pools stay readable.
                assert_eq!(unsafe { ringmsg_pool_free(stale) }, EINVAL);
            }
            return;
        }
        if self.pools.is_empty() {
            return;
        }
        let at = input.below(self.pools.len());
        let pool = &self.pools[at];
        let in_use = pool.requests > 0 || self.held.iter().any(|(record, _)| record.pool == pool.id);
        // SAFETY: the pool is live.
        let freed = unsafe { ringmsg_pool_free(pool.handle) };
        assert_eq!(freed, if in_use { -libc::EBUSY } else { 0 });
        if freed == 0 {
            self.freed.push(pool.handle);
            // Requests name their pool by index, and the last pool moves to the freed index.
            let last = self.pools.len() - 1;
            self.pools.swap_remove(at);
            for index in self.requests.values_mut().flatten().filter(|index| **index == last) {
                *index = at;
            }
        }
    }

    fn arm(&mut self, input: &mut Input<'_>, sockets: &Sockets) {
        let (fd, variant, user_data) =
            (sockets.receiver(input.byte()), input.byte(), u64::from(input.byte() % 4));
        let flags = u32::from(input.byte() % 8);
        let msg_flags = MSG_FLAGS[input.below(MSG_FLAGS.len())];
        if variant == 7 {
            let pool = self.freed.first().copied().unwrap_or_default();
            // SAFETY: NULL and freed pools are refused.
            assert_eq!(unsafe { ringmsg_recvmsg_multishot(self.ring, pool, fd, 0, 0, user_data) }, EINVAL);
            return;
        }
        if self.requests.values().map(Vec::len).sum::<usize>() > 12 {
            return;
        }
        if variant == 8 {
            // SAFETY: the ring is live.
            let armed = unsafe { ringmsg_writable(self.ring, sockets.sender(flags as u8), user_data) };
            match armed {
                0 => self.requests.entry(user_data).or_default().push(NO_POOL),
                _ => assert_refused(armed, &[]),
            }
            return;
        }
        if self.pools.is_empty() {
            return;
        }
        let index = usize::from(variant) % self.pools.len();
        let pool = &mut self.pools[index];
        let fd = if variant == 9 { -1 } else { fd };
        // SAFETY: the handles are live; invalid descriptors are refused.
        let armed = unsafe {
            match input.byte() % 3 {
                0 => ringmsg_recvmsg_once(self.ring, pool.handle, fd, msg_flags, flags, user_data),
                _ => ringmsg_recvmsg_multishot(self.ring, pool.handle, fd, msg_flags, flags, user_data),
            }
        };
        match armed {
            0 => {
                assert!(variant != 9);
                pool.requests += 1;
                self.requests.entry(user_data).or_default().push(index);
            }
            _ => assert_refused(armed, &[-libc::EBADF, EINVAL, -libc::ENOBUFS]),
        }
    }

    fn receive_into_own(&mut self, input: &mut Input<'_>, sockets: &Sockets) {
        let fd = sockets.receiver(input.byte());
        let msg_flags = MSG_FLAGS[input.below(MSG_FLAGS.len())];
        let (flags, user_data) = (u32::from(input.byte() % 8), u64::from(input.byte() % 4));
        if self.own.len() == 8 {
            return;
        }
        let mut own = OwnMessage::new(input.byte());
        // SAFETY: the message stays in its box until the ring is freed.
        let armed = unsafe { ringmsg_recvmsg(self.ring, fd, own.header(), msg_flags, flags, user_data) };
        self.own.push(own);
        match armed {
            0 => self.requests.entry(user_data).or_default().push(NO_POOL),
            _ => assert_refused(armed, &[EINVAL]),
        }
    }

    fn cancel(&mut self, input: &mut Input<'_>) {
        let user_data = u64::from(input.byte() % 5);
        let is_armed = self.requests.get(&user_data).is_some_and(|requests| !requests.is_empty());
        // SAFETY: the ring is live.
        let cancelled = unsafe { ringmsg_cancel(self.ring, user_data) };
        assert_eq!(cancelled, if is_armed { 0 } else { -libc::ENOENT });
    }

    fn next(&mut self, input: &mut Input<'_>, release_all: bool) {
        let capacity = 1 + input.below(40);
        let done: Vec<Record> =
            if release_all { self.held.iter().map(|(record, _)| *record).collect() } else { Vec::new() };
        let (mut records, mut metadata) = (vec![Record::default(); capacity], vec![Metadata::NONE; capacity]);
        let with = if input.byte() & 1 == 0 { metadata.as_mut_ptr() } else { std::ptr::null_mut() };
        let mut wait = Wait::default();
        wait.timeout_ns = 0;
        // Rarely, since it takes time: a short wait with every way to wait.
        let waiting = input.byte();
        if waiting < 6 {
            wait.timeout_ns = 50_000;
            wait.spin_us = [0, 10][usize::from(waiting & 1)];
            wait.linger_us = [0, 20, RINGMSG_LINGER_AUTO][usize::from(waiting >> 1)];
        }
        self.verify_held(&done);
        // SAFETY: the arrays have the lengths that are passed.
        let count = unsafe {
            ringmsg_next(
                self.ring,
                done.as_ptr(),
                done.len() as u32,
                records.as_mut_ptr(),
                with,
                capacity as u32,
                &wait,
            )
        };
        if count < 0 {
            // The records in `done` were released all the same. EINTR: libFuzzer's own timer.
            assert_refused(count, &[-libc::EINTR]);
        }
        assert!(count <= capacity as i32, "next: {count}");
        self.remove_held(&done);
        for record in &records[..count.max(0) as usize] {
            self.account_record(record);
        }
    }

    fn account_record(&mut self, record: &Record) {
        let requests = self.requests.get_mut(&record.user_data).expect("a record of an armed request");
        assert!(!requests.is_empty(), "a record after the last FINAL");
        assert!(record.result >= -4095);
        if record.flags & RINGMSG_RECORD_FINAL != 0 {
            let id = |index: usize| self.pools.get(index).map_or(RINGMSG_POOL_NONE, |pool| pool.id);
            let index = requests.iter().position(|&index| id(index) == record.pool);
            let index = requests.swap_remove(index.expect("a FINAL names its request's pool"));
            if let Some(pool) = self.pools.get_mut(index) {
                pool.requests -= 1;
            }
        }
        if record.flags & RINGMSG_RECORD_WRITABLE != 0 {
            let writable = (0, RINGMSG_RECORD_FINAL | RINGMSG_RECORD_WRITABLE, RINGMSG_POOL_NONE);
            assert_eq!((record.result, record.flags, record.pool), writable);
            return;
        }
        if record.flags & RINGMSG_RECORD_BUFFER == 0 {
            assert!(record.result < 0 || record.pool == RINGMSG_POOL_NONE);
            return;
        }
        assert!(record.result >= 0);
        let pool = self.pools.iter().find(|pool| pool.id == record.pool).expect("a live pool");
        assert!(u32::from(record.buffer) < pool.buffers);
        for (other, _) in &self.held {
            let same = (other.pool, other.buffer) == (record.pool, record.buffer);
            assert!(!same || other.generation == record.generation, "a held buffer was filled again");
            assert_ne!(claim(other), claim(record), "a record was returned twice");
        }
        self.held.push((*record, digest(self.ring, record)));
    }

    fn verify_held(&self, records: &[Record]) {
        for (record, before) in &self.held {
            if records.iter().any(|done| claim(done) == claim(record)) {
                assert_eq!(digest(self.ring, record), *before, "a held payload changed");
            }
        }
    }

    fn remove_held(&mut self, records: &[Record]) {
        let claims: HashSet<_> = records.iter().map(claim).collect();
        self.held.retain(|(record, _)| !claims.contains(&claim(record)));
        self.released.extend(records.iter().copied());
        let excess = self.released.len().saturating_sub(64);
        self.released.drain(..excess);
    }

    fn release(&mut self, input: &mut Input<'_>) {
        let count = input.below(self.held.len() + 1);
        let skip = input.below(self.held.len() + 1);
        let records: Vec<Record> =
            self.held.iter().map(|(record, _)| *record).skip(skip).take(count).collect();
        self.verify_held(&records);
        // SAFETY: the array has the length that is passed.
        assert_eq!(unsafe { ringmsg_release(self.ring, records.as_ptr(), records.len() as u32) }, 0);
        self.remove_held(&records);
    }

    /// Releases held, stale, altered and duplicated records: all of them, or none.
    fn release_invalid(&mut self, input: &mut Input<'_>) {
        let mut records: Vec<Record> = Vec::new();
        for _ in 0..1 + input.below(6) {
            let from = if input.byte() & 1 == 0 {
                &self.released
            } else {
                &self.held.iter().map(|(r, _)| *r).collect()
            };
            let Some(&record) = from.get(input.below(from.len())) else { continue };
            let mut record = record;
            match input.byte() % 12 {
                0 => record.pool = record.pool.wrapping_add(1),
                1 => record.pool = u16::from(input.byte()) << 8,
                2 => record.buffer = record.buffer.wrapping_add(u16::from(input.byte()) << 4),
                3 => record.generation = record.generation.wrapping_sub(1),
                4 => record.segment = record.segment.wrapping_add(u16::from(input.byte())),
                5 => record.flags &= !RINGMSG_RECORD_BUFFER,
                6 => record.generation = 0,
                _ => {}
            }
            records.push(record);
        }
        let claims = records.iter().filter(|record| record.flags & RINGMSG_RECORD_BUFFER != 0).map(claim);
        let held: HashSet<_> = self.held.iter().map(|(record, _)| claim(record)).collect();
        let mut once = HashSet::new();
        let is_valid = claims.clone().all(|claim| held.contains(&claim) && once.insert(claim));
        // The remaining segments of a train that is only partly reaped are held, but the model does
        // not know them.
        let unknown = claims
            .clone()
            .any(|c| !held.contains(&c) && held.iter().any(|h| (h.0, h.1, h.2) == (c.0, c.1, c.2)));
        if unknown {
            return;
        }
        // SAFETY: the array has the length that is passed.
        let released = unsafe { ringmsg_release(self.ring, records.as_ptr(), records.len() as u32) };
        assert_eq!(released, if is_valid { 0 } else { EINVAL });
        if released == 0 {
            records.retain(|record| record.flags & RINGMSG_RECORD_BUFFER != 0);
            self.remove_held(&records);
        }
    }

    fn take_fds(&mut self, input: &mut Input<'_>) {
        let mut fds = [-1; 4];
        let capacity = input.below(5) as u32;
        let stale = input.byte() & 3 == 0;
        let from: Vec<Record> =
            if stale { self.released.clone() } else { self.held.iter().map(|(r, _)| *r).collect() };
        let Some(record) = from.get(input.below(from.len())) else { return };
        // SAFETY: the array has the length that is passed.
        let taken = unsafe { ringmsg_take_fds(self.ring, record, fds.as_mut_ptr(), capacity) };
        if stale {
            assert_eq!(taken, EINVAL);
            return;
        }
        assert!((0..=capacity as i32).contains(&taken));
        for fd in &fds[..taken as usize] {
            // SAFETY: `ringmsg_take_fds` has passed the ownership of this descriptor.
            assert_eq!(unsafe { libc::close(*fd) }, 0, "a descriptor that is not open");
        }
    }

    fn check_request_stats(&self, user_data: u64) {
        let mut stats = Stats::default();
        stats.size = size_of::<Stats>() as u32;
        let is_armed = self.requests.get(&user_data).is_some_and(|requests| !requests.is_empty());
        // SAFETY: the ring is live.
        let found = unsafe { ringmsg_request_stats(self.ring, user_data, &mut stats) };
        assert_eq!(found, if is_armed { 0 } else { -libc::ENOENT });
    }

    fn small_calls(&mut self, input: &mut Input<'_>) {
        let null = std::ptr::null_mut();
        // SAFETY: the ring is live; NULL is refused.
        unsafe {
            match input.byte() % 8 {
                0 => assert_eq!(ringmsg_wake(self.ring), 0),
                1 => assert!(ringmsg_ring_fd(self.ring) >= 0),
                2 => match ringmsg_submit(self.ring) {
                    0 => {}
                    refused => assert_refused(refused, &[-libc::EBUSY, -libc::EAGAIN]),
                },
                3 => assert_eq!(ringmsg_ring_enable(self.ring), -libc::EBADFD),
                4 => assert_eq!(ringmsg_release(self.ring, std::ptr::null(), 3), EINVAL),
                5 => assert_eq!(ringmsg_submit(null), EINVAL),
                6 => self.check_request_stats(u64::from(input.byte() % 5)),
                _ => assert_eq!(
                    ringmsg_next(
                        self.ring,
                        std::ptr::null(),
                        0,
                        std::ptr::null_mut(),
                        std::ptr::null_mut(),
                        1,
                        std::ptr::null()
                    ),
                    EINVAL
                ),
            }
        }
    }
}
