//! Sockets that send, receivers that remember what came, and the paths between them.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use ringmsg::sender::*;

/// A datagram as it arrived.
#[derive(Debug, PartialEq, Eq)]
pub struct Arrived {
    bytes: Vec<u8>,
    source: Vec<u8>,
    /// Level, type and first byte of what IP_RECVTOS, IP_RECVTTL and their like tell.
    told: Vec<(i32, i32, u8)>,
}

/// What the reference knows of a socket that sends.
#[derive(Clone, Copy)]
pub struct Traits {
    pub domain: i32,
    /// UDP_SEGMENT of the socket itself must be overridden.
    pub overrides: bool,
    pub transmit_clock: i32,
}

pub struct Sockets {
    pub senders: Vec<(OwnedFd, Traits)>,
    receivers: Vec<OwnedFd>,
    /// Each twice: equal ones at different addresses.
    pub paths: Vec<Path>,
}

fn set(fd: RawFd, level: i32, name: i32, value: i32) -> bool {
    // SAFETY: the value is readable for four bytes.
    unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) == 0 }
}

fn bound(address: &str) -> OwnedFd {
    let socket = UdpSocket::bind(address).expect("loopback");
    socket.set_nonblocking(true).expect("a socket");
    socket.into()
}

fn port_of(fd: &OwnedFd) -> u16 {
    let clone = UdpSocket::from(fd.try_clone().expect("a descriptor"));
    clone.local_addr().expect("bound").port()
}

fn receiver(address: &str) -> OwnedFd {
    let fd = bound(address);
    let raw = fd.as_raw_fd();
    for (level, name) in [
        (libc::SOL_IP, libc::IP_RECVTOS),
        (libc::SOL_IP, libc::IP_RECVTTL),
        (libc::SOL_IPV6, libc::IPV6_RECVTCLASS),
        (libc::SOL_IPV6, libc::IPV6_RECVHOPLIMIT),
    ] {
        set(raw, level, name, 1);
    }
    // What a game sends must fit: see `BUDGET`.
    set(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 20);
    fd
}

fn connected(address: &str, to: &str, port: u16) -> OwnedFd {
    let socket = UdpSocket::from(bound(address));
    socket.connect((to, port)).expect("loopback");
    socket.into()
}

fn unix_pair(kind: i32) -> [OwnedFd; 2] {
    let mut pair = [-1; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(
        unsafe { libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_NONBLOCK, 0, pair.as_mut_ptr()) },
        0
    );
    // SAFETY: nobody else has them.
    pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Sockets {
    pub fn new() -> Self {
        let mut receivers: Vec<OwnedFd> = Vec::new();
        for address in ["127.0.0.1:0"; 5].into_iter().chain(["[::1]:0"; 3]) {
            receivers.push(receiver(address));
        }
        let (connected_v4, connected_v6) = (port_of(&receivers[4]), port_of(&receivers[7]));
        let (four, six) = (libc::AF_INET, libc::AF_INET6);
        let plain = |domain| Traits { domain, overrides: false, transmit_clock: -1 };
        let mut senders = vec![
            (bound("0.0.0.0:0"), plain(four)),
            (bound("[::]:0"), plain(six)),
            (connected("127.0.0.1:0", "127.0.0.1", connected_v4), plain(four)),
            (connected("[::]:0", "::ffff:127.0.0.1", connected_v4), plain(six)),
            (connected("[::1]:0", "::1", connected_v6), plain(six)),
        ];
        let unchecked = bound("0.0.0.0:0");
        assert!(set(unchecked.as_raw_fd(), libc::SOL_SOCKET, 11, 1), "SO_NO_CHECK");
        senders.push((unchecked, plain(four)));
        let cuts = bound("[::]:0");
        let overrides = set(cuts.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 100);
        senders.push((cuts, Traits { overrides, ..plain(six) }));
        senders.push((bound("0.0.0.0:0"), Traits { transmit_clock: libc::CLOCK_MONOTONIC, ..plain(four) }));
        for kind in [libc::SOCK_DGRAM, libc::SOCK_SEQPACKET] {
            let [ours, theirs] = unix_pair(kind);
            senders.push((ours, plain(libc::AF_UNIX)));
            receivers.push(theirs);
        }
        let once = paths_to(&receivers);
        let paths = [once.clone(), once].concat();
        Self { senders, receivers, paths }
    }

    /// What has arrived by now, at each receiver.
    pub fn collect(&self) -> Vec<Vec<Arrived>> {
        self.receivers.iter().map(|fd| std::iter::from_fn(|| receive(fd.as_raw_fd())).collect()).collect()
    }

    /// The timestamps are not read.
    pub fn drop_errors(&self) {
        for (fd, _) in &self.senders {
            let mut byte = [0u8];
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            // SAFETY: one writable byte.
            while unsafe { libc::recv(fd.as_raw_fd(), byte.as_mut_ptr().cast(), 1, flags) } >= 0 {}
        }
    }
}

fn receive(fd: RawFd) -> Option<Arrived> {
    let mut bytes = vec![0u8; 1 << 17];
    let (mut name, mut control) = ([0u64; 16], [0u64; 32]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut told = Vec::new();
    // SAFETY: all zero is a valid msghdr; what it points to is as long as it says and outlives the
    // calls; the control messages are the kernel's.
    let (length, name_length) = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        (header.msg_iov, header.msg_iovlen) = (&mut part, 1);
        (header.msg_name, header.msg_namelen) = (name.as_mut_ptr().cast(), 128);
        (header.msg_control, header.msg_controllen) = (control.as_mut_ptr().cast(), 256);
        let length = libc::recvmsg(fd, &mut header, libc::MSG_DONTWAIT);
        if length < 0 {
            return None;
        }
        assert_eq!(header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC), 0);
        let mut message = libc::CMSG_FIRSTHDR(&header);
        while !message.is_null() {
            told.push(((*message).cmsg_level, (*message).cmsg_type, *libc::CMSG_DATA(message)));
            message = libc::CMSG_NXTHDR(&header, message);
        }
        (length as usize, header.msg_namelen as usize)
    };
    bytes.truncate(length);
    let source = name.iter().flat_map(|word| word.to_ne_bytes()).take(name_length).collect();
    Some(Arrived { bytes, source, told })
}

const V4: u16 = libc::AF_INET as u16;
const V6: u16 = libc::AF_INET6 as u16;

fn v4(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[127, 0, 0, last]);
    address
}

fn mapped(last: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, last]);
    address
}

const ONE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// No two families lead to one receiver, nor does a path lead to a connected peer: each receiver is
/// one peer.
fn paths_to(receivers: &[OwnedFd]) -> Vec<Path> {
    let to = |which: usize, family, remote| Path {
        valid: RINGMSG_PATH_REMOTE,
        family,
        remote_port: port_of(&receivers[which]),
        remote,
        ..Path::default()
    };
    let (first, second, third, fourth) =
        (to(0, V4, v4(1)), to(1, V4, v4(1)), to(2, V6, mapped(1)), to(5, V6, ONE));
    let with = |path: Path, bits, change: fn(&mut Path)| {
        let mut changed = path;
        changed.valid |= bits;
        change(&mut changed);
        changed
    };
    let settings = RINGMSG_PATH_TRAFFIC_CLASS | RINGMSG_PATH_HOP_LIMIT;
    let mut paths = vec![first, second, third, to(3, V6, mapped(1)), fourth, to(6, V6, ONE)];
    for base in [first, third, fourth] {
        paths.push(with(base, RINGMSG_PATH_TRAFFIC_CLASS, |path| path.traffic_class = 0x2e));
        paths.push(with(base, settings, |path| (path.traffic_class, path.hop_limit) = (3, 9)));
        paths.push(with(base, RINGMSG_PATH_HOP_LIMIT, |path| path.hop_limit = 0));
        paths.push(with(base, RINGMSG_PATH_FLOW_LABEL, |path| path.flow_label = 0x12345));
        paths.push(with(base, RINGMSG_PATH_INTERFACE, |path| path.interface_index = 1)); // loopback
        // Not good: bits and fields that mean nothing, an interface that is not there, port 0.
        paths.push(with(base, 1 << 6, |_| ()));
        paths.push(with(base, RINGMSG_PATH_FLOW_LABEL, |path| path.flow_label = 0x10_0000));
        paths.push(with(base, 0, |path| path.reserved[1] = 1));
        paths.push(with(base, RINGMSG_PATH_INTERFACE, |path| path.interface_index = 1 << 20));
        paths.push(with(base, 0, |path| path.remote_port = 0));
        paths.push(with(base, 0, |path| path.family = libc::AF_UNIX as u16));
        // Unused fields: the path is another one, the datagrams are the same.
        paths.push(with(base, 0, |path| (path.local[3], path.hop_limit) = (7, 7)));
    }
    for (base, local) in
        [(first, v4(2)), (third, mapped(2)), (fourth, ONE), (third, ONE), (fourth, mapped(1))]
    {
        let mut path = with(base, RINGMSG_PATH_LOCAL, |_| ());
        path.local = local;
        paths.push(path);
    }
    // Through the connected peer.
    paths.push(Path::default());
    paths.push(Path { valid: settings, traffic_class: 1, hop_limit: 5, ..Path::default() });
    paths.push(Path { valid: RINGMSG_PATH_LOCAL, family: V4, local: v4(1), ..Path::default() });
    // Broadcast without SO_BROADCAST; a source that is not ours; a port where nobody listens.
    let broadcast = [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    paths.push(Path { remote: broadcast, ..first });
    let mut foreign = with(first, RINGMSG_PATH_LOCAL, |_| ());
    foreign.local[..4].copy_from_slice(&[192, 0, 2, 1]);
    paths.push(foreign);
    paths.push(Path { remote_port: 9, ..first });
    paths
}
