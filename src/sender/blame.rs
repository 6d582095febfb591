//! Whose error it is. A socket that an ICMP message concerns has a pending error, which the next
//! send reports instead of sending: the message it names is innocent.

use std::os::fd::RawFd;

use crate::sys::sockopt;

use super::message::Source;
use super::submit::Call;

/// How often a message is tried again when something is pending.
const TRIES: u32 = 8;

/// What is not known yet about the errnos of the group that is tried.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    tries: u32,
    /// The last errno, after which SO_ERROR was read as 0. If it comes again it is the message's
    /// own; if not, it was pending. 0: none.
    suspect: i32,
    /// A system call stopped short although there was room: it has consumed a pending error.
    hidden: bool,
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

    /// Whether an errno is the message's own. If not, the message is to be tried again.
    pub(super) fn is_own(&mut self, errno: i32) -> bool {
        let doubt = std::mem::take(&mut self.doubt);
        let refused = errno == libc::ECONNREFUSED;
        // A datagram over IP is refused after it was sent, one to an AF_UNIX socket before.
        let always_pending = refused && self.channel.limits.kind.is_ip();
        if errno == doubt.suspect {
            return true;
        }
        self.count_pending(doubt.suspect);
        if !may_be_pending(errno) || (refused && !always_pending) || doubt.tries == TRIES {
            return true;
        }
        let pending = sockopt::get::<i32>(self.channel.fd(), libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(0);
        self.count_pending(pending);
        let clean = pending == 0 && !always_pending;
        if !clean {
            self.count_pending(errno);
        }
        self.doubt = Doubt { tries: doubt.tries + 1, suspect: if clean { errno } else { 0 }, hidden: false };
        false
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
