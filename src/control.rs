//! Control messages and socket addresses: bytes in, fields out. Pure; no unsafe; fuzzed.
//!
//! A control slice is a row of `[cmsg_len: size_t][cmsg_level: int][cmsg_type: int][data]`, each
//! padded to the size of a word (cmsg(3)). Every field is read byte by byte: the kernel usually
//! wrote the slice, but a caller may pass any bytes.

use std::mem::size_of;

use crate::record::*;

mod row;

pub use row::Row;

/// linux/socket.h; libc does not define it.
pub(crate) const SCM_PIDFD: i32 = 4;

/// What messages are aligned to.
const WORD: usize = size_of::<usize>();
/// Bytes of a cmsghdr.
pub const HEADER: usize = WORD + 8;

/// The next bytes are no control message: the length is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// One control message of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// cmsg_level
    pub level: i32,
    /// cmsg_type
    pub kind: i32,
    /// Where its data starts in the slice.
    pub offset: usize,
    /// Bytes of data. Fewer than the type promises when the kernel cut it (MSG_CTRUNC).
    pub length: usize,
}

impl Message {
    /// Where the next message starts, if there is one.
    pub fn end(&self) -> usize {
        align(self.offset.saturating_add(self.length))
    }
}

/// CMSG_ALIGN
pub const fn align(length: usize) -> usize {
    length.saturating_add(WORD - 1) & !(WORD - 1)
}

/// CMSG_SPACE
pub const fn space(data: usize) -> usize {
    align(HEADER + data)
}

/// The message that starts at `at`; None at the end of the slice. The last message needs no
/// padding behind it: the kernel leaves it out when there is no room.
#[inline]
pub fn message_at(control: &[u8], at: usize) -> Result<Option<Message>, Malformed> {
    let Some(rest) = control.get(at..) else { return Ok(None) };
    let Some(header) = rest.first_chunk() else { return Ok(None) };
    let (whole, level, kind) = fields(header);
    if whole < HEADER || whole > rest.len() {
        return Err(Malformed);
    }
    Ok(Some(Message { level, kind, offset: at + HEADER, length: whole - HEADER }))
}

/// All messages of a slice; ends early, after an Err, where the slice is malformed.
pub fn messages(control: &[u8]) -> impl Iterator<Item = Result<Message, Malformed>> + '_ {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let found = message_at(control, at?);
        at = match found {
            Ok(Some(message)) => Some(message.end()),
            _ => None,
        };
        found.transpose()
    })
}

/// Keeps, of the last word of a message, as many bytes as its length fills: by that length modulo
/// the size of a word. (The first bytes in memory are the lowest of the word in this order.)
const KEPT: [usize; WORD] = {
    let mut masks = [usize::MAX; WORD];
    let mut bytes = 1;
    while bytes < WORD {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        bytes += 1;
    }
    masks
};

/// What reads messages one by one.
trait Reader {
    fn read(&mut self, level: i32, kind: i32, data: &[u8]);
}

/// Shows `reader` every message that the kernel has just written, and zeroes the padding after
/// each: the kernel does not write there, so those bytes are older than the message. Only the
/// kernel wrote this slice, so a message that it cut short is the last.
#[inline(always)]
fn walk_and_clear(mut rest: &mut [u8], reader: &mut impl Reader) {
    while let Some((header, behind)) = rest.split_first_chunk() {
        let (whole, level, kind) = fields(header);
        // A length that is too short for a header wraps around: it is too long like any other.
        let Some(data) = behind.get(..whole.wrapping_sub(HEADER)) else { return };
        reader.read(level, kind, data);
        // From the word on in which the message ends.
        let last_word = (whole - 1) & !(WORD - 1);
        let tail = &mut std::mem::take(&mut rest)[last_word..];
        if tail.len() < WORD {
            // The kernel left some of the padding out: there was no room for it.
            tail[whole - last_word..].fill(0);
        } else if let Some((word, behind)) = tail.split_first_chunk_mut() {
            *word = (usize::from_le_bytes(*word) & KEPT[whole % WORD]).to_le_bytes();
            rest = behind;
        }
    }
}

struct SegmentSize(u32);

impl Reader for SegmentSize {
    #[inline(always)]
    fn read(&mut self, level: i32, kind: i32, data: &[u8]) {
        if (level, kind) == (libc::SOL_UDP, libc::UDP_GRO) {
            self.0 = int(data).map_or(0, |size| size.max(0) as u32);
        }
    }
}

/// The segment size of a GRO train, or 0; and zeroes the padding in the same walk.
#[inline(always)]
pub fn segment_size_and_clear(control: &mut [u8]) -> u32 {
    let mut size = SegmentSize(0);
    walk_and_clear(control, &mut size);
    size.0
}

/// cmsg_len, cmsg_level and cmsg_type
#[inline]
fn fields(header: &[u8; HEADER]) -> (usize, i32, i32) {
    let (length, numbers) = header.split_first_chunk().expect("a header begins with a word");
    let (level, kind) = numbers.split_first_chunk().expect("and two ints");
    let kind = kind.first_chunk().expect("are behind it");
    (usize::from_ne_bytes(*length), i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind))
}

#[inline]
fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[inline]
fn int(data: &[u8]) -> Option<i32> {
    take(data, 0).map(i32::from_ne_bytes)
}

/// Decodes the control messages into `out`. Unknown messages, and those that the kernel cut, are
/// skipped. Fields that precede a malformed message are kept.
pub fn decode(control: &[u8], out: &mut Metadata) -> Result<(), Malformed> {
    let mut at = 0;
    while let Some(message) = message_at(control, at)? {
        let data = &control[message.offset..message.offset + message.length];
        out.read(message.level, message.kind, data);
        at = message.end();
    }
    Ok(())
}

/// Decodes what the kernel has just written, and zeroes the padding in the same walk.
#[inline(always)]
pub fn decode_and_clear(control: &mut [u8], out: &mut Metadata) {
    walk_and_clear(control, out);
}

impl Reader for Metadata {
    #[inline(always)]
    fn read(&mut self, level: i32, kind: i32, data: &[u8]) {
        // A message too short for its type is ignored.
        let _ = match level {
            libc::SOL_SOCKET => decode_socket(kind, data, self),
            libc::SOL_UDP => decode_udp(kind, data, self),
            libc::SOL_IP => decode_ipv4(kind, data, self),
            libc::SOL_IPV6 => decode_ipv6(kind, data, self),
            _ => None,
        };
    }
}

#[inline(always)]
fn decode_udp(kind: i32, data: &[u8], out: &mut Metadata) -> Option<()> {
    if kind == libc::UDP_GRO {
        out.segment_size = u32::try_from(int(data)?).ok().filter(|&size| size > 0)?;
        out.valid |= RINGMSG_META_SEGMENT_SIZE;
    }
    Some(())
}

// asm-generic/socket.h: the "new" forms carry 64-bit times on every architecture. libc has
// only the old ones.
pub(crate) const SO_TIMESTAMP_NEW: i32 = 63;
pub(crate) const SO_TIMESTAMPNS_NEW: i32 = 64;
const SO_TIMESTAMPING_NEW: i32 = 65;

#[inline(always)]
fn decode_socket(kind: i32, data: &[u8], out: &mut Metadata) -> Option<()> {
    match kind {
        libc::SO_TIMESTAMP => set_software(out, time::<libc::time_t>(data, 0, 1_000)?),
        SO_TIMESTAMP_NEW => set_software(out, time::<i64>(data, 0, 1_000)?),
        libc::SO_TIMESTAMPNS => set_software(out, time::<libc::time_t>(data, 0, 1)?),
        SO_TIMESTAMPNS_NEW => set_software(out, time::<i64>(data, 0, 1)?),
        libc::SO_TIMESTAMPING => timestamping::<libc::time_t>(data, out)?,
        SO_TIMESTAMPING_NEW => timestamping::<i64>(data, out)?,
        libc::SO_RXQ_OVFL => {
            out.dropped = u32::from_ne_bytes(take(data, 0)?);
            out.valid |= RINGMSG_META_DROPPED;
        }
        libc::SO_MARK => {
            out.mark = u32::from_ne_bytes(take(data, 0)?);
            out.valid |= RINGMSG_META_MARK;
        }
        libc::SO_PRIORITY => {
            out.priority = u32::from_ne_bytes(take(data, 0)?);
            out.valid |= RINGMSG_META_PRIORITY;
        }
        _ => {}
    }
    Some(())
}

/// The word that a time is made of: 64 bits, or the architecture's time_t in the old forms.
trait Word: Sized {
    fn read(data: &[u8], index: usize) -> Option<i64>;
}

impl Word for i64 {
    #[inline]
    fn read(data: &[u8], index: usize) -> Option<i64> {
        take(data, index * 8).map(i64::from_ne_bytes)
    }
}

#[cfg(not(target_pointer_width = "64"))]
impl Word for i32 {
    fn read(data: &[u8], index: usize) -> Option<i64> {
        take(data, index * 4).map(|bytes| i32::from_ne_bytes(bytes).into())
    }
}

/// The time at position `index` of a row of (seconds, fraction) pairs, in ns.
fn time<W: Word>(data: &[u8], index: usize, fraction_ns: i64) -> Option<i64> {
    let seconds = W::read(data, 2 * index)?;
    let fraction = W::read(data, 2 * index + 1)?;
    Some(seconds.wrapping_mul(1_000_000_000).wrapping_add(fraction.wrapping_mul(fraction_ns)))
}

/// struct scm_timestamping: software, (deprecated), raw hardware; 0 is "none".
fn timestamping<W: Word>(data: &[u8], out: &mut Metadata) -> Option<()> {
    if let Some(software) = time::<W>(data, 0, 1).filter(|&ns| ns != 0) {
        set_software(out, software);
    }
    if let Some(hardware) = time::<W>(data, 2, 1).filter(|&ns| ns != 0) {
        out.hardware_timestamp_ns = hardware;
        out.valid |= RINGMSG_META_HARDWARE_TIMESTAMP;
    }
    Some(())
}

fn set_software(out: &mut Metadata, ns: i64) {
    out.software_timestamp_ns = ns;
    out.valid |= RINGMSG_META_SOFTWARE_TIMESTAMP;
}

#[inline(always)]
fn decode_ipv4(kind: i32, data: &[u8], out: &mut Metadata) -> Option<()> {
    match kind {
        // struct in_pktinfo { int ipi_ifindex; in_addr ipi_spec_dst; in_addr ipi_addr; }
        libc::IP_PKTINFO => {
            let destination: [u8; 4] = take(data, 8)?;
            set_interface(out, int(data)?);
            out.local_v4 = take(data, 4)?;
            out.valid |= RINGMSG_META_LOCAL_V4;
            set_destination_v4(out, destination);
        }
        // The kernel sends one byte; some senders of test data, and older kernels, four.
        libc::IP_TOS => match *data {
            [class] => set_traffic_class(out, class),
            _ => set_traffic_class(out, int(data)? as u8),
        },
        libc::IP_TTL => set_hop_limit(out, int(data)?),
        libc::IP_RECVERR => set_socket_error(out, data)?,
        // struct sockaddr_in
        libc::IP_ORIGDSTADDR => {
            set_destination_v4(out, take(data, 4)?);
            set_destination_port(out, take(data, 2)?);
        }
        _ => {}
    }
    Some(())
}

#[inline(always)]
fn decode_ipv6(kind: i32, data: &[u8], out: &mut Metadata) -> Option<()> {
    match kind {
        // struct in6_pktinfo { in6_addr ipi6_addr; unsigned ipi6_ifindex; }
        libc::IPV6_PKTINFO => {
            let interface = int(data.get(16..)?)?;
            set_destination_v6(out, take(data, 0)?);
            set_interface(out, interface);
        }
        libc::IPV6_TCLASS => set_traffic_class(out, int(data)? as u8),
        libc::IPV6_HOPLIMIT => set_hop_limit(out, int(data)?),
        libc::IPV6_RECVERR => set_socket_error(out, data)?,
        libc::IPV6_FLOWINFO => {
            out.flow_label = u32::from_be_bytes(take(data, 0)?) & 0xf_ffff;
            out.valid |= RINGMSG_META_FLOW_LABEL;
        }
        // struct sockaddr_in6
        libc::IPV6_ORIGDSTADDR => {
            let port = take(data, 2)?;
            set_destination_v6(out, take(data, 8)?);
            set_destination_port(out, port);
        }
        _ => {}
    }
    Some(())
}

fn set_interface(out: &mut Metadata, index: i32) {
    out.interface_index = index as u32;
    out.valid |= RINGMSG_META_INTERFACE;
}

fn set_traffic_class(out: &mut Metadata, class: u8) {
    out.traffic_class = class;
    out.valid |= RINGMSG_META_TRAFFIC_CLASS;
}

fn set_hop_limit(out: &mut Metadata, limit: i32) {
    out.hop_limit = limit as u8;
    out.valid |= RINGMSG_META_HOP_LIMIT;
}

// linux/errqueue.h. The last two are the origins of notifications, which are no errors.
const SO_EE_ORIGIN_ICMP: u8 = 2;
const SO_EE_ORIGIN_ICMP6: u8 = 3;
const SO_EE_ORIGIN_TIMESTAMPING: u8 = 4;
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;

/// struct sock_extended_err { u32 errno; u8 origin, type, code, pad; u32 info, data; }, followed by
/// the offender's sockaddr.
#[inline(never)]
fn set_socket_error(out: &mut Metadata, data: &[u8]) -> Option<()> {
    let [origin, kind, code, _pad] = take(data, 4)?;
    let is_note = matches!(origin, SO_EE_ORIGIN_TIMESTAMPING | SO_EE_ORIGIN_ZEROCOPY);
    out.error_info = u32::from_ne_bytes(take(data, 8)?);
    out.error_data = u32::from_ne_bytes(take(data, 12)?);
    // The kernel calls a timestamp ENOMSG.
    out.socket_error = if is_note { 0 } else { int(data)? };
    (out.error_origin, out.error_type, out.error_code) = (origin, kind, code);
    out.valid |= RINGMSG_META_SOCKET_ERROR;
    // For other origins that sockaddr is the address from which the datagram was sent.
    match origin {
        SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6 => set_offender(out, data.get(16..)?),
        _ => Some(()),
    }
}

fn set_offender(out: &mut Metadata, name: &[u8]) -> Option<()> {
    match u16::from_ne_bytes(take(name, 0)?) {
        AF_INET => {
            out.offender = [0; 16];
            out.offender[..4].copy_from_slice(&take::<4>(name, 4)?);
        }
        AF_INET6 => out.offender = take(name, 8)?,
        _ => return None,
    }
    out.valid |= RINGMSG_META_OFFENDER;
    Some(())
}

fn set_destination_port(out: &mut Metadata, port: [u8; 2]) {
    out.destination_port = u16::from_be_bytes(port);
    out.valid |= RINGMSG_META_DESTINATION_PORT;
}

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// An IPv4 destination beside an IPv6 source is given in the mapped form, as the source is:
/// `family` describes both.
fn set_destination_v4(out: &mut Metadata, address: [u8; 4]) {
    if out.family == AF_INET6 {
        out.destination = mapped(address);
    } else {
        // No longer address was there before.
        out.destination[..4].copy_from_slice(&address);
        out.family = AF_INET;
    }
    out.valid |= RINGMSG_META_DESTINATION;
}

fn set_destination_v6(out: &mut Metadata, address: [u8; 16]) {
    out.family = AF_INET6;
    out.destination = address;
    out.valid |= RINGMSG_META_DESTINATION;
}

fn mapped(address: [u8; 4]) -> [u8; 16] {
    let mut wide = [0; 16];
    wide[10..12].fill(0xff);
    wide[12..].copy_from_slice(&address);
    wide
}

/// Fills in the source from a sockaddr. To be called before `decode`, which adapts the
/// destination's form to the source's, on metadata that are empty. Other families, and cut ones,
/// are left out.
#[inline(always)]
pub fn decode_name(name: &[u8], out: &mut Metadata) {
    let _ = decode_known_name(name, out);
}

#[inline(always)]
fn decode_known_name(name: &[u8], out: &mut Metadata) -> Option<()> {
    let family = u16::from_ne_bytes(take(name, 0)?);
    match family {
        // struct sockaddr_in { family, port, addr, zero[8] }
        AF_INET => out.source[..4].copy_from_slice(&take::<4>(name, 4)?),
        // struct sockaddr_in6 { family, port, flowinfo, addr, scope_id }
        AF_INET6 => {
            out.source_scope = u32::from_ne_bytes(take(name, 24)?);
            out.source = take(name, 8)?;
        }
        _ => return None,
    }
    out.source_port = u16::from_be_bytes(take(name, 2)?);
    out.family = family;
    out.valid |= RINGMSG_META_SOURCE;
    Some(())
}

/// Reads what the kernel has just written for one message: source address and control messages.
/// Returns the segment size of a GRO train, or 0. Fills in `metadata`, if given, which must be
/// empty. Zeroes the padding between control messages.
#[inline(always)]
pub fn read_message(name: &[u8], control: &mut [u8], metadata: Option<&mut Metadata>) -> u32 {
    match metadata {
        Some(metadata) => {
            decode_name(name, metadata);
            decode_and_clear(control, metadata);
            metadata.segment_size
        }
        None if control.is_empty() => 0,
        None => segment_size_and_clear(control),
    }
}

#[cfg(test)]
mod tests;
