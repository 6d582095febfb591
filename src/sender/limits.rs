//! What a socket and this kernel can send: found out when a sender is made, and corrected by what
//! the kernel refuses later.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{Error, Result};
use crate::socket::Kind;
use crate::sys::sockopt::{self, is_on};

use super::config::{RINGMSG_SENDER_NO_GROUPING, RINGMSG_SENDER_TIMESTAMPS, SenderConfig};
use super::encode;
use super::path::{NO_PATH, Path, RINGMSG_PATH_REMOTE};
use super::scratch::{CONTROL_WORDS, NAME_WORDS};

// asm-generic/socket.h; libc has not got them for every C library.
const SO_NO_CHECK: i32 = 11;
const SO_TXTIME: i32 = 61;

/// UDP_MAX_SEGMENTS before Linux 6.9, and since.
const SEGMENTS_BEFORE_6_9: u32 = 64;
const SEGMENTS_SINCE_6_9: u32 = 128;

/// The datagrams of a train at most; 0: not known yet. Once a longer train was refused and its
/// datagrams were not, the lower limit is taken.
// Relaxed, and no pair: whoever still sees 0 finds the same number out.
static SEGMENTS_MAX: AtomicU32 = AtomicU32::new(0);
/// The same by the kernel's version, which is read once, when the first sender is made.
static SEGMENTS_BY_VERSION: AtomicU32 = AtomicU32::new(0);

fn is_at_least(major: u32, minor: u32) -> bool {
    crate::diagnosis::kernel_version() >= major << 16 | minor << 8
}

/// The datagrams a train may have on this kernel.
#[inline]
pub(super) fn segments_max() -> u32 {
    match SEGMENTS_MAX.load(Ordering::Relaxed) {
        0 => {
            let known = segments_by_version();
            SEGMENTS_MAX.store(known, Ordering::Relaxed);
            known
        }
        known => known,
    }
}

#[cold]
fn segments_by_version() -> u32 {
    match SEGMENTS_BY_VERSION.load(Ordering::Relaxed) {
        0 => {
            let known = if is_at_least(6, 9) { SEGMENTS_SINCE_6_9 } else { SEGMENTS_BEFORE_6_9 };
            SEGMENTS_BY_VERSION.store(known, Ordering::Relaxed);
            known
        }
        known => known,
    }
}

/// This many datagrams were refused as one train (-EINVAL), and one of them alone was not. False:
/// the number does not explain it. Then it may not have been the number before either: what the
/// kernel's version says holds again.
pub(super) fn note_too_many_segments(datagrams: u32) -> bool {
    let explains = datagrams > SEGMENTS_BEFORE_6_9;
    let most = if explains { SEGMENTS_BEFORE_6_9 } else { segments_by_version() };
    SEGMENTS_MAX.store(most, Ordering::Relaxed);
    explains
}

/// What a sender knows of its socket.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub kind: Kind,
    /// UDP_SEGMENT works here: a datagram can carry it.
    pub has_segment_option: bool,
    /// Trains work here.
    pub trains: bool,
    /// Messages are grouped.
    pub joins: bool,
    /// The socket has a UDP_SEGMENT of its own, which lone datagrams must override.
    pub segments_by_itself: bool,
    /// Messages may have a transmit time.
    pub transmit_times: bool,
    /// The SOF_TIMESTAMPING_* bits that a message asks for.
    pub timestamping: u32,
    /// A message can choose the id that comes back with its timestamp.
    pub timestamp_ids: bool,
}

impl Limits {
    pub(super) fn of(fd: RawFd, config: &SenderConfig) -> Result<Self> {
        let kind = Kind::of(fd)?;
        if kind.kind == libc::SOCK_STREAM {
            return Err(Error::new(
                libc::EOPNOTSUPP,
                "sender: a stream has no messages; only datagram and seqpacket sockets can have a sender",
            ));
        }
        let protocol = sockopt::get::<i32>(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).unwrap_or(0);
        let is_udp = kind.is_ip() && kind.kind == libc::SOCK_DGRAM && protocol == libc::IPPROTO_UDP;
        if is_udp && is_on(fd, libc::SOL_UDP, libc::UDP_CORK) {
            return Err(Error::new(
                libc::EBUSY,
                "sender: UDP_CORK is on, and would mix datagrams of several peers; switch it off first",
            ));
        }
        segments_max(); // read once, here
        let has_segment_option = is_udp && can_segment(fd, kind);
        let unchecked = is_on(fd, libc::SOL_SOCKET, SO_NO_CHECK)
            || (kind.domain == libc::AF_INET6 && is_on(fd, libc::SOL_UDP, libc::UDP_NO_CHECK6_TX));
        let trains = has_segment_option && !unchecked;
        Ok(Self {
            kind,
            has_segment_option,
            trains,
            joins: trains && config.flags & RINGMSG_SENDER_NO_GROUPING == 0,
            segments_by_itself: has_segment_option && is_on(fd, libc::SOL_UDP, libc::UDP_SEGMENT),
            transmit_times: config.transmit_clock != -1,
            timestamping: 0,
            timestamp_ids: false,
        })
    }

    /// Sets the options that the config asks for: the last step of making a sender, because a
    /// transmit clock cannot be taken back. On failure all are as they were.
    pub(super) fn set_options(&mut self, fd: RawFd, config: &SenderConfig) -> Result<()> {
        let sets_clock = self.must_set_clock(fd, config.transmit_clock)?;
        let before = self.set_timestamps(fd, config.flags & RINGMSG_SENDER_TIMESTAMPS != 0)?;
        if !sets_clock {
            return Ok(());
        }
        sockopt::set(fd, libc::SOL_SOCKET, SO_TXTIME, [config.transmit_clock, 0]).map_err(|error| {
            if let Some(before) = before {
                let _ = sockopt::set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, before);
            }
            Error::from_io(
                "sender: SO_TXTIME (a clock other than CLOCK_MONOTONIC needs CAP_NET_ADMIN)",
                &error,
            )
        })
    }

    /// Reads again whether the socket itself cuts datagrams (UDP_SEGMENT): any process may switch
    /// that on.
    #[inline]
    pub(super) fn refresh(&mut self, fd: RawFd, messages: u32) {
        /// For fewer messages the override costs less than the question.
        const WORTH_ASKING: u32 = 8;
        if self.has_segment_option {
            self.segments_by_itself = messages < WORTH_ASKING || is_on(fd, libc::SOL_UDP, libc::UDP_SEGMENT);
        }
    }

    /// Whether the socket has no transmit clock yet, and is to have this one. Refuses what it
    /// cannot have.
    fn must_set_clock(&self, fd: RawFd, clock: i32) -> Result<bool> {
        if clock == -1 {
            return Ok(false);
        }
        if !self.kind.is_ip() {
            return Err(Error::new(libc::EOPNOTSUPP, "sender: only IP sockets have transmit times"));
        }
        // Kernels before 6.10 take any number, and datagrams with a time are dropped then.
        if ![libc::CLOCK_REALTIME, libc::CLOCK_MONOTONIC, libc::CLOCK_TAI].contains(&clock) {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "sender: transmit_clock {clock} is none of CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_TAI"
                ),
            ));
        }
        // What was never set reads as clock 0 (CLOCK_REALTIME) without flags.
        let [set_clock, flags] = sockopt::get::<[i32; 2]>(fd, libc::SOL_SOCKET, SO_TXTIME)
            .map_err(|error| Error::from_io("sender: SO_TXTIME", &error))?;
        if (set_clock, flags) != (0, 0) {
            if set_clock == clock {
                return Ok(false);
            }
            return Err(Error::with(
                libc::EBUSY,
                format_args!(
                    "sender: the socket's transmit times already use clock {set_clock}, not {clock}"
                ),
            ));
        }
        Ok(true)
    }

    /// Sets what brings transmit timestamps back with an id, beside what is on already. Returns
    /// what that was, if it was less.
    fn set_timestamps(&mut self, fd: RawFd, wanted: bool) -> Result<Option<u32>> {
        const BROUGHT_BACK: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | libc::SOF_TIMESTAMPING_OPT_TSONLY;
        if !self.kind.is_ip() {
            return if wanted {
                Err(Error::new(libc::EOPNOTSUPP, "sender: only IP sockets have transmit timestamps"))
            } else {
                Ok(None)
            };
        }
        let before =
            sockopt::get::<[u32; 2]>(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING).map_or(0, |both| both[0]);
        let mut on = before;
        if wanted && before & BROUGHT_BACK != BROUGHT_BACK {
            on = before | BROUGHT_BACK;
            sockopt::set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, on)
                .map_err(|error| Error::from_io("sender: SO_TIMESTAMPING", &error))?;
        }
        self.timestamping = libc::SOF_TIMESTAMPING_TX_SOFTWARE;
        if on & libc::SOF_TIMESTAMPING_RAW_HARDWARE != 0 {
            self.timestamping |= libc::SOF_TIMESTAMPING_TX_HARDWARE;
        }
        self.timestamp_ids = on & libc::SOF_TIMESTAMPING_OPT_ID != 0 && takes_timestamp_ids(self.kind);
        Ok((on != before).then_some(before))
    }
}

/// A socket of our own, to try things on.
fn socket_to_try(kind: Kind) -> Option<OwnedFd> {
    // SAFETY: no preconditions.
    let fd = unsafe { libc::socket(kind.domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    // SAFETY: nobody else has this descriptor.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this kernel (4.18 or later), and what filters its system calls, has UDP_SEGMENT. Where
/// there can be no socket to try setting it on, reading it must do.
fn can_segment(fd: RawFd, kind: Kind) -> bool {
    sockopt::get::<i32>(fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok()
        && socket_to_try(kind)
            .is_none_or(|own| sockopt::set(own.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, 0i32).is_ok())
}

/// Whether this kernel (6.13 or later) has SCM_TS_OPT_ID. MSG_PROBE: nothing is sent.
fn takes_timestamp_ids(kind: Kind) -> bool {
    /// The discard port of an address that is never on the wire.
    const NOWHERE: Path = Path {
        valid: RINGMSG_PATH_REMOTE,
        family: libc::AF_INET as u16,
        remote: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        remote_port: 9,
        ..NO_PATH
    };
    const MSG_PROBE: i32 = 0x10;
    let Some(own) = socket_to_try(Kind { domain: libc::AF_INET, ..kind }) else { return is_at_least(6, 13) };
    let ids = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_ID;
    if sockopt::set(own.as_raw_fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, ids).is_err() {
        return false;
    }
    let mut name = [0u64; NAME_WORDS];
    let mut control = [0u64; CONTROL_WORDS];
    // SAFETY: both are as long as is demanded, and aligned; all that the header points to lives
    // during the call.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_namelen = encode::encode_name(&NOWHERE, name.as_mut_ptr().cast());
        header.msg_name = name.as_mut_ptr().cast();
        let id = encode::More { timestamp_id: Some(0), ..encode::More::default() };
        header.msg_controllen = encode::add_control(id, control.as_mut_ptr().cast(), 0) as _;
        header.msg_control = control.as_mut_ptr().cast();
        libc::sendmsg(own.as_raw_fd(), &header, MSG_PROBE | libc::MSG_DONTWAIT) >= 0
            || *libc::__errno_location() != libc::EINVAL
    }
}
