//! The headers that go to sendmmsg(2), one for each group.

use std::os::fd::RawFd;

use crate::control::align;

use super::encode::{self, Circumstances, More};
use super::group::{Group, Link, NONE};
use super::limits::Limits;
use super::message::{RINGMSG_MESSAGE_TIMESTAMP, Source};
use super::path::{Peer, RINGMSG_PATH_INTERFACE, RINGMSG_PATH_LOCAL};
use super::scratch::Scratch;

#[inline(always)]
pub(super) fn circumstances(limits: &Limits, socket: RawFd, group: &Group) -> Circumstances {
    Circumstances {
        segments_by_itself: limits.segments_by_itself,
        connected_v4: group.peer == Peer::Connected && needs_family(group) && is_connected_to_v4(socket),
    }
}

/// The path says through which interface, but not whether the connected peer is IPv4.
fn needs_family(group: &Group) -> bool {
    // SAFETY: a path is readable for as long as the source is used.
    let valid = unsafe { (*group.path).valid };
    valid & (RINGMSG_PATH_INTERFACE | RINGMSG_PATH_LOCAL) == RINGMSG_PATH_INTERFACE
}

/// What groups add to the counters once they are sent.
#[derive(Default)]
pub(super) struct Sums {
    pub datagrams: u64,
    pub trains: u64,
    pub grouped: u64,
}

impl Sums {
    #[inline(always)]
    pub(super) fn add(&mut self, group: &Group) {
        self.datagrams += u64::from(group.datagrams);
        if group.datagrams > 1 {
            self.trains += 1;
            self.grouped += if group.messages > 1 { u64::from(group.messages) } else { 0 };
        }
    }
}

/// Writes the headers of `groups` groups, with their addresses, parts and control messages. Returns
/// what they will add to the counters.
#[inline(never)]
pub(super) fn write<S: Source>(
    limits: &Limits,
    socket: RawFd,
    scratch: &mut Scratch,
    source: &S,
    groups: usize,
) -> Sums {
    let mut sums = Sums::default();
    let mut gathered = scratch.gathered.as_mut_ptr();
    let mut control = scratch.control.as_mut_ptr().cast::<u8>();
    let parts = scratch.parts.as_mut_ptr();
    for (group, header) in scratch.groups[..groups].iter().zip(scratch.headers.iter_mut()) {
        sums.add(group);
        let header = &mut header.msg_hdr;
        if group.has_header && group.datagrams == 1 {
            continue;
        }
        // SAFETY: a path is readable for as long as the source is used; addresses and control
        // messages have room for the most that each of a batch of groups can have.
        unsafe {
            let path = &*group.path;
            if !group.has_header {
                let mut what = circumstances(limits, socket, group);
                what.segments_by_itself &= group.datagrams == 1;
                header.msg_control = control.cast();
                header.msg_controllen = encode::encode_control(group, path, what, control) as _;
                header.msg_namelen = encode::encode_name(path, header.msg_name.cast());
                header.msg_iov = parts.add(group.first as usize);
            }
            header.msg_iovlen = group.messages as _;
            if !group.is_in_a_row() {
                header.msg_iov = gathered;
                gathered = gather_parts(group.first, &scratch.links, parts, gathered);
            }
            if group.datagrams > 1 || group.traits.flags & RINGMSG_MESSAGE_TIMESTAMP != 0 {
                let more = more(limits, source, group, scratch.links[group.first as usize].index);
                let mut length = control_length(header);
                if group.has_header && limits.segments_by_itself {
                    length -= encode::OVERRIDE; // a train says itself how it is cut
                }
                length = encode::add_control(more, header.msg_control.cast(), length);
                header.msg_controllen = length as _;
            }
            if !group.has_header {
                control = control.add(align(control_length(header)));
            }
        }
    }
    sums
}

/// musl has it as 32 bits.
#[inline(always)]
#[allow(clippy::unnecessary_cast)]
fn control_length(header: &libc::msghdr) -> usize {
    header.msg_controllen as usize
}

/// What is added to the control messages of a group that is complete, and begins with this message.
pub(super) fn more<S: Source>(limits: &Limits, source: &S, group: &Group, index: u32) -> More {
    let asks = group.traits.flags & RINGMSG_MESSAGE_TIMESTAMP != 0;
    More {
        segment_size: (group.datagrams > 1).then_some(group.size() as u16),
        timestamping: if asks { limits.timestamping } else { 0 },
        timestamp_id: (asks && limits.timestamp_ids).then(|| source.timestamp_id(index)),
    }
}

/// Copies the parts of a group, from this position on along the links; returns where the next go.
///
/// # Safety
/// `to` is writable for as many parts as the group has; its positions are taken.
#[inline(always)]
unsafe fn gather_parts(
    mut position: u32,
    links: &[Link],
    parts: *const libc::iovec,
    mut to: *mut libc::iovec,
) -> *mut libc::iovec {
    while position != NONE {
        // SAFETY: the caller's promise.
        unsafe {
            to.write(*parts.add(position as usize));
            to = to.add(1);
            position = links.get_unchecked(position as usize).next;
        }
    }
    to
}

/// An IPv6 socket is connected to a mapped IPv4 address.
fn is_connected_to_v4(fd: RawFd) -> bool {
    let mut name = libc::sockaddr_in6 {
        sin6_family: 0,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
        sin6_scope_id: 0,
    };
    let mut length = size_of_val(&name) as libc::socklen_t;
    // SAFETY: `name` is writable for `length` bytes.
    let known = unsafe { libc::getpeername(fd, (&raw mut name).cast(), &mut length) } == 0;
    known && super::path::mapped(&name.sin6_addr.s6_addr).is_some()
}
