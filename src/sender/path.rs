//! Where a datagram goes and how it leaves: `ringmsg_path`, the path of an answer, and what makes
//! a path valid on a socket.

use std::mem::{offset_of, size_of};
use std::net::Ipv6Addr;

use crate::control;
use crate::error::{Error, Result};
use crate::record::{
    Metadata, RINGMSG_META_DESTINATION, RINGMSG_META_INTERFACE, RINGMSG_META_LOCAL_V4, RINGMSG_META_SOURCE,
};

/// remote, remote_port and remote_scope apply. Without it: the connected peer.
pub const RINGMSG_PATH_REMOTE: u32 = 1u32 << 0;
/// local applies: the source address.
pub const RINGMSG_PATH_LOCAL: u32 = 1u32 << 1;
/// interface_index applies: the interface to leave through.
pub const RINGMSG_PATH_INTERFACE: u32 = 1u32 << 2;
/// traffic_class applies.
pub const RINGMSG_PATH_TRAFFIC_CLASS: u32 = 1u32 << 3;
/// hop_limit applies.
pub const RINGMSG_PATH_HOP_LIMIT: u32 = 1u32 << 4;
/// flow_label applies.
pub const RINGMSG_PATH_FLOW_LABEL: u32 = 1u32 << 5;

const PATH_ALL: u32 = (1 << 6) - 1;
const FLOW_LABEL_MAX: u32 = 0xf_ffff;

/// Where a datagram goes, and how it leaves: 64 bytes. Zero what is not used: messages are
/// grouped by comparing all of it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Path {
    /// RINGMSG_PATH_*: which of the following apply. Without RINGMSG_PATH_REMOTE the datagram
    /// goes to the connected peer, with these settings.
    pub valid: u32,
    /// AF_INET or AF_INET6, of both addresses. IPv4 on an IPv6 socket is AF_INET6, as
    /// ::ffff:a.b.c.d.
    pub family: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// IPv4 in the first four bytes.
    pub remote: [u8; 16],
    /// The scope (interface index) of a link-local remote address.
    pub remote_scope: u32,
    /// The interface to leave through.
    pub interface_index: u32,
    /// The source address; IPv4 in the first four bytes.
    pub local: [u8; 16],
    /// TOS byte or traffic class, ECN included. A message may have its own.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// 0
    pub reserved16: u16,
    /// IPv6 flow label, 20 bits, host byte order. IPv4 has none: ignored there.
    pub flow_label: u32,
    /// 0
    pub reserved: [u32; 2],
}

const _: () = {
    assert!(size_of::<Path>() == 64);
    assert!(offset_of!(Path, family) == 4 && offset_of!(Path, remote_port) == 6);
    assert!(offset_of!(Path, remote) == 8 && offset_of!(Path, remote_scope) == 24);
    assert!(offset_of!(Path, interface_index) == 28 && offset_of!(Path, local) == 32);
    assert!(offset_of!(Path, traffic_class) == 48 && offset_of!(Path, hop_limit) == 49);
    assert!(offset_of!(Path, reserved16) == 50 && offset_of!(Path, flow_label) == 52);
    assert!(offset_of!(Path, reserved) == 56);
};

const AF_INET: u16 = libc::AF_INET as u16;
const AF_INET6: u16 = libc::AF_INET6 as u16;

/// The path of a message that has none.
pub(super) const NO_PATH: Path = Path {
    valid: 0,
    family: 0,
    remote_port: 0,
    remote: [0; 16],
    remote_scope: 0,
    interface_index: 0,
    local: [0; 16],
    traffic_class: 0,
    hop_limit: 0,
    reserved16: 0,
    flow_label: 0,
    reserved: [0; 2],
};

/// The IPv4 address in a mapped one.
pub(super) fn mapped(address: &[u8; 16]) -> Option<[u8; 4]> {
    Ipv6Addr::from(*address).to_ipv4_mapped().map(|four| four.octets())
}

/// The third word of a mapped address.
const MAPPED_WORD: u32 = 0xffff_0000;

/// An address whose words begin like this has an IPv4 address in its last one: ::ffff:0:0/96.
#[inline(always)]
fn is_mapped(words: &[u32]) -> bool {
    words[0] | words[1] | (words[2] ^ MAPPED_WORD) == 0
}

/// What the kernel will take a datagram's peer for: it decides on the control messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// IPv4, mapped or not.
    V4,
    V6,
    /// The connected peer of an IPv6 socket: either.
    Connected,
    /// No IP at all.
    Other,
}

impl Path {
    #[inline(always)]
    pub(super) fn has(&self, bit: u32) -> bool {
        self.valid & bit != 0
    }

    /// All of it is equal. (Not `==`, which goes field by field.)
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(super) fn is_equal(&self, other: &Self) -> bool {
        use std::arch::x86_64::*;
        let ours = std::ptr::from_ref(self).cast::<__m128i>();
        let theirs = std::ptr::from_ref(other).cast::<__m128i>();
        // SAFETY: both are 64 bytes without padding; every x86-64 processor has SSE2.
        unsafe {
            let quarter = |at| _mm_cmpeq_epi8(_mm_loadu_si128(ours.add(at)), _mm_loadu_si128(theirs.add(at)));
            let halves = (_mm_and_si128(quarter(0), quarter(1)), _mm_and_si128(quarter(2), quarter(3)));
            _mm_movemask_epi8(_mm_and_si128(halves.0, halves.1)) == 0xffff
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    pub(super) fn is_equal(&self, other: &Self) -> bool {
        self.words() == other.words()
    }

    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; 16] {
        // SAFETY: a path has no padding, so that it is 64 bytes that are all initialized, and it is
        // aligned to four.
        unsafe { &*std::ptr::from_ref(self).cast() }
    }

    /// Family, port, and the IPv4 address, or the first of the other.
    #[inline(always)]
    pub(super) fn peer_word(&self) -> u64 {
        // SAFETY: eight bytes of the path, at a multiple of four.
        unsafe { (&raw const self.family).cast::<u64>().read_unaligned() }
    }

    /// What else names an IPv6 peer: the next eight bytes of its address; the last four, and the
    /// scope.
    #[inline(always)]
    pub(super) fn other_peer_words(&self) -> [u64; 2] {
        // SAFETY: sixteen bytes of the path, at a multiple of four.
        unsafe { (&raw const self.remote[4]).cast::<[u64; 2]>().read_unaligned() }
    }

    /// Whether datagrams go to the same peer, among which order is kept.
    #[inline(always)]
    pub(super) fn has_same_peer(&self, other: &Self) -> bool {
        if (self.valid & other.valid) & RINGMSG_PATH_REMOTE == 0 {
            return (self.valid | other.valid) & RINGMSG_PATH_REMOTE == 0;
        }
        (self.family, self.remote_port) == (other.family, other.remote_port)
            && self.remote == other.remote
            && self.remote_scope == other.remote_scope
    }

    /// A path of addresses and perhaps an interface.
    #[inline(always)]
    pub(super) fn is_bare(&self) -> bool {
        const MAY: u32 = RINGMSG_PATH_LOCAL | RINGMSG_PATH_INTERFACE;
        // SAFETY: eight bytes of the path, at a multiple of four.
        let reserved = unsafe { (&raw const self.reserved).cast::<u64>().read_unaligned() };
        let other = self.valid & !MAY ^ RINGMSG_PATH_REMOTE | u32::from(self.reserved16);
        u64::from(other) | reserved == 0
    }

    /// It has an IPv4 address to go to.
    #[inline(always)]
    pub(super) fn is_to_v4(&self) -> bool {
        self.has(RINGMSG_PATH_REMOTE) && self.family == AF_INET
    }

    /// One of IPv4 addresses, that is good on every IP socket.
    #[inline(always)]
    pub(super) fn is_bare_v4(&self) -> bool {
        self.family == AF_INET && self.is_bare()
    }

    /// One of IPv6 addresses, both mapped or not: what its peer is.
    #[inline(always)]
    pub(super) fn bare_v6(&self) -> Option<Peer> {
        let words = self.words();
        if !self.is_bare() || self.family != AF_INET6 {
            return None;
        }
        // Both may be mapped: it is decided below.
        if words[4] != MAPPED_WORD && words[10] != MAPPED_WORD {
            return Some(Peer::V6);
        }
        let (remote, local) = (is_mapped(&words[2..5]), is_mapped(&words[8..11]));
        if self.has(RINGMSG_PATH_LOCAL) && local != remote {
            return None;
        }
        Some(if remote { Peer::V4 } else { Peer::V6 })
    }

    /// Checks a path against a socket of this domain; tells what its peer is, or the errno that
    /// messages on it get.
    pub(super) fn peer_on(&self, domain: i32) -> std::result::Result<Peer, i32> {
        let reserved = self.reserved[0] | self.reserved[1] | u32::from(self.reserved16);
        let has_label = self.has(RINGMSG_PATH_FLOW_LABEL);
        if self.valid & !PATH_ALL | reserved != 0 || (has_label && self.flow_label > FLOW_LABEL_MAX) {
            return Err(libc::EINVAL);
        }
        let ours = match domain {
            libc::AF_INET => Peer::V4,
            libc::AF_INET6 => Peer::Connected,
            _ if self.has(RINGMSG_PATH_REMOTE) => return Err(libc::EAFNOSUPPORT),
            _ if self.valid != 0 => return Err(libc::EOPNOTSUPP),
            _ => Peer::Other,
        };
        if self.valid & (RINGMSG_PATH_REMOTE | RINGMSG_PATH_LOCAL) == 0 {
            return Ok(ours);
        }
        let peer = match self.family {
            AF_INET => Peer::V4,
            AF_INET6 if domain == libc::AF_INET6 => self.peer_of_v6()?,
            _ => return Err(libc::EAFNOSUPPORT),
        };
        Ok(if self.has(RINGMSG_PATH_REMOTE) { peer } else { ours })
    }

    /// What the peer of a path with IPv6 addresses is. Both or none may be mapped.
    fn peer_of_v6(&self) -> std::result::Result<Peer, i32> {
        let remote = mapped(&self.remote).is_some();
        let local = mapped(&self.local).is_some();
        let has_local = self.has(RINGMSG_PATH_LOCAL) && self.local != [0; 16];
        if self.has(RINGMSG_PATH_REMOTE) && has_local && local != remote {
            return Err(libc::EINVAL);
        }
        Ok(if remote { Peer::V4 } else { Peer::V6 })
    }
}

/// The path of an answer: back to the source, from the address that was asked. None: the metadata
/// have no source.
#[inline(always)]
pub(crate) fn reply(received: &Metadata) -> Option<Path> {
    let known = received.valid;
    if known & RINGMSG_META_SOURCE == 0 {
        return None;
    }
    let [source, asked] = [received.source, received.destination].map(u128::from_le_bytes);
    let (local, needs_interface) = if received.family == AF_INET {
        reply_v4::<0>(received, source, asked)
    } else if source << 32 >> 32 == MAPPED {
        reply_v4::<96>(received, source, asked)
    } else {
        reply_v6(known, source, asked)
    };
    let has_interface = needs_interface && known & RINGMSG_META_INTERFACE != 0;
    let has_local = if local.is_some() { RINGMSG_PATH_LOCAL } else { 0 };
    Some(Path {
        valid: RINGMSG_PATH_REMOTE | has_local | if has_interface { RINGMSG_PATH_INTERFACE } else { 0 },
        family: received.family,
        remote_port: received.source_port,
        remote: received.source,
        remote_scope: received.source_scope,
        interface_index: if has_interface { received.interface_index } else { 0 },
        local: local.unwrap_or(0).to_le_bytes(),
        ..NO_PATH
    })
}

/// The path to an address, given as a sockaddr.
pub(crate) fn to(address: &[u8]) -> Result<Path> {
    let enough = match address.first_chunk().map(|family| u16::from_ne_bytes(*family)) {
        None => usize::MAX,
        Some(AF_INET) => size_of::<libc::sockaddr_in>(),
        Some(AF_INET6) => size_of::<libc::sockaddr_in6>(),
        Some(_) => {
            return Err(Error::new(
                libc::EAFNOSUPPORT,
                "path: the address is neither AF_INET nor AF_INET6; for another family connect the socket",
            ));
        }
    };
    let mut known = Metadata::NONE;
    if address.len() >= enough {
        control::decode_name(address, &mut known);
    }
    reply(&known).ok_or(Error::new(libc::EINVAL, "path: the address is too short for its family"))
}

/// ::ffff:0.0.0.0, read as a little-endian number.
const MAPPED: u128 = 0xffff << 80;

/// Over IPv4, whose addresses begin at this bit, an answer leaves from ipi_spec_dst, which is never
/// a broadcast or multicast address. (The destination may be one, and a directed broadcast address
/// does not show it.) Also returns whether an address means nothing without an interface:
/// 169.254/16, multicast.
#[inline(always)]
fn reply_v4<const AT: u32>(received: &Metadata, source: u128, asked: u128) -> (Option<u128>, bool) {
    let link_local = |address: u32| address as u16 == u16::from_le_bytes([169, 254]);
    let local = u32::from_le_bytes(received.local_v4);
    let has_local = received.valid & RINGMSG_META_LOCAL_V4 != 0;
    let to_multicast = received.valid & RINGMSG_META_DESTINATION != 0 && (asked >> AT) as u8 & 0xf0 == 0xe0;
    let needs_interface = link_local((source >> AT) as u32) | (has_local & link_local(local)) | to_multicast;
    let prefix = if AT == 0 { 0 } else { MAPPED };
    (has_local.then_some(prefix | u128::from(local) << AT), needs_interface)
}

/// Over IPv6 it leaves from the destination, unless that is multicast. The same for fe80::/10.
#[inline(always)]
fn reply_v6(known: u32, source: u128, asked: u128) -> (Option<u128>, bool) {
    let link_local = |address: u128| address as u16 & 0xc0ff == u16::from_le_bytes([0xfe, 0x80]);
    if known & RINGMSG_META_DESTINATION == 0 {
        return (None, link_local(source));
    }
    let to_multicast = asked as u8 == 0xff;
    ((!to_multicast).then_some(asked), to_multicast | link_local(source) | link_local(asked))
}

#[cfg(test)]
mod tests;
