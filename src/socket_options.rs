//! Socket options: which control messages they make the kernel send, how much room those need, and
//! switching them on.

use std::os::fd::RawFd;

use crate::config::PoolConfig;
use crate::control;
use crate::error::{Error, Result, describe};
use crate::record::*;
use crate::socket::{self, Kind};
use crate::sys::sockopt::{get, is_on, set};

// asm-generic/socket.h and linux/in6.h; libc does not define all of them.
const SO_RCVMARK: i32 = 75;
const SO_PASSPIDFD: i32 = 76;
const SO_RCVPRIORITY: i32 = 82;
const SO_WIFI_STATUS: i32 = 41;
const IP_CHECKSUM: i32 = 23;
const IP_RECVFRAGSIZE: i32 = 25;
const IPV6_2292PKTINFO: i32 = 2;
const IPV6_2292HOPOPTS: i32 = 3;
const IPV6_2292DSTOPTS: i32 = 4;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_2292HOPLIMIT: i32 = 8;
const IPV6_RECVHOPOPTS: i32 = 53;
const IPV6_RECVRTHDR: i32 = 56;
const IPV6_RECVDSTOPTS: i32 = 58;
const IPV6_RECVPATHMTU: i32 = 60;
const IPV6_RECVFRAGSIZE: i32 = 77;

/// A socket option that makes the kernel send a control message, and that message's largest data.
struct CmsgOption {
    level: i32,
    option: i32,
    data: usize,
}

const fn cmsg(level: i32, option: i32, data: usize) -> CmsgOption {
    CmsgOption { level, option, data }
}

const SOCKET_CMSG_OPTIONS: &[CmsgOption] = &[
    cmsg(libc::SOL_SOCKET, libc::SO_TIMESTAMP, 16),
    cmsg(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 16),
    // The old forms show as off when these are on; SO_TIMESTAMPING does not.
    cmsg(libc::SOL_SOCKET, control::SO_TIMESTAMP_NEW, 16),
    cmsg(libc::SOL_SOCKET, control::SO_TIMESTAMPNS_NEW, 16),
    // scm_timestamping, and scm_ts_pktinfo when OPT_PKTINFO asks for it.
    cmsg(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 48 + control::HEADER + 16),
    cmsg(libc::SOL_SOCKET, SO_WIFI_STATUS, 4),
    cmsg(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4),
    cmsg(libc::SOL_SOCKET, SO_RCVMARK, 4),
    cmsg(libc::SOL_SOCKET, SO_RCVPRIORITY, 4),
];
const IP_CMSG_OPTIONS: &[CmsgOption] = &[
    cmsg(libc::SOL_IP, libc::IP_PKTINFO, 12),
    cmsg(libc::SOL_IP, libc::IP_RECVTTL, 4),
    cmsg(libc::SOL_IP, libc::IP_RECVTOS, 4),
    cmsg(libc::SOL_IP, libc::IP_RECVOPTS, 40),
    cmsg(libc::SOL_IP, libc::IP_RETOPTS, 40),
    cmsg(libc::SOL_IP, libc::IP_PASSSEC, 256),
    cmsg(libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 16),
    cmsg(libc::SOL_IP, IP_CHECKSUM, 4),
    cmsg(libc::SOL_IP, IP_RECVFRAGSIZE, 4),
    cmsg(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 20),
    cmsg(libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 4),
    cmsg(libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 4),
    cmsg(libc::SOL_IPV6, libc::IPV6_FLOWINFO, 4),
    cmsg(libc::SOL_IPV6, IPV6_RECVHOPOPTS, 2048),
    cmsg(libc::SOL_IPV6, IPV6_RECVDSTOPTS, 2 * 2048),
    cmsg(libc::SOL_IPV6, IPV6_RECVRTHDR, 2048),
    cmsg(libc::SOL_IPV6, IPV6_2292PKTINFO, 20),
    cmsg(libc::SOL_IPV6, IPV6_2292HOPLIMIT, 4),
    cmsg(libc::SOL_IPV6, IPV6_2292HOPOPTS, 2048),
    cmsg(libc::SOL_IPV6, IPV6_2292DSTOPTS, 2 * 2048),
    cmsg(libc::SOL_IPV6, IPV6_2292RTHDR, 2048),
    cmsg(libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 28),
    cmsg(libc::SOL_IPV6, IPV6_RECVPATHMTU, 32),
    cmsg(libc::SOL_IPV6, IPV6_RECVFRAGSIZE, 4),
];
const OTHER_CMSG_OPTIONS: &[CmsgOption] = &[
    cmsg(libc::SOL_NETLINK, libc::NETLINK_PKTINFO, 4),
    cmsg(libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, 4),
    cmsg(libc::SOL_PACKET, libc::PACKET_AUXDATA, 20),
];
/// 253 descriptors (SCM_MAX_FD), credentials, a pidfd, a security label: a peer can send these
/// although no option asks for them, so there is always room.
const UNIX_SPACE: usize =
    control::space(253 * 4) + control::space(12) + control::space(4) + control::space(256);

fn space_of(fd: RawFd, options: &[CmsgOption]) -> usize {
    let on = options.iter().filter(|cmsg| is_on(fd, cmsg.level, cmsg.option));
    on.map(|cmsg| control::space(cmsg.data)).sum()
}

/// Control bytes that must fit so that the segment size of a train does: it is written after
/// the SOL_SOCKET messages and before the IP ones.
pub(crate) fn space_for_segment_size(fd: RawFd) -> usize {
    space_of(fd, SOCKET_CMSG_OPTIONS) + control::space(size_of::<i32>())
}

/// Sizes a pool for what is switched on at `fd`.
pub(crate) fn size_pool(config: &mut PoolConfig, fd: RawFd) -> Result<()> {
    let kind = Kind::of(fd)?;
    let mut space = space_of(fd, SOCKET_CMSG_OPTIONS);
    if kind.is_ip() {
        // Not every kernel answers getsockopt(UDP_GRO), so there is always room for its message.
        space += control::space(size_of::<i32>()) + space_of(fd, IP_CMSG_OPTIONS);
        // And for IP_RECVERR's (sock_extended_err, the offender's sockaddr): the error queue uses
        // it for transmit timestamps too, with that option off.
        space += control::space(16 + if kind.domain == libc::AF_INET6 { 28 } else { 16 });
    }
    if !kind.is_ip() {
        // sock_extended_err: packet sockets have an error queue as well, and vsock.
        space += control::space(16) + space_of(fd, OTHER_CMSG_OPTIONS);
    }
    if kind.passes_descriptors() {
        space += UNIX_SPACE;
    } else if is_on(fd, libc::SOL_SOCKET, libc::SO_PASSCRED) || is_on(fd, libc::SOL_SOCKET, SO_PASSPIDFD) {
        space += control::space(12) + control::space(4);
    }
    config.control_capacity = space as u32;
    config.name_capacity = match kind.domain {
        libc::AF_INET => 16,
        libc::AF_INET6 => 32,
        libc::AF_UNIX => 112,
        _ => 128,
    };
    // Untouched pages use no memory, so there is room for the longest datagram and GRO train.
    config.payload_capacity = 65536;
    Ok(())
}

const SOF_TIMESTAMPING_RX_HARDWARE: i32 = 1 << 2;
const SOF_TIMESTAMPING_RX_SOFTWARE: i32 = 1 << 3;
const SOF_TIMESTAMPING_SOFTWARE: i32 = 1 << 4;
const SOF_TIMESTAMPING_RAW_HARDWARE: i32 = 1 << 6;

/// A socket option that some metadata need.
struct MetadataOption {
    metadata: u32,
    level: i32,
    option: i32,
    /// The bits to set in the option's value.
    value: i32,
}

const METADATA_OPTIONS: &[MetadataOption] = {
    const fn of(metadata: u32, level: i32, option: i32, value: i32) -> MetadataOption {
        MetadataOption { metadata, level, option, value }
    }
    const PACKET: u32 = RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE;
    const ERROR: u32 = RINGMSG_META_SOCKET_ERROR | RINGMSG_META_OFFENDER;
    const SOFTWARE: i32 = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    const HARDWARE: i32 = SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    const SOCKET: i32 = libc::SOL_SOCKET;
    const V4: i32 = libc::SOL_IP;
    const V6: i32 = libc::SOL_IPV6;
    &[
        of(PACKET | RINGMSG_META_LOCAL_V4, V4, libc::IP_PKTINFO, 1),
        of(PACKET, V6, libc::IPV6_RECVPKTINFO, 1),
        of(RINGMSG_META_TRAFFIC_CLASS, V4, libc::IP_RECVTOS, 1),
        of(RINGMSG_META_TRAFFIC_CLASS, V6, libc::IPV6_RECVTCLASS, 1),
        of(RINGMSG_META_HOP_LIMIT, V4, libc::IP_RECVTTL, 1),
        of(RINGMSG_META_HOP_LIMIT, V6, libc::IPV6_RECVHOPLIMIT, 1),
        of(RINGMSG_META_SEGMENT_SIZE, libc::SOL_UDP, libc::UDP_GRO, 1),
        of(RINGMSG_META_DROPPED, SOCKET, libc::SO_RXQ_OVFL, 1),
        of(RINGMSG_META_SOFTWARE_TIMESTAMP, SOCKET, libc::SO_TIMESTAMPING, SOFTWARE),
        of(RINGMSG_META_HARDWARE_TIMESTAMP, SOCKET, libc::SO_TIMESTAMPING, HARDWARE),
        of(RINGMSG_META_DESTINATION_PORT, V4, libc::IP_RECVORIGDSTADDR, 1),
        of(RINGMSG_META_DESTINATION_PORT, V6, libc::IPV6_RECVORIGDSTADDR, 1),
        of(ERROR, V4, libc::IP_RECVERR, 1),
        of(ERROR, V6, libc::IPV6_RECVERR, 1),
        of(RINGMSG_META_MARK, SOCKET, SO_RCVMARK, 1),
        of(RINGMSG_META_FLOW_LABEL, V6, libc::IPV6_FLOWINFO, 1),
        of(RINGMSG_META_PRIORITY, SOCKET, SO_RCVPRIORITY, 1),
    ]
};

/// The metadata that need no option, and those of sockets of every family.
const OF_EVERY_FAMILY: u32 = RINGMSG_META_SOURCE
    | RINGMSG_META_DROPPED
    | RINGMSG_META_SOFTWARE_TIMESTAMP
    | RINGMSG_META_HARDWARE_TIMESTAMP
    | RINGMSG_META_MARK
    | RINGMSG_META_PRIORITY;

fn check_metadata(fd: RawFd, metadata: u32) -> Result<Kind> {
    if metadata & !META_ALL != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("socket: unknown metadata bits {:#x}", metadata & !META_ALL),
        ));
    }
    let kind = Kind::of(fd)?;
    if !kind.is_ip() && metadata & !OF_EVERY_FAMILY != 0 {
        return Err(Error::new(
            libc::EOPNOTSUPP,
            "socket: this metadata exists on AF_INET and AF_INET6 sockets only",
        ));
    }
    if metadata & RINGMSG_META_DESTINATION_PORT != 0 && !kind.has_ports() {
        return Err(Error::new(libc::EOPNOTSUPP, "socket: raw and ping sockets have no ports"));
    }
    Ok(kind)
}

/// The options for `metadata` on a socket of this kind. IPv6 sockets get both levels: an IPv4
/// datagram on a dual-stack socket brings its traffic class and hop limit through the IPv4 options
/// only.
fn options_for(metadata: u32, kind: Kind) -> impl Iterator<Item = &'static MetadataOption> {
    METADATA_OPTIONS.iter().filter(move |option| {
        let elsewhere = option.level == libc::SOL_IPV6 && kind.domain != libc::AF_INET6;
        metadata & option.metadata != 0 && !elsewhere
    })
}

/// A socket does not have this level, or this option: IPv6 raw sockets have no IPv4 options.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOPROTOOPT | libc::EOPNOTSUPP))
}

fn value_of(fd: RawFd, option: &MetadataOption) -> i32 {
    get::<[i32; 2]>(fd, option.level, option.option).map_or(0, |value| value[0])
}

/// Switches on the options that make the kernel send `metadata`: all of them, or none. A level that
/// the socket does not have is skipped, as long as another level provides the metadata.
pub(crate) fn enable(fd: RawFd, metadata: u32) -> Result<()> {
    let kind = check_metadata(fd, metadata)?;
    let mut undo = [(0, 0, 0); METADATA_OPTIONS.len()];
    let mut changed = 0;
    let mut provided = RINGMSG_META_SOURCE;
    let mut failed = None;
    for option in options_for(metadata, kind) {
        let before = value_of(fd, option);
        if before & option.value != option.value {
            match set(fd, option.level, option.option, before | option.value) {
                Ok(()) => {
                    undo[changed] = (option.level, option.option, before);
                    changed += 1;
                }
                Err(error) if is_missing(&error) => {
                    failed.get_or_insert((option.metadata, error));
                    continue;
                }
                Err(error) => {
                    provided = 0;
                    failed = Some((option.metadata, error));
                    break;
                }
            }
        }
        provided |= option.metadata;
    }
    if metadata & !provided == 0 {
        return Ok(());
    }
    for &(level, option, before) in undo[..changed].iter().rev() {
        let _ = set(fd, level, option, before);
    }
    let missing = metadata & !provided;
    let (bits, errno) = match failed {
        Some((bits, error)) => (bits, error.raw_os_error().unwrap_or(libc::EIO)),
        // No level of this socket has it: FLOW_LABEL on AF_INET.
        None => (missing, libc::ENOPROTOOPT),
    };
    Err(Error::with(
        errno,
        format_args!("socket: {}: {}; nothing was switched on", option_name(bits), describe(errno)),
    ))
}

/// Switches off the options that make the kernel send `metadata`, for all who share the socket.
pub(crate) fn disable(fd: RawFd, metadata: u32) -> Result<()> {
    let kind = check_metadata(fd, metadata)?;
    let is_gro = |option: &&MetadataOption| option.metadata == RINGMSG_META_SEGMENT_SIZE;
    // First what may be refused.
    if let Some(gro) = options_for(metadata, kind).find(is_gro) {
        disable_gro(fd, gro)?;
    }
    for option in options_for(metadata, kind).filter(|option| !is_gro(option)) {
        let before = value_of(fd, option);
        if before & option.value == 0 {
            continue;
        }
        match set(fd, option.level, option.option, before & !option.value) {
            Err(error) if !is_missing(&error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let name = option_name(option.metadata);
                return Err(Error::with(errno, format_args!("socket: {name}: {}", describe(errno))));
            }
            _ => {}
        }
    }
    Ok(())
}

/// UDP_GRO goes off only while nothing is queued: a plain receive would see a queued train as one
/// datagram, without its segment size.
fn disable_gro(fd: RawFd, gro: &MetadataOption) -> Result<()> {
    const QUEUED: Error = Error::new(
        libc::EAGAIN,
        "socket: RINGMSG_META_SEGMENT_SIZE: datagrams are queued, and trains among them would be \
         merged; receive until -EAGAIN, then try again (GRO is still on)",
    );
    if !is_on(fd, gro.level, gro.option) {
        return Ok(());
    }
    if socket::queued_bytes(fd) > 0 {
        return Err(QUEUED);
    }
    let switch = |value| {
        set(fd, gro.level, gro.option, value)
            .map_err(|error| Error::from_io("socket: RINGMSG_META_SEGMENT_SIZE", &error))
    };
    switch(0)?;
    if socket::queued_bytes(fd) > 0 {
        // It may have arrived before: the kernel builds trains until it sees the option off.
        switch(1)?;
        return Err(QUEUED);
    }
    Ok(())
}

fn option_name(bits: u32) -> &'static str {
    match bits {
        RINGMSG_META_TRAFFIC_CLASS => "RINGMSG_META_TRAFFIC_CLASS",
        RINGMSG_META_HOP_LIMIT => "RINGMSG_META_HOP_LIMIT",
        RINGMSG_META_SEGMENT_SIZE => "RINGMSG_META_SEGMENT_SIZE (UDP_GRO, UDP sockets only)",
        RINGMSG_META_DROPPED => "RINGMSG_META_DROPPED",
        RINGMSG_META_SOFTWARE_TIMESTAMP => "RINGMSG_META_SOFTWARE_TIMESTAMP",
        RINGMSG_META_HARDWARE_TIMESTAMP => "RINGMSG_META_HARDWARE_TIMESTAMP",
        RINGMSG_META_DESTINATION_PORT => "RINGMSG_META_DESTINATION_PORT",
        RINGMSG_META_MARK => "RINGMSG_META_MARK (SO_RCVMARK, kernel 5.19, on some kernels CAP_NET_ADMIN)",
        RINGMSG_META_FLOW_LABEL => "RINGMSG_META_FLOW_LABEL (IPv6 sockets only)",
        RINGMSG_META_PRIORITY => "RINGMSG_META_PRIORITY (SO_RCVPRIORITY, kernel 6.14)",
        RINGMSG_META_LOCAL_V4 => "RINGMSG_META_LOCAL_V4",
        bits if bits & RINGMSG_META_SOCKET_ERROR != 0 => "RINGMSG_META_SOCKET_ERROR or _OFFENDER",
        _ => "RINGMSG_META_DESTINATION or _INTERFACE",
    }
}
