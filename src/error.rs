//! One error type inside, one conversion to C: an errno and a sentence that says what to do.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CStr, c_int};
use std::fmt::{Arguments, Write};

/// What went wrong: an errno for programs, a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    errno: c_int,
    sentence: Cow<'static, str>,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a fixed sentence. Allocates nothing.
    pub const fn new(errno: c_int, sentence: &'static str) -> Self {
        Self { errno, sentence: Cow::Borrowed(sentence) }
    }

    /// An error whose sentence names the values at fault. Where there is no memory for all of the
    /// sentence, it is cut.
    #[cold]
    pub fn with(errno: c_int, sentence: Arguments<'_>) -> Self {
        Self { errno, sentence: Cow::Owned(written(sentence)) }
    }

    /// The system call `what` failed just now; its errno becomes ours.
    pub fn last_os(what: &str) -> Self {
        Self::from_io(what, &std::io::Error::last_os_error())
    }

    /// The system call `what` failed with `error`.
    pub fn from_io(what: &str, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        let advice = if errno == libc::EMFILE { "; raise RLIMIT_NOFILE (ulimit -n)" } else { "" };
        Self::with(errno, format_args!("{what}: {}{advice}", describe(errno)))
    }

    /// The positive errno.
    pub fn errno(&self) -> c_int {
        self.errno
    }

    /// The sentence.
    pub fn sentence(&self) -> &str {
        &self.sentence
    }

    /// Turns the error into what a C function returns, and keeps the sentence for
    /// `ringmsg_last_error`. This is the only place where errno and sentence are separated.
    #[cold]
    pub(crate) fn into_c(self) -> c_int {
        let Self { errno, sentence } = self;
        // Taken where a signal handler has interrupted another call at this very place: its own
        // sentence is not kept.
        LAST.with(|last| last.try_borrow_mut().map_or((), |mut last| last.set(&sentence)));
        -errno
    }
}

/// A string that stops growing, instead of aborting, when there is no memory.
#[derive(Debug, Default)]
pub(crate) struct Text(pub String);

impl Write for Text {
    fn write_str(&mut self, part: &str) -> std::fmt::Result {
        self.0.try_reserve(part.len()).map_err(|_| std::fmt::Error)?;
        self.0.push_str(part);
        Ok(())
    }
}

/// What `format!` makes, cut where there is no memory for all of it.
pub(crate) fn written(text: Arguments<'_>) -> String {
    let mut string = Text::default();
    let _ = string.write_fmt(text);
    string.0
}

/// The sentence of a thread's last failure. A buffer of fixed size, which needs no destructor: so
/// keeping a sentence allocates nothing.
struct Last {
    bytes: [u8; 1024],
    length: usize,
}

impl Last {
    fn set(&mut self, sentence: &str) {
        self.length = fitting(sentence, self.bytes.len());
        self.bytes[..self.length].copy_from_slice(&sentence.as_bytes()[..self.length]);
    }

    fn get(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

thread_local! {
    static LAST: RefCell<Last> = const { RefCell::new(Last { bytes: [0; 1024], length: 0 }) };
}

/// Runs `read` on the sentence of this thread's last failure; on "" if there was none, or if a
/// signal handler asks while it is written.
pub(crate) fn with_last<R>(read: impl FnOnce(&str) -> R) -> R {
    LAST.with(|last| match last.try_borrow() {
        Ok(last) => read(last.get()),
        Err(_) => read(""),
    })
}

/// The length of the longest beginning of `text`, of whole characters, that fits into `room` bytes.
pub(crate) fn fitting(text: &str, room: usize) -> usize {
    let mut length = text.len().min(room);
    while !text.is_char_boundary(length) {
        length -= 1;
    }
    length
}

/// The text of an errno, whatever its sign.
pub(crate) fn describe(errno: c_int) -> &'static str {
    text(errno).to_str().unwrap_or("unknown error")
}

/// The text of an errno, whatever its sign, as C wants it. Static: unlike strerror(3), which
/// may reuse its buffer, and unlike strerrordesc_np(3), which wants glibc 2.32.
pub(crate) fn text(errno: c_int) -> &'static CStr {
    match errno.saturating_abs() {
        0 => c"success",
        libc::EPERM => c"operation not permitted",
        libc::ENOENT => c"no such request",
        libc::EINTR => c"interrupted by a signal",
        libc::EIO => c"input/output error",
        libc::EBADF => c"bad file descriptor",
        libc::ENXIO => c"no such device or address",
        libc::EAGAIN => c"resource temporarily unavailable",
        libc::ENOMEM => c"out of memory",
        libc::EACCES => c"permission denied",
        libc::EFAULT => c"bad address",
        libc::ENODEV => c"no such device",
        libc::EBUSY => c"busy",
        libc::EEXIST => c"exists already",
        libc::ELOOP => c"too many symbolic links",
        libc::EINVAL => c"invalid argument",
        libc::ENFILE => c"too many open files in the system",
        libc::EMFILE => c"too many open files",
        libc::ENOSPC => c"no room left",
        libc::EPIPE => c"broken pipe",
        libc::ENOSYS => c"not implemented by this kernel",
        libc::EBADR => c"the kernel dropped completions; free the ring",
        libc::EBADMSG => c"malformed control message",
        libc::EOVERFLOW => c"value too large",
        libc::EBADFD => c"ring is not enabled yet",
        libc::EDESTADDRREQ => c"destination address required",
        libc::ENOTSOCK => c"not a socket",
        libc::EMSGSIZE => c"message too long",
        libc::EPROTO => c"protocol error",
        libc::EPROTOTYPE => c"protocol of another socket type",
        libc::ENOPROTOOPT => c"protocol not available",
        libc::EOPNOTSUPP => c"operation not supported",
        libc::EAFNOSUPPORT => c"address family not supported",
        libc::EADDRINUSE => c"address in use",
        libc::EADDRNOTAVAIL => c"address not available",
        libc::ENETDOWN => c"network is down",
        libc::ENETUNREACH => c"network is unreachable",
        libc::ENETRESET => c"network dropped the connection",
        libc::ENONET => c"host is not on the network",
        libc::ECONNABORTED => c"connection aborted",
        libc::ECONNRESET => c"connection reset by peer",
        libc::ENOBUFS => c"no buffer available",
        libc::EISCONN => c"connected",
        libc::ENOTCONN => c"not connected",
        libc::ESHUTDOWN => c"socket is shut down",
        libc::ETOOMANYREFS => c"too many descriptors in flight",
        libc::ETIMEDOUT => c"timed out",
        libc::ECONNREFUSED => c"connection refused",
        libc::EHOSTDOWN => c"host is down",
        libc::EHOSTUNREACH => c"no route to host",
        libc::EINPROGRESS => c"in progress",
        libc::ECANCELED => c"cancelled",
        libc::EOWNERDEAD => c"the owner thread has exited",
        libc::ENOTRECOVERABLE => c"the ring is poisoned by an earlier internal error",
        _ => c"unknown error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_of_the_last_failure_is_kept_for_the_thread() {
        assert_eq!(Error::new(libc::EINVAL, "first").into_c(), -libc::EINVAL);
        assert_eq!(Error::with(libc::EBUSY, format_args!("second")).into_c(), -libc::EBUSY);
        assert_eq!(with_last(str::to_owned), "second");
        std::thread::spawn(|| assert_eq!(with_last(str::to_owned), "")).join().unwrap();
    }

    /// A message's result may be any of them (sendmsg(2), ip(7), ipv6(7), packet(7), unix(7)).
    #[test]
    fn what_a_socket_answers_has_a_text() {
        for errno in [
            libc::EPERM,
            libc::ENXIO,
            libc::EACCES,
            libc::ENODEV,
            libc::ELOOP,
            libc::EDESTADDRREQ,
            libc::EMSGSIZE,
            libc::EPROTOTYPE,
            libc::EAFNOSUPPORT,
            libc::EADDRNOTAVAIL,
            libc::ENETUNREACH,
            libc::ENETRESET,
            libc::ENOBUFS,
            libc::ETOOMANYREFS,
            libc::ECONNREFUSED,
            libc::EHOSTUNREACH,
            libc::EINPROGRESS,
        ] {
            assert_ne!(describe(errno), "unknown error", "errno {errno}");
        }
    }

    /// As in a signal handler that interrupts a call while its sentence is read or written.
    #[test]
    fn a_failure_within_a_failure_leaves_the_outer_sentence() {
        Error::new(libc::EINVAL, "outer").into_c();
        with_last(|_| assert_eq!(Error::new(libc::EBUSY, "inner").into_c(), -libc::EBUSY));
        assert_eq!(with_last(str::to_owned), "outer");
        LAST.with_borrow_mut(|_| {
            assert_eq!(Error::new(libc::EBUSY, "inner").into_c(), -libc::EBUSY);
            assert_eq!(with_last(str::to_owned), "");
        });
        assert_eq!(with_last(str::to_owned), "outer");
    }

    #[test]
    fn texts_take_either_sign() {
        assert_eq!(describe(-libc::EBUSY), describe(libc::EBUSY));
        assert_eq!(describe(i32::MIN), "unknown error");
    }
}
