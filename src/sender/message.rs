//! Messages: `ringmsg_message`, and the three forms of arrays in which they come, seen alike.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};

use super::path::{NO_PATH, Path};

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
    /// Anywhere in the caller's memory, or a held record's in a pool; NULL if it is empty.
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
    /// The caller's; not looked at.
    pub user_data: u64,
    /// With RINGMSG_MESSAGE_TIMESTAMP: comes back with the timestamp, as ee_data, where the
    /// kernel takes SCM_TS_OPT_ID (6.13). Elsewhere ee_data is the socket's own count, which
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

/// The path of messages that have none.
static NONE: Path = NO_PATH;

/// What messages of one train have in common, as a message gives it: nothing of it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Given {
    /// What says which path, equal for equal ones: in the different arrays an address, or an index.
    pub path_key: usize,
    pub shape: Shape,
    pub traits: Traits,
    /// A reserved field.
    pub reserved: u64,
}

/// How long a message is, and of what: two fields that are compared as one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shape(u64);

impl Shape {
    #[inline(always)]
    pub(super) const fn new(length: u32, segment_size: u32) -> Self {
        Self(length as u64 | (segment_size as u64) << 32)
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

impl Given {
    /// Most are: one datagram that asks for nothing, and is not empty.
    #[inline(always)]
    pub(super) fn is_plain(&self) -> bool {
        let Traits { transmit_time_ns, flags, traffic_class } = self.traits;
        let other = u64::from(flags | traffic_class | self.shape.segment_size());
        other | transmit_time_ns | self.reserved == 0 && (self.shape.length() as i32) > 0
    }

    /// Refuses what no socket can be asked: unknown flags, reserved fields, lengths beyond a result.
    pub(super) fn check(mut self) -> Result<Self, i32> {
        let Traits { flags, traffic_class, .. } = &mut self.traits;
        if self.reserved != 0 || *flags & !MESSAGE_ALL != 0 || *traffic_class > u32::from(u8::MAX) {
            return Err(libc::EINVAL);
        }
        if self.shape.length() > i32::MAX as u32 {
            return Err(libc::EMSGSIZE);
        }
        if *flags & RINGMSG_MESSAGE_TRAFFIC_CLASS == 0 {
            *traffic_class = 0;
        }
        Ok(self)
    }
}

/// Messages in a caller's arrays. They are gone through once, in order: for each index there is one
/// call of `skip`, or of `payload` that finds one.
pub(crate) trait Source {
    fn count(&self) -> u32;
    fn given(&self, index: u32) -> Given;
    /// The path that a message's key leads to, if there is one.
    fn path(&self, key: usize) -> Option<*const Path>;
    /// Where the payload is, if it is readable as far as is known.
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8>;
    fn skip(&mut self, index: u32);
    fn result(&self, index: u32) -> i32;
    fn set_result(&mut self, index: u32, result: i32);
    /// Only asked of messages with RINGMSG_MESSAGE_TIMESTAMP.
    fn timestamp_id(&self, index: u32) -> u32;
}

/// An array of messages with pointers.
pub(crate) struct Pointers {
    messages: *mut Message,
    count: u32,
}

impl Pointers {
    /// # Safety
    /// `messages` is readable and writable for `count` elements, each payload and path readable,
    /// for as long as this is used.
    pub(crate) unsafe fn new(messages: *mut Message, count: u32) -> Self {
        Self { messages, count }
    }

    #[inline(always)]
    fn at(&self, index: u32) -> *mut Message {
        debug_assert!(index < self.count);
        // SAFETY: within the array.
        unsafe { self.messages.add(index as usize) }
    }
}

impl Source for Pointers {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn given(&self, index: u32) -> Given {
        // SAFETY: `new` demands it; nothing is written while the reference lives.
        let message = unsafe { &*self.at(index) };
        // The class with the reserved bytes behind it: one word, aligned.
        let class = (&raw const message.traffic_class).cast::<u32>();
        Given {
            path_key: message.path.addr(),
            shape: Shape::new(message.payload_length, message.segment_size),
            traits: Traits {
                transmit_time_ns: message.transmit_time_ns,
                flags: message.flags,
                // SAFETY: four bytes of the message, at a multiple of four.
                traffic_class: u32::from_le(unsafe { class.read() }),
            },
            reserved: message.reserved,
        }
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8> {
        // SAFETY: `new` demands it.
        let payload = unsafe { (*self.at(index)).payload };
        (!payload.is_null() || length == 0).then_some(payload.cast())
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        Some(if key == 0 { &raw const NONE } else { std::ptr::with_exposed_provenance(key) })
    }

    #[inline(always)]
    fn skip(&mut self, _: u32) {}

    #[inline(always)]
    fn result(&self, index: u32) -> i32 {
        // SAFETY: `new` demands it.
        unsafe { (*self.at(index)).result }
    }

    #[inline(always)]
    fn set_result(&mut self, index: u32, result: i32) {
        // SAFETY: `new` demands it.
        unsafe { (*self.at(index)).result = result }
    }

    fn timestamp_id(&self, index: u32) -> u32 {
        // SAFETY: `new` demands it.
        unsafe { (*self.at(index)).timestamp_id }
    }
}

/// What says that there is no path, in place of its index.
const NO_INDEX: u64 = u64::MAX;

/// Where offsets and path indexes lead.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    payloads: *const u8,
    length: u64,
    paths: *const Path,
    path_count: u32,
}

impl Base {
    /// # Safety
    /// `payloads` is readable for `length` bytes and `paths` for `path_count` elements, for as
    /// long as this is used.
    pub(crate) unsafe fn new(
        payloads: *const u8,
        length: usize,
        paths: *const Path,
        path_count: u32,
    ) -> Self {
        Self { payloads, length: length as u64, paths, path_count }
    }

    #[inline(always)]
    fn payload(&self, offset: u64, length: u32) -> Option<*const u8> {
        let end = offset.checked_add(u64::from(length))?;
        // SAFETY: it stays within what `new` demands.
        (end <= self.length).then(|| unsafe { self.payloads.add(offset as usize) })
    }

    #[inline(always)]
    fn path(&self, index: u64) -> Option<*const Path> {
        if index < u64::from(self.path_count) {
            // SAFETY: within what `new` demands.
            return Some(unsafe { self.paths.add(index as usize) });
        }
        (index == NO_INDEX).then_some(&raw const NONE)
    }
}

/// An array of messages with offsets and indexes for pointers.
pub(crate) struct Offsets {
    messages: Pointers,
    base: Base,
}

impl Offsets {
    pub(crate) fn new(messages: Pointers, base: Base) -> Self {
        Self { messages, base }
    }
}

impl Source for Offsets {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.messages.count
    }

    #[inline(always)]
    fn given(&self, index: u32) -> Given {
        self.messages.given(index)
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8> {
        // SAFETY: `Pointers::new` demands it.
        let offset = unsafe { (*self.messages.at(index)).payload.addr() as u64 };
        self.base.payload(offset, length)
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        self.base.path(key as u64)
    }

    #[inline(always)]
    fn skip(&mut self, _: u32) {}

    #[inline(always)]
    fn result(&self, index: u32) -> i32 {
        self.messages.result(index)
    }

    #[inline(always)]
    fn set_result(&mut self, index: u32, result: i32) {
        self.messages.set_result(index, result);
    }

    fn timestamp_id(&self, index: u32) -> u32 {
        self.messages.timestamp_id(index)
    }
}

/// One array for each field.
pub(crate) struct Columns {
    pub base: Base,
    pub count: u32,
    /// NULL: payloads lie back to back.
    pub offsets: *const u64,
    pub lengths: *const u32,
    /// NULL: path i for message i.
    pub path_index: *const u32,
    pub results: *mut i32,
    /// Where the next payload starts when they lie back to back.
    pub back_to_back: u64,
}

impl Columns {
    #[inline(always)]
    fn length(&self, index: u32) -> u32 {
        debug_assert!(index < self.count);
        // SAFETY: whoever made this promises arrays of `count` elements.
        unsafe { *self.lengths.add(index as usize) }
    }

    #[inline(always)]
    fn offset(&self, index: u32) -> u64 {
        if self.offsets.is_null() {
            return self.back_to_back;
        }
        // SAFETY: as above.
        unsafe { *self.offsets.add(index as usize) }
    }

    /// The index of its path, or NO_INDEX.
    #[inline(always)]
    fn path_index(&self, index: u32) -> u64 {
        if self.base.paths.is_null() {
            return NO_INDEX;
        }
        if self.path_index.is_null() {
            return u64::from(index);
        }
        // SAFETY: as above.
        let chosen = unsafe { *self.path_index.add(index as usize) };
        if chosen == u32::MAX { NO_INDEX } else { u64::from(chosen) }
    }
}

impl Source for Columns {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn given(&self, index: u32) -> Given {
        Given {
            path_key: self.path_index(index) as usize,
            shape: Shape::new(self.length(index), 0),
            traits: Traits::default(),
            reserved: 0,
        }
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8> {
        let payload = self.base.payload(self.offset(index), length)?;
        self.back_to_back += u64::from(length);
        Some(payload)
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        self.base.path(key as u64)
    }

    #[inline(always)]
    fn skip(&mut self, index: u32) {
        self.back_to_back += u64::from(self.length(index));
    }

    #[inline(always)]
    fn result(&self, index: u32) -> i32 {
        debug_assert!(index < self.count);
        // SAFETY: whoever made this promises arrays of `count` elements.
        unsafe { *self.results.add(index as usize) }
    }

    #[inline(always)]
    fn set_result(&mut self, index: u32, result: i32) {
        debug_assert!(index < self.count);
        // SAFETY: as above.
        unsafe { *self.results.add(index as usize) = result }
    }

    fn timestamp_id(&self, _: u32) -> u32 {
        0
    }
}
