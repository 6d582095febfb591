//! Sockets: the library's own reference to one, its options, its drop counter.

use std::os::fd::RawFd;

use crate::config::PoolConfig;
use crate::control;
use crate::error::{Error, Result, describe};
use crate::fork::Descriptor;
use crate::record::*;

// asm-generic/socket.h and linux/in6.h; libc has not got them all.
const SO_MEMINFO: i32 = 55;
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
/// Which word of SO_MEMINFO counts drops (linux/sock_diag.h).
const SK_MEMINFO_DROPS: usize = 8;

/// getsockopt(2) for a plain value.
pub(crate) fn get<T: Copy + Default>(fd: RawFd, level: i32, name: i32) -> std::io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `length` bytes; T is an integer or an array of them.
    let got = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) };
    if got != 0 { Err(std::io::Error::last_os_error()) } else { Ok(value) }
}

/// setsockopt(2) for a plain value.
pub(crate) fn set<T: Copy>(fd: RawFd, level: i32, name: i32, value: &T) -> std::io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `length` bytes.
    let got = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), length) };
    if got != 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn is_on(fd: RawFd, level: i32, name: i32) -> bool {
    get::<i32>(fd, level, name).is_ok_and(|value| value != 0)
}

fn bad_descriptor(fd: RawFd, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Error::with(errno, format!("socket: descriptor {fd}: {}", describe(errno)))
}

/// What a socket is. Read once, when it is armed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub domain: i32,
    pub kind: i32,
}

impl Kind {
    pub(crate) fn of(fd: RawFd) -> Result<Self> {
        let read = |name| get::<i32>(fd, libc::SOL_SOCKET, name).map_err(|e| bad_descriptor(fd, &e));
        Ok(Self { kind: read(libc::SO_TYPE)?, domain: read(libc::SO_DOMAIN)? })
    }

    /// Result 0 is the end, and so is any error.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.kind, libc::SOCK_STREAM | libc::SOCK_SEQPACKET)
    }

    pub(crate) fn is_local_stream(&self) -> bool {
        self.domain == libc::AF_UNIX && self.kind == libc::SOCK_STREAM
    }

    /// A message has a length of its own, which MSG_TRUNC tells. On a TCP stream the same flag
    /// throws the bytes away.
    pub(crate) fn has_messages(&self) -> bool {
        self.kind != libc::SOCK_STREAM
    }

    /// An -ENOBUFS is never this socket's own. (Netlink and packet sockets have one: they were
    /// overrun.)
    pub(crate) fn never_lacks_buffers(&self) -> bool {
        self.is_ip() || self.domain == libc::AF_UNIX
    }

    /// Messages can carry descriptors.
    pub(crate) fn passes_descriptors(&self) -> bool {
        self.domain == libc::AF_UNIX
    }

    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.domain, libc::AF_INET | libc::AF_INET6)
    }
}

/// The library's own reference to a socket: a duplicate, so that the number the caller gave is
/// never used again. Requests on one socket share it.
#[derive(Debug)]
pub(crate) struct Socket {
    cookie: u64,
    descriptor: Descriptor,
    pub kind: Kind,
    requests: u32,
    drops_before: u32,
}

impl Socket {
    fn drops(&self) -> u32 {
        get::<[u32; 16]>(self.descriptor.raw(), libc::SOL_SOCKET, SO_MEMINFO)
            .map_or(self.drops_before, |info| info[SK_MEMINFO_DROPS])
    }
}

/// The sockets a ring holds.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    sockets: Vec<Option<Socket>>,
    drops_of_closed: u64,
}

impl Sockets {
    /// One more request on the socket behind `fd`. Tells by its cookie, which the kernel never
    /// gives twice, whether that is one we know: the number may have been used again.
    pub(crate) fn hold(&mut self, fd: RawFd) -> Result<usize> {
        let cookie = get::<u64>(fd, libc::SOL_SOCKET, libc::SO_COOKIE).map_err(|e| bad_descriptor(fd, &e))?;
        let known = |socket: &Option<Socket>| socket.as_ref().is_some_and(|s| s.cookie == cookie);
        if let Some(at) = self.sockets.iter().position(known) {
            self.get_mut(at).requests += 1;
            return Ok(at);
        }
        let kind = Kind::of(fd)?;
        let [descriptor] = Descriptor::open("socket: a duplicate of the descriptor", |[duplicate]| {
            // SAFETY: F_DUPFD_CLOEXEC has no preconditions.
            *duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
            *duplicate
        })?;
        let mut socket = Socket { cookie, descriptor, kind, requests: 1, drops_before: 0 };
        socket.drops_before = socket.drops();
        let at = self.sockets.iter().position(Option::is_none).unwrap_or(self.sockets.len());
        if at == self.sockets.len() {
            self.sockets.push(None);
        }
        self.sockets[at] = Some(socket);
        Ok(at)
    }

    /// One request less. The last one closes our reference: `closing` is told before.
    pub(crate) fn let_go(&mut self, at: usize, closing: impl FnOnce(RawFd)) {
        let socket = self.get_mut(at);
        socket.requests -= 1;
        if socket.requests == 0 {
            closing(socket.descriptor.raw());
            self.drops_of_closed += u64::from(socket.drops().wrapping_sub(socket.drops_before));
            self.sockets[at] = None;
        }
    }

    pub(crate) fn get(&self, at: usize) -> &Socket {
        self.sockets[at].as_ref().expect("a request refers to a socket that is held")
    }

    fn get_mut(&mut self, at: usize) -> &mut Socket {
        self.sockets[at].as_mut().expect("a request refers to a socket that is held")
    }

    pub(crate) fn fd(&self, at: usize) -> RawFd {
        self.get(at).descriptor.raw()
    }

    /// The stream has nothing but its end left. (Not by MSG_PEEK: that moves SO_PEEK_OFF.)
    pub(crate) fn is_at_end(&self, at: usize) -> bool {
        let mut poll = libc::pollfd { fd: self.fd(at), events: libc::POLLRDHUP, revents: 0 };
        let mut bytes = 0i32;
        // SAFETY: one pollfd; one writable int.
        unsafe {
            libc::poll(&mut poll, 1, 0) == 1
                && libc::ioctl(poll.fd, libc::FIONREAD, &raw mut bytes) == 0
                && bytes == 0
        }
    }

    /// The kernel's drop counter now: 32 bits, wraps.
    pub(crate) fn drops(&self, at: usize) -> u32 {
        self.get(at).drops()
    }

    /// Drops of every socket, each counted once.
    pub(crate) fn all_drops(&self) -> u64 {
        let open = self.sockets.iter().flatten();
        open.map(|s| u64::from(s.drops().wrapping_sub(s.drops_before))).sum::<u64>() + self.drops_of_closed
    }
}

/// A socket option that makes the kernel send a control message, and what it sends at most.
struct Sender {
    level: i32,
    option: i32,
    data: usize,
}

const fn sender(level: i32, option: i32, data: usize) -> Sender {
    Sender { level, option, data }
}

const SOCKET_SENDERS: &[Sender] = &[
    sender(libc::SOL_SOCKET, libc::SO_TIMESTAMP, 16),
    sender(libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 16),
    // The old forms show as off when these are on; SO_TIMESTAMPING does not.
    sender(libc::SOL_SOCKET, control::SO_TIMESTAMP_NEW, 16),
    sender(libc::SOL_SOCKET, control::SO_TIMESTAMPNS_NEW, 16),
    // scm_timestamping, and scm_ts_pktinfo when OPT_PKTINFO asks for it.
    sender(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, 48 + control::HEADER + 16),
    sender(libc::SOL_SOCKET, SO_WIFI_STATUS, 4),
    sender(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 4),
    sender(libc::SOL_SOCKET, SO_RCVMARK, 4),
    sender(libc::SOL_SOCKET, SO_RCVPRIORITY, 4),
];
const IP_SENDERS: &[Sender] = &[
    sender(libc::SOL_IP, libc::IP_PKTINFO, 12),
    sender(libc::SOL_IP, libc::IP_RECVTTL, 4),
    sender(libc::SOL_IP, libc::IP_RECVTOS, 4),
    sender(libc::SOL_IP, libc::IP_RECVOPTS, 40),
    sender(libc::SOL_IP, libc::IP_RETOPTS, 40),
    sender(libc::SOL_IP, libc::IP_PASSSEC, 256),
    sender(libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 16),
    sender(libc::SOL_IP, IP_CHECKSUM, 4),
    sender(libc::SOL_IP, IP_RECVFRAGSIZE, 4),
    sender(libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 20),
    sender(libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 4),
    sender(libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 4),
    sender(libc::SOL_IPV6, libc::IPV6_FLOWINFO, 4),
    sender(libc::SOL_IPV6, IPV6_RECVHOPOPTS, 2048),
    sender(libc::SOL_IPV6, IPV6_RECVDSTOPTS, 2 * 2048),
    sender(libc::SOL_IPV6, IPV6_RECVRTHDR, 2048),
    sender(libc::SOL_IPV6, IPV6_2292PKTINFO, 20),
    sender(libc::SOL_IPV6, IPV6_2292HOPLIMIT, 4),
    sender(libc::SOL_IPV6, IPV6_2292HOPOPTS, 2048),
    sender(libc::SOL_IPV6, IPV6_2292DSTOPTS, 2 * 2048),
    sender(libc::SOL_IPV6, IPV6_2292RTHDR, 2048),
    sender(libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 28),
    sender(libc::SOL_IPV6, IPV6_RECVPATHMTU, 32),
    sender(libc::SOL_IPV6, IPV6_RECVFRAGSIZE, 4),
];
const OTHER_SENDERS: &[Sender] = &[
    sender(libc::SOL_NETLINK, libc::NETLINK_PKTINFO, 4),
    sender(libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID, 4),
    sender(libc::SOL_PACKET, libc::PACKET_AUXDATA, 20),
];
/// 253 descriptors (SCM_MAX_FD), credentials, a pidfd, a security label: a peer can send these
/// without our asking, so there is always room.
const UNIX_SPACE: usize =
    control::space(253 * 4) + control::space(12) + control::space(4) + control::space(256);

fn space_of(fd: RawFd, senders: &[Sender]) -> usize {
    let on = senders.iter().filter(|sender| is_on(fd, sender.level, sender.option));
    on.map(|sender| control::space(sender.data)).sum()
}

/// Control bytes that must fit so that the segment size of a train does: it is written after
/// the SOL_SOCKET messages and before the IP ones.
pub(crate) fn space_for_segment_size(fd: RawFd) -> usize {
    space_of(fd, SOCKET_SENDERS) + control::space(size_of::<i32>())
}

/// Sizes a pool for what is switched on at `fd`.
pub(crate) fn size_pool(config: &mut PoolConfig, fd: RawFd) -> Result<()> {
    let kind = Kind::of(fd)?;
    let mut space = space_of(fd, SOCKET_SENDERS);
    if kind.is_ip() {
        // UDP_GRO by itself cannot be asked for on every kernel, so it always gets its place.
        space += control::space(size_of::<i32>()) + space_of(fd, IP_SENDERS);
        // So does IP_RECVERR, sock_extended_err and the offender's sockaddr: the error queue
        // brings it with transmit timestamps too, which nobody switched it on for.
        space += control::space(16 + if kind.domain == libc::AF_INET6 { 28 } else { 16 });
    }
    if !kind.is_ip() {
        space += space_of(fd, OTHER_SENDERS);
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
    // Pages nobody writes to cost nothing, so there is room for the longest datagram, and for
    // a GRO train, whatever the socket's path brings.
    config.payload_capacity = 65536;
    Ok(())
}

const SOF_TIMESTAMPING_RX_HARDWARE: i32 = 1 << 2;
const SOF_TIMESTAMPING_RX_SOFTWARE: i32 = 1 << 3;
const SOF_TIMESTAMPING_SOFTWARE: i32 = 1 << 4;
const SOF_TIMESTAMPING_RAW_HARDWARE: i32 = 1 << 6;

/// The options that one metadata bit needs: (bits, level, option, value to OR in).
const ENABLERS: &[(u32, i32, i32, i32)] = {
    const PACKET: u32 = RINGMSG_META_DESTINATION | RINGMSG_META_INTERFACE;
    const SOFTWARE: i32 = SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    const HARDWARE: i32 = SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE;
    const SOCKET: i32 = libc::SOL_SOCKET;
    &[
        (PACKET | RINGMSG_META_LOCAL_V4, libc::SOL_IP, libc::IP_PKTINFO, 1),
        (PACKET, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, 1),
        (RINGMSG_META_TRAFFIC_CLASS, libc::SOL_IP, libc::IP_RECVTOS, 1),
        (RINGMSG_META_TRAFFIC_CLASS, libc::SOL_IPV6, libc::IPV6_RECVTCLASS, 1),
        (RINGMSG_META_HOP_LIMIT, libc::SOL_IP, libc::IP_RECVTTL, 1),
        (RINGMSG_META_HOP_LIMIT, libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT, 1),
        (RINGMSG_META_SEGMENT_SIZE, libc::SOL_UDP, libc::UDP_GRO, 1),
        (RINGMSG_META_DROPPED, SOCKET, libc::SO_RXQ_OVFL, 1),
        (RINGMSG_META_SOFTWARE_TIMESTAMP, SOCKET, libc::SO_TIMESTAMPING, SOFTWARE),
        (RINGMSG_META_HARDWARE_TIMESTAMP, SOCKET, libc::SO_TIMESTAMPING, HARDWARE),
        (RINGMSG_META_DESTINATION_PORT, libc::SOL_IP, libc::IP_RECVORIGDSTADDR, 1),
        (RINGMSG_META_DESTINATION_PORT, libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR, 1),
        (RINGMSG_META_SOCKET_ERROR, libc::SOL_IP, libc::IP_RECVERR, 1),
        (RINGMSG_META_SOCKET_ERROR, libc::SOL_IPV6, libc::IPV6_RECVERR, 1),
        (RINGMSG_META_MARK, SOCKET, SO_RCVMARK, 1),
        (RINGMSG_META_FLOW_LABEL, libc::SOL_IPV6, libc::IPV6_FLOWINFO, 1),
    ]
};

/// Switches on what makes the kernel send `metadata`. All of it, or nothing.
pub(crate) fn enable(fd: RawFd, metadata: u32) -> Result<()> {
    if metadata & !META_ALL != 0 {
        return Err(Error::with(
            libc::EINVAL,
            format!("socket: unknown metadata bits {:#x}", metadata & !META_ALL),
        ));
    }
    let kind = Kind::of(fd)?;
    let needs_ip = !(RINGMSG_META_SOURCE
        | RINGMSG_META_DROPPED
        | RINGMSG_META_SOFTWARE_TIMESTAMP
        | RINGMSG_META_HARDWARE_TIMESTAMP
        | RINGMSG_META_MARK);
    if !kind.is_ip() && metadata & needs_ip != 0 {
        return Err(Error::new(
            libc::EOPNOTSUPP,
            "socket: this metadata exists on AF_INET and AF_INET6 sockets only",
        ));
    }
    let mut undo: Vec<(i32, i32, i32)> = Vec::new();
    for &(bits, level, option, value) in ENABLERS {
        // IPv6 sockets get both levels: an IPv4 datagram on a dual-stack socket brings its
        // traffic class and hop limit through the IPv4 options only.
        let elsewhere = level == libc::SOL_IPV6 && kind.domain != libc::AF_INET6;
        if metadata & bits == 0 || (elsewhere && bits != RINGMSG_META_FLOW_LABEL) {
            continue;
        }
        let before = get::<[i32; 2]>(fd, level, option).map_or(0, |value| value[0]);
        if before & value == value {
            continue;
        }
        if let Err(error) = set(fd, level, option, &(before | value)) {
            for &(level, option, before) in undo.iter().rev() {
                let _ = set(fd, level, option, &before);
            }
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            return Err(Error::with(
                errno,
                format!("socket: {}: {}; nothing was switched on", option_name(bits), describe(errno)),
            ));
        }
        undo.push((level, option, before));
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
        RINGMSG_META_SOCKET_ERROR => "RINGMSG_META_SOCKET_ERROR",
        RINGMSG_META_MARK => "RINGMSG_META_MARK (SO_RCVMARK, kernel 5.19, CAP_NET_ADMIN)",
        RINGMSG_META_FLOW_LABEL => "RINGMSG_META_FLOW_LABEL (IPv6 sockets only)",
        _ => "RINGMSG_META_DESTINATION or _INTERFACE",
    }
}
