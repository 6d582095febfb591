//! The sockets of all inputs: made once, and drained before each input.

use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixDatagram;

pub struct Sockets {
    v4: (UdpSocket, UdpSocket),
    v6: (UdpSocket, UdpSocket),
    unix: (UnixDatagram, UnixDatagram),
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
        };
        let one: i32 = 1;
        // SAFETY: the value is readable for four bytes.
        unsafe {
            let v4 = sockets.v4.0.as_raw_fd();
            libc::setsockopt(v4, libc::SOL_UDP, libc::UDP_GRO, (&raw const one).cast(), 4);
            libc::setsockopt(v4, libc::SOL_IP, libc::IP_PKTINFO, (&raw const one).cast(), 4);
        }
        sockets
    }

    pub fn receiver(&self, which: u8) -> RawFd {
        match which % 3 {
            0 => self.v4.0.as_raw_fd(),
            1 => self.v6.0.as_raw_fd(),
            _ => self.unix.0.as_raw_fd(),
        }
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
        let mut byte = [0u8];
        for which in 0..3 {
            // SAFETY: the buffer is writable for one byte. The kernel closes descriptors in
            // messages that are received without control space.
            while unsafe { libc::recv(self.receiver(which), byte.as_mut_ptr().cast(), 1, libc::MSG_DONTWAIT) }
                >= 0
            {}
        }
    }

    /// Sends an empty, short or long datagram, a train, or descriptors.
    pub fn send(&self, what: u8, size: u8) {
        let payload =
            vec![size; [0, 1, usize::from(size), usize::from(size) * 20][usize::from(what >> 4) % 4]];
        match what % 5 {
            0 => self.send_to(self.v4.1.as_raw_fd(), &payload, 0, 0),
            1 => self.send_to(self.v6.1.as_raw_fd(), &payload, 0, 0),
            2 => self.send_to(self.unix.1.as_raw_fd(), &payload, 0, 0),
            3 => self.send_to(self.unix.1.as_raw_fd(), &payload, 0, usize::from(size) % 4),
            _ => self.send_to(self.v4.1.as_raw_fd(), &payload, u16::from(size) / 3 + 1, 0),
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
            libc::sendmsg(fd, &message, libc::MSG_DONTWAIT);
        }
    }
}
