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
    form: Form,
}

/// Where what is received goes in a buffer, as a multishot's msghdr says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Form {
    name_capacity: u32,
    control_capacity: u32,
}

impl Form {
    #[inline]
    fn payload_at(self) -> u32 {
        HEADER + self.name_capacity + self.control_capacity
    }
}

// SAFETY: the message belongs to the request, and is only followed while that is armed.
unsafe impl Send for Armed {}

impl Armed {
    pub(super) fn new(receive: &Receive, watch: u32) -> Self {
        let mut form = Form { name_capacity: 0, control_capacity: 0 };
        if receive.pool.is_some() {
            // SAFETY: a request's msghdr is there while it is armed.
            let message = unsafe { &*receive.message };
            form =
                Form { name_capacity: message.msg_namelen, control_capacity: message.msg_controllen as u32 };
        }
        #[allow(clippy::unnecessary_cast)] // size_t, or int with another C library
        // SAFETY: as above.
        let (parts, count) = unsafe { ((*receive.message).msg_iov, (*receive.message).msg_iovlen as usize) };
        // As many as the kernel takes: it refuses more without reading them.
        let is_whole = receive.waits_for_all && (1..=libc::UIO_MAXIOV as usize).contains(&count);
        // SAFETY: as above, and the message says how many parts there are.
        let parts = || unsafe { std::slice::from_raw_parts(parts, count) };
        Self {
            watch,
            fd: receive.fd,
            message: receive.message,
            rest: is_whole.then(|| (parts().iter().copied().collect(), 0)),
            msg_flags: receive.msg_flags as i32,
            pool: receive.pool,
            ends_when_empty: receive.ends_when_empty,
            form,
        }
    }

    /// Where payloads start in this request's buffers.
    pub(super) fn payload_at(&self) -> u32 {
        self.form.payload_at()
    }

    /// The result of one that is cancelled: bytes that it has taken off a stream are not lost.
    pub(super) fn cancelled(&self) -> i32 {
        let done = self.rest.as_ref().map_or(0, |(_, done)| *done);
        cut_short(self.message, done).unwrap_or(-libc::ECANCELED)
    }

    /// Whether a single-shot with this result goes on waiting. The caller's own MSG_DONTWAIT
    /// means what it says.
    pub(super) fn would_wait(&self, result: i32) -> bool {
        result == -libc::EAGAIN && self.msg_flags & libc::MSG_DONTWAIT == 0
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
        if result == -libc::EINTR || (result == -libc::EAGAIN && flags & libc::MSG_DONTWAIT == 0) {
            return result;
        }
        if result <= 0 {
            return cut_short(theirs, *done).unwrap_or(result);
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

/// What one that waits for all comes to when it ends before: what it has. Control messages would have ended it.
fn cut_short(theirs: *mut libc::msghdr, done: usize) -> Option<i32> {
    (done > 0).then(|| {
        // SAFETY: as in `recvmsg`.
        unsafe { (*theirs).msg_controllen = 0 };
        done as i32
    })
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

/// The arrays that recvmmsg(2) works on. What one call prepared and had no datagram for is left for the next.
pub(super) struct Batch {
    messages: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    /// The first message that is not used up, and how many from there on point into the next
    /// buffers of a pool.
    first: usize,
    prepared: usize,
    prepared_for: (Option<u16>, Form),
    /// How many datagrams came together of late.
    expected: usize,
}

// SAFETY: the pointers in there are only followed by the kernel, in calls under the engine's lock.
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
        Self {
            messages: [message; 2 * BATCH].into(),
            parts: [part; 2 * BATCH].into(),
            first: 0,
            prepared: 0,
            prepared_for: (None, Form { name_capacity: 0, control_capacity: 0 }),
            expected: BATCH_FIRST,
        }
    }

    /// The next buffers of a pool may not be those they were: while nothing is armed it takes buffers back.
    pub(super) fn forget(&mut self) {
        self.prepared = 0;
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
                    let messages = &self.messages[self.first..][..count];
                    let mut empty = false;
                    for (message, buffer) in messages.iter().zip(taker.ahead(0, count)) {
                        empty = message.msg_len == 0;
                        done(finish(message, armed.form, buffer), buffer.buffer);
                    }
                    taker.take(count as u16);
                    self.first += count;
                    self.prepared -= count;
                    left -= count;
                    received.drained = count < batch;
                    self.expected = (self.expected + 2 * count).div_ceil(2).clamp(BATCH_FIRST, BATCH);
                    if armed.ends_when_empty && empty {
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
        if self.prepared_for != (armed.pool, armed.form) || self.first + count > self.messages.len() {
            (self.first, self.prepared) = (0, 0);
            self.prepared_for = (armed.pool, armed.form);
        }
        let messages = &mut self.messages[self.first..][..count];
        let missing = self.prepared..count;
        if !missing.is_empty() {
            let places =
                messages[missing.clone()].iter_mut().zip(&mut self.parts[self.first + missing.start..]);
            for ((message, part), buffer) in places.zip(taker.ahead(missing.start, missing.end)) {
                prepare(&mut message.msg_hdr, part, armed.form, buffer);
            }
            self.prepared = count;
        }
        let flags = armed.msg_flags | libc::MSG_DONTWAIT;
        // SAFETY: `count` messages are prepared, and point into published buffers, which are the
        // engine's to fill until it reports them.
        let filled = unsafe {
            let messages = messages.as_mut_ptr();
            libc::recvmmsg(armed.fd, messages, count as u32, flags as _, ptr::null_mut())
        };
        if filled < 0 { Err(errno()) } else { Ok(filled as usize) }
    }
}

/// Points a message into a buffer.
#[inline]
fn prepare(message: &mut libc::msghdr, part: &mut libc::iovec, form: Form, buffer: Published) {
    let start = buffer.at.as_ptr();
    let or_null = |capacity: u32, offset: u32| match capacity {
        0 => ptr::null_mut(),
        // SAFETY: the parts of a buffer lie in it.
        _ => unsafe { start.add(offset as usize) }.cast::<libc::c_void>(),
    };
    // SAFETY: as above.
    part.iov_base = unsafe { start.add(form.payload_at() as usize) }.cast();
    part.iov_len = (buffer.length - form.payload_at()) as usize;
    message.msg_name = or_null(form.name_capacity, HEADER);
    message.msg_namelen = form.name_capacity;
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = or_null(form.control_capacity, HEADER + form.name_capacity);
    message.msg_controllen = form.control_capacity as _;
}

/// Writes the header of the message that was received into its buffer. The length of the whole.
#[inline]
fn finish(received: &libc::mmsghdr, form: Form, buffer: Published) -> i32 {
    let libc::mmsghdr { msg_hdr: message, msg_len } = received;
    let header: [u32; 4] =
        [message.msg_namelen, message.msg_controllen as u32, *msg_len, message.msg_flags as u32];
    // SAFETY: the buffer is the engine's until it is reported, and starts with its header.
    unsafe { buffer.at.as_ptr().cast::<[u32; 4]>().write(header) };
    (form.payload_at() + (*msg_len).min(buffer.length - form.payload_at())) as i32
}
