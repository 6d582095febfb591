//! The sockets that epoll watches, and which requests each has.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use super::epoll::Epoll;
use crate::error::Result;

#[derive(Debug)]
struct Watch {
    fd: RawFd,
    /// The slots of the requests armed on it, in the order of arming.
    requests: Vec<u32>,
    /// epoll knows it.
    added: bool,
    /// epoll is to be told of a change.
    unsettled: bool,
    /// It is in line to be received from.
    readable: bool,
}

/// By number; the numbers of those that are gone are given again.
#[derive(Debug, Default)]
pub(super) struct Watches {
    watches: Vec<Watch>,
    vacant: Vec<u32>,
    by_fd: HashMap<RawFd, u32>,
    /// Those in line. Each once; some may be gone.
    readable: VecDeque<u32>,
    unsettled: Vec<u32>,
}

/// What `settle` came to.
pub(super) struct Told {
    pub calls: u64,
    pub result: Result<()>,
}

impl Watches {
    /// One more request on the socket `fd`. Returns the watch's number.
    pub(super) fn arm(&mut self, fd: RawFd, slot: u32) -> u32 {
        let at = match self.by_fd.get(&fd) {
            Some(&at) => at,
            None => self.add(fd),
        };
        self.watches[at as usize].requests.push(slot);
        self.change(at);
        at
    }

    fn add(&mut self, fd: RawFd) -> u32 {
        let watch = Watch { fd, requests: Vec::new(), added: false, unsettled: false, readable: false };
        let at = match self.vacant.pop() {
            Some(at) => {
                // It may still be in line: then it is served once for nothing.
                let readable = self.watches[at as usize].readable;
                self.watches[at as usize] = Watch { readable, ..watch };
                at
            }
            None => {
                self.watches.push(watch);
                self.watches.len() as u32 - 1
            }
        };
        self.by_fd.insert(fd, at);
        // So that receiving allocates nothing.
        let count = self.watches.len();
        self.readable.reserve(count - self.readable.len());
        self.unsettled.reserve(count - self.unsettled.len());
        self.vacant.reserve(count - self.vacant.len());
        at
    }

    pub(super) fn disarm(&mut self, at: u32, slot: u32) {
        let requests = &mut self.watches[at as usize].requests;
        requests.retain(|&other| other != slot);
        if requests.is_empty() {
            // Unless it is armed again by then, epoll must not wake anybody for it.
            self.change(at);
        }
    }

    fn change(&mut self, at: u32) {
        let watch = &mut self.watches[at as usize];
        if !watch.unsettled {
            watch.unsettled = true;
            self.unsettled.push(at);
        }
    }

    /// How many are to be settled.
    pub(super) fn unsettled(&self) -> u32 {
        self.unsettled.len() as u32
    }

    /// Tells epoll what has changed. What it does not take stays to be told.
    pub(super) fn settle(&mut self, epoll: &Epoll) -> Told {
        let mut told = Told { calls: 0, result: Ok(()) };
        while let Some(&at) = self.unsettled.last() {
            let watch = &mut self.watches[at as usize];
            let result = match (watch.added, watch.requests.is_empty()) {
                (false, false) => epoll.add(watch.fd, at),
                (true, true) => epoll.remove(watch.fd),
                _ => Ok(()),
            };
            told.calls += u64::from(watch.added == watch.requests.is_empty());
            if result.is_err() {
                told.result = result;
                break;
            }
            watch.added = !watch.requests.is_empty();
            watch.unsettled = false;
            self.unsettled.pop();
        }
        told
    }

    /// The socket is about to be closed. Its requests are over.
    pub(super) fn forget(&mut self, fd: RawFd, epoll: &Epoll) {
        let Some(at) = self.by_fd.remove(&fd) else { return };
        let watch = &mut self.watches[at as usize];
        if watch.added {
            // It fails only if it is not there.
            let _ = epoll.remove(fd);
        }
        watch.added = false;
        watch.unsettled = false;
        watch.requests.clear();
        self.unsettled.retain(|&other| other != at);
        self.vacant.push(at);
    }

    /// epoll knows the socket.
    pub(super) fn is_added(&self, at: u32) -> bool {
        self.watches[at as usize].added
    }

    /// Puts a socket in line to be received from.
    pub(super) fn is_readable(&mut self, at: u32) {
        if let Some(watch) = self.watches.get_mut(at as usize).filter(|watch| !watch.readable) {
            watch.readable = true;
            self.readable.push_back(at);
        }
    }

    /// How many are in line.
    #[inline]
    pub(super) fn readable(&self) -> usize {
        self.readable.len()
    }

    /// Takes the first in line.
    pub(super) fn next_readable(&mut self) -> Option<u32> {
        let at = self.readable.pop_front()?;
        self.watches[at as usize].readable = false;
        Some(at)
    }

    /// The request at place `index` of a socket's list.
    #[inline]
    pub(super) fn request(&self, at: u32, index: usize) -> Option<u32> {
        self.watches[at as usize].requests.get(index).copied()
    }
}
