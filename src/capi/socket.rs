//! Sockets: switching on what the kernel reports with each datagram.

use std::ffi::c_int;

use crate::socket_options;

use super::without_ring;

/// ringmsg_socket_enable: sets the socket options that make the kernel send `metadata` (a set of
/// RINGMSG_META_*) with every datagram. On IPv6 sockets it sets both levels, since an IPv4
/// datagram there brings its own. SO_TIMESTAMPING keeps what is set already. SEGMENT_SIZE
/// switches GRO on (UDP_GRO): from then on a plain recv(2) sees trains too.
///
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP or -ENOPROTOOPT (this
/// kind of socket has no such thing); -EPERM (MARK needs CAP_NET_ADMIN). On failure nothing is
/// switched on.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_socket_enable(fd: c_int, metadata: u32) -> c_int {
    without_ring(|| socket_options::enable(fd, metadata).map(|()| 0))
}
