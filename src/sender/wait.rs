//! Waiting for room in a socket's buffer.
//!
//! poll(2) returns at once, again and again, while the error queue is not empty: transmit
//! timestamps and ICMP errors fill it, and reading it is not our business. So the wait is for the
//! edge, with EPOLLET: an entry of that queue ends one epoll_wait, and no second.
//!
//! It is bounded by SO_SNDTIMEO, as the wait of a blocking sendmsg(2) is: by default it is not.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys::{clock, fork, sockopt};

/// What ended a wait, other than room.
pub(super) enum Ended {
    Signal,
    /// The socket's SO_SNDTIMEO is over.
    Timeout,
}

/// A sender's epoll instance, made when it first waits.
#[derive(Default)]
pub(super) struct Waiter {
    epoll: Option<Epoll>,
    /// Until when to wait for the next message to be taken; None: there is no limit.
    deadline_ns: Option<u64>,
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
    pub(super) fn wait(&mut self, socket: RawFd, fruitless: bool) -> Result<(), Ended> {
        if !fruitless {
            self.deadline_ns = deadline_of(socket);
        }
        match self.armed(socket) {
            Some(epoll) if !fruitless => wait_for_edge(epoll, self.deadline_ns),
            _ => pause(self.deadline_ns),
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

/// When a wait that begins now is to end: after SO_SNDTIMEO. None: that is not set.
fn deadline_of(socket: RawFd) -> Option<u64> {
    // A timeval of a 64-bit system.
    let [seconds, us] = sockopt::get::<[u64; 2]>(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO).ok()?;
    let limit_ns = seconds.saturating_mul(1_000_000_000).saturating_add(us * 1000);
    (limit_ns != 0).then(|| clock::now_ns().saturating_add(limit_ns))
}

/// What is left until a deadline; an error once it is over.
fn left_until(deadline_ns: u64) -> Result<Duration, Ended> {
    match deadline_ns.saturating_sub(clock::now_ns()) {
        0 => Err(Ended::Timeout),
        left => Ok(Duration::from_nanos(left)),
    }
}

/// epoll_pwait(2) without a mask, and not through libc's wrapper, which is a cancellation point.
fn wait_for_edge(epoll: RawFd, deadline_ns: Option<u64>) -> Result<(), Ended> {
    const ENDS: u32 = (libc::EPOLLOUT | libc::EPOLLHUP) as u32;
    loop {
        // Rounded up: a wait that is too short would only be repeated.
        let limit_ms = match deadline_ns {
            Some(deadline_ns) => left_until(deadline_ns)?.as_millis().min(i32::MAX as u128 - 1) as i32 + 1,
            None => -1,
        };
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let (no_mask, size) = (std::ptr::null::<libc::sigset_t>(), size_of::<u64>());
        // SAFETY: room for one event.
        let got = unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epoll, &raw mut event, 1, limit_ms, no_mask, size)
        };
        if got < 0 {
            return Err(Ended::Signal); // EINTR: the instance and the event are good
        }
        if event.events & ENDS != 0 {
            return Ok(());
        }
    }
}

/// ppoll(2) on nothing, and not through libc's wrapper either.
fn pause(deadline_ns: Option<u64>) -> Result<(), Ended> {
    let length = deadline_ns.map_or(Ok(PAUSE), left_until)?.min(PAUSE);
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: length.as_nanos() as _ };
    let none = std::ptr::null_mut::<libc::pollfd>();
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: no descriptors; a writable time.
    let got = unsafe { libc::syscall(libc::SYS_ppoll, none, 0, &raw mut time, no_mask, size_of::<u64>()) };
    if got < 0 { Err(Ended::Signal) } else { Ok(()) }
}
