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

/// What grouping needs of a message, whichever array it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub payload: *const u8,
    pub length: u32,
    /// As the caller gave it; 0: one datagram.
    pub segment_size: u32,
    pub traits: Traits,
    pub path: *const Path,
}

/// What messages of one train have in common beside path and length.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traits {
    pub transmit_time_ns: u64,
    /// RINGMSG_MESSAGE_*
    pub flags: u32,
    /// 0 where the flags do not say that it applies.
    pub traffic_class: u32,
}

impl Item {
    #[inline(always)]
    pub(super) fn is_train(&self) -> bool {
        self.segment_size != 0 && self.segment_size < self.length
    }
}

/// Messages in a caller's arrays. `item` or `skip` is called once for each index, in order.
pub(crate) trait Source {
    fn count(&self) -> u32;
    /// The message, or the errno that is its result.
    fn item(&mut self, index: u32) -> Result<Item, i32>;
    fn skip(&mut self, index: u32);
    fn result(&self, index: u32) -> i32;
    fn set_result(&mut self, index: u32, result: i32);
    /// Only asked of messages with RINGMSG_MESSAGE_TIMESTAMP.
    fn timestamp_id(&self, index: u32) -> u32;
}

/// Refuses what no socket can be asked: unknown flags, reserved fields, lengths beyond a result.
#[inline(always)]
fn check(message: &Message) -> Result<(), i32> {
    let [a, b, c] = message.reserved8;
    let unknown = message.flags & !MESSAGE_ALL;
    if u64::from(unknown | u32::from(a | b | c)) | message.reserved != 0 {
        return Err(libc::EINVAL);
    }
    if message.payload_length > i32::MAX as u32 { Err(libc::EMSGSIZE) } else { Ok(()) }
}

#[inline(always)]
fn item(message: &Message, payload: *const u8, path: *const Path) -> Item {
    let own_class = message.flags & RINGMSG_MESSAGE_TRAFFIC_CLASS != 0;
    Item {
        payload,
        length: message.payload_length,
        segment_size: message.segment_size,
        traits: Traits {
            transmit_time_ns: message.transmit_time_ns,
            flags: message.flags,
            traffic_class: if own_class { u32::from(message.traffic_class) } else { 0 },
        },
        path,
    }
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
    fn item(&mut self, index: u32) -> Result<Item, i32> {
        // SAFETY: `new` demands it; nothing is written while the reference lives.
        let message = unsafe { &*self.at(index) };
        check(message)?;
        if message.payload.is_null() && message.payload_length != 0 {
            return Err(libc::EFAULT);
        }
        let path = if message.path.is_null() { &raw const NONE } else { message.path };
        Ok(item(message, message.payload.cast(), path))
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
    fn payload(&self, offset: u64, length: u32) -> Result<*const u8, i32> {
        match offset.checked_add(u64::from(length)) {
            // SAFETY: it stays within what `new` demands.
            Some(end) if end <= self.length => Ok(unsafe { self.payloads.add(offset as usize) }),
            _ => Err(libc::EFAULT),
        }
    }

    /// `none` is the index that says there is no path.
    #[inline(always)]
    fn path(&self, index: u64, none: u64) -> Result<*const Path, i32> {
        if index < u64::from(self.path_count) {
            // SAFETY: it is within what `new` demands.
            return Ok(unsafe { self.paths.add(index as usize) });
        }
        if index == none { Ok(&raw const NONE) } else { Err(libc::EFAULT) }
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
    fn item(&mut self, index: u32) -> Result<Item, i32> {
        // SAFETY: `Pointers::new` demands it; nothing is written while the reference lives.
        let message = unsafe { &*self.messages.at(index) };
        check(message)?;
        let payload = self.base.payload(message.payload.addr() as u64, message.payload_length)?;
        let path = self.base.path(message.path.addr() as u64, u64::MAX)?;
        Ok(item(message, payload, path))
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
    fn offset(&mut self, index: u32, length: u32) -> u64 {
        if !self.offsets.is_null() {
            // SAFETY: as above.
            return unsafe { *self.offsets.add(index as usize) };
        }
        let offset = self.back_to_back;
        self.back_to_back += u64::from(length);
        offset
    }
}

impl Source for Columns {
    #[inline(always)]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn item(&mut self, index: u32) -> Result<Item, i32> {
        let length = self.length(index);
        let offset = self.offset(index, length);
        if length > i32::MAX as u32 {
            return Err(libc::EMSGSIZE);
        }
        let payload = self.base.payload(offset, length)?;
        let path = if self.base.paths.is_null() {
            &raw const NONE
        } else if self.path_index.is_null() {
            self.base.path(u64::from(index), u64::MAX)?
        } else {
            // SAFETY: as above.
            let chosen = unsafe { *self.path_index.add(index as usize) };
            self.base.path(u64::from(chosen), u64::from(u32::MAX))?
        };
        Ok(Item { payload, length, segment_size: 0, traits: Traits::default(), path })
    }

    #[inline(always)]
    fn skip(&mut self, index: u32) {
        let length = self.length(index);
        self.offset(index, length);
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
