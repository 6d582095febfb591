//! The io_uring engine: one ring, its submission and completion queues, its buffer groups.
//!
//! What the kernel demands of callers, and who keeps it:
//! - submissions are pushed one at a time: by whoever holds the ring's `core` lock;
//! - completions are popped one at a time: by the one reaper, holding the same lock;
//! - whoever only looks must not write an index back (the io-uring crate's queues do so when
//!   they are dropped, and would undo what another thread pushed or popped meanwhile);
//! - `enter` needs no lock of ours;
//! - memory named in a submission stays until its last completion: requests and pools see to it.

use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::{Completion, Receive, Token, Waited};
use crate::error::{Error, Result};
use crate::fork::{self, Descriptor};
use crate::memory::Mapping;
use crate::mode::{self, Setup};

// linux/io_uring.h; the io-uring crate keeps them to itself.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_SQ_WAKEUP: u32 = 1 << 1;
const ENTER_SQ_WAIT: u32 = 1 << 2;
const ENTER_EXT_ARG: u32 = 1 << 3;
const RECVSEND_POLL_FIRST: u16 = 1 << 0;

/// The buffer group of a pool is its number plus this. Before kernel 6.9 groups below 64 lie in an
/// array whose entries are not reset: a group registered again goes on counting where the last one
/// under that number stopped, and finds no buffers, or the wrong ones.
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
    generation: u32,
    /// Our end of the socket pair whose other end only the ring holds: it hangs up when the
    /// kernel has let go of the ring. None until the ring owns a file table.
    watch: Descriptor,
    setup: Setup,
    enters: AtomicU64,
    /// Set while somebody watches the eventfd; see `mute` and `unmute`.
    eventfd_registered: AtomicBool,
}

impl Uring {
    pub(crate) fn new(setup: Setup) -> Result<Self> {
        let ring = fork::open_listed(|| mode::build(&setup))?;
        let (fd, generation) = (ring.as_raw_fd(), fork::generation());
        let watch = match register_watch(&ring) {
            Ok(watch) => watch,
            Err(error) => {
                fork::close_listed(fd, generation, || drop(ring));
                return Err(error);
            }
        };
        Ok(Self {
            ring: ManuallyDrop::new(ring),
            generation,
            watch,
            setup,
            enters: AtomicU64::new(0),
            eventfd_registered: AtomicBool::new(false),
        })
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn entries(&self) -> (u32, u32) {
        (self.ring.params().sq_entries(), self.ring.params().cq_entries())
    }

    pub(crate) fn has_min_wait(&self) -> bool {
        self.ring.params().is_feature_min_timeout()
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
            Some(pool) => opcode::RecvMsgMulti::new(fd, receive.message, GROUP_BASE + pool)
                .ioprio(priority)
                .flags(receive.msg_flags)
                .build(),
            None => {
                opcode::RecvMsg::new(fd, receive.message).ioprio(priority).flags(receive.msg_flags).build()
            }
        };
        self.push(&entry.user_data(token))
    }

    pub(crate) fn cancel(&self, token: Token) -> Result<()> {
        self.push(&opcode::AsyncCancel::new(token.pack()).build().user_data(Token::Cancel.pack()))
    }

    /// Cancels everything. For the ring's end.
    pub(crate) fn cancel_all(&self) -> Result<()> {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(&entry.user_data(Token::Cancel.pack()))
    }

    /// Watches `fd` for as long as it can be watched.
    pub(crate) fn watch(&self, fd: RawFd) -> Result<()> {
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(Token::Wake.pack()))
    }

    /// Completes `token` after `pause`, which is put into `place` for the kernel.
    pub(crate) fn pause(&self, token: Token, pause: Duration, place: *mut Timespec) -> Result<()> {
        // SAFETY: the caller keeps the place until the completion, and the kernel has not got it.
        unsafe { place.write(pause.into()) };
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

    /// Submissions the kernel has not taken yet.
    pub(crate) fn queued(&self) -> usize {
        self.submissions_seen().len()
    }

    /// Pushes what is queued to the kernel. On an error it stays queued.
    pub(crate) fn flush(&self) -> Result<()> {
        let queue = self.submissions_seen();
        let sqpoll = self.setup.sqpoll();
        if queue.is_empty() || (sqpoll && !queue.is_full() && !queue.need_wakeup()) {
            return Ok(());
        }
        let queued = queue.len() as u32;
        let full = queue.is_full();
        let flags = match (sqpoll, full) {
            // In DEFER mode the others' work waits to be asked for. Whoever only submits, and finds
            // the completion of what it submitted (a flood of empty datagrams does that), would
            // never ask.
            (false, _) if self.setup.defer() => ENTER_GETEVENTS,
            (false, _) => 0,
            (true, false) => ENTER_SQ_WAKEUP,
            (true, true) => ENTER_SQ_WAKEUP | ENTER_SQ_WAIT,
        };
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no argument is passed; what is submitted was checked when it was pushed.
        match unsafe { self.ring.submitter().enter::<WaitArgument>(queued, 0, flags, None) } {
            // Short of memory it takes some of them, and says so by the number only.
            Ok(taken) if !sqpoll && taken < queued as usize => {
                Err(Error::new(libc::EAGAIN, "io_uring_enter: the kernel took only some submissions"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(Error::from_io("io_uring_enter (submit)", &error)),
        }
    }

    // --- completions: the caller is the reaper and holds the core lock -----------------------

    /// The completions in the queue, taken one by one. The kernel gets their places back when
    /// the iterator is dropped; only one may exist.
    #[inline]
    pub(crate) fn completions(&self) -> impl Iterator<Item = Completion> + '_ {
        // SAFETY: the caller is the one reaper, and keeps to one iterator.
        unsafe { self.ring.completion_shared() }
            .map(|entry| Completion::from_entry(entry.user_data(), entry.result(), entry.flags()))
    }

    /// Whether completions lie in the queue.
    #[inline]
    pub(crate) fn ready(&self) -> bool {
        !self.completions_seen().is_empty()
    }

    /// Whether an enter would turn up completions that are not in the queue yet: deferred task
    /// work, or a flushed overflow.
    #[inline]
    pub(crate) fn pending(&self) -> bool {
        let queue = self.submissions_seen();
        queue.taskrun() || queue.cq_overflow()
    }

    /// The kernel had no memory for some completions, and has dropped them. (A sleeping enter says
    /// so with -EBADR, once.)
    #[inline]
    pub(crate) fn dropped(&self) -> bool {
        self.completions_seen().overflow() != 0
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.submissions_seen().cq_overflow()
    }

    // --- waiting: no lock --------------------------------------------------------------------

    /// Lets the kernel run what it has deferred, without sleeping.
    pub(crate) fn poll(&self) {
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: no argument is passed. An error leaves things as they were: the wait that
        // follows meets it again.
        let _ = unsafe { self.ring.submitter().enter::<WaitArgument>(0, 0, ENTER_GETEVENTS, None) };
    }

    /// Sleeps until `want` completions are there, or one after `min_wait_us`, or for `timeout`.
    pub(crate) fn wait(&self, want: u32, min_wait_us: u32, timeout: Option<Duration>) -> Waited {
        let timespec = timeout.map(|time| Timespec::new().sec(time.as_secs()).nsec(time.subsec_nanos()));
        let argument = WaitArgument {
            signal_mask: 0,
            signal_mask_size: 0,
            min_wait_us,
            timeout: timespec.as_ref().map_or(0, |time| &raw const *time as u64),
        };
        let flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
        self.enters.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the argument and the time it points to outlive the call.
        let entered = unsafe { self.ring.submitter().enter(0, want, flags, Some(&argument)) };
        match entered.map_err(|error| error.raw_os_error()) {
            Ok(_) => Waited::Woken,
            Err(Some(libc::ETIME)) => Waited::TimedOut,
            Err(Some(libc::EINTR)) => Waited::Interrupted,
            // They tell of a full queue or a lack of memory: look, and retry.
            Err(Some(libc::EBUSY | libc::EBADR | libc::EAGAIN | libc::ENOMEM)) => Waited::Woken,
            Err(errno) => Waited::Refused(errno.unwrap_or(libc::EIO)),
        }
    }

    // --- readiness for other loops -----------------------------------------------------------

    /// Has the kernel write to `eventfd`, of which a ring has one.
    pub(crate) fn register_eventfd(&self, eventfd: RawFd) -> Result<()> {
        match self.ring.submitter().register_eventfd(eventfd) {
            // Busy: another thread was first.
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(Error::from_io("IORING_REGISTER_EVENTFD", &error));
            }
            _ => self.eventfd_registered.store(true, Ordering::Release),
        }
        Ok(())
    }

    /// Has the kernel begin anew with `eventfd`; see `support::eventfd`.
    pub(crate) fn renew_eventfd(&self, eventfd: RawFd) {
        self.eventfd_registered.store(false, Ordering::Release);
        let _ = self.ring.submitter().unregister_eventfd();
        // On failure the next reap tries again, and ring_fd stays readable until it works.
        let _ = self.register_eventfd(eventfd);
    }

    /// While a reap is inside, completions are its business: no eventfd is written for them
    /// (a deferred completion would be told twice: when queued, and when posted).
    #[inline]
    pub(crate) fn mute_eventfd(&self) {
        self.completions_seen().disable_eventfd();
    }

    #[inline]
    pub(crate) fn unmute_eventfd(&self) {
        self.completions_seen().enable_eventfd();
    }

    pub(crate) fn eventfd_registered(&self) -> bool {
        self.eventfd_registered.load(Ordering::Acquire)
    }

    // --- buffer groups -----------------------------------------------------------------------

    /// Registers `entries` as the buffer group `pool`.
    pub(crate) fn register_pool(&self, pool: u16, entries: &Mapping, count: u16) -> Result<()> {
        let (address, group) = (entries.base().as_ptr() as u64, GROUP_BASE + pool);
        // SAFETY: the mapping is page-aligned, holds `count` entries, and is unmapped only after
        // `unregister_pool` or the end of the ring.
        unsafe { self.ring.submitter().register_buf_ring_with_flags(address, count, group, 0) }.map_err(
            |error| match error.raw_os_error() {
                Some(libc::ENOMEM) => Error::new(
                    libc::ENOMEM,
                    "pool: the kernel has no memory for the buffer ring; a smaller pool, or a \
                     larger RLIMIT_MEMLOCK, may help",
                ),
                _ => Error::from_io("IORING_REGISTER_PBUF_RING", &error),
            },
        )
    }

    pub(crate) fn unregister_pool(&self, pool: u16) -> Result<()> {
        self.ring
            .submitter()
            .unregister_buf_ring(GROUP_BASE + pool)
            .map_err(|error| Error::from_io("IORING_UNREGISTER_PBUF_RING", &error))
    }

    // --- the end -----------------------------------------------------------------------------

    /// Closes the ring and waits until the kernel has let go of it. False: it has not within
    /// `patience`, so it may still write to memory it was given.
    pub(crate) fn close(mut self: Box<Self>, patience: Duration) -> bool {
        if self.forked() {
            return true;
        }
        fork::close_listed(self.ring.as_raw_fd(), self.generation, || {
            // SAFETY: `self` is consumed; nothing uses the ring after this. The mappings go
            // first, since they pin the ring, then the descriptor.
            unsafe { ManuallyDrop::drop(&mut self.ring) };
        });
        hung_up(self.watch.raw(), patience)
    }

    fn forked(&self) -> bool {
        self.generation != fork::generation()
    }
}

/// Gives the ring one end of a socket pair to hold, and nobody else; the other end hangs up
/// when the ring is really gone. (Never the ring's own descriptor, which would pin it.)
fn register_watch(ring: &IoUring) -> Result<Descriptor> {
    let [ours, rings] = Descriptor::open("socketpair", |pair| {
        // SAFETY: `pair` has room for two descriptors.
        unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())
        }
    })?;
    ring.submitter()
        .register_files(&[rings.raw()])
        .map_err(|error| Error::from_io("IORING_REGISTER_FILES", &error))?;
    Ok(ours)
}

fn hung_up(watch: RawFd, patience: Duration) -> bool {
    let deadline = std::time::Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let mut poll = libc::pollfd { fd: watch, events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd.
        let ready = unsafe { libc::poll(&mut poll, 1, left.as_millis() as i32) };
        if ready > 0 {
            return poll.revents & libc::POLLHUP != 0;
        }
        if ready == 0 {
            return false;
        }
    }
}
