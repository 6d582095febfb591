//! The sockets of all inputs: made once, and drained before each input.

use std::net::UdpSocket;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

pub struct Sockets {
    v4: (UdpSocket, UdpSocket),
    v6: (UdpSocket, UdpSocket),
    unix: (UnixDatagram, UnixDatagram),
    stream: (UnixStream, UnixStream),
    tcp: (TcpStream, TcpStream),
    /// A UDP socket whose peer is gone: what it sends comes back as an ICMP error.
    refused: UdpSocket,
}

const RECEIVERS: u8 = 6;

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let sender = TcpStream::connect(listener.local_addr().expect("bound")).expect("loopback");
    (listener.accept().expect("connected").0, sender)
}

fn pair(address: &str) -> (UdpSocket, UdpSocket) {
    let receiver = UdpSocket::bind(address).expect("loopback");
    let sender = UdpSocket::bind(address).expect("loopback");
    sender.connect(receiver.local_addr().expect("bound")).expect("loopback");
    (receiver, sender)
}

/// Counts the open descriptors of this process.
pub fn open_descriptors() -> usize {
    // SAFETY: no preconditions.
    (0..256).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } != -1).count()
}

impl Sockets {
    pub fn new() -> Self {
        let sockets = Self {
            v4: pair("127.0.0.1:0"),
            v6: pair("[::1]:0"),
            unix: UnixDatagram::pair().expect("a pair"),
            stream: UnixStream::pair().expect("a pair"),
            tcp: tcp_pair(),
            refused: pair("127.0.0.1:0").1,
        };
        let one: i32 = 1;
        // SAFETY: the value is readable for four bytes.
        unsafe {
            let v4 = sockets.v4.0.as_raw_fd();
            libc::setsockopt(v4, libc::SOL_UDP, libc::UDP_GRO, (&raw const one).cast(), 4);
            libc::setsockopt(v4, libc::SOL_IP, libc::IP_PKTINFO, (&raw const one).cast(), 4);
            libc::setsockopt(v4, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, (&raw const one).cast(), 4);
            let refused = sockets.refused.as_raw_fd();
            libc::setsockopt(refused, libc::SOL_IP, libc::IP_RECVERR, (&raw const one).cast(), 4);
        }
        sockets
    }

    pub fn receiver(&self, which: u8) -> RawFd {
        match which % RECEIVERS {
            0 => self.v4.0.as_raw_fd(),
            1 => self.v6.0.as_raw_fd(),
            2 => self.stream.0.as_raw_fd(),
            3 => self.tcp.0.as_raw_fd(),
            4 => self.refused.as_raw_fd(),
            _ => self.unix.0.as_raw_fd(),
        }
    }

    /// Messages of this receiver may bring descriptors.
    pub fn brings_descriptors(&self, which: u8) -> bool {
        matches!(which % RECEIVERS, 2 | 5)
    }

    /// The other ends. The last one is full while the receiver has much.
    pub fn sender(&self, which: u8) -> RawFd {
        match which % 3 {
            0 => self.v4.1.as_raw_fd(),
            1 => self.v6.1.as_raw_fd(),
            _ => self.unix.1.as_raw_fd(),
        }
    }

    pub fn drain(&self) {
        let mut bytes = [0u8; 4096];
        for which in 0..RECEIVERS {
            self.take_error(which);
            // SAFETY: the buffer is writable. The kernel closes descriptors in
            // messages that are received without control space.
            while unsafe {
                libc::recv(self.receiver(which), bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT)
            } >= 0
            {}
        }
    }

    /// Sends an empty, short or long datagram, a train, or descriptors.
    pub fn send(&self, what: u8, size: u8) {
        let payload =
            vec![size; [0, 1, usize::from(size), usize::from(size) * 20][usize::from(what >> 4) % 4]];
        match what % 7 {
            0 => self.send_to(self.v4.1.as_raw_fd(), &payload, 0, 0),
            1 => self.send_to(self.v6.1.as_raw_fd(), &payload, 0, 0),
            2 => self.send_to(self.unix.1.as_raw_fd(), &payload, 0, 0),
            3 => self.send_to(self.unix.1.as_raw_fd(), &payload, 0, usize::from(size) % 4),
            4 => self.send_to(self.stream.1.as_raw_fd(), &payload, 0, usize::from(size) % 3),
            5 => self.send_to(self.tcp.1.as_raw_fd(), &payload, 0, 0),
            _ => self.send_to(self.v4.1.as_raw_fd(), &payload, u16::from(size) / 3 + 1, 0),
        }
    }

    /// What happens to sockets besides datagrams: ICMP errors, and options that change meanwhile.
    pub fn disturb(&self, what: u8) {
        let value = i32::from(what & 1);
        let set = |fd: RawFd, level, name| {
            // SAFETY: the value is readable for four bytes.
            unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) };
        };
        match (what >> 1) % 4 {
            0 => drop(self.refused.send(b"lost")),
            1 => set(self.v4.0.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO),
            2 => set(self.v6.0.as_raw_fd(), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
            _ => set(self.refused.as_raw_fd(), libc::SOL_IP, libc::IP_RECVERR),
        }
    }

    fn take_error(&self, which: u8) {
        let (mut error, mut length, mut bytes) = (0i32, 4, [0u8; 64]);
        let fd = self.receiver(which);
        // SAFETY: all are writable for the lengths that are passed.
        unsafe {
            libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, (&raw mut error).cast(), &mut length);
            let flags = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;
            while libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) >= 0 {}
        }
    }

    fn send_to(&self, fd: RawFd, payload: &[u8], segment: u16, descriptors: usize) {
        let mut control = [0u64; 8];
        let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        // SAFETY: an all-zero msghdr is valid; everything it points to outlives the call. A failure
        // to send is ignored.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
            let data = if segment > 0 { 2 } else { 4 * descriptors };
            if data > 0 {
                message.msg_control = control.as_mut_ptr().cast();
                message.msg_controllen = libc::CMSG_SPACE(data as u32) as usize;
                let first = libc::CMSG_FIRSTHDR(&message);
                (*first).cmsg_len = libc::CMSG_LEN(data as u32) as usize;
                if segment > 0 {
                    ((*first).cmsg_level, (*first).cmsg_type) = (libc::SOL_UDP, libc::UDP_SEGMENT);
                    libc::CMSG_DATA(first).cast::<u16>().write_unaligned(segment);
                } else {
                    ((*first).cmsg_level, (*first).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
                    for at in 0..descriptors {
                        libc::CMSG_DATA(first).cast::<i32>().add(at).write_unaligned(2);
                    }
                }
            }
            libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        }
    }
}
