//! epoll(7), as far as the engine needs it.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::sys::errno;
use crate::sys::fd::OwnedFd;

/// The events that make a socket worth receiving from. (Edge-triggered: each arrival is reported
/// once.)
pub(super) const READABLE: i32 =
    libc::EPOLLIN | libc::EPOLLPRI | libc::EPOLLERR | libc::EPOLLHUP | libc::EPOLLRDHUP;
/// The event of a socket that takes data again; and those that end waiting for it. An entry in the
/// error queue (EPOLLERR) does not.
pub(super) const WRITABLE: i32 = libc::EPOLLOUT;
pub(super) const ENDS_WRITABLE: i32 = libc::EPOLLOUT | libc::EPOLLHUP;
/// The data of an event that belongs to no socket.
const WAKER: u64 = u64::MAX;
/// How many events are fetched with one system call.
const EVENTS: usize = 64;

/// epoll_pwait2(2) is unavailable (before 5.11, or behind a seccomp filter).
// Relaxed, and no pair: a thread that still sees false gets the errno from the kernel.
static NO_PWAIT2: AtomicBool = AtomicBool::new(false);

pub(super) struct Epoll(OwnedFd);

/// The events that one wait returned.
pub(super) struct Events {
    events: [MaybeUninit<libc::epoll_event>; EVENTS],
    count: usize,
}

impl Events {
    pub(super) fn new() -> Self {
        Self { events: [const { MaybeUninit::uninit() }; EVENTS], count: 0 }
    }

    /// Whether there may be more than these.
    pub(super) fn is_full(&self) -> bool {
        self.count == EVENTS
    }

    /// The numbers of the sockets among them, and what happened there.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (u32, i32)> + '_ {
        // SAFETY: the kernel has written the first `count`.
        let all = self.events[..self.count].iter().map(|event| unsafe { event.assume_init() });
        all.filter(|event| event.u64 != WAKER).map(|event| (event.u64 as u32, event.events as i32))
    }
}

impl Epoll {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: no preconditions.
        OwnedFd::open_one("epoll_create1", || unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }).map(Self)
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

    /// Adds the socket `fd`, whose events carry `number`, with the events to report. The first
    /// reports what it has already.
    pub(super) fn add(&self, fd: RawFd, events: i32, number: u32) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events | libc::EPOLLET, number.into())
    }

    /// Has it report these events from now on, and those that it has already.
    pub(super) fn change(&self, fd: RawFd, events: i32, number: u32) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events | libc::EPOLLET, number.into())
    }

    /// Removes the socket `fd`. That fails only if it is not in the list.
    pub(super) fn remove(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, 0);
    }

    /// Adds an eventfd that nobody reads: each write ends a wait.
    pub(super) fn add_waker(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN | libc::EPOLLET, WAKER)
    }

    /// Adds `fd`, level-triggered: the instance is readable while `fd` is.
    pub(super) fn add_level(&self, fd: RawFd) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN, WAKER)
    }

    /// Sleeps until there are events, or for `timeout`, under the signal mask `signals` if one is
    /// given. Returns how many events there are, or an errno.
    pub(super) fn wait(
        &self,
        events: &mut Events,
        timeout: Option<Duration>,
        signals: Option<&libc::sigset_t>,
    ) -> std::result::Result<usize, i32> {
        let count = match timeout {
            None => self.wait_ms(events, -1, signals),
            Some(Duration::ZERO) => self.wait_ms(events, 0, None),
            Some(timeout) => self.wait_precisely(events, timeout, signals),
        };
        events.count = usize::try_from(count).unwrap_or(0);
        if count < 0 { Err(errno()) } else { Ok(events.count) }
    }

    fn wait_ms(&self, events: &mut Events, timeout_ms: i32, signals: Option<&libc::sigset_t>) -> i32 {
        let mask = signals.map_or(std::ptr::null(), |mask| mask);
        // SAFETY: the array has room for EVENTS events; the mask is NULL or outlives the call.
        unsafe {
            let events = events.events.as_mut_ptr().cast();
            libc::epoll_pwait(self.fd(), events, EVENTS as i32, timeout_ms, mask)
        }
    }

    /// epoll_pwait(2) counts milliseconds, which is too coarse here.
    fn wait_precisely(
        &self,
        events: &mut Events,
        timeout: Duration,
        signals: Option<&libc::sigset_t>,
    ) -> i32 {
        let time = timespec(timeout);
        let mask = signals.map_or(std::ptr::null(), |mask| &raw const *mask);
        if !NO_PWAIT2.load(Ordering::Relaxed) {
            // By number: the C library has it only since glibc 2.35.
            // SAFETY: as in `wait_ms`; the time outlives the call.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    self.fd(),
                    events.events.as_mut_ptr().cast::<libc::epoll_event>(),
                    EVENTS as i32,
                    &raw const time,
                    mask,
                    KERNEL_SIGSET_SIZE,
                )
            } as i32;
            if count >= 0 || !matches!(errno(), libc::ENOSYS | libc::EPERM) {
                return count;
            }
            NO_PWAIT2.store(true, Ordering::Relaxed);
        }
        let mut poll = libc::pollfd { fd: self.fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, a time, a mask or NULL.
        match unsafe { libc::ppoll(&mut poll, 1, &time, mask) } {
            1.. => self.wait_ms(events, 0, None),
            none => none,
        }
    }
}

/// What the kernel demands as the size of a signal mask.
const KERNEL_SIGSET_SIZE: usize = 8;

/// Sleeps for `time`, under the signal mask `signals`. Returns whether a signal ended it.
pub(super) fn sleep(time: Duration, signals: &libc::sigset_t) -> bool {
    // Not nanosleep(2), which takes no mask and does not report a signal that comes with its end.
    // SAFETY: no descriptors; the time and the mask outlive the call.
    unsafe { libc::ppoll(std::ptr::null_mut(), 0, &timespec(time), signals) != 0 }
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ }
}

/// A timerfd(2) of the clock that `now_ns` reads.
pub(super) fn timer() -> Result<OwnedFd> {
    let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
    // SAFETY: no preconditions.
    OwnedFd::open_one("timerfd_create", || unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })
}

/// Makes a timer expire at `at`.
pub(super) fn set_timer(fd: RawFd, at: Duration) {
    let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(at) };
    // SAFETY: the time outlives the call; the previous setting is not asked for.
    unsafe { libc::timerfd_settime(fd, libc::TFD_TIMER_ABSTIME, &time, std::ptr::null_mut()) };
}
