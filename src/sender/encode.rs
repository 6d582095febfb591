//! A group's address and control messages, as the kernel reads them: what is right for the peer,
//! not for the socket. To an IPv4 peer of an IPv6 socket the kernel ignores IPV6_TCLASS and
//! IPV6_HOPLIMIT without an error, and takes IP_TOS and IP_TTL.

use crate::control;

use super::group::Group;
use super::message::RINGMSG_MESSAGE_TRAFFIC_CLASS;
use super::path::{
    Path, Peer, RINGMSG_PATH_FLOW_LABEL, RINGMSG_PATH_HOP_LIMIT, RINGMSG_PATH_INTERFACE, RINGMSG_PATH_LOCAL,
    RINGMSG_PATH_REMOTE, RINGMSG_PATH_TRAFFIC_CLASS, mapped,
};

// asm-generic/socket.h; libc has not got them for every C library.
const SCM_TXTIME: i32 = 61;
const SCM_TS_OPT_ID: i32 = 81;
/// Bytes for the most control messages a group can have: an in6_pktinfo, and ten of up to 8 bytes.
pub(super) const CONTROL_MAX: usize = control::space(20) + 10 * control::space(8);
/// The same of a group of plain messages on a bare path: an in6_pktinfo, and a UDP_SEGMENT.
pub(super) const BARE_MAX: usize = control::space(20) + control::space(2);
/// Bytes of a UDP_SEGMENT that is the last.
pub(super) const OVERRIDE: usize = control::HEADER + size_of::<u16>();

/// What is not known of a socket and its peer from the path.
#[derive(Clone, Copy, Default)]
pub(super) struct Circumstances {
    /// The socket's own UDP_SEGMENT must be overridden.
    pub segments_by_itself: bool,
    /// The connected peer is IPv4. Only looked at where the path does not tell.
    pub connected_v4: bool,
}

/// What is added once a group is complete.
#[derive(Clone, Copy, Default)]
pub(super) struct More {
    /// UDP_SEGMENT
    pub segment_size: Option<u16>,
    /// The SOF_TIMESTAMPING_* bits to ask for; 0: no timestamp.
    pub timestamping: u32,
    /// SCM_TS_OPT_ID
    pub timestamp_id: Option<u32>,
}

/// Appends control messages to zeroed, aligned memory of CONTROL_MAX bytes.
struct Writer {
    base: *mut u8,
    /// Bytes used, padded for the next message; and without that padding.
    at: usize,
    end: usize,
}

impl Writer {
    #[inline(always)]
    fn put<T: Copy>(&mut self, level: i32, kind: i32, data: T) {
        const { assert!(size_of::<T>() <= 20) }
        debug_assert!(self.at + control::space(size_of::<T>()) <= CONTROL_MAX);
        self.end = self.at + control::HEADER + size_of::<T>();
        // SAFETY: there are at most eleven messages for one group, each as long as CONTROL_MAX
        // allows for.
        unsafe {
            let to = self.base.add(self.at);
            to.cast::<usize>().write(control::HEADER + size_of::<T>());
            to.add(size_of::<usize>()).cast::<[i32; 2]>().write([level, kind]);
            to.add(control::HEADER).cast::<T>().write_unaligned(data);
        }
        self.at += control::space(size_of::<T>());
    }
}

/// Writes the sockaddr_in of a bare IPv4 path; returns its length. (The kernel does not look at
/// sin_zero.)
///
/// # Safety
/// `to` is writable.
#[inline(always)]
pub(super) unsafe fn bare_name_v4(path: &Path, to: *mut u64) -> u32 {
    // SAFETY: the caller's promise. All but the order of the port's bytes is as in the path.
    unsafe {
        to.write(path.peer_word());
        to.cast::<u16>().add(1).write(path.remote_port.to_be());
    }
    size_of::<libc::sockaddr_in>() as u32
}

/// Writes the sockaddr_in6 of a bare IPv6 path; returns its length.
///
/// # Safety
/// `to` is writable for four words.
#[inline(always)]
pub(super) unsafe fn bare_name_v6(path: &Path, to: *mut u64) -> u32 {
    // SAFETY: the caller's promise; 28 bytes fit.
    unsafe {
        to.cast::<libc::sockaddr_in6>().write(libc::sockaddr_in6 {
            sin6_family: path.family,
            sin6_port: path.remote_port.to_be(),
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: path.remote },
            sin6_scope_id: path.remote_scope,
        });
    }
    size_of::<libc::sockaddr_in6>() as u32
}

/// Writes the control messages of a bare IPv6 path; returns their length.
///
/// # Safety
/// `to` is writable for eight words.
#[inline(always)]
pub(super) unsafe fn bare_control_v6(path: &Path, peer: Peer, to: *mut u64) -> usize {
    if path.valid == RINGMSG_PATH_REMOTE {
        return 0;
    }
    let interface = if path.has(RINGMSG_PATH_INTERFACE) { path.interface_index } else { 0 };
    let has_local = path.has(RINGMSG_PATH_LOCAL);
    let mut writer = Writer { base: to.cast(), at: 0, end: 0 };
    if peer == Peer::V4 {
        let local = if has_local { path.words()[11] } else { 0 };
        let both = u64::from(interface) | u64::from(local) << 32;
        writer.put(libc::SOL_IP, libc::IP_PKTINFO, Pktinfo(both, 0));
    } else {
        let local = if has_local { path.local } else { [0; 16] };
        writer.put(libc::SOL_IPV6, libc::IPV6_PKTINFO, In6Pktinfo { local, interface });
    }
    writer.end
}

/// Writes the control messages of a bare IPv4 path; returns their length.
///
/// # Safety
/// `to` is writable for four words.
#[inline(always)]
pub(super) unsafe fn bare_control_v4(path: &Path, to: *mut u64) -> usize {
    // An answer: nearly all have a source, and no interface.
    if path.valid == RINGMSG_PATH_REMOTE | RINGMSG_PATH_LOCAL {
        let mut writer = Writer { base: to.cast(), at: 0, end: 0 };
        let pktinfo = Pktinfo(u64::from(path.words()[8]) << 32, 0);
        writer.put(libc::SOL_IP, libc::IP_PKTINFO, pktinfo);
        return writer.end;
    }
    // SAFETY: the caller's promise.
    unsafe { bare_control_v4_with_interface(path, to) }
}

/// The same with an interface, or with neither.
#[inline(never)]
unsafe fn bare_control_v4_with_interface(path: &Path, to: *mut u64) -> usize {
    if path.valid == RINGMSG_PATH_REMOTE {
        return 0;
    }
    let local = if path.has(RINGMSG_PATH_LOCAL) { path.words()[8] } else { 0 };
    let mut writer = Writer { base: to.cast(), at: 0, end: 0 };
    let both = u64::from(path.interface_index) | u64::from(local) << 32;
    writer.put(libc::SOL_IP, libc::IP_PKTINFO, Pktinfo(both, 0));
    writer.end
}

/// struct in_pktinfo { int ipi_ifindex; in_addr ipi_spec_dst; in_addr ipi_addr; }, the first two as
/// one word (which comes first on a little-endian machine).
#[repr(C, packed(4))]
#[derive(Clone, Copy)]
struct Pktinfo(u64, u32);

/// Writes the sockaddr of a path's remote address; returns its length, 0 without one.
///
/// # Safety
/// `to` is writable for four words.
pub(super) unsafe fn encode_name(path: &Path, to: *mut u64) -> u32 {
    if !path.has(RINGMSG_PATH_REMOTE) {
        return 0;
    }
    // SAFETY: the caller's promise.
    unsafe {
        if path.family == libc::AF_INET as u16 { bare_name_v4(path, to) } else { bare_name_v6(path, to) }
    }
}

/// Adds a UDP_SEGMENT of 0 to the control messages of a bare path; returns their new length.
///
/// # Safety
/// `to` is writable for eight words.
pub(super) unsafe fn add_override(to: *mut u64, length: usize) -> usize {
    let mut writer = Writer { base: to.cast(), at: control::align(length), end: length };
    writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, 0u16);
    writer.end
}

/// Writes the control messages that a group has from its beginning; returns their length. Behind
/// the last one there is no padding: up to 36 bytes are copied to the kernel's stack, more is
/// allocated.
///
/// # Safety
/// `to` is writable for CONTROL_MAX bytes, and aligned as a cmsghdr is.
#[inline(always)]
pub(super) unsafe fn encode_control(group: &Group, path: &Path, what: Circumstances, to: *mut u8) -> usize {
    let mut writer = Writer { base: to, at: 0, end: 0 };
    if path.valid & !RINGMSG_PATH_REMOTE != 0 {
        encode_source(&mut writer, group, path, what.connected_v4);
        encode_settings(&mut writer, group, path);
    }
    if !group.traits.is_plain() {
        encode_traits(&mut writer, group);
    }
    if what.segments_by_itself {
        writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, 0u16);
    }
    writer.end
}

/// Writes more behind control messages of this length; returns the new one. Of two of a kind the
/// kernel takes the second.
///
/// # Safety
/// As for `encode_control`.
pub(super) unsafe fn add_control(more: More, to: *mut u8, length: usize) -> usize {
    let mut writer = Writer { base: to, at: control::align(length), end: length };
    if more.timestamping != 0 {
        writer.put(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, more.timestamping);
    }
    if let Some(id) = more.timestamp_id {
        writer.put(libc::SOL_SOCKET, SCM_TS_OPT_ID, id);
    }
    if let Some(size) = more.segment_size {
        writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, size);
    }
    writer.end
}

/// struct in6_pktinfo
#[repr(C)]
#[derive(Clone, Copy)]
struct In6Pktinfo {
    local: [u8; 16],
    interface: u32,
}

/// Source address and interface.
#[inline(always)]
fn encode_source(writer: &mut Writer, group: &Group, path: &Path, connected_v4: bool) {
    if path.valid & (RINGMSG_PATH_LOCAL | RINGMSG_PATH_INTERFACE) == 0 {
        return;
    }
    let interface = if path.has(RINGMSG_PATH_INTERFACE) { path.interface_index } else { 0 };
    match local_v4(group, path, connected_v4) {
        Some(local) => {
            let both = u64::from(interface) | u64::from(u32::from_ne_bytes(local)) << 32;
            writer.put(libc::SOL_IP, libc::IP_PKTINFO, Pktinfo(both, 0));
        }
        None => {
            let local = if path.has(RINGMSG_PATH_LOCAL) { path.local } else { [0; 16] };
            writer.put(libc::SOL_IPV6, libc::IPV6_PKTINFO, In6Pktinfo { local, interface });
        }
    }
}

/// The source address if IPv4 options are to be used; None: those of IPv6.
fn local_v4(group: &Group, path: &Path, connected_v4: bool) -> Option<[u8; 4]> {
    let has_local = path.has(RINGMSG_PATH_LOCAL);
    match group.peer {
        _ if has_local && path.family == libc::AF_INET as u16 => path.local.first_chunk().copied(),
        Peer::V4 => Some(mapped(&path.local).filter(|_| has_local).unwrap_or_default()),
        Peer::Connected if has_local => mapped(&path.local),
        Peer::Connected => connected_v4.then_some([0; 4]),
        _ => None,
    }
}

/// What the path sets beside that. The message's own traffic class comes first.
#[inline(always)]
fn encode_settings(writer: &mut Writer, group: &Group, path: &Path) {
    const SETTINGS: u32 = RINGMSG_PATH_TRAFFIC_CLASS | RINGMSG_PATH_HOP_LIMIT | RINGMSG_PATH_FLOW_LABEL;
    if path.valid & SETTINGS == 0 {
        return;
    }
    let own_class = group.traits.flags & RINGMSG_MESSAGE_TRAFFIC_CLASS != 0;
    if path.has(RINGMSG_PATH_TRAFFIC_CLASS) && !own_class {
        encode_class(writer, group.peer, u32::from(path.traffic_class));
    }
    if path.has(RINGMSG_PATH_HOP_LIMIT) {
        let limit = i32::from(path.hop_limit);
        if group.peer != Peer::V6 {
            writer.put(libc::SOL_IP, libc::IP_TTL, limit);
        }
        if matches!(group.peer, Peer::V6 | Peer::Connected) {
            writer.put(libc::SOL_IPV6, libc::IPV6_HOPLIMIT, limit);
        }
    }
    if path.has(RINGMSG_PATH_FLOW_LABEL) && matches!(group.peer, Peer::V6 | Peer::Connected) {
        writer.put(libc::SOL_IPV6, libc::IPV6_FLOWINFO, path.flow_label.to_be());
    }
}

/// Only the kernel knows whether the connected peer of an IPv6 socket is IPv4, so it gets both, and
/// takes the right one.
#[inline(always)]
fn encode_class(writer: &mut Writer, peer: Peer, class: u32) {
    if peer != Peer::V6 {
        writer.put(libc::SOL_IP, libc::IP_TOS, class);
    }
    if matches!(peer, Peer::V6 | Peer::Connected) {
        writer.put(libc::SOL_IPV6, libc::IPV6_TCLASS, class);
    }
}

/// What messages ask for themselves, timestamps excepted.
fn encode_traits(writer: &mut Writer, group: &Group) {
    let traits = &group.traits;
    if traits.flags & RINGMSG_MESSAGE_TRAFFIC_CLASS != 0 {
        encode_class(writer, group.peer, traits.traffic_class);
    }
    if traits.transmit_time_ns != 0 {
        writer.put(libc::SOL_SOCKET, SCM_TXTIME, traits.transmit_time_ns);
    }
}
