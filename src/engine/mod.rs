//! Engines: what turns armed requests into completions.
//!
//! An engine knows sockets, buffers and completions, but neither records nor policy. One exists
//! so far, on io_uring; the one on epoll and recvmmsg(2) is to produce the same `Completion`s
//! from the same pool buffers, so that nothing above this line notices.

pub(crate) mod uring;

/// Which request, or which internal operation, a completion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A receive of the request in this slot.
    Receive(u32),
    /// The pause of the request in this slot is over.
    Pause(u32),
    /// A cancellation was carried out. How the request ended is told by its own completion.
    Cancel,
    /// Somebody wrote to the wake descriptor.
    Wake,
}

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        match self {
            Token::Receive(slot) => slot as u64,
            Token::Pause(slot) => 1 << 32 | slot as u64,
            Token::Cancel => 2 << 32,
            Token::Wake => 3 << 32,
        }
    }

    #[inline]
    pub(crate) const fn unpack(word: u64) -> Self {
        match word >> 32 {
            0 => Token::Receive(word as u32),
            1 => Token::Pause(word as u32),
            2 => Token::Cancel,
            _ => Token::Wake,
        }
    }
}

/// One completion, as the kernel reports it: packed, since nearly all of them are alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    word: u64,
    /// Bytes, or -errno.
    pub result: i32,
    flags: u32,
}

// linux/io_uring.h: IORING_CQE_F_BUFFER, IORING_CQE_F_MORE, IORING_CQE_BUFFER_SHIFT
const BUFFER: u32 = 1 << 0;
const MORE: u32 = 1 << 1;
const BUFFER_SHIFT: u32 = 16;

impl Completion {
    /// From the fields of a completion queue entry.
    #[inline]
    pub(crate) const fn from_entry(word: u64, result: i32, flags: u32) -> Self {
        Self { word, result, flags }
    }

    #[inline]
    pub(crate) const fn token(&self) -> Token {
        Token::unpack(self.word)
    }

    /// The pool buffer it filled.
    #[inline]
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.flags & BUFFER != 0).then_some((self.flags >> BUFFER_SHIFT) as u16)
    }

    /// The operation goes on.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// The pool buffer it filled, if it is data of the same operation as `other`.
    #[inline]
    pub(crate) fn buffer_like(&self, other: &Completion) -> Option<u16> {
        if self.word == other.word { self.buffer() } else { None }
    }
}

/// Where a receive lands and what it asks for.
pub(crate) struct Receive {
    pub slot: u32,
    pub fd: std::os::fd::RawFd,
    pub message: *mut libc::msghdr,
    pub msg_flags: u32,
    pub poll_first: bool,
    /// The pool that provides the buffers of a multishot; None: single-shot.
    pub pool: Option<u16>,
}

#[cfg(test)]
mod tests {
    use super::Token::*;

    #[test]
    fn tokens_survive_the_trip_through_the_kernel() {
        for token in [Receive(0), Receive(u32::MAX), Pause(7), Cancel, Wake] {
            assert_eq!(super::Token::unpack(token.pack()), token);
        }
    }
}
