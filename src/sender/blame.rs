//! Whose error it is. A socket that an ICMP message concerns has a pending error, which the next
//! send reports instead of sending: the message it names is innocent.

use std::os::fd::RawFd;

use crate::socket::queued_bytes;
use crate::sys::sockopt;

use super::message::Source;
use super::submit::Call;

/// How often a message is tried again when something is pending, and nobody reads the error queue.
const TRIES: u32 = 8;
/// How often while somebody reads it: a flood of ICMP errors must not keep a call without end.
const TRIES_MAX: u32 = 256;

/// What is not known yet about the errnos of the group that is tried.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// All tries, and those since the error queue last changed.
    tries: u32,
    tries_unchanged: u32,
    /// The last errno, after which SO_ERROR was read as 0. If it comes again it is the message's
    /// own, unless the error queue was read meanwhile; if not, it was pending. 0: none.
    suspect: i32,
    /// A system call stopped short although there was room: it has consumed a pending error.
    hidden: bool,
    queue: ErrorQueue,
}

impl Doubt {
    /// The message was tried as often as it may be.
    fn is_exhausted(&self) -> bool {
        self.tries_unchanged == TRIES || self.tries == TRIES_MAX
    }
}

/// What is seen of a socket's error queue (IP_RECVERR). Each read of it makes the next entry's
/// errno the socket's pending error again. So where a pending error comes back, the queue has
/// changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct ErrorQueue {
    has_entries: bool,
    /// What it holds, together with what was received.
    bytes: u32,
}

impl ErrorQueue {
    fn of(fd: RawFd) -> Self {
        let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: one writable pollfd, a readable time. Not through libc's wrapper, which is a
        // cancellation point.
        unsafe {
            libc::syscall(libc::SYS_ppoll, &raw mut poll, 1, &raw const now, no_mask, size_of::<u64>())
        };
        let has_entries = poll.revents & libc::POLLERR != 0;
        let bytes = if has_entries { queued_bytes(fd) } else { 0 };
        Self { has_entries, bytes }
    }
}

impl<S: Source> Call<'_, S> {
    /// Something was sent: what was in doubt was pending.
    pub(super) fn resolve_doubt(&mut self) {
        let doubt = std::mem::take(&mut self.doubt);
        self.count_pending(doubt.suspect);
        self.tally.socket_errors += u64::from(doubt.hidden);
    }

    /// A system call stopped short. If there was room, and the next message goes, then a pending
    /// error was consumed whose errno is unknown.
    pub(super) fn note_stopped_short(&mut self) {
        self.doubt.hidden = self.channel.limits.kind.is_ip() && !is_nearly_full(self.channel.fd());
    }

    /// Whether an errno is the message's own. If not, the message is to be tried again. `header` is
    /// the one that was refused.
    pub(super) fn is_own(&mut self, errno: i32, header: &libc::msghdr) -> bool {
        let doubt = std::mem::take(&mut self.doubt);
        let refused = errno == libc::ECONNREFUSED;
        // A datagram over IP is refused after it was sent, one to an AF_UNIX socket before.
        let always_pending = refused && self.channel.limits.kind.is_ip();
        let can_be_pending = may_be_pending(errno) && (always_pending || !refused);
        let queue = if can_be_pending { ErrorQueue::of(self.channel.fd()) } else { ErrorQueue::default() };
        let was_read = queue != doubt.queue;
        if errno == doubt.suspect && !(was_read && self.is_not_the_routes(errno, header)) {
            return true;
        }
        self.count_pending(doubt.suspect);
        let tries_unchanged = if was_read { 0 } else { doubt.tries_unchanged };
        let doubt = Doubt { tries_unchanged, ..doubt };
        if !can_be_pending || doubt.is_exhausted() {
            return true;
        }
        let pending = sockopt::get::<i32>(self.channel.fd(), libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0);
        self.count_pending(pending);
        let clean = pending == 0 && !always_pending;
        if !clean {
            self.count_pending(errno);
        }
        self.doubt = Doubt {
            tries: doubt.tries + 1,
            tries_unchanged: tries_unchanged + 1,
            suspect: if clean { errno } else { 0 },
            hidden: false,
            queue,
        };
        false
    }

    /// Whether the errno of a datagram does not come from the route it would take. The kernel looks
    /// for the route first, then at the pending error and at the length, which MSG_PROBE leaves out
    /// (and sends nothing).
    fn is_not_the_routes(&self, errno: i32, header: &libc::msghdr) -> bool {
        const MSG_PROBE: i32 = 0x10;
        // A datagram that is too long puts an entry of its own into the queue.
        if errno == libc::EMSGSIZE || !self.channel.limits.kind.is_ip() {
            return false;
        }
        let mut empty = *header; // no struct update: musl's msghdr has private fields
        empty.msg_iovlen = 0;
        let flags = MSG_PROBE | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: what the header points to lives during the call. (libc's wrapper is a
        // cancellation point.)
        unsafe { libc::syscall(libc::SYS_sendmsg, self.channel.fd(), &raw const empty, flags) >= 0 }
    }

    fn count_pending(&mut self, errno: i32) {
        if errno != 0 {
            self.tally.socket_errors += 1;
            self.tally.last_socket_error = errno;
        }
    }
}

/// Errnos that only the send itself produces, and that are never pending on a socket: a second try
/// would only load the firewall.
fn may_be_pending(errno: i32) -> bool {
    !matches!(
        errno,
        libc::EPERM
            | libc::EINVAL
            | libc::EFAULT
            | libc::EIO
            | libc::EPIPE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::EDESTADDRREQ
            | libc::EAFNOSUPPORT
            | libc::EADDRNOTAVAIL
            | libc::ENOTCONN
    )
}

/// The socket's buffer is at least half full, so that a send that stopped short was refused with
/// -EAGAIN.
fn is_nearly_full(fd: RawFd) -> bool {
    let mut queued = 0i32;
    // SAFETY: one writable int.
    let known = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut queued) } == 0;
    let limit = sockopt::get::<i32>(fd, libc::SOL_SOCKET, libc::SO_SNDBUF);
    !known || limit.is_ok_and(|limit| queued >= limit / 2)
}
