//! Sockets: switching on and off what the kernel reports with each datagram, and steering.

use std::ffi::c_int;

use crate::socket_options;
use crate::socket_steer::{self, Steering};

use super::{slice, versioned, without_ring};

/// ringmsg_socket_enable: sets the socket options that make the kernel send `metadata` (a set of
/// RINGMSG_META_*) with every datagram. It works on every kind of socket that can report them: UDP,
/// UDP-Lite, raw and ping sockets of both families; other families report drops, timestamps, mark
/// and priority. On IPv6 sockets it sets the options of both levels, since an IPv4 datagram there
/// reports through those of IPv4; a level that the socket does not have is skipped. SO_TIMESTAMPING
/// keeps what is set already. SEGMENT_SIZE switches GRO on (UDP_GRO): from then on a plain recv(2)
/// sees trains too.
///
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP or -ENOPROTOOPT (this
/// kind of socket has no such option); -EPERM (MARK, on kernels that require CAP_NET_ADMIN for it).
/// On failure nothing is switched on.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_socket_enable(fd: c_int, metadata: u32) -> c_int {
    without_ring(|| socket_options::enable(fd, metadata).map(|()| 0))
}

/// ringmsg_socket_disable: switches off exactly the socket options behind `metadata`, for all who
/// share the socket through dup(2), fork(2) or SCM_RIGHTS. (DESTINATION, INTERFACE and LOCAL_V4
/// share one option; so do SOCKET_ERROR and OFFENDER.)
///
/// SEGMENT_SIZE is switched off only while nothing is queued at the socket: a plain recv(2) would
/// see a queued train as one datagram. So receive until -EAGAIN, call this, and repeat both if it
/// returns -EAGAIN.
///
/// **Threads:** any.
/// **Returns:** 0; -EAGAIN (SEGMENT_SIZE while datagrams are queued: it is still on, and so is the
/// rest); -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP (this kind of socket has no such
/// option).
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_socket_disable(fd: c_int, metadata: u32) -> c_int {
    without_ring(|| socket_options::disable(fd, metadata).map(|()| 0))
}

/// ringmsg_socket_steer: makes the kernel select the socket of a SO_REUSEPORT group that gets a
/// datagram, for servers with a ring and a socket for each processor. `fds` are all `count` sockets
/// of the group, in the order of bind(2). With RINGMSG_STEER_CPU the index of the socket is the
/// number of the processor that takes the datagram in, modulo `count`. With RINGMSG_STEER_PAYLOAD
/// it is the big-endian number of `length` bytes at `offset` of the payload, and with
/// RINGMSG_STEER_QUIC at `offset` of the destination connection id, modulo `count`.
///
/// A QUIC server writes the index of a socket into the connection ids that it issues. Then a
/// connection keeps its socket while its peer's address changes. Datagrams without such bytes go
/// where they would go without steering: the kernel's hash of addresses and ports selects.
/// Multicast and broadcast datagrams go to every socket.
///
/// The group has one steering, and a second call replaces it. When a socket has joined the group,
/// call this again: until then it gets nothing. When a socket is closed, the last one takes its
/// index: call this again with that order; until then the hash selects for the index that is gone.
/// The call may come before bind(2), for all sockets or for the last ones. setsockopt(2) with
/// SO_DETACH_REUSEPORT_BPF on a socket of the group ends the steering.
///
/// A GRO train goes whole to the socket of its first datagram. So with RINGMSG_META_SEGMENT_SIZE
/// connections that have both addresses and ports in common may share one socket.
///
/// **Ownership:** both arrays are read during the call only.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, no socket, more than 65535, one twice; a bad struct; SO_REUSEPORT
/// is off, or was off at bind(2); the sockets differ in family, address, port, interface or
/// IPV6_V6ONLY, or a bound one follows an unbound one); -EISCONN (a connected socket); -EOPNOTSUPP
/// (not UDP or UDP-Lite); -EBADF, -ENOTSOCK; -EPERM (SO_LOCK_FILTER); -ENOMEM. On failure the
/// steering is left as it was.
///
/// # Safety
/// `fds` is NULL, or readable for `count` elements; `steering` is NULL, or readable for as many
/// bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_socket_steer(
    fds: *const c_int,
    count: u32,
    steering: *const Steering,
) -> c_int {
    without_ring(|| {
        // SAFETY: the caller's promise is passed on.
        let (fds, steering) = unsafe { (slice("fds", fds, count)?, versioned::read(steering)?) };
        socket_steer::steer(fds, &steering).map(|()| 0)
    })
}
