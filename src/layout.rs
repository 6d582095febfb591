//! The layout of a buffer: where its parts are, and how much of each the kernel filled. Pure;
//! fuzzed.
//!
//! ```text
//!   offset 0         16           16 + name_capacity     + control_capacity     + payload_capacity
//!          +----------+-----------------+---------------------+-------------------------+
//!          | header   | name            | control messages    | payload                 |
//!          +----------+-----------------+---------------------+-------------------------+
//! ```
//!
//! The parts are where the capacities put them, whatever the header says; the header tells how
//! much of each is filled. Bytes beyond that are older than the message and are never shown.

use crate::config::{PoolConfig, reserved_is_zero};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::record::*;

/// Bytes of struct io_uring_recvmsg_out.
pub const HEADER: u32 = 16;
/// The kernel's limit for a buffer ring.
pub const BUFFERS_MAX: u32 = 32768;
/// Longer trains are handed out whole. The kernel's limit today (UDP_MAX_SEGMENTS).
pub const SEGMENTS_MAX: u32 = 128;

/// Where things are in a buffer: bytes.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// How many there are.
    pub buffers: u32,
    /// Room for the source address.
    pub name_capacity: u32,
    /// Room for control messages.
    pub control_capacity: u32,
    /// Room for the payload.
    pub payload_capacity: u32,
    /// From one buffer to the next: whole cache lines in a pool.
    pub stride: u32,
    control_at: u32,
    payload_at: u32,
}

impl Layout {
    /// The layout of a pool that `config` asks for; each capacity rounded up to 8 bytes.
    pub fn new(config: &PoolConfig) -> Result<Self> {
        let buffers = config.buffers;
        if !buffers.is_power_of_two() || buffers > BUFFERS_MAX {
            return Err(Error::with(
                libc::EINVAL,
                format_args!("pool: {buffers} buffers is not a power of two up to {BUFFERS_MAX}"),
            ));
        }
        Self::with_stride("pool", config, 64)
    }

    /// The layout of a caller's slab: any number of buffers, back to back.
    pub fn packed(config: &PoolConfig) -> Result<Self> {
        if config.buffers == 0 || config.buffers > i32::MAX as u32 {
            return Err(Error::new(libc::EINVAL, "receive: layout.buffers is not from 1 to 2^31 - 1"));
        }
        Self::with_stride("receive: layout", config, 8)
    }

    /// Buffers that start on multiples of `alignment`.
    fn with_stride(what: &str, config: &PoolConfig, alignment: u64) -> Result<Self> {
        reserved_is_zero("ringmsg_pool_config", &config.reserved)?;
        if config.flags != 0 {
            return Err(Error::with(libc::EINVAL, format_args!("{what}: unknown flags {:#x}", config.flags)));
        }
        let buffers = config.buffers;
        let aligned = |capacity: u32| u64::from(capacity).next_multiple_of(8);
        let [name, control, payload] =
            [config.name_capacity, config.control_capacity, config.payload_capacity].map(aligned);
        let whole = u64::from(HEADER) + name + control + payload;
        let stride = whole.next_multiple_of(alignment);
        if stride * u64::from(buffers) > u64::from(u32::MAX) {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "{what}: {buffers} buffers of {whole} bytes are 4 GiB or more; use fewer or smaller ones"
                ),
            ));
        }
        let control_at = HEADER + name as u32;
        Ok(Self {
            buffers,
            name_capacity: name as u32,
            control_capacity: control as u32,
            payload_capacity: payload as u32,
            stride: stride as u32,
            control_at,
            payload_at: control_at + control as u32,
        })
    }

    /// Where buffer `buffer` starts.
    #[inline]
    pub fn start(&self, buffer: u16) -> u32 {
        u32::from(buffer) * self.stride
    }

    /// Where names, control messages and payloads start, from the buffer's start.
    #[inline]
    pub fn parts(&self) -> (u32, u32, u32) {
        (HEADER, self.control_at, self.payload_at)
    }

    /// From the first byte of control messages to the end of the payload.
    pub fn room_for_control(&self) -> usize {
        (self.length() - self.control_at) as usize
    }

    /// The buffer's length as it is given to the kernel: without the padding of the stride.
    pub fn length(&self) -> u32 {
        self.parts().2 + self.payload_capacity
    }
}

/// What the kernel writes in front of a message: struct io_uring_recvmsg_out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Length of the source address before it was cut.
    pub name: u32,
    /// Bytes of control messages.
    pub control: u32,
    /// Payload bytes; with MSG_TRUNC before they were cut.
    pub payload: u32,
    /// msg_flags
    pub flags: u32,
}

impl Header {
    /// Reads the first 16 bytes of a buffer.
    #[inline]
    pub fn from_bytes(bytes: [u8; HEADER as usize]) -> Self {
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { name: word(0), control: word(4), payload: word(8), flags: word(12) }
    }

    /// The same bytes.
    #[inline]
    pub fn to_bytes(self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        let words = [self.name, self.control, self.payload, self.flags];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Flags of the request that the kernel echoes in msg_flags.
const ECHOED: u32 = libc::MSG_CMSG_CLOEXEC as u32;

impl Layout {
    /// The record of a message that the kernel wrote into the buffer at `start`, reporting
    /// `result` bytes for the whole of it. Never points outside the buffer, nor at bytes that
    /// were not written for this message, whatever `header` and `result` say.
    #[inline]
    pub fn record(&self, start: u32, header: Header, result: u32) -> Record {
        let filled = self.clamp(header.name, header.control, header.payload, header.flags, result);
        self.place(start, filled, header.flags)
    }

    /// Fast path for a complete message with a payload and without flags. None: it is not such a
    /// message. The lengths of name and control messages are not checked: the caller knows that
    /// they fit.
    #[inline(always)]
    pub fn whole_record(&self, start: u32, header: Header, result: u32) -> Option<Record> {
        let payload = result.wrapping_sub(self.payload_at);
        // An empty payload wraps around, and is too long then.
        if (payload ^ header.payload) | header.flags != 0 || payload.wrapping_sub(1) >= self.payload_capacity
        {
            return None;
        }
        let Header { name, control, .. } = header;
        let filled = Filled { name, control, payload, wire: payload, flags: RINGMSG_RECORD_BUFFER };
        Some(self.place(start, filled, 0))
    }

    /// The record of parts of these lengths.
    #[inline(always)]
    fn place(&self, start: u32, filled: Filled, msg_flags: u32) -> Record {
        let (name_at, control_at, payload_at) = self.parts();
        Record {
            result: filled.payload as i32,
            flags: filled.flags,
            payload_offset: start + payload_at,
            payload_length: filled.payload,
            control_offset: start + control_at,
            control_length: filled.control,
            name_offset: start + name_at,
            name_length: filled.name,
            wire_length: filled.wire,
            msg_flags: msg_flags & !ECHOED,
            segments: 1,
            ..Record::default()
        }
    }

    /// Clamps the header's four numbers and `result` to what is possible.
    fn clamp(&self, name: u32, control: u32, payload: u32, msg_flags: u32, result: u32) -> Filled {
        let cut_payload = result.saturating_sub(self.payload_at).min(self.payload_capacity);
        let wire = payload.max(cut_payload);
        let mut flags = RINGMSG_RECORD_BUFFER;
        if msg_flags & libc::MSG_TRUNC as u32 != 0 || wire > cut_payload {
            flags |= RINGMSG_RECORD_TRUNCATED;
        }
        if msg_flags & libc::MSG_CTRUNC as u32 != 0 {
            flags |= RINGMSG_RECORD_CONTROL_TRUNCATED;
        }
        // Without room for names none was requested.
        if name > self.name_capacity && self.name_capacity > 0 {
            flags |= RINGMSG_RECORD_NAME_TRUNCATED;
        }
        Filled {
            name: name.min(self.name_capacity),
            control: control.min(self.control_capacity),
            payload: cut_payload,
            wire,
            flags,
        }
    }
}

/// How much of each part of a buffer is filled, the length on the wire, and RINGMSG_RECORD_*.
#[derive(Clone, Copy)]
struct Filled {
    name: u32,
    control: u32,
    payload: u32,
    wire: u32,
    flags: u32,
}

/// A GRO train, cut into its datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// Datagrams as they arrived.
    pub segments: u32,
    /// Records to hand out: fewer when the train did not fit into its buffer. The last of them
    /// is then the one that was cut, with what is left of it, if only its absence.
    pub records: u32,
}

impl Split {
    /// How to split `whole`; None when it stays whole: no train, or one with more segments than
    /// the kernel makes.
    #[inline]
    pub fn of(whole: &Record) -> Option<Self> {
        let size = whole.segment_size;
        if size == 0 || whole.wire_length <= size {
            return None;
        }
        let segments = whole.wire_length.div_ceil(size);
        if segments > SEGMENTS_MAX {
            return None;
        }
        let cut = whole.wire_length > whole.payload_length;
        let records = if cut { whole.payload_length / size + 1 } else { segments };
        Some(Self { segments, records })
    }

    /// The record of datagram `segment` of the train `whole`.
    #[inline]
    pub fn segment(&self, whole: &Record, segment: u32) -> Record {
        let skipped = segment * whole.segment_size;
        let wire_length = (whole.wire_length - skipped).min(whole.segment_size);
        let payload_length = whole.payload_length.saturating_sub(skipped).min(wire_length);
        let mut flags = whole.flags & !RINGMSG_RECORD_TRUNCATED | RINGMSG_RECORD_SEGMENT;
        if payload_length < wire_length {
            flags |= RINGMSG_RECORD_TRUNCATED;
        }
        Record {
            result: payload_length as i32,
            flags,
            payload_offset: whole.payload_offset + skipped,
            payload_length,
            wire_length,
            segment: segment as u16,
            segments: self.segments as u16,
            ..*whole
        }
    }
}

/// A train of which some datagrams are still to be handed out.
pub(crate) struct Train {
    pub slot: Slot,
    pub whole: Record,
    pub metadata: Metadata,
    pub split: Split,
    pub next: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(&PoolConfig {
            buffers: 4,
            payload_capacity: 4000,
            control_capacity: 30,
            name_capacity: 16,
            ..PoolConfig::default()
        })
        .unwrap()
    }

    fn train(payload: u32, wire: u32, size: u32) -> Record {
        let (_, _, at) = layout().parts();
        let header = Header { name: 16, control: 24, payload: wire, flags: 0 };
        Record { segment_size: size, ..layout().record(0, header, at + payload) }
    }

    #[test]
    fn capacities_are_rounded_up_to_eight_and_parts_follow_each_other() {
        let layout = layout();
        assert_eq!(layout.control_capacity, 32);
        assert_eq!(layout.parts(), (16, 32, 64));
        assert_eq!(layout.length(), 4064);
        assert_eq!(layout.stride % 64, 0);
    }

    #[test]
    fn lengths_the_kernel_did_not_fill_are_never_shown() {
        let wild = Header { name: u32::MAX, control: u32::MAX, payload: u32::MAX, flags: u32::MAX };
        for result in [0, 1, 63, 64, 65, 4064, 4065, u32::MAX] {
            let record = layout().record(0, wild, result);
            assert!(record.payload_length <= result.saturating_sub(64).min(4000));
            assert_eq!((record.name_length, record.control_length), (16, 32));
        }
    }

    #[test]
    fn a_train_is_split_with_a_short_last_segment() {
        let whole = train(2500, 2500, 1200);
        let split = Split::of(&whole).unwrap();
        assert_eq!((split.segments, split.records), (3, 3));
        let last = split.segment(&whole, 2);
        assert_eq!((last.payload_length, last.wire_length, last.segment), (100, 100, 2));
        assert_eq!(last.payload_offset, whole.payload_offset + 2400);
        assert_eq!(last.flags & RINGMSG_RECORD_TRUNCATED, 0);
    }

    #[test]
    fn a_cut_train_ends_with_the_segment_that_was_cut() {
        let whole = train(4000, 12000, 1200);
        let split = Split::of(&whole).unwrap();
        assert_eq!((split.segments, split.records), (10, 4));
        assert_eq!(split.segment(&whole, 2).flags & RINGMSG_RECORD_TRUNCATED, 0);
        let cut = split.segment(&whole, 3);
        assert_eq!((cut.payload_length, cut.wire_length), (400, 1200));
        assert_ne!(cut.flags & RINGMSG_RECORD_TRUNCATED, 0);
    }

    #[test]
    fn a_train_cut_between_segments_ends_with_an_empty_cut_one() {
        let whole = train(3600, 12000, 1200);
        let split = Split::of(&whole).unwrap();
        assert_eq!(split.records, 4);
        assert_eq!(split.segment(&whole, 3).payload_length, 0);
        assert_ne!(split.segment(&whole, 3).flags & RINGMSG_RECORD_TRUNCATED, 0);
    }

    #[test]
    fn trains_longer_than_the_kernel_makes_stay_whole() {
        assert!(Split::of(&train(128, 128, 1)).is_some());
        assert!(Split::of(&train(129, 129, 1)).is_none());
        assert!(Split::of(&train(100, 100, 100)).is_none());
        assert!(Split::of(&train(100, 100, 0)).is_none());
    }

    #[test]
    fn a_slab_has_any_number_of_buffers_and_no_gap_between_them() {
        let config = PoolConfig {
            buffers: 3,
            payload_capacity: 1201,
            control_capacity: 30,
            name_capacity: 28,
            ..PoolConfig::default()
        };
        let slab = Layout::packed(&config).unwrap();
        assert_eq!(slab.parts(), (16, 48, 80));
        assert_eq!((slab.length(), slab.stride), (80 + 1208, 80 + 1208));
        for wrong in [
            PoolConfig { buffers: 0, ..config },
            PoolConfig { buffers: 1 << 31, ..config },
            PoolConfig { buffers: 1 << 30, ..config },
            PoolConfig { payload_capacity: u32::MAX, ..config },
            PoolConfig { flags: 1, ..config },
        ] {
            assert_eq!(Layout::packed(&wrong).unwrap_err().errno(), libc::EINVAL);
        }
    }

    #[test]
    fn impossible_pools_are_refused() {
        let refused = |config: PoolConfig| Layout::new(&config).unwrap_err().errno() == libc::EINVAL;
        let good = PoolConfig::default();
        assert!(refused(PoolConfig { buffers: 0, ..good }));
        assert!(refused(PoolConfig { buffers: 300, ..good }));
        assert!(refused(PoolConfig { buffers: 65536, ..good }));
        assert!(refused(PoolConfig { payload_capacity: u32::MAX, ..good }));
        assert!(refused(PoolConfig { buffers: 32768, payload_capacity: 1 << 17, ..good }));
        assert!(refused(PoolConfig { flags: 1, ..good }));
    }
}
