//! Whether the kernel writes to a ring's eventfd more than once.
//!
//! Some kernels (stable releases of 2026; Debian's 6.12.117 is one) postpone the notification of a
//! DEFER ring when the work comes from a wake-up, as it does for data on a socket. They then leave
//! a flag set that nothing clears: the first notification arrives, and no other does. Registering
//! the eventfd again clears the flag.

use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types::Fd};
use once_cell::sync::OnceCell;

use super::ENTER_GETEVENTS;
use crate::error::{Error, Result};
use crate::sys::fd::OwnedFd;
use crate::sys::fork;
use crate::sys::thread::run_aside;

/// How long a postponed notification may take: a grace period of the kernel's, usually a few
/// milliseconds. Only kernels that postpone them are waited for, once.
const POSTPONED_MS: i32 = 250;

/// Whether registrations must be renewed. Tried once for each process.
pub(super) fn fires_once() -> bool {
    static ANSWER: OnceCell<bool> = OnceCell::new();
    *ANSWER.get_or_init(|| run_aside(|| try_twice().unwrap_or(false)))
}

/// An error: it could not be tried, so no ring can be affected either.
fn try_twice() -> Result<bool> {
    let (mut ring, listing) = fork::open_owner(|| {
        let mut builder = IoUring::builder();
        builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        builder.build(4).map_err(|error| Error::from_io("io_uring_setup", &error))
    })?;
    let fires_once = two_rounds(&mut ring);
    listing.close(|| drop(ring));
    fires_once
}

fn two_rounds(ring: &mut IoUring) -> Result<bool> {
    let eventfd = OwnedFd::eventfd()?;
    let [reader, writer] = OwnedFd::socket_pair(libc::SOCK_DGRAM)?;
    let failed = |error: std::io::Error| Error::from_io("eventfd probe", &error);
    ring.submitter().register_eventfd(eventfd.raw()).map_err(failed)?;
    for round in 0..2 {
        let poll = opcode::PollAdd::new(Fd(reader.raw()), libc::POLLIN as u32).build();
        // SAFETY: a poll refers to no memory; the queue has room for it.
        let _ = unsafe { ring.submission().push(&poll) };
        ring.submit().map_err(failed)?;
        // Not send(2): a sandbox may refuse it, and the library needs it for nothing else.
        // SAFETY: one readable byte.
        if unsafe { libc::write(writer.raw(), c"".as_ptr().cast(), 1) } != 1 {
            return Err(Error::last_os("eventfd probe: write"));
        }
        if round == 0 && is_readable(eventfd.raw(), 0) {
            return Ok(false); // nothing is postponed here
        }
        if !is_readable(eventfd.raw(), POSTPONED_MS) {
            return Ok(true);
        }
        // SAFETY: no argument is passed.
        unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) }.map_err(failed)?;
        // Posting the completion raised a second notification, which is never postponed.
        let mut bytes = [0u8; 8];
        for fd in [eventfd.raw(), reader.raw()] {
            // SAFETY: eight writable bytes.
            unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
        }
        ring.completion().for_each(drop);
    }
    Ok(false)
}

fn is_readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
}
