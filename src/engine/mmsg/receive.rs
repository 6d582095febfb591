//! The system calls that receive: recvmsg(2) for single-shots, recvmmsg(2) into published
//! buffers for multishots, with the layout that io_uring would give them.

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::ptr;

use crate::engine::Receive;
use crate::error::Result;
use crate::ids::{BufferId, PoolId};
use crate::layout::HEADER;
use crate::pool::buffer_ring::{Consumer, Published};
use crate::sys::errno;
use crate::sys::memory::{try_slice, try_vec};

/// Datagrams in one system call.
const BATCH: usize = 64;
/// The first batch of a socket that was quiet: preparing a message has a cost, too.
const BATCH_FIRST: usize = 8;

/// A request that is to receive.
pub(super) struct Armed {
    /// Its socket's number in the interest list.
    pub socket: u32,
    fd: RawFd,
    /// A single-shot's.
    message: *mut libc::msghdr,
    /// For MSG_WAITALL: the parts that are still to be filled, and the bytes received so far.
    rest: Option<(VecDeque<libc::iovec>, usize)>,
    msg_flags: i32,
    pub pool: Option<PoolId>,
    pub ends_when_empty: bool,
    capacities: Capacities,
}

/// Room for name and control messages in a buffer, as a multishot's msghdr says.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Capacities {
    name: u32,
    control: u32,
}

impl Capacities {
    #[inline]
    fn payload_at(self) -> u32 {
        HEADER + self.name + self.control
    }
}

// SAFETY: the message belongs to the request, and is only followed while that is armed.
unsafe impl Send for Armed {}

impl Armed {
    pub(super) fn new(receive: &Receive) -> Result<Self> {
        let mut capacities = Capacities { name: 0, control: 0 };
        if receive.pool.is_some() {
            // SAFETY: a request's msghdr is there while it is armed.
            let message = unsafe { &*receive.message };
            capacities = Capacities { name: message.msg_namelen, control: message.msg_controllen as u32 };
        }
        #[allow(clippy::unnecessary_cast)] // size_t, or int with another C library
        // SAFETY: as above.
        let (parts, count, has_control) = unsafe {
            let message = &*receive.message;
            (message.msg_iov, message.msg_iovlen as usize, message.msg_controllen > 0)
        };
        // io_uring takes what is there when there is room for control messages. The kernel refuses
        // more parts without reading them.
        let is_whole =
            receive.waits_for_all && !has_control && (1..=libc::UIO_MAXIOV as usize).contains(&count);
        // SAFETY: as above, and the message says how many parts there are.
        let parts = || unsafe { std::slice::from_raw_parts(parts, count) };
        let mut rest = None;
        if is_whole {
            let mut left = try_vec(count)?;
            left.extend_from_slice(parts());
            rest = Some((left.into(), 0));
        }
        Ok(Self {
            socket: 0,
            fd: receive.fd,
            message: receive.message,
            rest,
            msg_flags: receive.msg_flags as i32,
            pool: receive.pool,
            ends_when_empty: receive.ends_when_empty,
            capacities,
        })
    }

    /// A request that waits until the socket `fd` takes data, and receives nothing.
    pub(super) fn writer(fd: RawFd, socket: u32) -> Self {
        Self {
            socket,
            fd,
            message: ptr::null_mut(),
            rest: None,
            msg_flags: 0,
            pool: None,
            ends_when_empty: false,
            capacities: Capacities { name: 0, control: 0 },
        }
    }

    /// The result when it is cancelled: bytes that it has taken off a stream are not lost.
    pub(super) fn cancelled(&self) -> i32 {
        let done = self.rest.as_ref().map_or(0, |(_, done)| *done);
        cut_short(done).unwrap_or(-libc::ECANCELED)
    }

    /// Whether a single-shot with this result goes on waiting: not if the caller asked for
    /// MSG_DONTWAIT.
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
    // SAFETY: the caller of ringmsg_recvmsg() keeps the msghdr, and all it points to, until the
    // completion; the kernel answers -EFAULT for memory that is not mapped.
    match unsafe { libc::recvmsg(fd, message, msg_flags | libc::MSG_DONTWAIT) } {
        -1 => -errno(),
        bytes => bytes as i32,
    }
}

/// recvmsg(2) until every part is full, or the stream ends. There is no room for control messages.
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
            return cut_short(*done).unwrap_or(result);
        }
        *done += result as usize;
        // SAFETY: as in `recvmsg`.
        unsafe {
            (*theirs).msg_flags = message.msg_flags;
            (*theirs).msg_namelen = message.msg_namelen;
        }
        skip(parts, result as usize);
        if parts.is_empty() {
            return *done as i32;
        }
    }
}

/// The result of a MSG_WAITALL request that ends early: the bytes that it has.
fn cut_short(done: usize) -> Option<i32> {
    (done > 0).then_some(done as i32)
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

/// The arrays that recvmmsg(2) works on. Messages that one call prepared, and for which no datagram
/// came, serve the next call.
pub(super) struct Batch {
    messages: Box<[libc::mmsghdr]>,
    parts: Box<[libc::iovec]>,
    /// The first message that is not used up, and how many from there on already point into the
    /// next buffers of the pool.
    first: usize,
    prepared: usize,
    prepared_for: (Option<PoolId>, Capacities),
    /// How many datagrams to expect: a running mean of the last batches.
    expected: usize,
}

// SAFETY: the pointers in there are only followed by the kernel, in calls under the engine's lock.
unsafe impl Send for Batch {}

/// The outcome of a receive.
pub(super) struct Received {
    pub calls: u64,
    /// The socket is empty, or has failed.
    pub drained: bool,
    /// 0, or the errno it failed with.
    pub error: i32,
}

impl Batch {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: all-zero is a valid mmsghdr.
        let message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Ok(Self {
            messages: try_slice(2 * BATCH, || message)?,
            parts: try_slice(2 * BATCH, || part)?,
            first: 0,
            prepared: 0,
            prepared_for: (None, Capacities { name: 0, control: 0 }),
            expected: BATCH_FIRST,
        })
    }

    /// Discards prepared messages: a pool on which nothing was armed has taken its buffers back, so
    /// the next ones may be others.
    pub(super) fn invalidate(&mut self) {
        self.prepared = 0;
    }

    /// Fills published buffers with what the socket has, at most BATCH and `room` of them. Calls
    /// `done` for each with the length of its content, its number, and whether it ends the request:
    /// then it is the last one.
    pub(super) fn receive(
        &mut self,
        armed: &Armed,
        consumer: &mut Consumer,
        room: u32,
        mut done: impl FnMut(i32, BufferId, bool),
    ) -> Received {
        let mut received = Received { calls: 0, drained: false, error: 0 };
        let mut left = BATCH.min(room as usize);
        // At its end a stream would fill every buffer with a message of no bytes.
        let most = if armed.ends_when_empty { 1 } else { BATCH };
        let mut batch = self.expected.min(most);
        while left > 0 && consumer.published() > 0 && !received.drained {
            batch = batch.min(left).min(usize::from(consumer.published()));
            received.calls += 1;
            match self.call(armed, consumer, batch) {
                Err(libc::EINTR) => return received,
                Err(error) => {
                    received.drained = true;
                    received.error = if error == libc::EAGAIN { 0 } else { error };
                }
                Ok(count) => {
                    let messages = &self.messages[self.first..][..count];
                    let mut over = false;
                    for (message, buffer) in messages.iter().zip(consumer.ahead(0, count)) {
                        over = armed.ends_when_empty && message.msg_len == 0;
                        done(finish(message, armed.capacities, buffer), buffer.buffer, over);
                    }
                    consumer.take(count as u16);
                    self.first += count;
                    self.prepared -= count;
                    left -= count;
                    received.drained = count < batch;
                    self.expected = (self.expected + 2 * count).div_ceil(2).clamp(BATCH_FIRST, BATCH);
                    if over {
                        return received;
                    }
                    batch = most;
                }
            }
        }
        received
    }

    /// One recvmmsg(2) into the next `count` buffers. Returns how many were filled, or an errno.
    fn call(&mut self, armed: &Armed, consumer: &Consumer, count: usize) -> std::result::Result<usize, i32> {
        if self.prepared_for != (armed.pool, armed.capacities) || self.first + count > self.messages.len() {
            (self.first, self.prepared) = (0, 0);
            self.prepared_for = (armed.pool, armed.capacities);
        }
        let messages = &mut self.messages[self.first..][..count];
        let missing = self.prepared..count;
        if !missing.is_empty() {
            let places =
                messages[missing.clone()].iter_mut().zip(&mut self.parts[self.first + missing.start..]);
            for ((message, part), buffer) in places.zip(consumer.ahead(missing.start, missing.end)) {
                prepare(&mut message.msg_hdr, part, armed.capacities, buffer);
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
fn prepare(message: &mut libc::msghdr, part: &mut libc::iovec, capacities: Capacities, buffer: Published) {
    let start = buffer.at.as_ptr();
    let or_null = |capacity: u32, offset: u32| match capacity {
        0 => ptr::null_mut(),
        // SAFETY: the parts of a buffer lie in it.
        _ => unsafe { start.add(offset as usize) }.cast::<libc::c_void>(),
    };
    // SAFETY: as above.
    part.iov_base = unsafe { start.add(capacities.payload_at() as usize) }.cast();
    part.iov_len = (buffer.length - capacities.payload_at()) as usize;
    message.msg_name = or_null(capacities.name, HEADER);
    message.msg_namelen = capacities.name;
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = or_null(capacities.control, HEADER + capacities.name);
    message.msg_controllen = capacities.control as _;
}

/// Writes the header of a received message into its buffer. Returns the length of the content.
#[inline]
fn finish(received: &libc::mmsghdr, capacities: Capacities, buffer: Published) -> i32 {
    let libc::mmsghdr { msg_hdr: message, msg_len } = received;
    let header: [u32; 4] =
        [message.msg_namelen, message.msg_controllen as u32, *msg_len, message.msg_flags as u32];
    // SAFETY: the buffer is the engine's until it is reported, and starts with its header.
    unsafe { buffer.at.as_ptr().cast::<[u32; 4]>().write(header) };
    (capacities.payload_at() + (*msg_len).min(buffer.length - capacities.payload_at())) as i32
}
