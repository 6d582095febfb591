//! epoll(7), as far as the engine needs it.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::open;
use crate::error::{Error, Result};
use crate::fork::Descriptor;

/// What a socket's readiness is made of. Edge-triggered: told once for everything that arrives.
const READABLE: i32 =
    libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLET;
/// The data of an event that belongs to no socket.
const WAKER: u64 = u64::MAX;
/// How many events are fetched at a time; the others come next time.
const EVENTS: usize = 64;

/// epoll_pwait2(2) is not there (before 5.11, or behind a seccomp filter).
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

pub(super) struct Epoll(Descriptor);

/// What epoll fetched.
pub(super) struct Events {
    events: [MaybeUninit<libc::epoll_event>; EVENTS],
    count: usize,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { events: [const { MaybeUninit::uninit() }; EVENTS], count: 0 }
    }

    /// The sockets among them.
    pub(super) fn watches(&self) -> impl Iterator<Item = u32> + '_ {
        // SAFETY: the kernel has written so many.
        let all = self.events[..self.count].iter().map(|event| unsafe { event.assume_init() }.u64);
        all.filter(|&data| data != WAKER).map(|data| data as u32)
    }
}

impl Epoll {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: no preconditions.
        open("epoll_create1", || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.raw()
    }

    fn control(&self, operation: i32, fd: RawFd, events: i32, data: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: data };
        // SAFETY: one event.
        if unsafe { libc::epoll_ctl(self.fd(), operation, fd, &mut event) } != 0 {
            return Err(match errno() {
                libc::ENOSPC => Error::new(
                    libc::ENOSPC,
                    "epoll_ctl: this user watches as many descriptors as fs.epoll.max_user_watches allows",
                ),
                _ => Error::last_os("epoll_ctl"),
            });
        }
        Ok(())
    }

    /// Tells of `watch` when the socket `fd` has something, and of what it has already.
    pub(super) fn add(&self, fd: RawFd, watch: u32) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, READABLE, watch.into())
    }

    /// Tells no more of the socket `fd`. That fails only if it is not there.
    pub(super) fn remove(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Wakes whenever somebody writes to the eventfd `fd`, which nobody reads.
    pub(super) fn add_waker(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLET, WAKER)
    }

    /// Is readable while `fd` is.
    pub(super) fn add_level(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, WAKER)
    }

    /// Sleeps until there are events, or for `timeout`. How many there are, or an errno.
    pub(super) fn fetch(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> std::result::Result<usize, i32> {
        let count = match timeout {
            None => self.wait(events, -1),
            Some(Duration::ZERO) => self.wait(events, 0),
            Some(timeout) => self.wait_precisely(events, timeout),
        };
        events.count = usize::try_from(count).unwrap_or(0);
        if count < 0 { Err(errno()) } else { Ok(events.count) }
    }

    fn wait(&self, events: &mut Events, timeout_ms: i32) -> i32 {
        // SAFETY: the array has room for EVENTS events.
        unsafe { libc::epoll_wait(self.fd(), events.events.as_mut_ptr().cast(), EVENTS as i32, timeout_ms) }
    }

    /// epoll_wait(2) counts milliseconds, which is too coarse here.
    fn wait_precisely(&self, events: &mut Events, timeout: Duration) -> i32 {
        let time = timespec(timeout);
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            // By number: the C library has it only since glibc 2.35.
            // SAFETY: as in `wait`; the time outlives the call; no signal mask is given.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd(),
                    events.events.as_mut_ptr().cast::<libc::epoll_event>(),
                    EVENTS as i32,
                    &raw const time,
                    std::ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            } as i32;
            if count >= 0 || !matches!(errno(), libc::ENOSYS | libc::EPERM) {
                return count;
            }
            NO_PWAIT2.store(true, Ordering::Relaxed);
        }
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, a time, no signal mask.
        match unsafe { libc::ppoll(&mut poll, 1, &time, std::ptr::null()) } {
            1.. => self.wait(events, 0),
            none => none,
        }
    }
}

/// Sleeps; a signal ends it early. Whether one did.
pub(super) fn nap(time: Duration) -> bool {
    // Not nanosleep(2), which says nothing of a signal that comes with the end.
    // SAFETY: no descriptors; the time outlives the call; no signal mask.
    unsafe { libc::ppoll(std::ptr::null_mut(), 0, &timespec(time), std::ptr::null()) != 0 }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ }
}

/// A timerfd(2) of the clock that `now_ns` reads.
pub(super) fn timer() -> RawFd {
    // SAFETY: no preconditions.
    unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) }
}

/// Has a timer expire at `at`.
pub(super) fn set_timer(fd: RawFd, at: Duration) {
    let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(at) };
    // SAFETY: the time outlives the call; the time before is not asked for.
    unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &time, std::ptr::null_mut()) };
}

/// That of the system call that just failed.
pub(super) fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}
