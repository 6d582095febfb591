//! quinn-udp's receive call with buffers for a whole batch, as quinn's endpoint uses it, and its send
//! call.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, RawFd};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

/// The fields of a datagram or train that the C side reads; struct quinn_datagram there.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Datagram {
    payload: usize,
    length: u32,
    source: u32,
    destination: u32,
    segment: u32,
    port: u16,
    ecn: u8,
}

pub struct Receiver {
    sockets: Vec<(UdpSocket, UdpSocketState)>,
    memory: Vec<Vec<u8>>,
    meta: [RecvMeta; BATCH_SIZE],
    out: [Datagram; BATCH_SIZE],
}

fn v4(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => u32::from_ne_bytes(address.octets()),
        IpAddr::V6(_) => 0,
    }
}

/// Makes a receiver on these sockets, which the caller keeps.
///
/// # Safety `fds` are `count` open UDP sockets; the receiver is never freed.
#[no_mangle]
pub unsafe extern "C" fn quinn_new(fds: *const RawFd, count: usize, room: usize) -> *mut Receiver {
    let sockets = unsafe { std::slice::from_raw_parts(fds, count) }
        .iter()
        .map(|&fd| {
            let socket = unsafe { UdpSocket::from_raw_fd(fd) };
            let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a UDP socket");
            (socket, state)
        })
        .collect();
    let memory = (0..BATCH_SIZE).map(|_| vec![0; room]).collect();
    let receiver = Receiver { sockets, memory, meta: [RecvMeta::default(); BATCH_SIZE], out: Default::default() };
    Box::into_raw(Box::new(receiver))
}

/// Receives a batch of queued datagrams. Returns how many, 0 if there are none, -1 on an error.
///
/// # Safety `receiver` is from `quinn_new`. `*out` is valid until the next call.
#[no_mangle]
pub unsafe extern "C" fn quinn_receive(receiver: *mut Receiver, index: usize, out: *mut *const Datagram) -> i32 {
    let this = unsafe { &mut *receiver };
    let (socket, state) = &this.sockets[index];
    let mut rest = this.memory.iter_mut();
    let mut slices: [IoSliceMut; BATCH_SIZE] =
        std::array::from_fn(|_| IoSliceMut::new(rest.next().expect("BATCH_SIZE of them")));
    let count = match state.recv(UdpSockRef::from(socket), &mut slices, &mut this.meta) {
        Ok(count) => count,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return 0,
        Err(_) => return -1,
    };
    for i in 0..count {
        let meta = &this.meta[i];
        this.out[i] = Datagram {
            payload: slices[i].as_ptr() as usize,
            length: meta.len as u32,
            source: v4(meta.addr.ip()),
            destination: meta.dst_ip.map_or(0, v4),
            segment: if meta.stride < meta.len { meta.stride as u32 } else { 0 },
            port: meta.addr.port(),
            ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
        };
    }
    unsafe { *out = this.out.as_ptr() };
    count as i32
}

/// The maximum number of datagrams or trains per call.
#[no_mangle]
pub extern "C" fn quinn_batch() -> i32 {
    BATCH_SIZE as i32
}

/// Sends a datagram, or with a segment size a train, to an IPv4 address in network byte order.
/// Returns 0, or -1 on an error.
///
/// # Safety `receiver` is from `quinn_new`; `contents` is readable for `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn quinn_send(
    receiver: *mut Receiver,
    index: usize,
    address: u32,
    port: u16,
    contents: *const u8,
    length: usize,
    segment: usize,
) -> i32 {
    let (socket, state) = unsafe { &(&(*receiver).sockets)[index] };
    let transmit = Transmit {
        destination: SocketAddr::from((Ipv4Addr::from(address.to_ne_bytes()), port)),
        ecn: None,
        contents: unsafe { std::slice::from_raw_parts(contents, length) },
        segment_size: (segment > 0).then_some(segment),
        src_ip: None,
    };
    match state.try_send(UdpSockRef::from(socket), &transmit) {
        Ok(()) => 0,
        Err(_) => -1,
    }
}

/// The maximum number of datagrams in a train.
///
/// # Safety `receiver` is from `quinn_new`.
#[no_mangle]
pub unsafe extern "C" fn quinn_segments(receiver: *const Receiver, index: usize) -> usize {
    unsafe { &(&(*receiver).sockets)[index] }.1.max_gso_segments()
}
