//! The sockets that epoll watches, and which requests each has.

use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;

use super::epoll::Epoll;
use crate::error::Result;
use crate::stats::Tally;

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

impl Watches {
    /// One more request on the socket `fd`. `epoll` is told at once; None: when it is settled.
    /// Returns the watch's number, and whether epoll will tell what the socket has already.
    pub(super) fn arm(&mut self, fd: RawFd, slot: u32, epoll: Option<&Epoll>) -> Result<(u32, bool)> {
        let at = match self.by_fd.get(&fd) {
            Some(&at) => at,
            None => self.add(fd),
        };
        let watch = &mut self.watches[at as usize];
        let is_new = !watch.added;
        if let Some(epoll) = epoll.filter(|_| is_new) {
            epoll.add(fd, at)?;
            watch.added = true;
        }
        watch.requests.push(slot);
        self.change(at);
        Ok((at, is_new))
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
        // Unless it is armed again by then, epoll must not wake anybody for it.
        self.change(at);
    }

    /// Notes a socket that epoll is to be told of, or no more of.
    fn change(&mut self, at: u32) {
        let watch = &mut self.watches[at as usize];
        if watch.added == watch.requests.is_empty() && !watch.unsettled {
            watch.unsettled = true;
            self.unsettled.push(at);
        }
    }

    /// How many are to be settled.
    pub(super) fn unsettled(&self) -> u32 {
        self.unsettled.len() as u32
    }

    /// Tells epoll which sockets have requests now, and which have none any more. What it does
    /// not take stays to be told. Counts the system calls.
    pub(super) fn settle(&mut self, epoll: &Epoll, calls: &Tally) -> Result<()> {
        let (watches, mut outcome) = (&mut self.watches, Ok(()));
        self.unsettled.retain(|&at| {
            let watch = &mut watches[at as usize];
            let wanted = !watch.requests.is_empty();
            if watch.added != wanted {
                calls.add_one();
                match wanted {
                    true => {
                        if let Err(error) = epoll.add(watch.fd, at) {
                            outcome = Err(error);
                            return true;
                        }
                    }
                    false => epoll.remove(watch.fd),
                }
            }
            watch.added = wanted;
            watch.unsettled = false;
            false
        });
        outcome
    }

    /// The socket is about to be closed. Its requests are over.
    pub(super) fn forget(&mut self, fd: RawFd, epoll: &Epoll) {
        let Some(at) = self.by_fd.remove(&fd) else { return };
        let watch = &mut self.watches[at as usize];
        if watch.added {
            epoll.remove(fd);
        }
        watch.added = false;
        watch.unsettled = false;
        watch.requests.clear();
        self.unsettled.retain(|&other| other != at);
        self.vacant.push(at);
    }

    /// Puts a socket in line to be received from.
    pub(super) fn is_readable(&mut self, at: u32) {
        if let Some(watch) = self.watches.get_mut(at as usize).filter(|watch| !watch.readable) {
            watch.readable = true;
            self.readable.push_back(at);
        }
    }

    /// Puts a socket in front of the line.
    pub(super) fn is_next(&mut self, at: u32) {
        self.watches[at as usize].readable = true;
        self.readable.push_front(at);
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
