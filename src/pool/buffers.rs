//! A pool's buffers: who holds each one, what the kernel may fill next, what a release gives back.
//!
//! A buffer is in one of three places. *Free*: on a stack, so that the one that was released last,
//! which the caches still hold, is published first. *Published*: in the kernel's buffer ring, in
//! the order in which it will be filled. *Held*: under records that the caller has, until the last
//! of them is released.
//!
//! Only a window of the pool is published at a time: see `window`.

use std::ptr::NonNull;

use super::buffer_ring::BufferRing;
use super::holders::Holders;
use super::window::Window;
use crate::control::Row;
use crate::error::{Error, Result};
use crate::ids::{BufferId, Generation, PoolId};
use crate::layout::{HEADER, Layout};
use crate::record::*;
use crate::scm_rights::ReceivedFds;
use crate::slot_list::SlotList;
use crate::sys::memory::{Mapping, try_box, try_slice, try_vec};

/// The state of a pool that exists. Behind the pool's lock.
#[repr(C)]
pub(crate) struct Buffers {
    // What each reap and release touches first.
    pub layout: Layout,
    memory: Mapping,
    holders: Box<[Holders]>,
    ring: BufferRing,
    free: Vec<BufferId>,
    /// How many of the topmost `free` are released, but not committed yet.
    uncommitted: usize,
    pub published: u32,
    pub held: u32,
    /// Requests that the kernel may serve from here.
    pub armed: u32,
    /// How many buffers the kernel was ever given, and how many it has filled.
    given: u32,
    filled: u32,
    filled_at_end_of_reap: u32,
    filled_bytes: u64,
    /// `given` when the completion queue was last seen empty: a request that ends later ends with
    /// these buffers given. Tells buffer exhaustion from a socket's own -ENOBUFS.
    given_when_caught_up: u32,
    /// What the ring's `FewestPublished` has of this pool.
    pub reported: Option<u32>,
    window: Window,
    /// In the ring's list of pools to look after at the end of a pass.
    pub touched: bool,
    /// Multishot requests that wait for a release, the longest waiting first.
    pub starved: SlotList,
    /// The control messages that the last messages had.
    pub row: Row,
    /// Descriptors that came in control messages, while their record is held.
    pub received_fds: Option<ReceivedFds>,
    /// `filled` at the last miss.
    missed_at: Option<u32>,
    /// Requests of any kind, in whatever state, that refer to this pool.
    pub requests: u32,
    /// How often starved requests were armed again: whose turn it is to be the first.
    pub starved_turn: u32,
}

impl Buffers {
    /// Maps the buffers, unless the caller has memory for them. At most `window_max` of them will
    /// be published at a time.
    pub(crate) fn new(layout: Layout, memory: Option<NonNull<[u8]>>, window_max: u32) -> Result<Box<Self>> {
        let count = layout.buffers as usize;
        let size = layout.stride as usize * count;
        let memory = match memory {
            None => Mapping::new(size)?,
            Some(memory) => Mapping::borrowed(NonNull::slice_from_raw_parts(memory.cast(), size)),
        };
        let mut free = try_vec(count)?;
        free.extend((0..layout.buffers).rev().map(|buffer| BufferId(buffer as u16)));
        try_box(Self {
            layout,
            memory,
            ring: BufferRing::new(layout.buffers)?,
            holders: try_slice(count, Holders::default)?,
            free,
            uncommitted: 0,
            published: 0,
            held: 0,
            given_when_caught_up: 0,
            given: 0,
            filled: 0,
            window: Window::new(window_max.min(layout.buffers)),
            missed_at: None,
            filled_at_end_of_reap: 0,
            filled_bytes: 0,
            touched: false,
            reported: None,
            armed: 0,
            requests: 0,
            starved: SlotList::default(),
            starved_turn: 0,
            row: Row::NONE,
            received_fds: None,
        })
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    /// The size of the mapping, bytes.
    pub(crate) fn size(&self) -> usize {
        self.memory.size()
    }

    /// The buffer ring, to be registered with an engine.
    pub(crate) fn ring_entries(&self) -> &Mapping {
        self.ring.entries()
    }

    /// Refuses a pool that a request or a record refers to.
    pub(crate) fn check_unused(&self) -> Result<()> {
        if self.requests > 0 {
            return Err(Error::with(
                libc::EBUSY,
                format_args!(
                    "pool: {} requests receive into it; cancel them and reap their FINAL records first",
                    self.requests
                ),
            ));
        }
        if self.held > 0 {
            return Err(Error::with(
                libc::EBUSY,
                format_args!("pool: {} of its buffers are under records; release them first", self.held),
            ));
        }
        Ok(())
    }

    // --- publishing --------------------------------------------------------------------------

    /// Publishes free buffers until the window is full, the last released first.
    #[inline]
    fn fill_window(&mut self) {
        let room = self.window.size().saturating_sub(self.published) as usize;
        let count = room.min(self.free.len());
        if self.armed == 0 || count == 0 {
            return;
        }
        let base = self.memory.base().as_ptr() as u64;
        let length = self.layout.length();
        let left = self.free.len() - count;
        if self.received_fds.is_some() {
            (left..self.free.len()).for_each(|at| self.clear_header(self.free[at]));
        }
        for &buffer in self.free[left..].iter().rev() {
            self.ring.push(base + u64::from(self.layout.start(buffer.0)), length, buffer);
        }
        self.ring.commit();
        self.free.truncate(left);
        self.published += count as u32;
        self.given = self.given.wrapping_add(count as u32);
    }

    /// Clears a buffer's header, so that the ring's teardown can see whether the kernel has put
    /// descriptors into it.
    fn clear_header(&mut self, buffer: BufferId) {
        // SAFETY: a buffer that nobody holds starts with its 16-byte header.
        unsafe { self.base().add(self.layout.start(buffer.0) as usize).cast().write([0u8; HEADER as usize]) };
    }

    /// The buffers that the kernel has, or had when the ring ended.
    pub(crate) fn in_kernel(&self) -> impl Iterator<Item = BufferId> {
        self.ring.last(self.published as u16)
    }

    /// One more request that the kernel may serve from here.
    pub(crate) fn arm(&mut self) {
        self.armed += 1;
        self.fill_window();
        if self.armed == 1 {
            self.given_when_caught_up = self.given;
        }
    }

    /// One request fewer. When it was the last, what is published comes back.
    pub(crate) fn disarm(&mut self) {
        self.armed -= 1;
        if self.armed == 0 && self.published > 0 {
            let (free, given) = (&mut self.free, &mut self.given);
            self.ring.retract(self.published as u16, |buffer| {
                free.push(buffer);
                *given = given.wrapping_sub(1);
            });
            self.published = 0;
        }
    }

    /// The kernel filled `count` published buffers, with `bytes` of payload in all.
    #[inline]
    pub(crate) fn filled(&mut self, count: u32, bytes: u64) {
        self.published -= count;
        self.filled_bytes += bytes;
        self.filled = self.filled.wrapping_add(count);
    }

    /// Whether a request that is armed now would find a buffer.
    pub(crate) fn has_buffers(&self) -> bool {
        self.published > 0 || !self.free.is_empty()
    }

    /// Whether an -ENOBUFS that was just reported means buffer exhaustion. Otherwise the kernel
    /// had buffers all the time, and the error is the socket's own.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.given_when_caught_up.wrapping_sub(self.filled) as i32 <= 0
    }

    /// Widens the window after a miss. False: it was none, there is nothing more to publish.
    pub(crate) fn widen_window(&mut self, now_ns: u64) -> bool {
        // Requests that share the pool miss together; one widening serves all of them.
        if self.missed_at == Some(self.filled) {
            return true;
        }
        if self.free.is_empty() {
            return false;
        }
        self.missed_at = Some(self.filled);
        self.window.missed(self.armed, now_ns);
        self.fill_window();
        true
    }

    /// Whether the next buffers to publish are those that are held: others are not in the cache.
    pub(crate) fn prefers_release(&self) -> bool {
        self.held > 0 && self.window.is_bound_by_memory(self.armed)
    }

    /// Refills the window, and narrows one that has long been wide enough. `defers_refill`: a
    /// release may do the first.
    #[inline]
    pub(crate) fn end_of_reap(&mut self, now_ns: u64, defers_refill: bool) {
        self.touched = false;
        let batch = self.filled.wrapping_sub(self.filled_at_end_of_reap);
        self.filled_at_end_of_reap = self.filled;
        self.window.note(batch, std::mem::take(&mut self.filled_bytes), self.armed, now_ns);
        if batch == 0 || !defers_refill || !self.prefers_release() {
            self.fill_window();
        }
    }

    /// The completion queue was seen empty after the refill.
    #[inline]
    pub(crate) fn note_caught_up(&mut self) {
        self.given_when_caught_up = self.given;
    }

    // --- buffers of single-shots -------------------------------------------------------------

    /// Takes a buffer that is not published, for a single-shot.
    pub(crate) fn take_free(&mut self) -> Option<BufferId> {
        self.free.pop()
    }

    /// Gives back a buffer that no record holds.
    pub(crate) fn return_buffer(&mut self, buffer: BufferId) {
        self.free.push(buffer);
    }

    // --- holding and releasing ---------------------------------------------------------------

    /// `segments` records now hold `buffer`, which the caller counts in `held`.
    #[inline]
    pub(crate) fn hold(&mut self, buffer: BufferId, generation: Generation, segments: u32) {
        self.holders[buffer.index()] = Holders::new(segments, generation);
    }

    /// The same for one record.
    #[inline(always)]
    pub(crate) fn hold_single(&mut self, buffer: BufferId, generation: Generation) {
        self.holders[buffer.index()].hold_single(generation);
    }

    /// Takes the claims of `records` off their buffers, up to the first record of another pool than
    /// this, `id`. Returns how many records those were. None, and nothing done: one of them is not
    /// held. Until `commit_release`, which must follow under the same lock, `undo_release` reverts
    /// it.
    #[inline]
    pub(crate) fn release(&mut self, id: PoolId, records: &[Record]) -> Option<usize> {
        let free_before = self.free.len();
        let mut done = self.release_singles(id, records);
        while let Some(record) = records.get(done) {
            if record.flags & RINGMSG_RECORD_BUFFER == 0 {
                done += 1;
                continue;
            }
            if record.pool != id.0 {
                break;
            }
            let released = self.release_train(&records[done..]);
            if released == 0 {
                self.uncommitted += self.free.len() - free_before;
                self.undo_release(&records[..done]);
                return None;
            }
            done += released;
            done += self.release_singles(id, &records[done..]);
        }
        self.uncommitted += self.free.len() - free_before;
        Some(done)
    }

    /// Releases the records at the front of `records` that hold a buffer of this pool alone.
    /// Returns how many these are.
    #[inline]
    fn release_singles(&mut self, id: PoolId, records: &[Record]) -> usize {
        let mut released = 0;
        // There is a place for every buffer of the pool.
        for (record, place) in records.iter().zip(self.free.spare_capacity_mut()) {
            if record.flags & RINGMSG_RECORD_BUFFER == 0 || record.pool != id.0 {
                break;
            }
            let Some(holders) = self.holders.get_mut(usize::from(record.buffer)) else { break };
            if !holders.release_single(record) {
                break;
            }
            place.write(BufferId(record.buffer));
            released += 1;
        }
        // SAFETY: this many places after the last were written.
        unsafe { self.free.set_len(self.free.len() + released) };
        released
    }

    /// Releases the first of `records`, of this pool, and those of its train that follow. Returns
    /// how many these are; 0: the first is not held.
    fn release_train(&mut self, records: &[Record]) -> usize {
        let record = &records[0];
        let holders = self.holders.get_mut(usize::from(record.buffer));
        let Some(holders) = holders.filter(|holders| holders.has(record)) else { return 0 };
        let released = holders.release_run(records);
        if holders.is_empty() {
            self.free.push(BufferId(record.buffer));
        }
        released
    }

    /// Undoes `release` for `records`, all of this pool.
    #[cold]
    pub(crate) fn undo_release(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| record.flags & RINGMSG_RECORD_BUFFER != 0) {
            let holders = &mut self.holders[usize::from(record.buffer)];
            if holders.is_empty() {
                // The order does not matter: every buffer that `release` freed is taken back.
                self.free.pop();
                self.uncommitted -= 1;
            }
            holders.flip(record.segment);
        }
    }

    /// Completes `release`: closes the descriptors of the freed buffers that were not taken, and
    /// publishes what the window has room for. True: a request waits for buffers, and there are
    /// some.
    #[inline]
    pub(crate) fn commit_release(&mut self) -> bool {
        let freed = std::mem::take(&mut self.uncommitted);
        if let Some(received) = &mut self.received_fds {
            let first = self.free.len() - freed;
            self.free[first..].iter().for_each(|&buffer| received.close(buffer));
        }
        self.held -= freed as u32;
        self.fill_window();
        !self.starved.is_empty() && self.has_buffers()
    }

    /// Whether the record is held now.
    pub(crate) fn is_held(&self, record: &Record) -> bool {
        record.flags & RINGMSG_RECORD_BUFFER != 0
            && self.holders.get(usize::from(record.buffer)).is_some_and(|holders| holders.has(record))
    }
}
