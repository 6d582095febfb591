//! Sockets: what one is, the ring's own references, the drop counters.

use std::os::fd::RawFd;

use crate::error::{Error, Result, describe};
use crate::ids::SocketId;
use crate::sys::fd::OwnedFd;
use crate::sys::hash::IntMap;
use crate::sys::memory::{OUT_OF_MEMORY, try_reserve_one, try_reserve_total};
use crate::sys::sockopt;

/// asm-generic/socket.h; libc has not got it.
const SO_MEMINFO: i32 = 55;
/// Words of SO_MEMINFO (linux/sock_diag.h).
const SK_MEMINFO_RMEM_ALLOC: usize = 0;
const SK_MEMINFO_DROPS: usize = 8;

fn meminfo(fd: RawFd) -> Option<[u32; 16]> {
    sockopt::get(fd, libc::SOL_SOCKET, SO_MEMINFO).ok()
}

/// Bytes of socket buffers that are queued at `fd`.
pub(crate) fn queued_bytes(fd: RawFd) -> u32 {
    meminfo(fd).map_or(0, |info| info[SK_MEMINFO_RMEM_ALLOC])
}

pub(crate) fn bad_descriptor(fd: RawFd, error: &std::io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    Error::with(errno, format_args!("socket: descriptor {fd}: {}", describe(errno)))
}

/// The type of a socket: SOCK_DGRAM, SOCK_STREAM, ...
pub(crate) fn type_of(fd: RawFd) -> Result<i32> {
    sockopt::get::<i32>(fd, libc::SOL_SOCKET, libc::SO_TYPE).map_err(|error| bad_descriptor(fd, &error))
}

/// Whether it is an AF_UNIX socket that is not connected.
pub(crate) fn is_unconnected_local(fd: RawFd) -> Result<bool> {
    let domain = sockopt::get::<i32>(fd, libc::SOL_SOCKET, libc::SO_DOMAIN);
    if domain.map_err(|error| bad_descriptor(fd, &error))? != libc::AF_UNIX {
        return Ok(false);
    }
    Ok(!is_connected(fd))
}

/// The number of a socket, the same for each descriptor of it. The kernel never gives it twice.
pub(crate) fn cookie(fd: RawFd) -> Result<u64> {
    sockopt::get(fd, libc::SOL_SOCKET, libc::SO_COOKIE).map_err(|error| bad_descriptor(fd, &error))
}

pub(crate) fn is_connected(fd: RawFd) -> bool {
    let mut name = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: `name` is writable for `length` bytes.
    unsafe { libc::getpeername(fd, name.as_mut_ptr().cast(), &mut length) == 0 }
}

/// What a socket is. Read once, when it is armed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub domain: i32,
    pub kind: i32,
    pub protocol: i32,
}

impl Kind {
    pub(crate) fn of(fd: RawFd) -> Result<Self> {
        let read = |name| sockopt::get::<i32>(fd, libc::SOL_SOCKET, name).map_err(|e| bad_descriptor(fd, &e));
        Ok(Self {
            kind: read(libc::SO_TYPE)?,
            domain: read(libc::SO_DOMAIN)?,
            protocol: read(libc::SO_PROTOCOL)?,
        })
    }

    /// Result 0 is the end, and any error is the end.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self.kind, libc::SOCK_STREAM | libc::SOCK_SEQPACKET)
    }

    pub(crate) fn is_local_stream(&self) -> bool {
        self.domain == libc::AF_UNIX && self.kind == libc::SOCK_STREAM
    }

    /// Its messages have a length, which MSG_TRUNC reports. On a TCP stream the same flag throws
    /// the bytes away.
    pub(crate) fn has_messages(&self) -> bool {
        self.kind != libc::SOCK_STREAM
    }

    /// It never reports an -ENOBUFS of its own. (Netlink and packet sockets do, after an overrun.)
    pub(crate) fn never_reports_enobufs(&self) -> bool {
        self.is_ip() || self.domain == libc::AF_UNIX
    }

    /// Its messages can carry descriptors.
    pub(crate) fn passes_descriptors(&self) -> bool {
        self.domain == libc::AF_UNIX
    }

    /// Its datagrams have ports. (Raw and ping sockets have none.)
    pub(crate) fn has_ports(&self) -> bool {
        self.kind != libc::SOCK_RAW && !matches!(self.protocol, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6)
    }

    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.domain, libc::AF_INET | libc::AF_INET6)
    }
}

/// Whether a stream has nothing left but its end. (Without MSG_PEEK, which would move SO_PEEK_OFF.)
pub(crate) fn is_at_end(fd: RawFd) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLRDHUP, revents: 0 };
    let mut bytes = 0i32;
    // SAFETY: one pollfd; one writable int.
    unsafe {
        libc::poll(&mut poll, 1, 0) == 1 && libc::ioctl(fd, libc::FIONREAD, &raw mut bytes) == 0 && bytes == 0
    }
}

/// The ring's own reference to a socket: a duplicate, so that the number that the caller gave is
/// never used again. Requests on one socket share it.
#[derive(Debug)]
pub(crate) struct Socket {
    cookie: u64,
    descriptor: OwnedFd,
    pub kind: Kind,
    requests: u32,
    drops_before: u32,
}

impl Socket {
    pub(crate) fn fd(&self) -> RawFd {
        self.descriptor.raw()
    }

    /// The kernel's drop counter now: 32 bits, wraps.
    pub(crate) fn drops(&self) -> u32 {
        meminfo(self.fd()).map_or(self.drops_before, |info| info[SK_MEMINFO_DROPS])
    }

    /// Drops since the ring has held the socket.
    pub(crate) fn drops_so_far(&self) -> u64 {
        u64::from(self.drops().wrapping_sub(self.drops_before))
    }
}

/// The sockets that a ring holds. Nothing but `drops_so_far` walks all of them.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    sockets: Vec<Option<Socket>>,
    vacant: Vec<SocketId>,
    by_cookie: IntMap<SocketId>,
}

impl Sockets {
    /// One more request on the socket behind `fd`. The kernel never gives a socket's cookie twice,
    /// so the cookie tells whether the ring holds the socket already; the number `fd` may have
    /// been used again.
    pub(crate) fn hold(&mut self, fd: RawFd) -> Result<SocketId> {
        let cookie = cookie(fd)?;
        if let Some(&id) = self.by_cookie.get(&cookie) {
            self.get_mut(id).requests += 1;
            return Ok(id);
        }
        let kind = Kind::of(fd)?;
        let descriptor = OwnedFd::duplicate_socket(fd)?;
        let mut socket = Socket { cookie, descriptor, kind, requests: 1, drops_before: 0 };
        socket.drops_before = socket.drops();
        let id = self.vacant_place()?;
        self.vacant.pop();
        self.by_cookie.insert(cookie, id);
        self.sockets[id.index()] = Some(socket);
        Ok(id)
    }

    /// A vacant place, with room in every list, so that releasing allocates nothing.
    fn vacant_place(&mut self) -> Result<SocketId> {
        self.by_cookie.try_reserve(1).map_err(|_| OUT_OF_MEMORY)?;
        if self.vacant.is_empty() {
            let count = self.sockets.len();
            try_reserve_one(&mut self.sockets)?;
            try_reserve_total(&mut self.vacant, count + 1)?;
            self.sockets.push(None);
            self.vacant.push(SocketId(count as u32));
        }
        Ok(self.vacant[self.vacant.len() - 1])
    }

    /// One request fewer. Returns the socket if that was the last: the caller drops it, which
    /// closes it, and may block, without holding a lock.
    pub(crate) fn release(&mut self, id: SocketId) -> Option<Socket> {
        let socket = self.get_mut(id);
        socket.requests -= 1;
        if socket.requests > 0 {
            return None;
        }
        let socket = self.sockets[id.index()].take()?;
        self.by_cookie.remove(&socket.cookie);
        self.vacant.push(id);
        Some(socket)
    }

    pub(crate) fn get(&self, id: SocketId) -> &Socket {
        self.sockets[id.index()].as_ref().expect("a request refers to a socket that is held")
    }

    fn get_mut(&mut self, id: SocketId) -> &mut Socket {
        self.sockets[id.index()].as_mut().expect("a request refers to a socket that is held")
    }

    /// Drops of all sockets, each counted once: a system call for each.
    pub(crate) fn drops_so_far(&self) -> u64 {
        self.drops_of_first(self.sockets.len())
    }

    /// Drops of the first `count` of them.
    pub(crate) fn drops_of_first(&self, count: usize) -> u64 {
        self.sockets.iter().flatten().take(count).map(Socket::drops_so_far).sum()
    }
}
