//! The system calls that receive: recvmsg(2) for single-shots, recvmmsg(2) into published
//! buffers for multishots, with the layout that io_uring would give them.

use std::collections::VecDeque;
use std::ptr;

use super::epoll::errno;
use crate::engine::Receive;
use crate::engine::buffer_ring::{Published, Taker};
use crate::layout::HEADER;

/// Datagrams in one system call.
const BATCH: usize = 64;
/// With how many a socket that was quiet begins: each costs some preparation.
const BATCH_FIRST: usize = 8;

/// A request that is to receive.
pub(super) struct Armed {
    pub watch: u32,
    fd: i32,
    /// Of a single-shot.
    message: *mut libc::msghdr,
    /// Of one that waits for all: what is to be filled still, and how much was.
    rest: Option<(VecDeque<libc::iovec>, usize)>,
    msg_flags: i32,
    pub pool: Option<u16>,
    pub ends_when_empty: bool,
    /// As a multishot's msghdr says.
    name_capacity: u32,
    control_capacity: u32,
}

// SAFETY: the message belongs to the request, and is only followed while that is armed.
unsafe impl Send for Armed {}

impl Armed {
    pub(super) fn new(receive: &Receive, watch: u32) -> Self {
        let (name_capacity, control_capacity) = match receive.pool {
            // SAFETY: a request's msghdr is there while it is armed.
            Some(_) => unsafe { ((*receive.message).msg_namelen, (*receive.message).msg_controllen as u32) },
            None => (0, 0),
        };
        #[allow(clippy::unnecessary_cast)] // size_t, or int with another C library
        // SAFETY: as above, and it says how many parts there are.
        let parts = || unsafe {
            let message = &*receive.message;
            std::slice::from_raw_parts(message.msg_iov, message.msg_iovlen as usize)
        };
        Self {
            watch,
            fd: receive.fd,
            message: receive.message,
            rest: receive.waits_for_all.then(|| (parts().iter().copied().collect(), 0)),
            msg_flags: receive.msg_flags as i32,
            pool: receive.pool,
            ends_when_empty: receive.ends_when_empty,
            name_capacity,
            control_capacity,
        }
    }

    /// Where payloads start in this request's buffers.
    pub(super) fn payload_at(&self) -> u32 {
        HEADER + self.name_capacity + self.control_capacity
    }

    /// Whether a single-shot with this result goes on waiting. The caller's own MSG_DONTWAIT
    /// means what it says.
    pub(super) fn would_wait(&self, result: i32) -> bool {
        let empty = result == -libc::EAGAIN && self.msg_flags & libc::MSG_DONTWAIT == 0;
        empty || result == -libc::EINTR
    }
}

/// recvmsg(2) into a single-shot's msghdr. Bytes, or -errno.
pub(super) fn single(armed: &mut Armed) -> i32 {
    match &mut armed.rest {
        None => recvmsg(armed.fd, armed.message, armed.msg_flags),
        Some(rest) => all(armed.fd, armed.message, armed.msg_flags, rest),
    }
}

fn recvmsg(fd: i32, message: *mut libc::msghdr, msg_flags: i32) -> i32 {
    // SAFETY: whoever armed the request keeps the msghdr, and all it points to, until its
    // completion; what is not there the kernel answers with -EFAULT.
    match unsafe { libc::recvmsg(fd, message, msg_flags | libc::MSG_DONTWAIT) } {
        -1 => -errno(),
        bytes => bytes as i32,
    }
}

/// recvmsg(2) until every part is full, the stream ends, or control messages come.
fn all(fd: i32, theirs: *mut libc::msghdr, flags: i32, rest: &mut (VecDeque<libc::iovec>, usize)) -> i32 {
    let (parts, done) = rest;
    loop {
        let slice = parts.make_contiguous();
        // SAFETY: as in `recvmsg`.
        let mut message = unsafe { *theirs };
        message.msg_iov = slice.as_mut_ptr();
        message.msg_iovlen = slice.len() as _;
        let result = recvmsg(fd, &mut message, flags);
        if result == -libc::EAGAIN && flags & libc::MSG_DONTWAIT == 0 {
            return result;
        }
        if result <= 0 {
            return if *done > 0 { *done as i32 } else { result };
        }
        *done += result as usize;
        // SAFETY: as in `recvmsg`.
        unsafe {
            (*theirs).msg_flags = message.msg_flags;
            (*theirs).msg_namelen = message.msg_namelen;
        }
        skip(parts, result as usize);
        // SAFETY: as in `recvmsg`.
        let room_for_control = unsafe { (*theirs).msg_controllen };
        if parts.is_empty() || (message.msg_controllen > 0 && room_for_control > 0) {
            // SAFETY: as in `recvmsg`.
            unsafe { (*theirs).msg_controllen = message.msg_controllen };
            return *done as i32;
        }
    }
}

/// Takes the first `bytes` off the parts, and parts without room.
fn skip(parts: &mut VecDeque<libc::iovec>, mut bytes: usize) {
    while let Some(part) = parts.front().filter(|part| part.iov_len <= bytes) {
        bytes -= part.iov_len;
        parts.pop_front();
    }
    if let Some(part) = parts.front_mut() {
        // SAFETY: less than its length.
        part.iov_base = unsafe { part.iov_base.cast::<u8>().add(bytes) }.cast();
        part.iov_len -= bytes;
    }
}

/// The arrays that recvmmsg(2) works on. They are filled anew for every call.
pub(super) struct Batch {
    messages: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    /// How many datagrams came together of late.
    expected: usize,
}

// SAFETY: the pointers in there are written before each call, and mean nothing after it.
unsafe impl Send for Batch {}

/// What a receive came to.
pub(super) struct Received {
    pub calls: u64,
    /// The socket is empty, or has failed.
    pub drained: bool,
    /// 0, or the errno it failed with.
    pub error: i32,
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: all-zero is a valid mmsghdr.
        let message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self { messages: [message; BATCH].into(), parts: [part; BATCH].into(), expected: BATCH_FIRST }
    }

    /// Fills published buffers with what the socket has, at most BATCH and `room` of them, and
    /// tells `done` of each: the length of what is in it, and its number.
    pub(super) fn receive(
        &mut self,
        armed: &Armed,
        taker: &mut Taker,
        room: u32,
        mut done: impl FnMut(i32, u16),
    ) -> Received {
        let mut received = Received { calls: 0, drained: false, error: 0 };
        let mut left = BATCH.min(room as usize);
        // At its end a stream would fill every buffer with nothing.
        let most = if armed.ends_when_empty { 1 } else { BATCH };
        let mut batch = self.expected.min(most);
        while left > 0 && taker.published() > 0 && !received.drained {
            batch = batch.min(left).min(usize::from(taker.published()));
            received.calls += 1;
            match self.call(armed, taker, batch) {
                Err(libc::EINTR) => return received,
                Err(error) => {
                    received.drained = true;
                    received.error = if error == libc::EAGAIN { 0 } else { error };
                }
                Ok(count) => {
                    for at in 0..count {
                        let (result, buffer) = self.finish(armed, taker.peek(at as u16), at);
                        done(result, buffer);
                    }
                    taker.take(count as u16);
                    left -= count;
                    received.drained = count < batch;
                    self.expected = (self.expected + 2 * count).div_ceil(2).clamp(BATCH_FIRST, BATCH);
                    if armed.ends_when_empty && self.messages[0].msg_len == 0 {
                        return received;
                    }
                    batch = most;
                }
            }
        }
        received
    }

    /// One recvmmsg(2) into the next `count` buffers. How many were filled, or an errno.
    fn call(&mut self, armed: &Armed, taker: &Taker, count: usize) -> Result<usize, i32> {
        for at in 0..count {
            self.prepare(armed, taker.peek(at as u16), at);
        }
        let flags = armed.msg_flags | libc::MSG_DONTWAIT;
        // SAFETY: `count` messages are prepared, and point into published buffers, which are the
        // engine's to fill until it reports them.
        let filled = unsafe {
            let messages = self.messages.as_mut_ptr();
            libc::recvmmsg(armed.fd, messages, count as u32, flags as _, ptr::null_mut())
        };
        if filled < 0 { Err(errno()) } else { Ok(filled as usize) }
    }

    /// Points message `at` into a buffer.
    #[inline]
    fn prepare(&mut self, armed: &Armed, buffer: Published, at: usize) {
        let start = buffer.at.as_ptr();
        let or_null = |capacity: u32, offset: u32| match capacity {
            0 => ptr::null_mut(),
            // SAFETY: the parts of a buffer lie in it.
            _ => unsafe { start.add(offset as usize) }.cast::<libc::c_void>(),
        };
        let payload_at = armed.payload_at();
        let part = &mut self.parts[at];
        // SAFETY: as above.
        part.iov_base = unsafe { start.add(payload_at as usize) }.cast();
        part.iov_len = (buffer.length - payload_at) as usize;
        let message = &mut self.messages[at].msg_hdr;
        message.msg_name = or_null(armed.name_capacity, HEADER);
        message.msg_namelen = armed.name_capacity;
        message.msg_iov = part;
        message.msg_iovlen = 1;
        message.msg_control = or_null(armed.control_capacity, HEADER + armed.name_capacity);
        message.msg_controllen = armed.control_capacity as _;
    }

    /// Writes the header of the message that was received into `buffer`. The length of the
    /// whole, and the buffer's number.
    #[inline]
    fn finish(&self, armed: &Armed, buffer: Published, at: usize) -> (i32, u16) {
        let libc::mmsghdr { msg_hdr: message, msg_len } = &self.messages[at];
        let header: [u32; 4] =
            [message.msg_namelen, message.msg_controllen as u32, *msg_len, message.msg_flags as u32];
        // SAFETY: the buffer is the engine's until it is reported, and starts with its header.
        unsafe { buffer.at.as_ptr().cast::<[u32; 4]>().write(header) };
        let payload_at = armed.payload_at();
        ((payload_at + (*msg_len).min(buffer.length - payload_at)) as i32, buffer.buffer)
    }
}
