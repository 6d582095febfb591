//! The row of control messages that most messages of a socket share: same lengths and types, at
//! the same places. A message is compared with the row as a whole instead of being walked through,
//! and its data are read where the row has them. Pure; no unsafe; fuzzed.

use super::{AF_INET, AF_INET6, Message, SCM_PIDFD, align, decode, decode_name, message_at, take};
use crate::record::*;

/// What is compared at once, bytes.
const CHUNK: usize = 32;
const WORDS: usize = CHUNK / 8;
type Words = [u64; WORDS];
/// The most chunks that the control messages of a row may have.
const CHUNKS: usize = 8;
/// If a pool's messages have different rows, the latest one is learnt only after this many misses.
const MISSES: u32 = 16;

/// What `CHUNK` bytes of control messages are in every message with a row. (Aligned so that the
/// processor can take both as operands from memory.)
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Expected {
    /// Headers and padding; 0 where the data are.
    bytes: Words,
    /// The bits that are the same in every message.
    fixed: Words,
}

impl Expected {
    const ANYTHING: Self = Self { bytes: [0; WORDS], fixed: [0; WORDS] };

    fn new(bytes: &[u8], fixed: &[u8]) -> Option<Self> {
        Some(Self { bytes: words(bytes)?, fixed: words(fixed)? })
    }

    /// Adds to `differences` where `found` differs.
    #[inline(always)]
    fn compare(&self, found: Words, differences: &mut Words) {
        for (i, difference) in differences.iter_mut().enumerate() {
            *difference |= (found[i] ^ self.bytes[i]) & self.fixed[i];
        }
    }
}

/// A chunk as numbers.
#[inline(always)]
fn words(bytes: &[u8]) -> Option<Words> {
    let mut words = [0; WORDS];
    for (i, word) in words.iter_mut().enumerate() {
        *word = u64::from_ne_bytes(take(bytes, 8 * i)?);
    }
    Some(words)
}

/// Where the data of usual control messages are. 0: there is no such message.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    /// Of the row's family.
    packet_info: u16,
    /// The byte with the value; of both families.
    traffic_class: u16,
    /// The same.
    hop_limit: u16,
    dropped: u16,
    segment_size: u16,
    timestamp: u16,
}

/// Where the lowest byte of an int is.
const LOWEST: usize = if cfg!(target_endian = "little") { 0 } else { 3 };

/// Two lengths as one number, for one comparison.
#[inline(always)]
fn lengths(name: u32, control: u32) -> u64 {
    u64::from(name) | u64::from(control) << 32
}

impl Usual {
    /// Adds one message, beside others that make `family` the destination's. None: it is not usual.
    fn with(mut self, message: &Message, family: u16) -> Option<Self> {
        // On a dual-stack socket the destination comes in both, and is mapped.
        let (is_v4, is_v6) = (family == AF_INET, family == AF_INET6);
        let (place, at) = match (message.level, message.kind, message.length) {
            (libc::SOL_IP, libc::IP_PKTINFO, 12) if is_v4 => (&mut self.packet_info, 0),
            (libc::SOL_IPV6, libc::IPV6_PKTINFO, 20) if is_v6 => (&mut self.packet_info, 0),
            (libc::SOL_IP, libc::IP_TOS, 1) => (&mut self.traffic_class, 0),
            (libc::SOL_IPV6, libc::IPV6_TCLASS, 4) => (&mut self.traffic_class, LOWEST),
            (libc::SOL_IP, libc::IP_TTL, 4) => (&mut self.hop_limit, LOWEST),
            (libc::SOL_IPV6, libc::IPV6_HOPLIMIT, 4) => (&mut self.hop_limit, LOWEST),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4) => (&mut self.dropped, 0),
            (libc::SOL_UDP, libc::UDP_GRO, 4) => (&mut self.segment_size, 0),
            (libc::SOL_SOCKET, super::SO_TIMESTAMPNS_NEW, 16) => (&mut self.timestamp, 0),
            #[cfg(target_pointer_width = "64")]
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 16) => (&mut self.timestamp, 0),
            _ => return None,
        };
        // Of two with the same field, the last one counts.
        (*place == 0).then_some(())?;
        *place = (message.offset + at).try_into().ok()?;
        Some(self)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Row {
    /// Of the name and of the control messages.
    lengths: u64,
    /// The control messages, and what follows up to a whole chunk, which may be anything.
    expected: [Expected; CHUNKS],
    chunks: usize,
    /// Where the segment size is; 0: the row has none.
    segment_size_at: u16,
    /// What the messages are, if all are usual and no two have the same field.
    usual: Option<Usual>,
    /// If so: their fields, and the family of the name and of the destination.
    valid: u32,
    family: u16,
    misses: u32,
}

impl Row {
    /// The row of no message.
    pub const NONE: Self = Self {
        lengths: u64::MAX,
        expected: [Expected::ANYTHING; CHUNKS],
        chunks: 0,
        segment_size_at: 0,
        usual: None,
        valid: 0,
        family: 0,
        misses: 0,
    };

    /// Whether a message with name and control messages of these lengths can have this row.
    #[inline(always)]
    pub fn has_lengths(&self, name: u32, control: u32) -> bool {
        self.lengths == lengths(name, control)
    }

    /// How many bytes of control messages, and of what follows them, `is_of` looks at.
    #[inline(always)]
    pub fn looks_at(&self) -> usize {
        self.chunks * CHUNK
    }

    /// Whether a message that `has_lengths` has this row, and zeros in its padding: then
    /// `segment_size` and `decode` read it. (The kernel does not write to the padding, so that it
    /// may hold bytes of an earlier message.) `area` starts with the control messages.
    #[inline(always)]
    pub fn is_of(&self, area: &[u8]) -> bool {
        let mut differences = [0; WORDS];
        for (found, expected) in area.chunks_exact(CHUNK).zip(&self.expected) {
            let Some(found) = words(found) else { return false };
            expected.compare(found, &mut differences);
        }
        differences.iter().fold(0, |all, difference| all | difference) == 0
    }

    /// Whether a message with this row is a train, which has a segment size.
    #[inline(always)]
    pub fn is_of_trains(&self) -> bool {
        self.segment_size_at != 0
    }

    /// The segment size of a message with this row; 0: none.
    #[inline(always)]
    pub fn segment_size(&self, control: &[u8]) -> u32 {
        match self.segment_size_at {
            0 => 0,
            at => take(control, at.into()).map_or(0, |size| i32::from_ne_bytes(size).max(0) as u32),
        }
    }

    /// Decodes the name and the control messages of a message with this row into `out`, which is
    /// empty.
    #[inline(always)]
    pub fn decode(&self, name: &[u8], control: &[u8], out: &mut Metadata) {
        if self.decode_usual(name, control, out).is_none() {
            self.decode_any(name, control, out);
        }
    }

    #[inline(never)]
    fn decode_any(&self, name: &[u8], control: &[u8], out: &mut Metadata) {
        *out = Metadata::NONE;
        decode_name(name, out);
        let _ = decode(control, out);
    }

    /// None: the message is not as usual, and `out` is undefined.
    #[inline(always)]
    fn decode_usual(&self, name: &[u8], control: &[u8], out: &mut Metadata) -> Option<()> {
        let usual = self.usual.as_ref()?;
        out.valid = self.valid;
        out.family = self.family;
        self.decode_usual_name(name, out)?;
        match usual.packet_info {
            0 => {}
            at if self.family == AF_INET => {
                let data: [u8; 12] = take(control, at.into())?;
                out.interface_index = u32::from_ne_bytes(take(&data, 0)?);
                out.local_v4 = take(&data, 4)?;
                out.destination[..4].copy_from_slice(&data[8..]);
            }
            at => {
                let data: [u8; 20] = take(control, at.into())?;
                out.destination = take(&data, 0)?;
                out.interface_index = u32::from_ne_bytes(take(&data, 16)?);
            }
        }
        if usual.traffic_class != 0 {
            out.traffic_class = *control.get(usize::from(usual.traffic_class))?;
        }
        if usual.hop_limit != 0 {
            out.hop_limit = *control.get(usize::from(usual.hop_limit))?;
        }
        if usual.dropped != 0 {
            out.dropped = u32::from_ne_bytes(take(control, usual.dropped.into())?);
        }
        if usual.segment_size != 0 {
            out.segment_size =
                u32::try_from(i32::from_ne_bytes(take(control, usual.segment_size.into())?)).ok()?;
            // Without one the field is not valid.
            (out.segment_size > 0).then_some(())?;
        }
        if usual.timestamp != 0 {
            out.software_timestamp_ns =
                super::time::<i64>(control.get(usize::from(usual.timestamp)..)?, 0, 1)?;
        }
        Some(())
    }

    #[inline(always)]
    fn decode_usual_name(&self, name: &[u8], out: &mut Metadata) -> Option<()> {
        if self.valid & RINGMSG_META_SOURCE == 0 {
            return name.is_empty().then_some(());
        }
        let head: [u8; 8] = take(name, 0)?;
        let family = u16::from_ne_bytes(take(&head, 0)?);
        (family == self.family).then_some(())?;
        out.source_port = u16::from_be_bytes(take(&head, 2)?);
        if family == AF_INET {
            out.source[..4].copy_from_slice(&head[4..]);
        } else {
            out.source_scope = u32::from_ne_bytes(take(name, 24)?);
            out.source = take(name, 8)?;
        }
        Some(())
    }

    /// Remembers the row of a message that had another one, if possible. In every message `room`
    /// bytes, counted from the first byte of control messages, are readable.
    #[inline(never)]
    pub fn learn(&mut self, name: &[u8], control: &[u8], room: usize) {
        if self.lengths == u64::MAX || self.misses % MISSES == 0 {
            *self = Self { misses: self.misses, ..Self::of(name, control, room).unwrap_or(Self::NONE) };
        }
        self.misses = self.misses.wrapping_add(1).max(1);
    }

    /// The row of a message. None if it cannot be remembered: it is too long, malformed, cut, or
    /// carries descriptors.
    fn of(name: &[u8], control: &[u8], room: usize) -> Option<Self> {
        let mut metadata = Metadata::NONE;
        decode_name(name, &mut metadata);
        decode(control, &mut metadata).ok()?;
        let mut row = Self {
            lengths: lengths(name.len().try_into().ok()?, control.len().try_into().ok()?),
            valid: metadata.valid,
            family: metadata.family,
            ..Self::NONE
        };
        let mut usual = Some(Usual::default());
        let (mut bytes, mut fixed) = ([0; CHUNK * CHUNKS], [0; CHUNK * CHUNKS]);
        bytes.get_mut(..control.len())?.copy_from_slice(control);
        fixed[..control.len()].fill(u8::MAX);
        let mut at = 0;
        while let Some(message) = message_at(control, at).ok()? {
            let data_end = message.offset + message.length;
            fixed[message.offset..data_end].fill(0);
            bytes[data_end..align(data_end).min(control.len())].fill(0);
            match (message.level, message.kind, message.length) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS | SCM_PIDFD, _) => return None,
                (libc::SOL_UDP, libc::UDP_GRO, 4) if row.segment_size_at == 0 => {
                    row.segment_size_at = message.offset.try_into().ok()?;
                    // `decode` looks whether there is one.
                    row.valid |= RINGMSG_META_SEGMENT_SIZE;
                }
                // Two of them, or one that is cut.
                (libc::SOL_UDP, libc::UDP_GRO, _) => return None,
                _ => {}
            }
            usual = usual.and_then(|usual| usual.with(&message, row.family));
            at = message.end();
        }
        row.chunks = control.len().div_ceil(CHUNK);
        for (chunk, (bytes, fixed)) in
            row.expected.iter_mut().zip(bytes.chunks(CHUNK).zip(fixed.chunks(CHUNK)))
        {
            *chunk = Expected::new(bytes, fixed)?;
        }
        row.usual = usual;
        (row.looks_at() <= room).then_some(row)
    }
}
