//! Receiving without a ring: recvmmsg(2) into memory of the caller, with the records that a ring
//! would give. No state: a call depends on its arguments and on the socket alone.

use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use crate::control;
use crate::error::{Error, Result, describe};
use crate::layout::{Header, Layout, Split};
use crate::reaper::Output;
use crate::record::*;
use crate::socket;

/// Messages in one system call. Their headers lie on the stack: 5 KiB.
const BATCH: usize = 64;
/// More buffers than this are not used in one call: records have 16 bits for the buffer's number.
const BUFFERS_USED: usize = 1 << 16;

/// The parameters of a call: where messages go, and how they are handed out.
pub(crate) struct Receive<'a> {
    pub fd: RawFd,
    pub slab: &'a mut [u8],
    pub layout: Layout,
    pub split: bool,
}

impl Receive<'_> {
    /// Fills the slab with the messages that the socket holds, and `out` with their records. How
    /// many records that are; EAGAIN if there is nothing.
    pub(crate) fn run(mut self, out: &mut Output<'_>) -> Result<usize> {
        let kind = socket::type_of(self.fd)?;
        if kind == libc::SOCK_STREAM {
            // recvmmsg(2) would cut the stream into pieces, and MSG_TRUNC discard them on TCP.
            return Err(Error::new(libc::EOPNOTSUPP, "receive: a stream has no messages; use recv(2)"));
        }
        let buffers = (self.layout.buffers as usize).min(BUFFERS_USED);
        let mut used = 0;
        // Each message takes a record at least.
        while used < buffers && out.room() > 0 {
            let asked = BATCH.min(buffers - used).min(out.room());
            match self.batch(used, asked, kind == libc::SOCK_SEQPACKET, out) {
                Ok(count) => {
                    used += count;
                    if count < asked {
                        break;
                    }
                }
                Err(error) if used > 0 => {
                    // The socket no longer has the error, and there is data to return.
                    if error.errno() != libc::EAGAIN {
                        out.push(&error_record(error.errno()), &Metadata::NONE);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(out.filled())
    }

    /// One recvmmsg(2) into the `asked` buffers from `first` on. How many messages came.
    fn batch(&mut self, first: usize, asked: usize, ends: bool, out: &mut Output<'_>) -> Result<usize> {
        let mut parts = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        for (index, (message, part)) in messages.iter_mut().zip(&mut parts).take(asked).enumerate() {
            message.write(self.prepare(first + index, part));
        }
        // Descriptors that come along are the caller's, who has no other way to ask for this.
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: `asked` messages are prepared. They point into the slab, which is borrowed, and
        // to `parts`.
        let came = unsafe {
            libc::recvmmsg(
                self.fd,
                messages.as_mut_ptr().cast(),
                asked as u32,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let mut count = match came {
            0.. => came as usize,
            _ => return Err(failure(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))),
        };
        // SAFETY: the first `asked` were written, and the kernel reports no more.
        let messages =
            unsafe { std::slice::from_raw_parts(messages.as_ptr().cast::<libc::mmsghdr>(), count) };
        if ends {
            // A seqpacket socket at its end gives an empty message for every buffer; one is enough.
            let data = messages.iter().rposition(|message| message.msg_len > 0).map_or(0, |last| last + 1);
            count = count.min(data + 1);
        }
        for (index, message) in messages[..count].iter().enumerate() {
            self.hand_out(first + index, message, count - 1 - index, out);
        }
        Ok(count)
    }

    /// A message header that points into buffer `index`.
    fn prepare(&mut self, index: usize, part: &mut MaybeUninit<libc::iovec>) -> libc::mmsghdr {
        let layout = self.layout;
        let (name_at, control_at, payload_at) = layout.parts();
        let buffer = self.buffer(index);
        let mut at = |offset: u32, capacity: u32| match capacity {
            0 => std::ptr::null_mut(),
            _ => buffer[offset as usize..].as_mut_ptr().cast::<libc::c_void>(),
        };
        let (name, control) = (at(name_at, layout.name_capacity), at(control_at, layout.control_capacity));
        let payload = at(payload_at, layout.payload_capacity);
        let part = part.write(libc::iovec { iov_base: payload, iov_len: layout.payload_capacity as usize });
        // SAFETY: all-zero is a valid mmsghdr. (It has padding with other C libraries.)
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_name = name;
        message.msg_hdr.msg_namelen = layout.name_capacity;
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_control = control;
        message.msg_hdr.msg_controllen = layout.control_capacity as _;
        message
    }

    /// Writes the records of one message, of which there is room for one and for `others` more.
    fn hand_out(&mut self, index: usize, message: &libc::mmsghdr, others: usize, out: &mut Output<'_>) {
        let layout = self.layout;
        let (name_at, control_at, payload_at) = layout.parts();
        let start = index as u32 * layout.stride;
        let libc::mmsghdr { msg_hdr, msg_len } = message;
        let header = Header {
            name: msg_hdr.msg_namelen,
            control: msg_hdr.msg_controllen as u32,
            payload: *msg_len,
            flags: msg_hdr.msg_flags as u32,
        };
        let whole = payload_at + (*msg_len).min(layout.payload_capacity);
        let mut record = layout.record(start, header, whole);
        record.flags &= !RINGMSG_RECORD_BUFFER; // nothing is to be released
        record.pool = RINGMSG_POOL_NONE;
        record.buffer = index as u16;
        let (name, control) = (record.name_length as usize, record.control_length as usize);
        let buffer = self.buffer(index);
        buffer[..size_of::<Header>()].copy_from_slice(&header.to_bytes());
        let (before, behind) = buffer.split_at_mut(control_at as usize);
        let mut metadata = Metadata::NONE;
        record.segment_size = control::read_message(
            &before[name_at as usize..][..name],
            &mut behind[..control],
            out.wants_metadata().then_some(&mut metadata),
        );
        let split = if self.split { Split::of(&record) } else { None };
        match split.filter(|split| split.records as usize + others <= out.room()) {
            Some(split) => {
                let last = split.records - 1;
                out.push_segments(&split.segment(&record, 0), &metadata, last as usize);
                out.push(&split.segment(&record, last), &metadata);
            }
            None => out.push(&record, &metadata),
        }
    }

    fn buffer(&mut self, index: usize) -> &mut [u8] {
        let stride = self.layout.stride as usize;
        &mut self.slab[index * stride..][..stride]
    }
}

/// As a reap hands out an error.
#[cold]
fn error_record(errno: i32) -> Record {
    Record { result: -errno, pool: RINGMSG_POOL_NONE, segments: 1, ..Record::default() }
}

/// An error of recvmmsg(2). Allocates nothing: a peer can cause these by the thousand.
#[cold]
fn failure(errno: i32) -> Error {
    match errno {
        libc::EAGAIN => Error::new(errno, "receive: the socket holds no message now"),
        _ => Error::new(errno, describe(errno)),
    }
}
