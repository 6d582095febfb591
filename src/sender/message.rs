//! Messages: `ringmsg_message`, and what sending needs to know of one, whichever array it is in.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

use super::path::Path;

/// Never in a train with other messages.
pub const RINGMSG_MESSAGE_ALONE: u32 = 1u32 << 0;
/// Ask for a transmit timestamp. Implies RINGMSG_MESSAGE_ALONE.
pub const RINGMSG_MESSAGE_TIMESTAMP: u32 = 1u32 << 1;
/// The message's own traffic_class applies, not the path's.
pub const RINGMSG_MESSAGE_TRAFFIC_CLASS: u32 = 1u32 << 2;

const MESSAGE_ALL: u32 = (1 << 3) - 1;

/// One datagram to send, or one train of them: 64 bytes. In ringmsg_send_from() `payload` is
/// an offset from the base and `path` an index into the paths, both read as uint64_t.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Message {
    /// The payload, anywhere in the caller's memory, or in a pool while its record is held; NULL if
    /// it is empty.
    pub payload: *const c_void,
    /// NULL: the connected peer, and the socket's own settings.
    pub path: *const Path,
    /// Bytes of payload.
    pub payload_length: u32,
    /// 0: one datagram, whatever the socket's own UDP_SEGMENT says; else datagrams of this size,
    /// of which the last may be shorter.
    pub segment_size: u32,
    /// RINGMSG_MESSAGE_*
    pub flags: u32,
    /// Out: payload bytes that the socket took, or -errno.
    pub result: i32,
    /// When to send it, in the sender's transmit clock (SO_TXTIME), ns; 0: now.
    pub transmit_time_ns: u64,
    /// For the caller; the library does not read it.
    pub user_data: u64,
    /// With RINGMSG_MESSAGE_TIMESTAMP: comes back as error_data in the timestamp's metadata, from
    /// Linux 6.13 on (SCM_TS_OPT_ID). On older kernels error_data is the socket's own count, which
    /// refused sends and other users of the socket advance.
    pub timestamp_id: u32,
    /// With RINGMSG_MESSAGE_TRAFFIC_CLASS: TOS byte or traffic class, ECN included.
    pub traffic_class: u8,
    /// 0
    pub reserved8: [u8; 3],
    /// 0
    pub reserved: u64,
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("struct ringmsg_message holds two pointers in 16 bytes: 64-bit systems only");

const _: () = {
    assert!(size_of::<Message>() == 64);
    assert!(offset_of!(Message, payload) == 0 && offset_of!(Message, path) == 8);
    assert!(offset_of!(Message, payload_length) == 16 && offset_of!(Message, segment_size) == 20);
    assert!(offset_of!(Message, flags) == 24 && offset_of!(Message, result) == 28);
    assert!(offset_of!(Message, transmit_time_ns) == 32 && offset_of!(Message, user_data) == 40);
    assert!(offset_of!(Message, timestamp_id) == 48 && offset_of!(Message, traffic_class) == 52);
    assert!(offset_of!(Message, reserved8) == 53 && offset_of!(Message, reserved) == 56);
};

#[cfg(not(target_endian = "little"))]
compile_error!("messages and paths are read by words whose first field is the lower half");

/// How long a message is, and of what: two fields that are compared as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape(u64);

impl Shape {
    #[inline(always)]
    pub(super) const fn new(length: u32, segment_size: u32) -> Self {
        Self(length as u64 | (segment_size as u64) << 32)
    }

    /// Both fields as they lie in a message.
    #[inline(always)]
    pub(super) const fn of_word(word: u64) -> Self {
        Self(word)
    }

    /// Bytes of payload.
    #[inline(always)]
    pub(super) const fn length(self) -> u32 {
        self.0 as u32
    }

    /// Bytes of each of its datagrams but the last; 0: it is one datagram.
    #[inline(always)]
    pub(super) const fn segment_size(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline(always)]
    pub(super) const fn is_train(self) -> bool {
        self.segment_size() != 0 && self.segment_size() < self.length()
    }
}

/// What messages of one train have in common beside path and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    pub transmit_time_ns: u64,
    /// RINGMSG_MESSAGE_*
    pub flags: u32,
    /// The byte, and reserved ones behind it. In checked ones 0 where the flags do not say that it
    /// applies.
    pub traffic_class: u32,
}

impl Traits {
    /// It asks for nothing.
    #[inline(always)]
    pub(super) const fn is_plain(&self) -> bool {
        self.transmit_time_ns | self.flags as u64 | self.traffic_class as u64 == 0
    }
}

/// Messages in a caller's arrays. They are gone through once, in order: for each index there is one
/// call of `skip`, or of `payload` or `empty_payload` that finds one.
pub(crate) trait Source {
    /// No message asks for anything, so that no group does.
    const ALL_PLAIN: bool = false;

    fn count(&self) -> u32;
    /// What says which path, equal for equal ones: in the different arrays an address, or an index.
    fn path_key(&self, index: u32) -> usize;
    /// The path that a key leads to, if there is one.
    fn path(&self, key: usize) -> Option<*const Path>;
    /// The key says that the message has no path.
    fn is_none(&self, key: usize) -> bool;
    fn shape(&self, index: u32) -> Shape;
    /// As they are given: nothing is checked.
    fn traits(&self, index: u32) -> Traits;
    /// A field that must be 0.
    fn reserved(&self, index: u32) -> u64;
    /// Most messages are plain: one datagram that asks for nothing. (It may be empty or too long.)
    #[inline(always)]
    fn is_plain(&self, index: u32) -> bool {
        let Traits { transmit_time_ns, flags, traffic_class } = self.traits(index);
        let other = u64::from(flags | traffic_class | self.shape(index).segment_size());
        other | transmit_time_ns | self.reserved(index) == 0
    }

    /// The traits of a message that a socket can be asked for; else the errno of unknown flags,
    /// reserved fields, and lengths beyond a result.
    fn check(&self, index: u32) -> Result<Traits, i32> {
        let mut traits = self.traits(index);
        let is_class = traits.traffic_class <= u32::from(u8::MAX);
        if self.reserved(index) != 0 || traits.flags & !MESSAGE_ALL != 0 || !is_class {
            return Err(libc::EINVAL);
        }
        if self.shape(index).length() > i32::MAX as u32 {
            return Err(libc::EMSGSIZE);
        }
        if traits.flags & RINGMSG_MESSAGE_TRAFFIC_CLASS == 0 {
            traits.traffic_class = 0;
        }
        Ok(traits)
    }

    /// Where a payload of this length, not 0, is, if it is readable as far as is known.
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8>;
    /// The same of an empty message.
    fn empty_payload(&mut self, index: u32) -> Option<*const u8>;
    fn skip(&mut self, index: u32);
    fn result(&self, index: u32) -> i32;
    fn set_result(&mut self, index: u32, result: i32);
    /// Only asked of messages with RINGMSG_MESSAGE_TIMESTAMP.
    fn timestamp_id(&self, index: u32) -> u32;
}
