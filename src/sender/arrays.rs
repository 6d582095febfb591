//! The three forms of message arrays, behind one trait.

use super::message::{Message, Shape, Source, Traits};
use super::path::Path;

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
    fn path_key(&self, index: u32) -> usize {
        // SAFETY: `new` demands it.
        unsafe { (*self.at(index)).path.addr() }
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        (key != 0).then(|| std::ptr::with_exposed_provenance(key))
    }

    fn is_none(&self, key: usize) -> bool {
        key == 0
    }

    #[inline(always)]
    fn shape(&self, index: u32) -> Shape {
        // SAFETY: `new` demands it; both fields are read as one word, which is aligned.
        Shape::of_word(unsafe { (&raw const (*self.at(index)).payload_length).cast::<u64>().read() })
    }

    #[inline(always)]
    fn traits(&self, index: u32) -> Traits {
        let message = self.at(index);
        // SAFETY: `new` demands it; the class is read with the reserved bytes behind it, which are
        // one word.
        unsafe {
            Traits {
                transmit_time_ns: (*message).transmit_time_ns,
                flags: (*message).flags,
                traffic_class: (&raw const (*message).traffic_class).cast::<u32>().read(),
            }
        }
    }

    #[inline(always)]
    fn reserved(&self, index: u32) -> u64 {
        // SAFETY: `new` demands it.
        unsafe { (*self.at(index)).reserved }
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, _: u32) -> Option<*const u8> {
        // SAFETY: `new` demands it.
        let payload = unsafe { (*self.at(index)).payload };
        (!payload.is_null()).then_some(payload.cast())
    }

    fn empty_payload(&mut self, index: u32) -> Option<*const u8> {
        // SAFETY: `new` demands it.
        Some(unsafe { (*self.at(index)).payload }.cast())
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
    fn payload(&self, offset: u64, length: u32) -> Option<*const u8> {
        let end = offset.checked_add(u64::from(length))?;
        // SAFETY: it stays within what `new` demands.
        (end <= self.length).then(|| unsafe { self.payloads.add(offset as usize) })
    }

    #[inline(always)]
    fn path(&self, index: u64) -> Option<*const Path> {
        // SAFETY: within what `new` demands.
        (index < u64::from(self.path_count)).then(|| unsafe { self.paths.add(index as usize) })
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
    fn path_key(&self, index: u32) -> usize {
        self.messages.path_key(index)
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        self.base.path(key as u64)
    }

    fn is_none(&self, key: usize) -> bool {
        key as u64 == u64::MAX
    }

    #[inline(always)]
    fn shape(&self, index: u32) -> Shape {
        self.messages.shape(index)
    }

    #[inline(always)]
    fn traits(&self, index: u32) -> Traits {
        self.messages.traits(index)
    }

    #[inline(always)]
    fn reserved(&self, index: u32) -> u64 {
        self.messages.reserved(index)
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8> {
        // SAFETY: `Pointers::new` demands it.
        let offset = unsafe { (*self.messages.at(index)).payload.addr() as u64 };
        self.base.payload(offset, length)
    }

    fn empty_payload(&mut self, index: u32) -> Option<*const u8> {
        self.payload(index, 0)
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
}

impl Source for Columns {
    const ALL_PLAIN: bool = true;

    #[inline(always)]
    fn count(&self) -> u32 {
        self.count
    }

    #[inline(always)]
    fn path_key(&self, index: u32) -> usize {
        if self.path_index.is_null() {
            return index as usize;
        }
        // SAFETY: whoever made this promises arrays of `count` elements.
        unsafe { *self.path_index.add(index as usize) as usize }
    }

    #[inline(always)]
    fn path(&self, key: usize) -> Option<*const Path> {
        self.base.path(key as u64)
    }

    fn is_none(&self, key: usize) -> bool {
        key == u32::MAX as usize || self.base.paths.is_null()
    }

    #[inline(always)]
    fn shape(&self, index: u32) -> Shape {
        Shape::new(self.length(index), 0)
    }

    #[inline(always)]
    fn traits(&self, _: u32) -> Traits {
        Traits::default()
    }

    #[inline(always)]
    fn reserved(&self, _: u32) -> u64 {
        0
    }

    #[inline(always)]
    fn payload(&mut self, index: u32, length: u32) -> Option<*const u8> {
        let payload = self.base.payload(self.offset(index), length)?;
        self.back_to_back += u64::from(length);
        Some(payload)
    }

    fn empty_payload(&mut self, index: u32) -> Option<*const u8> {
        self.payload(index, 0)
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
