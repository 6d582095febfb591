//! The io_uring engine: one ring, its submission and completion queues, its buffer groups.
//!
//! What the kernel demands of callers, and what ensures it:
//! - submissions are pushed by one thread at a time: whoever holds the ring's `core` lock;
//! - completions are popped by one thread at a time: the reaper;
//! - whoever only looks must not write an index back (the io-uring crate's queues do so when
//!   they are dropped, and would undo what another thread pushed or popped meanwhile);
//! - `enter` needs no lock of ours;
//! - memory named in a submission stays until its last completion: requests and pools ensure it.

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::{Announce, Completion, KernelTime, Receive, Sleep, Token, Traits, Waited};
use crate::diagnosis::{self, Call};
use crate::error::{Error, Result};
use crate::ids::{PoolId, Slot};
use crate::mode::Setup;
use crate::sys::fd::OwnedFd;
use crate::sys::fork::{self, Listing};
use crate::sys::memory::Mapping;
use crate::sys::{errno, sockopt};

pub(crate) mod closed;
mod eventfd;
pub(crate) mod setup;

// linux/io_uring.h; the io-uring crate keeps them to itself.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
const ENTER_SQ_WAIT: u32 = 1 << 2;
const ENTER_EXT_ARG: u32 = 1 << 3;
const RECVSEND_POLL_FIRST: u16 = 1 << 0;
/// What the kernel demands as the size of a signal mask.
const SIGNAL_MASK_SIZE: u32 = 8;

/// The buffer group of a pool is its number plus this. Before kernel 6.9 groups below 64 lie in an
/// array whose entries are not reset: a group that is registered again continues at the index where
/// its predecessor stopped, and finds no buffers, or the wrong ones.
const GROUP_BASE: u16 = 64;

/// struct io_uring_getevents_arg
#[repr(C)]
struct WaitArgument {
    signal_mask: u64,
    signal_mask_size: u32,
    min_wait_us: u32,
    timeout: u64,
}

pub(crate) struct Uring {
    /// Not dropped in a forked child: its mappings are not there.
    ring: ManuallyDrop<IoUring>,
    listing: Listing,
    /// Our end of the socket pair whose other end only the ring holds: it hangs up when the
    /// kernel no longer uses the ring.
    teardown_probe: OwnedFd,
    closed: bool,
    setup: Setup,
    has_multishot: bool,
    /// Relaxed, and no pair: a count orders nothing.
    enters: AtomicU64,
    /// Acquire and release pair with each other; the kernel orders what was registered before
    /// io_uring_register(2) returned. What came before that is looked for behind `Wakeup::fence`.
    eventfd_registered: AtomicBool,
    /// Kernel bug (6.12.117): the eventfd fires once for each registration, so it is registered
    /// again after each notification. See `eventfd`. Relaxed: set before the first registration.
    renews_eventfd: AtomicBool,
}

impl Uring {
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        let mut has_multishot = false;
        let (ring, listing) = fork::open_owner(|| {
            let (ring, multishot) = setup::build(&setup)?;
            has_multishot = multishot;
            Ok(ring)
        })?;
        let teardown_probe = match register_teardown_probe(&ring) {
            Ok(probe) => probe,
            Err(error) => {
                listing.close(|| drop(ring));
                return Err(error);
            }
        };
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            listing,
            teardown_probe,
            closed: false,
            setup,
            has_multishot,
            enters: AtomicU64::new(0),
            eventfd_registered: AtomicBool::new(false),
            renews_eventfd: AtomicBool::new(false),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn has_multishot(&self) -> bool {
        self.has_multishot
    }

    #[inline]
    pub(crate) fn traits(&self) -> Traits {
        Traits {
            lingers: self.setup.defer(),
            min_wait: self.ring.params().is_feature_min_timeout(),
            flags_pending: self.setup.flags_task_work(),
            // The kernel may have set its flag for work that is done by now.
            exact: false,
            loses_stream_end: true,
            defers_refill: self.setup.defer(),
            window_max: u32::MAX,
        }
    }

    pub(crate) fn entries(&self) -> (u32, u32) {
        (self.ring.params().sq_entries(), self.ring.params().cq_entries())
    }

    pub(crate) fn enters(&self) -> u64 {
        self.enters.load(Ordering::Relaxed)
    }

    pub(crate) fn enable(&self) -> Result<()> {
        self.ring
            .submitter()
            .register_enable_rings()
            .map_err(|error| Error::from_io("IORING_REGISTER_ENABLE_RINGS", &error))
    }

    /// The submission queue, to look at: never dropped, so that its tail is not written back.
    #[inline]
    fn submissions_seen(&self) -> ManuallyDrop<squeue::SubmissionQueue<'_>> {
        // SAFETY: nothing is pushed through it, and nothing written.
        ManuallyDrop::new(unsafe { self.ring.submission_shared() })
    }

    /// The completion queue, to look at: never dropped, so that its head is not written back.
    #[inline]
    fn completions_seen(&self) -> ManuallyDrop<cqueue::CompletionQueue<'_>> {
        // SAFETY: nothing is popped through it, and nothing but the flags is written.
        ManuallyDrop::new(unsafe { self.ring.completion_shared() })
    }

    // --- submissions: the caller holds the core lock -----------------------------------------

    pub(crate) fn receive(&self, receive: &Receive) -> Result<()> {
        let fd = Fd(receive.fd);
        let priority = if receive.poll_first { RECVSEND_POLL_FIRST } else { 0 };
        let token = Token::Receive(receive.slot).pack();
        let entry = match receive.pool {
            Some(pool) => opcode::RecvMsgMulti::new(fd, receive.message, group(pool))
                .ioprio(priority)
                .flags(receive.msg_flags)
                .build(),
            None => {
                opcode::RecvMsg::new(fd, receive.message).ioprio(priority).flags(receive.msg_flags).build()
            }
        };
        self.push(&entry.user_data(token))
    }

    pub(crate) fn poll_writable(&self, slot: Slot, fd: RawFd, by_edge: bool) -> Result<()> {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLOUT as u32).multi(by_edge).build();
        self.push(&entry.user_data(Token::Receive(slot).pack()))
    }

    pub(crate) fn cancel(&self, slot: Slot) -> Result<()> {
        let entry = opcode::AsyncCancel::new(Token::Receive(slot).pack()).build();
        self.push(&entry.user_data(Token::Cancel(slot).pack()))
    }

    pub(crate) fn cancel_all(&self) -> Result<()> {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(&entry.user_data(Token::CancelAll.pack()))
    }

    pub(crate) fn poll_wakeup(&self, fd: RawFd) -> Result<()> {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(Token::Wakeup.pack()))
    }

    pub(crate) fn pause(&self, token: Token, pause: Duration, place: *mut KernelTime) -> Result<()> {
        let time = KernelTime { seconds: pause.as_secs() as i64, nanoseconds: pause.subsec_nanos().into() };
        // SAFETY: the caller keeps the place until the completion; the kernel does not have it yet.
        unsafe { place.write(time) };
        let place = place.cast::<Timespec>();
        self.push(&opcode::Timeout::new(place).build().user_data(token.pack()))
    }

    fn push(&self, entry: &squeue::Entry) -> Result<()> {
        loop {
            // SAFETY: the caller holds the core lock, so no other SubmissionQueue exists; the
            // entry's memory outlives its completion (see the module's text).
            let pushed = unsafe { self.ring.submission_shared().push(entry) };
            if pushed.is_ok() {
                return Ok(());
            }
            self.flush()?;
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.submissions_seen().len()
    }

    pub(crate) fn flush(&self) -> Result<()> {
        let queue = self.submissions_seen();
        let sqpoll = self.setup.sqpoll();
        if queue.is_empty() || (sqpoll && !queue.is_full() && !queue.need_wakeup()) {
            return Ok(());
        }
        let queued = queue.len() as u32;
        let flags = match (sqpoll, queue.is_full()) {
            // In DEFER mode other work waits to be asked for. A thread that only submits, and finds
            // the completion of what it submitted (a flood of empty datagrams makes it do that),
            // would never ask.
            (false, _) if self.setup.defer() => ENTER_GETEVENTS,
            (false, _) => 0,
            (true, false) => ENTER_SQ_WAKEUP,
            (true, true) => ENTER_SQ_WAKEUP | ENTER_SQ_WAIT,
        };
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no argument is passed; what is submitted was checked when it was pushed.
        match unsafe { self.ring.submitter().enter::<WaitArgument>(queued, 0, flags, None) } {
            // Short of memory, the kernel takes some of them and reports only how many.
            Ok(taken) if !sqpoll && taken < queued as usize => {
                Err(Error::new(libc::EAGAIN, "io_uring_enter: the kernel took only some submissions"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Error::from_io("io_uring_enter (submit)", &error)),
        }
    }

    // --- completions: the caller is the reaper -----------------------------------------------

    #[inline]
    pub(crate) fn completions(&self) -> impl Iterator<Item = Completion> + '_ {
        // SAFETY: the caller holds the ring's reaper lock, and keeps to one iterator.
        unsafe { self.ring.completion_shared() }
            .map(|entry| Completion::from_entry(entry.user_data(), entry.result(), entry.flags()))
    }

    #[inline]
    pub(crate) fn ready(&self) -> bool {
        !self.completions_seen().is_empty()
    }

    /// Deferred task work, or an overflow list that an enter would flush.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        let queue = self.submissions_seen();
        queue.taskrun() || queue.cq_overflow()
    }

    /// The kernel had no memory for some completions, and dropped them. (A sleeping enter reports
    /// that with -EBADR, once.)
    #[inline]
    pub(crate) fn dropped(&self) -> bool {
        self.completions_seen().overflow() != 0
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.submissions_seen().cq_overflow()
    }

    // --- waiting: no lock --------------------------------------------------------------------

    pub(crate) fn poll(&self) -> Waited {
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no argument is passed. After an error nothing has changed.
        how_it_ended(unsafe { self.ring.submitter().enter::<WaitArgument>(0, 0, ENTER_GETEVENTS, None) })
    }

    pub(crate) fn wait(&self, sleep: Sleep<'_>) -> Waited {
        let timespec =
            sleep.timeout.map(|time| Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos()));
        let argument = WaitArgument {
            signal_mask: sleep.signals.map_or(0, |mask| &raw const *mask as u64),
            signal_mask_size: SIGNAL_MASK_SIZE,
            min_wait_us: sleep.min_wait_us,
            timeout: timespec.as_ref().map_or(0, |time| &raw const *time as u64),
        };
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the argument, the time and the mask it points to outlive the call.
        how_it_ended(unsafe { self.ring.submitter().enter(0, sleep.want, flags, Some(&argument)) })
    }

    // --- readiness for other loops -----------------------------------------------------------

    /// Has the kernel write to `eventfd`, where the calling thread `may_register` it.
    pub(crate) fn open_ready_fd(&self, eventfd: RawFd, may_register: bool) -> Result<()> {
        if self.setup.defer() && eventfd::fires_once() {
            self.renews_eventfd.store(true, Ordering::Relaxed);
        }
        if may_register { self.register_eventfd(eventfd) } else { Ok(()) }
    }

    /// During a reap the kernel does not write to the eventfd, because the reap takes the
    /// completions (the kernel would write twice for a deferred one: when it is queued, and when it
    /// is posted).
    #[inline]
    pub(crate) fn announce(&self, eventfd: RawFd, announce: Announce) -> bool {
        // Where registering fails, ring_fd stays readable, which costs empty wake-ups but no
        // record.
        match announce {
            Announce::Off => {
                let _ = self.register_eventfd(eventfd);
                self.completions_seen().disable_eventfd();
            }
            Announce::On { fired } => {
                if fired && self.renews_eventfd.load(Ordering::Relaxed) {
                    self.eventfd_registered.store(false, Ordering::Release);
                    let _ = self.ring.submitter().unregister_eventfd();
                    let _ = self.register_eventfd(eventfd);
                }
                self.completions_seen().enable_eventfd();
            }
        }
        self.eventfd_registered.load(Ordering::Acquire)
    }

    /// Registers `eventfd`, unless it is registered already. (A ring has one.)
    fn register_eventfd(&self, eventfd: RawFd) -> Result<()> {
        if self.eventfd_registered.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.ring.submitter().register_eventfd(eventfd) {
            // Busy: another thread was first.
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(Error::from_io("IORING_REGISTER_EVENTFD", &error));
            }
            _ => self.eventfd_registered.store(true, Ordering::Release),
        }
        Ok(())
    }

    // --- buffer groups -----------------------------------------------------------------------

    /// Registers `entries` as the buffer group of `pool`.
    pub(crate) fn register_pool(&self, pool: PoolId, entries: &Mapping, count: u16) -> Result<()> {
        let address = entries.base().as_ptr() as u64;
        // SAFETY: the mapping is page-aligned, holds `count` entries, and is unmapped only after
        // `unregister_pool` or the end of the ring.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(address, count, group(pool), 0) }.map_err(
            |error| match error.raw_os_error() {
                Some(libc::ENOMEM) => diagnosis::refusal(Call::RegisterPool, libc::ENOMEM),
                _ => Error::from_io("IORING_REGISTER_PBUF_RING", &error),
            },
        )
    }

    pub(crate) fn unregister_pool(&self, pool: PoolId) -> Result<()> {
        self.ring
            .submitter()
            .unregister_buf_ring(group(pool))
            .map_err(|error| Error::from_io("IORING_UNREGISTER_PBUF_RING", &error))
    }

    // --- the end -----------------------------------------------------------------------------

    /// Closes the ring and waits until the kernel no longer uses it. False: it may still, after
    /// `limit`, and write to memory it was given.
    pub(crate) fn close(mut self: Box<Self>, limit: Duration) -> bool {
        self.close_ring();
        closed::note();
        self.listing.is_foreign() || (!limit.is_zero() && hangs_up(self.teardown_probe.raw(), limit))
    }

    /// Closes the ring, once, and only in the process that made it.
    fn close_ring(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let ring = &mut self.ring;
        self.listing.close(|| {
            // SAFETY: this runs once, and nothing uses the ring after it. The mappings go first,
            // since they pin the ring, then the descriptor.
            unsafe { ManuallyDrop::drop(ring) };
        });
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.close_ring();
    }
}

fn group(pool: PoolId) -> u16 {
    GROUP_BASE + pool.0
}

/// Gives one end of a socket pair to the ring alone; the other end hangs up when the ring is really
/// gone. (Never the ring's own descriptor, which would pin it.)
fn register_teardown_probe(ring: &IoUring) -> Result<OwnedFd> {
    let [ours, rings] = OwnedFd::socket_pair(libc::SOCK_STREAM)?;
    ring.submitter()
        .register_files(&[rings.raw()])
        .map_err(|error| Error::from_io("IORING_REGISTER_FILES", &error))?;
    Ok(ours)
}

/// Whether the other end of the socket pair of `fd` is closed within `limit`. (Not by poll(2),
/// which fails where RLIMIT_NOFILE is 0.)
fn hangs_up(fd: RawFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // No time at all would be no limit.
        let left = libc::timeval { tv_sec: left.as_secs() as _, tv_usec: left.subsec_micros().max(1) as _ };
        if sockopt::set(fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, left).is_err() {
            return false;
        }
        let mut byte = 0u8;
        // SAFETY: one writable byte.
        match unsafe { libc::read(fd, (&raw mut byte).cast(), 1) } {
            0 => return true,
            -1 if errno() == libc::EINTR && Instant::now() < deadline => {}
            _ => return false,
        }
    }
}

/// How a kernel entry that takes completions ended.
#[inline]
fn how_it_ended(entered: std::io::Result<usize>) -> Waited {
    match entered.map_err(|error| error.raw_os_error()) {
        Ok(_) => Waited::Woken,
        Err(Some(libc::ETIME)) => Waited::TimedOut,
        Err(Some(libc::EINTR)) => Waited::Interrupted,
        // A full queue or a lack of memory: look, and try again.
        Err(Some(libc::EBUSY | libc::EBADR | libc::EAGAIN | libc::ENOMEM)) => Waited::Woken,
        Err(errno) => Waited::Refused(errno.unwrap_or(libc::EIO)),
    }
}
