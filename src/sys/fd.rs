//! Descriptors that the library owns.

use std::os::fd::RawFd;

use super::errno;
use super::fork::{self, Listing, Placeholder};
use crate::error::Result;

/// A descriptor of the library: closed on drop, and closed in every forked child.
#[derive(Debug)]
pub(crate) struct OwnedFd {
    fd: RawFd,
    listing: Listing,
    /// Where close(2) may block: a TCP socket with SO_LINGER, a packet socket.
    placeholder: Option<Placeholder>,
}

impl OwnedFd {
    /// Opens N descriptors with the system call `what`: `call` fills them in and returns its
    /// result, -1 with errno set on failure.
    pub(crate) fn open<const N: usize>(
        what: &str,
        call: impl FnOnce(&mut [RawFd; N]) -> i32,
    ) -> Result<[Self; N]> {
        let opened = fork::open(what, call)?;
        Ok(opened.map(|(fd, listing)| Self { fd, listing, placeholder: None }))
    }

    /// The same for a call that returns one descriptor.
    pub(crate) fn open_one(what: &str, call: impl FnOnce() -> RawFd) -> Result<Self> {
        let [opened] = Self::open(what, |[fd]| {
            *fd = call();
            *fd
        })?;
        Ok(opened)
    }

    /// An eventfd(2) that does not block.
    pub(crate) fn eventfd() -> Result<Self> {
        // SAFETY: no preconditions.
        Self::open_one("eventfd", || unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })
    }

    /// The two ends of a socketpair(2).
    pub(crate) fn socket_pair(kind: i32) -> Result<[Self; 2]> {
        Self::open("socketpair", |pair| {
            // SAFETY: `pair` has room for two descriptors.
            unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()) }
        })
    }

    /// A duplicate of the socket `fd`, whose number the caller may close and use again.
    pub(crate) fn duplicate_socket(fd: RawFd) -> Result<Self> {
        // So that it is there when the socket is closed.
        let placeholder = Placeholder::hold()?;
        let mut duplicate = Self::open_one("socket: a duplicate of the descriptor", || duplicate(fd))?;
        duplicate.placeholder = Some(placeholder);
        Ok(duplicate)
    }

    #[inline]
    pub(crate) fn raw(&self) -> RawFd {
        self.fd
    }

    /// Closes the socket behind the number, which now refers to the placeholder. This may block,
    /// so the registry's lock is not held; since the number stays ours and listed, a fork at any
    /// moment closes the right thing in the child.
    fn close_socket(&self, placeholder: &Placeholder) {
        // SAFETY: both descriptors are the library's own. On failure the close(2) that follows
        // closes the socket instead.
        unsafe { libc::dup3(placeholder.raw(), self.fd, libc::O_CLOEXEC) };
    }
}

/// fcntl(F_DUPFD_CLOEXEC), to a number above those of the standard streams. -1 with errno.
pub(crate) fn duplicate(fd: RawFd) -> RawFd {
    // SAFETY: F_DUPFD_CLOEXEC has no preconditions.
    let duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if duplicate < 0 && errno() == libc::EINVAL {
        // RLIMIT_NOFILE does not allow such a number.
        // SAFETY: errno is the thread's own.
        unsafe { *libc::__errno_location() = libc::EMFILE };
    }
    duplicate
}

impl Drop for OwnedFd {
    fn drop(&mut self) {
        if self.listing.is_foreign() {
            return;
        }
        if let Some(placeholder) = &self.placeholder {
            self.close_socket(placeholder);
        }
        self.listing.close(|| {
            // SAFETY: the descriptor is ours and was open until now.
            unsafe { libc::close(self.fd) };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forks, and returns what `in_child` returned there, from 0 to 255.
    fn fork_and(in_child: impl Fn() -> i32) -> i32 {
        // SAFETY: the child only makes system calls, closes descriptors and exits.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(in_child());
            }
            let mut status = 0;
            assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
            assert!(libc::WIFEXITED(status), "the child died: {status:#x}");
            libc::WEXITSTATUS(status)
        }
    }

    fn is_open(fd: RawFd) -> bool {
        // SAFETY: no preconditions.
        unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
    }

    #[test]
    fn a_child_keeps_no_descriptor_and_drops_none() {
        let fd = OwnedFd::eventfd().unwrap();
        let raw = fd.raw();
        let outcome = fork_and(|| {
            if is_open(raw) {
                return 1;
            }
            // A stranger takes the number; dropping what the child inherited must not close it.
            // SAFETY: 2 is open in a test.
            unsafe { libc::dup2(2, raw) };
            // SAFETY: the child ends before it could drop it a second time.
            drop(unsafe { std::ptr::read(&fd) });
            if is_open(raw) { 0 } else { 2 }
        });
        assert_eq!(outcome, 0, "1: the child kept the descriptor, 2: it closed somebody else's");
        assert!(is_open(raw), "the parent lost its own");
    }

    #[test]
    fn a_duplicate_is_closed_and_its_number_given_back() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (address, fd) = (socket.local_addr().unwrap(), std::os::fd::AsRawFd::as_raw_fd(&socket));
        let duplicate = OwnedFd::duplicate_socket(fd).unwrap();
        drop(socket);
        assert!(std::net::UdpSocket::bind(address).is_err(), "the duplicate keeps the port");
        drop(duplicate);
        // A child of another test may hold its copy of `socket` for a moment.
        let is_free = || std::net::UdpSocket::bind(address).is_ok();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !is_free() {
            assert!(std::time::Instant::now() < deadline, "the port is not free again");
            std::thread::yield_now();
        }
    }
}
