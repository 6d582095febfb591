//! The interest list: the sockets that epoll reports, and the requests on each.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::epoll::{Epoll, READABLE, WRITABLE};
use crate::error::Result;
use crate::ids::Slot;
use crate::stats::Tally;
use crate::sys::hash::IntMap;
use crate::sys::memory::{OUT_OF_MEMORY, try_reserve_one, try_reserve_total};

#[derive(Debug)]
struct Entry {
    fd: RawFd,
    /// The receives armed on it, in the order of arming.
    requests: Vec<Slot>,
    /// The requests that wait until it takes data.
    writers: Vec<Slot>,
    /// What epoll reports of it; 0: it is not in epoll's interest list.
    reported: i32,
    /// It is in `changed`.
    changed: bool,
    /// It is in `readable`.
    readable: bool,
}

impl Entry {
    /// What epoll is to report of it.
    fn wanted(&self) -> i32 {
        let readable = if self.requests.is_empty() { 0 } else { READABLE };
        readable | if self.writers.is_empty() { 0 } else { WRITABLE }
    }

    /// Has epoll report that, and what there is already. On failure epoll reports what it did.
    fn register(&mut self, epoll: &Epoll, number: u32) -> Result<()> {
        let wanted = self.wanted();
        match (self.reported, wanted) {
            (_, 0) => epoll.remove(self.fd),
            (0, _) => epoll.add(self.fd, wanted, number)?,
            _ => epoll.change(self.fd, wanted, number)?,
        }
        self.reported = wanted;
        Ok(())
    }
}

/// The entries, by number: epoll's data for an event. Numbers of sockets that are gone are reused.
#[derive(Debug, Default)]
pub(super) struct InterestList {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    by_fd: IntMap<u32>,
    /// Sockets to be received from, in turn. Some may be gone.
    readable: VecDeque<u32>,
    /// Sockets to be added to epoll's list, changed there, or removed. Some may be gone.
    changed: Vec<u32>,
}

impl InterestList {
    /// One more request on the socket `fd`. With `epoll`, the socket is added to its list at once;
    /// None: when changes are applied. Returns the entry's number, and whether epoll will report
    /// what the socket has already.
    pub(super) fn arm(&mut self, fd: RawFd, slot: Slot, epoll: Option<&Epoll>) -> Result<(u32, bool)> {
        let at = match self.by_fd.get(&(fd as u64)) {
            Some(&at) => at,
            None => self.add(fd)?,
        };
        let entry = &mut self.entries[at as usize];
        try_reserve_one(&mut entry.requests)?;
        let is_new = entry.reported & READABLE == 0;
        entry.requests.push(slot);
        if let Some(epoll) = epoll.filter(|_| is_new) {
            let registered = entry.register(epoll, at);
            if registered.is_err() {
                entry.requests.pop();
            }
            registered?;
        }
        self.note_change(at);
        Ok((at, is_new))
    }

    /// One more request that waits until the socket `fd` takes data, which epoll reports at once if
    /// it does already. Returns the entry's number.
    pub(super) fn arm_writer(&mut self, fd: RawFd, slot: Slot, epoll: &Epoll) -> Result<u32> {
        let at = match self.by_fd.get(&(fd as u64)) {
            Some(&at) => at,
            None => self.add(fd)?,
        };
        let entry = &mut self.entries[at as usize];
        try_reserve_one(&mut entry.writers)?;
        entry.writers.push(slot);
        // Also if epoll reports that event already: it may have, before this request was there.
        let registered = entry.register(epoll, at);
        if registered.is_err() {
            entry.writers.pop();
        }
        registered.map(|()| at)
    }

    /// Takes a request that waits until a socket takes data.
    pub(super) fn next_writer(&self, at: u32) -> Option<Slot> {
        self.entries.get(at as usize)?.writers.last().copied()
    }

    fn add(&mut self, fd: RawFd) -> Result<u32> {
        // Room for the entry in every list, so that receiving allocates nothing.
        let count = self.entries.len() + 1;
        try_reserve_one(&mut self.entries)?;
        try_reserve_total(&mut self.vacant, count)?;
        try_reserve_total(&mut self.changed, count)?;
        let readable = count.saturating_sub(self.readable.len());
        self.readable.try_reserve(readable).map_err(|_| OUT_OF_MEMORY)?;
        self.by_fd.try_reserve(1).map_err(|_| OUT_OF_MEMORY)?;
        let (requests, writers) = (Vec::new(), Vec::new());
        let fresh = Entry { fd, requests, writers, reported: 0, changed: false, readable: false };
        let at = match self.vacant.pop() {
            Some(at) => {
                // It may still be in the lists: there it is stepped over once.
                let Entry { changed, readable, .. } = self.entries[at as usize];
                self.entries[at as usize] = Entry { changed, readable, ..fresh };
                at
            }
            None => {
                self.entries.push(fresh);
                self.entries.len() as u32 - 1
            }
        };
        self.by_fd.insert(fd as u64, at);
        Ok(at)
    }

    pub(super) fn disarm(&mut self, at: u32, slot: Slot) {
        let Entry { requests, writers, .. } = &mut self.entries[at as usize];
        requests.retain(|&other| other != slot);
        writers.retain(|&other| other != slot);
        // Unless it is armed again by then, epoll must not wake a thread for it.
        self.note_change(at);
    }

    /// Notes a socket that epoll's list must gain or lose, or of which it reports too much.
    fn note_change(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        if entry.reported != entry.wanted() && !entry.changed {
            entry.changed = true;
            self.changed.push(at);
        }
    }

    /// How many changes are to be applied.
    pub(super) fn changes(&self) -> u32 {
        self.changed.len() as u32
    }

    /// Adds to epoll's list the sockets that have requests now, removes those that have none any
    /// more, and changes what is reported of the others. What epoll does not take stays to be
    /// applied. Counts the system calls.
    pub(super) fn apply_changes(&mut self, epoll: &Epoll, calls: &Tally) -> Result<()> {
        let (entries, mut outcome) = (&mut self.entries, Ok(()));
        self.changed.retain(|&at| {
            let entry = &mut entries[at as usize];
            if entry.reported != entry.wanted() {
                calls.add_one();
                if let Err(error) = entry.register(epoll, at) {
                    outcome = Err(error);
                    return true;
                }
            }
            entry.changed = false;
            false
        });
        outcome
    }

    /// The socket is about to be closed. Its requests are over.
    pub(super) fn remove(&mut self, fd: RawFd, epoll: &Epoll) {
        let Some(at) = self.by_fd.remove(&(fd as u64)) else { return };
        let entry = &mut self.entries[at as usize];
        if entry.reported != 0 {
            epoll.remove(fd);
        }
        entry.reported = 0;
        entry.requests.clear();
        entry.writers.clear();
        self.vacant.push(at);
    }

    /// Puts a socket at the end of the line of those to be received from.
    pub(super) fn mark_readable(&mut self, at: u32) {
        if let Some(entry) = self.entries.get_mut(at as usize).filter(|entry| !entry.readable) {
            entry.readable = true;
            self.readable.push_back(at);
        }
    }

    /// Puts a socket back at the front of that line.
    pub(super) fn put_first(&mut self, at: u32) {
        self.entries[at as usize].readable = true;
        self.readable.push_front(at);
    }

    /// How many sockets are to be received from.
    #[inline]
    pub(super) fn readable(&self) -> usize {
        self.readable.len()
    }

    /// Takes the first of them.
    pub(super) fn next_readable(&mut self) -> Option<u32> {
        let at = self.readable.pop_front()?;
        self.entries[at as usize].readable = false;
        Some(at)
    }

    /// The request at place `index` of a socket's list.
    #[inline]
    pub(super) fn request(&self, at: u32, index: usize) -> Option<Slot> {
        self.entries[at as usize].requests.get(index).copied()
    }
}
