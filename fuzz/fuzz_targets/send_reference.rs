//! The reference: what becomes of a message by the words of the documentation, and by sendmsg(2)
//! for one datagram at a time.

use std::os::fd::{AsRawFd, RawFd};

use ringmsg::sender::*;

use super::sockets::Traits;

/// A message without pointers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Into the paths; NONE: the connected peer.
    pub path: usize,
    /// Into the payload.
    pub offset: usize,
    pub length: u32,
    pub segment_size: u32,
    pub flags: u32,
    pub transmit_time_ns: u64,
    pub traffic_class: u8,
    pub reserved: u64,
}

pub const NONE: usize = usize::MAX;

/// What came of it: how many datagrams, and the result.
pub struct Outcome {
    pub datagrams: u64,
    /// More than one where a message is bad in several ways.
    pub results: Vec<i32>,
}

fn mapped(address: &[u8; 16]) -> bool {
    address[..10] == [0; 10] && address[10..12] == [0xff, 0xff]
}

/// The ways in which a message cannot be asked of a socket.
fn faults(sample: &Sample, path: Option<&Path>, bounds: (usize, usize), traits: Traits) -> Vec<i32> {
    let mut faults = Vec::new();
    let mut fault_if = |condition, errno: i32| {
        if condition {
            faults.push(-errno);
        }
    };
    let is_ip = traits.domain != libc::AF_UNIX;
    let known = RINGMSG_MESSAGE_ALONE | RINGMSG_MESSAGE_TIMESTAMP | RINGMSG_MESSAGE_TRAFFIC_CLASS;
    fault_if(sample.reserved != 0 || sample.flags & !known != 0, libc::EINVAL);
    fault_if(sample.transmit_time_ns != 0 && traits.transmit_clock == -1, libc::EINVAL);
    fault_if(!is_ip && sample.flags & known & !RINGMSG_MESSAGE_ALONE != 0, libc::EOPNOTSUPP);
    fault_if(sample.offset.saturating_add(sample.length as usize) > bounds.0, libc::EFAULT);
    fault_if(sample.path != NONE && sample.path >= bounds.1, libc::EFAULT);
    let Some(path) = path else { return faults };
    let has = |bit| path.valid & bit != 0;
    let reserved = path.reserved != [0; 2] || path.reserved16 != 0;
    fault_if(path.valid >= 1 << 6 || reserved, libc::EINVAL);
    fault_if(has(RINGMSG_PATH_FLOW_LABEL) && path.flow_label > 0xf_ffff, libc::EINVAL);
    let has_address = has(RINGMSG_PATH_REMOTE | RINGMSG_PATH_LOCAL);
    let family = i32::from(path.family);
    let fits = family == libc::AF_INET || (family == libc::AF_INET6 && traits.domain == libc::AF_INET6);
    fault_if(is_ip && has_address && !fits, libc::EAFNOSUPPORT);
    fault_if(!is_ip && has(RINGMSG_PATH_REMOTE), libc::EAFNOSUPPORT);
    fault_if(!is_ip && path.valid != 0, libc::EOPNOTSUPP);
    let both = has(RINGMSG_PATH_REMOTE) && has(RINGMSG_PATH_LOCAL);
    let differ = mapped(&path.remote) != mapped(&path.local);
    fault_if(both && family == libc::AF_INET6 && differ, libc::EINVAL);
    faults
}

/// Sends a message, datagram by datagram.
pub fn send(
    fd: &impl AsRawFd,
    traits: Traits,
    sample: &Sample,
    path: Option<&Path>,
    (payload, paths): (&[u8], usize),
) -> Outcome {
    let results = faults(sample, path, (payload.len(), paths), traits);
    if !results.is_empty() {
        return Outcome { datagrams: 0, results };
    }
    let bytes = &payload[sample.offset..][..sample.length as usize];
    let size = if sample.segment_size == 0 { bytes.len() } else { sample.segment_size as usize };
    let control = control_of(traits, sample, path);
    let name = path.filter(|path| path.valid & RINGMSG_PATH_REMOTE != 0).map_or(Vec::new(), name_of);
    let (mut taken, mut datagrams) = (0, 0);
    let pieces = if bytes.is_empty() { vec![bytes] } else { bytes.chunks(size).collect() };
    for piece in pieces {
        match send_one(fd.as_raw_fd(), &name, &control, piece) {
            Ok(length) => (taken, datagrams) = (taken + length, datagrams + 1),
            Err(errno) if datagrams == 0 => return Outcome { datagrams, results: vec![-errno] },
            Err(_) => break,
        }
    }
    Outcome { datagrams, results: vec![taken] }
}

fn send_one(fd: RawFd, name: &[u8], control: &Control, bytes: &[u8]) -> Result<i32, i32> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a valid msghdr; the kernel reads what it points to, as long as it says.
    let sent = unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        (header.msg_iov, header.msg_iovlen) = (&mut part, 1);
        if !name.is_empty() {
            (header.msg_name, header.msg_namelen) = (name.as_ptr().cast_mut().cast(), name.len() as u32);
        }
        if !control.0.is_empty() {
            header.msg_control = control.0.as_ptr().cast_mut().cast();
            header.msg_controllen = control.0.len() * 8;
        }
        libc::sendmsg(fd, &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    match sent {
        0.. => Ok(sent as i32),
        _ => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
    }
}

/// A sockaddr.
fn name_of(path: &Path) -> Vec<u8> {
    let mut name = path.family.to_ne_bytes().to_vec();
    name.extend(path.remote_port.to_be_bytes());
    if i32::from(path.family) == libc::AF_INET {
        name.extend(&path.remote[..4]);
        name.extend([0; 8]);
    } else {
        name.extend([0; 4]);
        name.extend(path.remote);
        name.extend(path.remote_scope.to_ne_bytes());
    }
    name
}

/// Control messages, in words.
struct Control(Vec<u64>);

impl Control {
    fn add(&mut self, level: i32, kind: i32, data: &[u8]) {
        self.0.push(16 + data.len() as u64);
        self.0.push(u64::from(level as u32) | u64::from(kind as u32) << 32);
        for chunk in data.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0.push(u64::from_ne_bytes(word));
        }
    }

    fn add_int(&mut self, level: i32, kind: i32, value: i32) {
        self.add(level, kind, &value.to_ne_bytes());
    }
}

/// The control messages of a good message.
fn control_of(traits: Traits, sample: &Sample, path: Option<&Path>) -> Control {
    let mut control = Control(Vec::new());
    let nowhere = Path::default();
    let path = path.unwrap_or(&nowhere);
    let has = |bit| path.valid & bit != 0;
    let is_v4 = i32::from(path.family) == libc::AF_INET || mapped(&path.remote);
    let is_connected = !has(RINGMSG_PATH_REMOTE);
    let four = traits.domain == libc::AF_INET || is_connected || is_v4;
    let six = traits.domain == libc::AF_INET6 && (is_connected || !is_v4);
    let class = if sample.flags & RINGMSG_MESSAGE_TRAFFIC_CLASS != 0 {
        Some(sample.traffic_class)
    } else {
        has(RINGMSG_PATH_TRAFFIC_CLASS).then_some(path.traffic_class)
    };
    for (applies, level, kinds) in [
        (four, libc::SOL_IP, [libc::IP_TOS, libc::IP_TTL]),
        (six, libc::SOL_IPV6, [libc::IPV6_TCLASS, libc::IPV6_HOPLIMIT]),
    ] {
        if let (true, Some(class)) = (applies, class) {
            control.add_int(level, kinds[0], class.into());
        }
        if applies && has(RINGMSG_PATH_HOP_LIMIT) {
            control.add_int(level, kinds[1], path.hop_limit.into());
        }
    }
    let interface = if has(RINGMSG_PATH_INTERFACE) { path.interface_index } else { 0 }.to_ne_bytes();
    if has(RINGMSG_PATH_LOCAL | RINGMSG_PATH_INTERFACE) && (is_v4 || traits.domain == libc::AF_INET) {
        let address =
            if i32::from(path.family) == libc::AF_INET { &path.local[..4] } else { &path.local[12..] };
        let local = if has(RINGMSG_PATH_LOCAL) { address } else { &[0; 4] };
        control.add(libc::SOL_IP, libc::IP_PKTINFO, &[&interface, local, &[0; 4]].concat());
    } else if has(RINGMSG_PATH_LOCAL | RINGMSG_PATH_INTERFACE) {
        let local = if has(RINGMSG_PATH_LOCAL) { path.local } else { [0; 16] };
        control.add(libc::SOL_IPV6, libc::IPV6_PKTINFO, &[&local[..], &interface].concat());
    }
    if six && has(RINGMSG_PATH_FLOW_LABEL) {
        control.add(libc::SOL_IPV6, libc::IPV6_FLOWINFO, &path.flow_label.to_be_bytes());
    }
    if traits.overrides {
        control.add(libc::SOL_UDP, libc::UDP_SEGMENT, &0u16.to_ne_bytes());
    }
    control
}
