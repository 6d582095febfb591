//! The interest list: the sockets that epoll reports, and the requests on each.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::epoll::Epoll;
use crate::error::Result;
use crate::ids::Slot;
use crate::stats::Tally;
use crate::sys::hash::IntMap;
use crate::sys::memory::{OUT_OF_MEMORY, try_reserve_one, try_reserve_total};

#[derive(Debug)]
struct Entry {
    fd: RawFd,
    /// The requests armed on it, in the order of arming.
    requests: Vec<Slot>,
    /// It is in epoll's interest list.
    added: bool,
    /// It is in `changed`.
    changed: bool,
    /// It is in `readable`.
    readable: bool,
}

/// The entries, by number: epoll's data for an event. Numbers of sockets that are gone are reused.
#[derive(Debug, Default)]
pub(super) struct InterestList {
    entries: Vec<Entry>,
    vacant: Vec<u32>,
    by_fd: IntMap<u32>,
    /// Sockets to be received from, in turn. Some may be gone.
    readable: VecDeque<u32>,
    /// Sockets to be added to epoll's list, or removed. Some may be gone.
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
        let is_new = !entry.added;
        if let Some(epoll) = epoll.filter(|_| is_new) {
            epoll.add(fd, at)?;
            entry.added = true;
        }
        entry.requests.push(slot);
        self.note_change(at);
        Ok((at, is_new))
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
        let fresh = Entry { fd, requests: Vec::new(), added: false, changed: false, readable: false };
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
        let requests = &mut self.entries[at as usize].requests;
        requests.retain(|&other| other != slot);
        // Unless it is armed again by then, epoll must not wake anybody for it.
        self.note_change(at);
    }

    /// Notes a socket that epoll's list must gain or lose.
    fn note_change(&mut self, at: u32) {
        let entry = &mut self.entries[at as usize];
        if entry.added == entry.requests.is_empty() && !entry.changed {
            entry.changed = true;
            self.changed.push(at);
        }
    }

    /// How many changes are to be applied.
    pub(super) fn changes(&self) -> u32 {
        self.changed.len() as u32
    }

    /// Adds to epoll's list the sockets that have requests now, and removes those that have none
    /// any more. What epoll does not take stays to be applied. Counts the system calls.
    pub(super) fn apply_changes(&mut self, epoll: &Epoll, calls: &Tally) -> Result<()> {
        let (entries, mut outcome) = (&mut self.entries, Ok(()));
        self.changed.retain(|&at| {
            let entry = &mut entries[at as usize];
            let wanted = !entry.requests.is_empty();
            if entry.added != wanted {
                calls.add_one();
                match wanted {
                    true => {
                        if let Err(error) = epoll.add(entry.fd, at) {
                            outcome = Err(error);
                            return true;
                        }
                    }
                    false => epoll.remove(entry.fd),
                }
            }
            entry.added = wanted;
            entry.changed = false;
            false
        });
        outcome
    }

    /// The socket is about to be closed. Its requests are over.
    pub(super) fn remove(&mut self, fd: RawFd, epoll: &Epoll) {
        let Some(at) = self.by_fd.remove(&(fd as u64)) else { return };
        let entry = &mut self.entries[at as usize];
        if entry.added {
            epoll.remove(fd);
        }
        entry.added = false;
        entry.requests.clear();
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
