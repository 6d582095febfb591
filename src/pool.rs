//! Pools: who holds each buffer, what the kernel may fill next, what a release gives back.
//!
//! A buffer is in one of three places. *Free*: on a stack, so that the one released last, which
//! the caches still know, goes out first. *Published*: in the kernel's buffer ring, in the order
//! in which it will be filled. *Held*: under records that the caller has, until the last of
//! them is released.
//!
//! Only a window of the pool is published at a time: see `window`.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use once_cell::sync::OnceCell;
use parking_lot::{Mutex, MutexGuard};

use crate::config::PoolConfig;
use crate::descriptors::Descriptors;
use crate::engine::{BufferRing, Engine};
use crate::error::{Error, Result};
use crate::fork;
use crate::layout::{HEADER, Layout};
use crate::memory::Mapping;
use crate::record::*;
use crate::window::Window;

mod holders;
mod several;

use holders::Holders;

pub(crate) const POOLS_MAX: usize = 1024;

/// The state of a pool that exists. Behind the pool's lock.
pub(crate) struct Buffers {
    pub layout: Layout,
    memory: Mapping,
    ring: BufferRing,
    holders: Box<[Holders]>,
    free: Vec<u16>,
    /// How many of the topmost `free` are released, but not settled yet.
    came_free: usize,
    pub published: u32,
    pub held: u32,
    /// How many buffers the kernel was ever given, and how many it has filled.
    given: u32,
    filled: u32,
    /// `given` when the completion queue was last seen empty: what ends a request later ends it
    /// with these buffers given. Tells a want of buffers from a socket's own -ENOBUFS.
    seen: u32,
    window: Window,
    /// `filled` at the last miss.
    missed_at: Option<u32>,
    filled_at_last_look: u32,
    filled_bytes: u64,
    /// Drawn from since the last look.
    pub touched: bool,
    /// Requests that the kernel may serve from here.
    pub armed: u32,
    /// Requests of any kind, at whatever stage, that refer to this pool.
    pub requests: u32,
    /// Requests that wait for a release.
    pub starved: u32,
    /// Descriptors that came in control messages, while their record is held.
    pub descriptors: Option<Descriptors>,
}

impl Buffers {
    fn new(layout: Layout, engine: &Engine) -> Result<Self> {
        let memory = Mapping::new(layout.stride as usize * layout.buffers as usize)?;
        Ok(Self {
            layout,
            memory,
            ring: BufferRing::new(layout.buffers)?,
            holders: vec![Holders::default(); layout.buffers as usize].into(),
            free: (0..layout.buffers).rev().map(|buffer| buffer as u16).collect(),
            came_free: 0,
            published: 0,
            held: 0,
            seen: 0,
            given: 0,
            filled: 0,
            window: Window::new(engine.widest_window().min(layout.buffers)),
            missed_at: None,
            filled_at_last_look: 0,
            filled_bytes: 0,
            touched: false,
            armed: 0,
            requests: 0,
            starved: 0,
            descriptors: None,
        })
    }

    #[inline]
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    /// Publishes free buffers until the window is full, the last released first.
    #[inline]
    pub(crate) fn top_up(&mut self) {
        let room = self.window.size().saturating_sub(self.published) as usize;
        let count = room.min(self.free.len());
        if self.armed == 0 || count == 0 {
            return;
        }
        let base = self.memory.base().as_ptr() as u64;
        let length = self.layout.length();
        let left = self.free.len() - count;
        if self.descriptors.is_some() {
            (left..self.free.len()).for_each(|at| self.clear_header(self.free[at]));
        }
        for &buffer in self.free[left..].iter().rev() {
            self.ring.push(base + u64::from(self.layout.start(buffer)), length, buffer);
        }
        self.ring.commit();
        self.free.truncate(left);
        self.published += count as u32;
        self.given = self.given.wrapping_add(count as u32);
    }

    /// Makes a buffer tell, at the ring's end, whether the kernel has put descriptors into it.
    fn clear_header(&mut self, buffer: u16) {
        // SAFETY: a buffer that nobody holds starts with its 16-byte header.
        unsafe { self.base().add(self.layout.start(buffer) as usize).cast().write([0u8; HEADER as usize]) };
    }

    /// The buffers that the kernel has, or had when the ring ended.
    pub(crate) fn in_kernel(&self) -> impl Iterator<Item = u16> {
        self.ring.last(self.published as u16)
    }

    /// One more request that the kernel may serve from here.
    pub(crate) fn arm(&mut self) {
        self.armed += 1;
        self.top_up();
        if self.armed == 1 {
            self.seen = self.given;
        }
    }

    /// One less. When it was the last, what is published comes back.
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

    /// The kernel filled `count` published buffers, with so many bytes in all.
    #[inline]
    pub(crate) fn filled(&mut self, count: u32, bytes: u64) {
        self.published -= count;
        self.filled_bytes += bytes;
        self.filled = self.filled.wrapping_add(count);
    }

    /// Takes a buffer that is not published, for a single-shot.
    pub(crate) fn take_free(&mut self) -> Option<u16> {
        self.free.pop()
    }

    /// Gives back a buffer that no record holds.
    pub(crate) fn give_back(&mut self, buffer: u16) {
        self.free.push(buffer);
    }

    /// `segments` records now hold `buffer`.
    #[inline]
    pub(crate) fn hold(&mut self, buffer: u16, generation: u32, segments: u32) {
        self.holders[usize::from(buffer)] = Holders::new(segments, generation);
        self.held += 1;
    }

    /// Takes the claims of `records` off their buffers, up to the first record of another pool than
    /// this, `id`: how many records that were. None, and nothing done: one of them is not held.
    /// Until `settle`, which must follow under the same lock, `undo` takes it back.
    #[inline]
    pub(crate) fn release(&mut self, id: u16, records: &[Record]) -> Option<usize> {
        let free_before = self.free.len();
        let mut done = 0;
        while let Some(record) = records.get(done) {
            let mut released = 1;
            if record.flags & RINGMSG_RECORD_BUFFER != 0 {
                if record.pool != id {
                    break;
                }
                let holders = self.holders.get_mut(usize::from(record.buffer));
                let holders = holders.filter(|holders| holders.has(record));
                let Some(holders) = holders else {
                    self.came_free += self.free.len() - free_before;
                    self.undo(&records[..done]);
                    return None;
                };
                if record.segments > 1 {
                    released = holders.release_in_a_row(&records[done..]);
                } else {
                    holders.flip(record.segment);
                }
                if holders.is_nobody() {
                    self.free.push(record.buffer);
                }
            }
            done += released;
        }
        self.came_free += self.free.len() - free_before;
        Some(done)
    }

    /// Undoes `release` for `records`, all of this pool.
    #[cold]
    pub(crate) fn undo(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| record.flags & RINGMSG_RECORD_BUFFER != 0) {
            let holders = &mut self.holders[usize::from(record.buffer)];
            if holders.is_nobody() {
                // Which of those that came free is no matter: all are taken back.
                self.free.pop();
                self.came_free -= 1;
            }
            holders.flip(record.segment);
        }
    }

    /// Gives away what `release` found to be free: its descriptors are closed, and the kernel may
    /// fill it. True: a request waits for that.
    #[inline]
    pub(crate) fn settle(&mut self) -> bool {
        let came_free = std::mem::take(&mut self.came_free);
        if let Some(descriptors) = &mut self.descriptors {
            let first = self.free.len() - came_free;
            self.free[first..].iter().for_each(|&buffer| descriptors.close(buffer));
        }
        self.held -= came_free as u32;
        self.top_up();
        self.starved > 0 && self.has_buffers()
    }

    /// Whether the record is held now.
    pub(crate) fn is_held(&self, record: &Record) -> bool {
        record.flags & RINGMSG_RECORD_BUFFER != 0
            && self.holders.get(usize::from(record.buffer)).is_some_and(|holders| holders.has(record))
    }

    /// Whether a request that is armed now would find a buffer.
    pub(crate) fn has_buffers(&self) -> bool {
        self.published > 0 || !self.free.is_empty()
    }

    /// Whether an -ENOBUFS that was just reported is a want of buffers. Otherwise the kernel
    /// had buffers all the time, and the error is the socket's own.
    pub(crate) fn ran_dry(&self) -> bool {
        self.seen.wrapping_sub(self.filled) as i32 <= 0
    }

    /// Widens the window after a miss. False: it was none, there is nothing more to publish.
    pub(crate) fn widen(&mut self, now_ns: u64) -> bool {
        // Requests that share the pool miss together: once is enough for all of them.
        if self.missed_at == Some(self.filled) {
            return true;
        }
        if self.free.is_empty() {
            return false;
        }
        self.missed_at = Some(self.filled);
        self.window.missed(now_ns);
        self.top_up();
        true
    }

    /// The end of a reap: tops up, and narrows a window that has long been wide enough.
    #[inline]
    pub(crate) fn look(&mut self, now_ns: u64) {
        self.touched = false;
        let batch = self.filled.wrapping_sub(self.filled_at_last_look);
        self.filled_at_last_look = self.filled;
        self.window.note(batch, std::mem::take(&mut self.filled_bytes), now_ns);
        self.top_up();
    }

    /// Every completion that came before this was looked at.
    #[inline]
    pub(crate) fn is_caught_up(&mut self) {
        self.seen = self.given;
    }
}

/// A pool's place in its ring. It outlives the pool itself, so that a stale handle or record
/// meets an error and not freed memory.
pub struct Pool {
    id: u16,
    /// The ring it belongs to: only to tell rings apart, and for the C interface to find it.
    owner: *const (),
    /// The process it is mapped in: see `fork`.
    generation: u32,
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
    pub(crate) fn id(&self) -> u16 {
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
}

/// A ring's pools, by id.
pub(crate) struct Pools {
    places: Box<[OnceCell<Box<Pool>>]>,
}

impl Pools {
    pub(crate) fn new() -> Self {
        Self { places: std::iter::repeat_with(OnceCell::new).take(POOLS_MAX).collect() }
    }

    /// The pool's place, whether or not the pool still exists.
    #[inline]
    pub(crate) fn get(&self, id: u16) -> Option<&Pool> {
        self.places.get(usize::from(id))?.get().map(|pool| &**pool)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.places.iter().map_while(|place| place.get().map(|pool| &**pool))
    }

    /// Makes a pool. The caller sees to it that nobody else does at the same time.
    pub(crate) fn add(&self, owner: *const (), engine: &Engine, config: &PoolConfig) -> Result<&Pool> {
        let buffers = Box::new(Buffers::new(Layout::new(config)?, engine)?);
        let vacant =
            |place: &&OnceCell<Box<Pool>>| place.get().is_none_or(|pool| pool.buffers.lock().is_none());
        let full = Error::with(libc::ENOSPC, format!("pool: a ring holds at most {POOLS_MAX} pools"));
        let id = self.places.iter().position(|place| vacant(&place)).ok_or(full)? as u16;
        engine.register_pool(id, buffers.ring.entries(), buffers.layout.buffers as u16)?;
        let pool = self.places[usize::from(id)].get_or_init(|| {
            Box::new(Pool {
                id,
                owner,
                generation: fork::generation(),
                base: AtomicPtr::default(),
                size: AtomicUsize::default(),
                buffers: Mutex::new(None),
            })
        });
        pool.base.store(buffers.memory.base().as_ptr(), Ordering::Release);
        pool.size.store(buffers.memory.size(), Ordering::Release);
        *pool.buffers.lock() = Some(buffers);
        Ok(pool)
    }

    /// Unmaps a pool that nothing refers to.
    pub(crate) fn remove(&self, pool: &Pool, engine: &Engine) -> Result<()> {
        let mut place = pool.buffers.lock();
        let Some(buffers) = place.as_ref() else {
            return Err(Error::new(libc::EINVAL, "pool: it is freed already"));
        };
        if buffers.requests > 0 {
            return Err(Error::with(
                libc::EBUSY,
                format!(
                    "pool: {} requests receive into it; cancel them and reap their FINAL records first",
                    buffers.requests
                ),
            ));
        }
        if buffers.held > 0 {
            return Err(Error::with(
                libc::EBUSY,
                format!("pool: {} of its buffers are under records; release them first", buffers.held),
            ));
        }
        engine.unregister_pool(pool.id)?;
        pool.base.store(std::ptr::null_mut(), Ordering::Release);
        pool.size.store(0, Ordering::Release);
        *place = None;
        Ok(())
    }
}
