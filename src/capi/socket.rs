//! Sockets: switching on and off what the kernel reports with each datagram.

use std::ffi::c_int;

use crate::socket_options;

use super::without_ring;

/// ringmsg_socket_enable: sets the socket options that make the kernel send `metadata` (a set of
/// RINGMSG_META_*) with every datagram. It takes every kind of socket that can report them: UDP,
/// UDP-Lite, raw and ping sockets of both families; other families report drops, timestamps, mark
/// and priority. On IPv6 sockets it sets both levels, since an IPv4 datagram there brings its own;
/// a level that the socket does not have is skipped. SO_TIMESTAMPING keeps what is set already.
/// SEGMENT_SIZE switches GRO on (UDP_GRO): from then on a plain recv(2) sees trains too.
///
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP or -ENOPROTOOPT (this
/// kind of socket has no such thing); -EPERM (MARK needs CAP_NET_ADMIN). On failure nothing is
/// switched on.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_socket_enable(fd: c_int, metadata: u32) -> c_int {
    without_ring(|| socket_options::enable(fd, metadata).map(|()| 0))
}

/// ringmsg_socket_disable: switches off exactly the socket options behind `metadata`, for everybody
/// who shares the socket through dup(2), fork(2) or SCM_RIGHTS. (DESTINATION, INTERFACE and
/// LOCAL_V4 share one option; so do SOCKET_ERROR and OFFENDER.)
///
/// SEGMENT_SIZE is switched off only while nothing is queued at the socket: a plain recv(2) would
/// see a queued train as one datagram. The order that works is: receive until -EAGAIN, call this,
/// and begin again if it returns -EAGAIN.
///
/// **Threads:** any.
/// **Returns:** 0; -EAGAIN (SEGMENT_SIZE while datagrams are queued: it is still on, and so is the
/// rest); -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP (this kind of socket has no such
/// thing).
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_socket_disable(fd: c_int, metadata: u32) -> c_int {
    without_ring(|| socket_options::disable(fd, metadata).map(|()| 0))
}
