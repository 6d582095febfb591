//! Whether the kernel writes to a ring's eventfd more than once.
//!
//! Some kernels (stable releases of 2026; Debian's 6.12.117 is one) put off the notification of a
//! DEFER ring when the work comes from a wake-up, which data on a socket always does, and then
//! take a mark for set that nothing clears: the first notification arrives, and no other does.
//! A registration made anew begins with the mark cleared.

use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, types::Fd};
use once_cell::sync::OnceCell;

use crate::fork::Descriptor;

/// How long a notification that was put off may take: a grace period of the kernel's, usually a
/// few milliseconds. Only kernels that put them off are waited for, once.
const PATIENCE_MS: i32 = 250;
const ENTER_GETEVENTS: u32 = 1 << 0;

/// Whether registrations must be renewed. Tried once.
pub(crate) fn wears_out() -> bool {
    static ANSWER: OnceCell<bool> = OnceCell::new();
    *ANSWER.get_or_init(|| super::aside(|| try_twice().unwrap_or(false)))
}

/// None: it could not be tried, so nothing depends on it.
fn try_twice() -> Option<bool> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
    let mut ring: IoUring = builder.build(4).ok()?;
    // SAFETY: no preconditions.
    let [eventfd] = Descriptor::open("eventfd", |[fd]| unsafe {
        *fd = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        *fd
    })
    .ok()?;
    let [reader, writer] = Descriptor::open("socketpair", |pair| {
        // SAFETY: `pair` has room for two descriptors.
        unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())
        }
    })
    .ok()?;
    ring.submitter().register_eventfd(eventfd.raw()).ok()?;
    for round in 0..2 {
        let poll = opcode::PollAdd::new(Fd(reader.raw()), libc::POLLIN as u32).build();
        // SAFETY: a poll refers to no memory.
        unsafe { ring.submission().push(&poll) }.ok()?;
        ring.submit().ok()?;
        // SAFETY: one readable byte, an open socket.
        unsafe { libc::send(writer.raw(), c"".as_ptr().cast(), 1, 0) };
        if round == 0 && is_readable(eventfd.raw(), 0) {
            return Some(false); // nothing is put off here
        }
        if !is_readable(eventfd.raw(), PATIENCE_MS) {
            return Some(true);
        }
        // SAFETY: no argument is passed.
        unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) }.ok()?;
        // Posting the completion was announced, too, and in the usual way: that does not count.
        let mut bytes = [0u8; 8];
        for fd in [eventfd.raw(), reader.raw()] {
            // SAFETY: eight writable bytes.
            unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) };
        }
        ring.completion().for_each(drop);
    }
    Some(false)
}

fn is_readable(fd: RawFd, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
}
