//! Steering: which socket of a SO_REUSEPORT group gets a datagram, by a classic BPF program.
//!
//! The kernel runs the program on each datagram, its data being the UDP payload, and takes the
//! result as an index into the group, in the order of bind(2). Where the index is not below the
//! number of sockets, it selects by its hash of addresses and ports instead. A load beyond the
//! payload would end the program with 0, and so put every short datagram into the first socket: the
//! programs compare the length first, and return an index that no group has.

use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_H, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LEN, BPF_LSH,
    BPF_MISC, BPF_MOD, BPF_OR, BPF_RET, BPF_TAX, BPF_W, BPF_X, sock_filter,
};

use crate::config::reserved_is_zero;
use crate::error::{Error, Result, describe};
use crate::socket::{self, Kind};
use crate::sys::memory::try_reserve_total;
use crate::sys::sockopt;

/// For ringmsg_steering.by: the number of the processor that handles the datagram's arrival, modulo
/// the number of sockets.
pub const RINGMSG_STEER_CPU: u32 = 0;
/// For ringmsg_steering.by: bytes of the payload.
pub const RINGMSG_STEER_PAYLOAD: u32 = 1;
/// For ringmsg_steering.by: bytes of the destination connection id of QUIC packets, with long and
/// short headers.
pub const RINGMSG_STEER_QUIC: u32 = 2;

/// How ringmsg_socket_steer() selects a socket. Zero what is not used.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Steering {
    /// sizeof(struct ringmsg_steering)
    pub size: u32,
    /// RINGMSG_STEER_*
    pub by: u32,
    /// Where the bytes begin, counted from the beginning of the payload or of the connection id.
    pub offset: u32,
    /// How many bytes, 1 to 4, read as one big-endian number.
    pub length: u32,
    /// 0
    pub reserved: [u32; 12],
}

const _: () = assert!(size_of::<Steering>() == 64 && offset_of!(Steering, length) == 12);

/// The longest payload of a datagram: 65,535 bytes, without the header of UDP.
const PAYLOAD_MAX: u32 = 65_527;
/// The longest connection id of QUIC 1 and 2 (RFC 9000, section 17.2).
const CONNECTION_ID_MAX: u32 = 20;
/// The kernel counts the sockets of a group in 16 bits.
const SOCKETS_MAX: usize = 65_535;

/// QUIC (RFC 8999): the first bit tells a long header from a short one; in a long header byte 5 is
/// the length of the destination connection id, which follows; in a short one the id is at byte 1.
const LONG_HEADER: u32 = 0x80;
const LONG_ID_LENGTH_AT: u32 = 5;
const LONG_ID_AT: u32 = 6;
const SHORT_ID_AT: u32 = 1;

/// Where a program reads the processor that it runs on.
const PROCESSOR: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;

impl Steering {
    fn check(&self) -> Result<()> {
        reserved_is_zero("ringmsg_steering", &self.reserved)?;
        let (of, longest) = match self.by {
            RINGMSG_STEER_CPU if self.offset == 0 && self.length == 0 => return Ok(()),
            RINGMSG_STEER_CPU => {
                return Err(Error::new(
                    libc::EINVAL,
                    "steering: by processor takes no offset and no length; was `by` to be \
                     RINGMSG_STEER_PAYLOAD or _QUIC?",
                ));
            }
            RINGMSG_STEER_PAYLOAD => ("a payload", PAYLOAD_MAX),
            RINGMSG_STEER_QUIC => ("a connection id", CONNECTION_ID_MAX),
            other => {
                return Err(Error::with(
                    libc::EINVAL,
                    format_args!("steering: by is {other}, which is no RINGMSG_STEER_* constant"),
                ));
            }
        };
        if !(1..=4).contains(&self.length) {
            return Err(Error::with(
                libc::EINVAL,
                format_args!("steering: length is {}; it must be 1 to 4 bytes", self.length),
            ));
        }
        if u64::from(self.offset) + u64::from(self.length) > u64::from(longest) {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "steering: {} bytes at offset {}, but {of} has at most {longest}",
                    self.length, self.offset
                ),
            ));
        }
        Ok(())
    }

    /// The program that selects one of `count` sockets.
    fn program(&self, count: u32) -> Program {
        let mut program = Program::default();
        match self.by {
            RINGMSG_STEER_CPU => {
                program.push(BPF_LD | BPF_W | BPF_ABS, PROCESSOR);
                program.select(count);
            }
            RINGMSG_STEER_QUIC => {
                let (end, mut long) = (self.offset + self.length, Program::default());
                long.need_length(LONG_ID_AT + end);
                long.push(BPF_LD | BPF_B | BPF_ABS, LONG_ID_LENGTH_AT);
                long.need(end);
                long.load(LONG_ID_AT + self.offset, self.length);
                long.select(count);
                program.need_length(1);
                program.push(BPF_LD | BPF_B | BPF_ABS, 0);
                program.jump(BPF_JSET, LONG_HEADER, 0, long.length as u8);
                program.append(&long);
                program.need_length(SHORT_ID_AT + end);
                program.load(SHORT_ID_AT + self.offset, self.length);
                program.select(count);
            }
            _ => {
                program.need_length(self.offset + self.length);
                program.load(self.offset, self.length);
                program.select(count);
            }
        }
        program
    }
}

/// struct sock_fprog, with its padding: the kernel reads that, too.
#[repr(C)]
#[derive(Clone, Copy)]
struct FilterProgram {
    len: u16,
    padding: [u16; size_of::<usize>() / 2 - 1],
    filter: *mut sock_filter,
}

/// A classic BPF program under construction.
struct Program {
    code: [sock_filter; Self::LONGEST],
    length: usize,
}

impl Default for Program {
    fn default() -> Self {
        Self { code: [sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; Self::LONGEST], length: 0 }
    }
}

impl Program {
    /// By connection id, with a number of three bytes: 28.
    const LONGEST: usize = 32;
    /// An index that no group has: the kernel's hash selects.
    const BY_HASH: u32 = u32::MAX;

    fn put(&mut self, instruction: sock_filter) {
        self.code[self.length] = instruction;
        self.length += 1;
    }

    fn push(&mut self, code: u32, k: u32) {
        self.put(sock_filter { code: code as u16, jt: 0, jf: 0, k });
    }

    /// Skips `if_true` or `if_false` instructions, as accumulator and `k` compare.
    fn jump(&mut self, comparison: u32, k: u32, if_true: u8, if_false: u8) {
        let code = (BPF_JMP | comparison | BPF_K) as u16;
        self.put(sock_filter { code, jt: if_true, jf: if_false, k });
    }

    fn append(&mut self, other: &Program) {
        other.code[..other.length].iter().for_each(|&instruction| self.put(instruction));
    }

    /// Leaves the datagram to the hash unless the accumulator is at least `k`.
    fn need(&mut self, k: u32) {
        self.jump(BPF_JGE, k, 1, 0);
        self.push(BPF_RET | BPF_K, Self::BY_HASH);
    }

    /// Leaves the datagram to the hash unless its payload has `length` bytes.
    fn need_length(&mut self, length: u32) {
        self.push(BPF_LD | BPF_W | BPF_LEN, 0);
        self.need(length);
    }

    /// Loads the big-endian number of `length` bytes at `at` of the payload.
    fn load(&mut self, at: u32, length: u32) {
        match length {
            1 => self.push(BPF_LD | BPF_B | BPF_ABS, at),
            2 => self.push(BPF_LD | BPF_H | BPF_ABS, at),
            4 => self.push(BPF_LD | BPF_W | BPF_ABS, at),
            _ => {
                self.push(BPF_LD | BPF_H | BPF_ABS, at);
                self.push(BPF_ALU | BPF_LSH | BPF_K, 8);
                self.push(BPF_MISC | BPF_TAX, 0);
                self.push(BPF_LD | BPF_B | BPF_ABS, at + 2);
                self.push(BPF_ALU | BPF_OR | BPF_X, 0);
            }
        }
    }

    /// Ends with the accumulator modulo `count`.
    fn select(&mut self, count: u32) {
        self.push(BPF_ALU | BPF_MOD | BPF_K, count);
        self.push(BPF_RET | BPF_A, 0);
    }

    /// Attaches the program to the group of `fd`, in the place of an earlier one.
    fn attach(&mut self, fd: RawFd) -> Result<()> {
        let program = FilterProgram {
            len: self.length as u16,
            padding: Default::default(),
            filter: self.code.as_mut_ptr(),
        };
        sockopt::set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, program).map_err(|error| {
            let errno = error.raw_os_error().unwrap_or(libc::EIO);
            let why = match errno {
                libc::EINVAL => "it was bound before SO_REUSEPORT was set on it",
                libc::EPERM => "its programs are locked (SO_LOCK_FILTER)",
                errno => describe(errno),
            };
            Error::with(errno, format_args!("steering: socket 0 (descriptor {fd}): {why}"))
        })
    }
}

/// What the sockets of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Group {
    domain: i32,
    protocol: i32,
    only_v6: bool,
    interface: i32,
    name: Name,
}

/// The name that a socket is bound to, and how much of it is valid.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name {
    bytes: [u8; size_of::<libc::sockaddr_in6>()],
    length: usize,
}

impl Name {
    fn of(fd: RawFd) -> Result<Self> {
        let mut bytes = [0; size_of::<libc::sockaddr_in6>()];
        let mut length = bytes.len() as libc::socklen_t;
        // SAFETY: `bytes` is writable for `length` bytes; the kernel writes no more.
        if unsafe { libc::getsockname(fd, bytes.as_mut_ptr().cast(), &mut length) } != 0 {
            return Err(Error::last_os("steering: getsockname"));
        }
        Ok(Self { bytes, length: (length as usize).min(bytes.len()) })
    }

    /// AF_INET and AF_INET6 have the port at the same place.
    fn is_bound(&self) -> bool {
        self.bytes[2..4] != [0, 0]
    }
}

/// Checks one socket of the group.
fn member(index: usize, fd: RawFd) -> Result<Group> {
    let wrong =
        |errno, why| Error::with(errno, format_args!("steering: socket {index} (descriptor {fd}): {why}"));
    let kind = Kind::of(fd)?;
    let is_udp = matches!(kind.protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE);
    if !kind.is_ip() || kind.kind != libc::SOCK_DGRAM || !is_udp {
        return Err(wrong(libc::EOPNOTSUPP, "only UDP and UDP-Lite sockets are steered"));
    }
    if !sockopt::is_on(fd, libc::SOL_SOCKET, libc::SO_REUSEPORT) {
        return Err(wrong(libc::EINVAL, "SO_REUSEPORT is off; set it before bind(2)"));
    }
    if socket::is_connected(fd) {
        return Err(wrong(libc::EISCONN, "it is connected, and would get what other peers send"));
    }
    Ok(Group {
        domain: kind.domain,
        protocol: kind.protocol,
        only_v6: sockopt::is_on(fd, libc::SOL_IPV6, libc::IPV6_V6ONLY),
        interface: sockopt::get(fd, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX).unwrap_or(0),
        name: Name::of(fd)?,
    })
}

/// Checks that the sockets can be one group, bound in this order. Those at the end may be unbound
/// still.
fn check_group(fds: &[RawFd]) -> Result<()> {
    let mut first = None;
    let mut unbound = None;
    for (index, &fd) in fds.iter().enumerate() {
        let socket = member(index, fd)?;
        let group = *first.get_or_insert(socket);
        if !socket.name.is_bound() {
            unbound.get_or_insert(index);
        } else if let Some(unbound) = unbound {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "steering: socket {index} is bound, but socket {unbound} is not; give them in the \
                     order of bind(2)"
                ),
            ));
        }
        let expected = Group { name: if unbound.is_some() { socket.name } else { group.name }, ..group };
        if socket != expected {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "steering: sockets 0 and {index} are not of one group: it takes the same family, \
                     address, port, interface and IPV6_V6ONLY"
                ),
            ));
        }
    }
    Ok(())
}

fn check_distinct(fds: &[RawFd]) -> Result<()> {
    let mut cookies: Vec<(u64, usize)> = Vec::new();
    try_reserve_total(&mut cookies, fds.len())?;
    for (index, &fd) in fds.iter().enumerate() {
        cookies.push((socket::cookie(fd)?, index));
    }
    cookies.sort_unstable();
    match cookies.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(Error::with(
            libc::EINVAL,
            format_args!("steering: {} and {} are the same socket", pair[0].1, pair[1].1),
        )),
        None => Ok(()),
    }
}

/// Makes the kernel select one of these sockets, the whole of a group, for each datagram.
pub(crate) fn steer(fds: &[RawFd], steering: &Steering) -> Result<()> {
    steering.check()?;
    if fds.is_empty() || fds.len() > SOCKETS_MAX {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("steering: a group of {} sockets; it has 1 to {SOCKETS_MAX}", fds.len()),
        ));
    }
    check_group(fds)?;
    check_distinct(fds)?;
    steering.program(fds.len() as u32).attach(fds[0])
}
