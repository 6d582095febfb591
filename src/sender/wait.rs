//! Waiting for room in a socket's buffer.
//!
//! poll(2) returns at once, again and again, while the error queue is not empty: transmit
//! timestamps and ICMP errors fill it, and reading it is not our business. So the wait is for the
//! edge, with EPOLLET: an entry of that queue ends one epoll_wait, and no second.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys::fork;

/// A signal ended the wait.
pub(super) struct Interrupted;

/// A sender's epoll instance, made when it first waits.
#[derive(Default)]
pub(super) struct Waiter {
    epoll: Option<Epoll>,
}

struct Epoll {
    fd: OwnedFd,
    /// A forked child makes its own: which edges were seen is kept in the instance.
    generation: u32,
}

/// How long to sleep where the edge says nothing: there is no epoll instance to be had, or the
/// socket says that it is writable and still takes nothing (netlink).
const PAUSE: Duration = Duration::from_millis(1);

impl Waiter {
    /// Waits until `socket` has room. `fruitless`: nothing was sent since the last wait, though
    /// that said so.
    pub(super) fn wait(&mut self, socket: RawFd, fruitless: bool) -> Result<(), Interrupted> {
        match self.armed(socket) {
            Some(epoll) if !fruitless => wait_for_edge(epoll),
            _ => pause(),
        }
    }

    /// The epoll instance, armed: what was ready before counts as an edge.
    fn armed(&mut self, socket: RawFd) -> Option<RawFd> {
        if self.epoll.as_ref().is_some_and(|epoll| epoll.generation != fork::generation()) {
            self.epoll = None;
        }
        let operation = if self.epoll.is_none() { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD };
        if self.epoll.is_none() {
            // SAFETY: no preconditions.
            let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
            if fd < 0 {
                return None;
            }
            // SAFETY: nobody else has this descriptor.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            self.epoll = Some(Epoll { fd, generation: fork::generation() });
        }
        let epoll = self.epoll.as_ref()?.fd.as_raw_fd();
        let mut event = libc::epoll_event { events: (libc::EPOLLOUT | libc::EPOLLET) as u32, u64: 0 };
        // SAFETY: one readable event.
        if unsafe { libc::epoll_ctl(epoll, operation, socket, &mut event) } != 0 {
            self.epoll = None;
            return None;
        }
        Some(epoll)
    }
}

/// epoll_pwait(2) without a mask, and not through libc's wrapper, which is a cancellation point.
fn wait_for_edge(epoll: RawFd) -> Result<(), Interrupted> {
    const ENDS: u32 = (libc::EPOLLOUT | libc::EPOLLHUP) as u32;
    loop {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: room for one event.
        let got = unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epoll, &raw mut event, 1, -1, no_mask, size_of::<u64>())
        };
        if got < 0 {
            return Err(Interrupted); // EINTR: the instance and the event are good
        }
        if event.events & ENDS != 0 {
            return Ok(());
        }
    }
}

/// ppoll(2) on nothing, and not through libc's wrapper either.
fn pause() -> Result<(), Interrupted> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: PAUSE.as_nanos() as _ };
    let none = std::ptr::null_mut::<libc::pollfd>();
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: no descriptors; a writable time.
    let got = unsafe { libc::syscall(libc::SYS_ppoll, none, 0, &raw mut time, no_mask, size_of::<u64>()) };
    if got < 0 { Err(Interrupted) } else { Ok(()) }
}
