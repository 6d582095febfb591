//! The two public record layouts, and the bits in them. They never change size.

use std::mem::{offset_of, size_of};

/// The record holds a pool buffer: return it with ringmsg_release().
pub const RINGMSG_RECORD_BUFFER: u32 = 1u32 << 0;
/// The request is over. The record may carry data as well.
pub const RINGMSG_RECORD_FINAL: u32 = 1u32 << 1;
/// The payload was cut. wire_length is its length before that; for ringmsg_recvmsg() only if
/// MSG_TRUNC is among its msg_flags.
pub const RINGMSG_RECORD_TRUNCATED: u32 = 1u32 << 2;
/// Control messages were cut or lost: the control capacity was too small.
pub const RINGMSG_RECORD_CONTROL_TRUNCATED: u32 = 1u32 << 3;
/// One datagram out of a GRO train.
pub const RINGMSG_RECORD_SEGMENT: u32 = 1u32 << 4;
/// The source address was cut: the name capacity was too small.
pub const RINGMSG_RECORD_NAME_TRUNCATED: u32 = 1u32 << 5;
/// The descriptor of a ringmsg_writable() takes data again. The record carries no data.
pub const RINGMSG_RECORD_WRITABLE: u32 = 1u32 << 6;

/// The `pool` of a record that belongs to no pool (ringmsg_recvmsg(), ringmsg_writable()).
pub const RINGMSG_POOL_NONE: u16 = 0xffff;

/// The source address and port are known.
pub const RINGMSG_META_SOURCE: u32 = 1u32 << 0;
/// The destination address is known (IP_PKTINFO, IPV6_PKTINFO).
pub const RINGMSG_META_DESTINATION: u32 = 1u32 << 1;
/// The index of the receiving interface is known.
pub const RINGMSG_META_INTERFACE: u32 = 1u32 << 2;
/// The traffic class is known (IP_TOS, IPV6_TCLASS); ECN is traffic_class & 3.
pub const RINGMSG_META_TRAFFIC_CLASS: u32 = 1u32 << 3;
/// The hop limit is known (IP_TTL, IPV6_HOPLIMIT).
pub const RINGMSG_META_HOP_LIMIT: u32 = 1u32 << 4;
/// The payload is a GRO train of segments of segment_size bytes (UDP_GRO).
pub const RINGMSG_META_SEGMENT_SIZE: u32 = 1u32 << 5;
/// The socket's drop counter is known (SO_RXQ_OVFL; it appears after the first drop).
pub const RINGMSG_META_DROPPED: u32 = 1u32 << 6;
/// The software timestamp is known: CLOCK_REALTIME, ns.
pub const RINGMSG_META_SOFTWARE_TIMESTAMP: u32 = 1u32 << 7;
/// The hardware timestamp is known: the network card's clock, ns.
pub const RINGMSG_META_HARDWARE_TIMESTAMP: u32 = 1u32 << 8;
/// The destination port is known (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR).
pub const RINGMSG_META_DESTINATION_PORT: u32 = 1u32 << 9;
/// The record comes from the socket's error queue (MSG_ERRQUEUE): an error, or a notification about
/// a datagram that was sent (a transmit timestamp, a zero-copy completion). Its name, and so the
/// source in its metadata, is the address to which that datagram was sent.
pub const RINGMSG_META_SOCKET_ERROR: u32 = 1u32 << 10;
/// The packet's mark is known (SO_RCVMARK).
pub const RINGMSG_META_MARK: u32 = 1u32 << 11;
/// The IPv6 flow label is known (IPV6_FLOWINFO).
pub const RINGMSG_META_FLOW_LABEL: u32 = 1u32 << 12;
/// The local IPv4 address to reply from is known (IP_PKTINFO's ipi_spec_dst).
pub const RINGMSG_META_LOCAL_V4: u32 = 1u32 << 13;

/// The packet's priority is known (SO_RCVPRIORITY, kernel 6.14).
pub const RINGMSG_META_PRIORITY: u32 = 1u32 << 14;
/// The router or host that sent the ICMP error is known.
pub const RINGMSG_META_OFFENDER: u32 = 1u32 << 15;

/// Every RINGMSG_META_* bit.
pub(crate) const META_ALL: u32 = (1 << 16) - 1;

/// One datagram, one GRO train, one chunk of a stream, or one error: 64 bytes.
///
/// The three offsets count from ringmsg_pool_base() of the record's pool. For
/// ringmsg_recvmsg() they are 0 and count from the caller's own msg_iov[0], msg_control and
/// msg_name. What a record points to is valid until the record is released.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The number that the caller passed when it armed the request.
    pub user_data: u64,
    /// Payload bytes of this record, or -errno.
    pub result: i32,
    /// RINGMSG_RECORD_*
    pub flags: u32,
    /// Where the payload starts, in bytes.
    pub payload_offset: u32,
    /// Payload bytes that are there.
    pub payload_length: u32,
    /// Where the control messages start: 8-byte aligned.
    pub control_offset: u32,
    /// Bytes of control messages, as the kernel wrote them.
    pub control_length: u32,
    /// Where the source address (a sockaddr) starts: 8-byte aligned.
    pub name_offset: u32,
    /// Bytes of the source address that are there; 0 when the kernel gave none.
    pub name_length: u32,
    /// Payload bytes before truncation. Of ringmsg_recvmsg() without MSG_TRUNC in msg_flags: the
    /// bytes that were copied, as recvmsg(2) returns them.
    pub wire_length: u32,
    /// MSG_TRUNC, MSG_CTRUNC, MSG_ERRQUEUE, ... as the kernel set them.
    pub msg_flags: u32,
    /// GRO segment size in bytes; 0: not a train.
    pub segment_size: u32,
    /// The pool's id; RINGMSG_POOL_NONE for ringmsg_recvmsg() and ringmsg_writable().
    pub pool: u16,
    /// The buffer's number within its pool.
    pub buffer: u16,
    /// Distinguishes this use of the buffer from earlier ones, so that a stale release is refused.
    pub generation: u32,
    /// Which datagram of the train this is, from 0.
    pub segment: u16,
    /// Datagrams in the train as it arrived; 1 when the record is whole.
    pub segments: u16,
}

/// What the control messages and the source address say, decoded: 128 bytes. A field means
/// something only if its bit is set in `valid`; otherwise its value is not defined.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metadata {
    /// RINGMSG_META_*
    pub valid: u32,
    /// AF_INET or AF_INET6, of both addresses; 0 when neither is known. IPv4 on an IPv6
    /// socket stays AF_INET6, as ::ffff:a.b.c.d.
    pub family: u16,
    /// Host byte order.
    pub source_port: u16,
    /// IPv4 in the first four bytes.
    pub source: [u8; 16],
    /// The scope (interface index) of a link-local source.
    pub source_scope: u32,
    /// The receiving interface.
    pub interface_index: u32,
    /// IPv4 in the first four bytes.
    pub destination: [u8; 16],
    /// Host byte order.
    pub destination_port: u16,
    /// The TOS byte or traffic class; ECN is traffic_class & 3.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// GRO segment size in bytes.
    pub segment_size: u32,
    /// SO_RXQ_OVFL: socket buffers dropped so far; with GRO these are trains. Wraps.
    pub dropped: u32,
    /// ee_errno of a queued error, positive; 0 for a notification, which is no error.
    pub socket_error: i32,
    /// CLOCK_REALTIME, ns.
    pub software_timestamp_ns: i64,
    /// The network card's clock, ns.
    pub hardware_timestamp_ns: i64,
    /// SO_MARK of the packet.
    pub mark: u32,
    /// IPv6 flow label, 20 bits, host byte order.
    pub flow_label: u32,
    /// ipi_spec_dst: the local IPv4 address to reply from.
    pub local_v4: [u8; 4],
    /// SO_PRIORITY of the packet.
    pub priority: u32,
    /// ee_info, with SOCKET_ERROR: the next hop's MTU (EMSGSIZE), the first number of a zero-copy
    /// range, the kind of a timestamp (SCM_TSTAMP_*).
    pub error_info: u32,
    /// ee_data, with SOCKET_ERROR: the id of a timestamp (SOF_TIMESTAMPING_OPT_ID), the last number
    /// of a zero-copy range.
    pub error_data: u32,
    /// ee_origin, with SOCKET_ERROR: SO_EE_ORIGIN_* (linux/errqueue.h).
    pub error_origin: u8,
    /// ee_type, with SOCKET_ERROR: the ICMP type.
    pub error_type: u8,
    /// ee_code, with SOCKET_ERROR: the ICMP code; for a zero-copy notification 1 if the kernel
    /// copied the data.
    pub error_code: u8,
    /// 0
    pub reserved8: u8,
    /// With OFFENDER: the sender of the ICMP error. IPv4 in the first four bytes; on an IPv6 socket
    /// as ::ffff:a.b.c.d.
    pub offender: [u8; 16],
    /// 0
    pub reserved: u32,
}

impl Metadata {
    /// Nothing is known.
    pub const NONE: Self = Self {
        valid: 0,
        family: 0,
        source_port: 0,
        source: [0; 16],
        source_scope: 0,
        interface_index: 0,
        destination: [0; 16],
        destination_port: 0,
        traffic_class: 0,
        hop_limit: 0,
        segment_size: 0,
        dropped: 0,
        socket_error: 0,
        software_timestamp_ns: 0,
        hardware_timestamp_ns: 0,
        mark: 0,
        flow_label: 0,
        local_v4: [0; 4],
        priority: 0,
        error_info: 0,
        error_data: 0,
        error_origin: 0,
        error_type: 0,
        error_code: 0,
        reserved8: 0,
        offender: [0; 16],
        reserved: 0,
    };
}

const _: () = {
    assert!(size_of::<Record>() == 64);
    assert!(offset_of!(Record, result) == 8 && offset_of!(Record, flags) == 12);
    assert!(offset_of!(Record, payload_offset) == 16 && offset_of!(Record, payload_length) == 20);
    assert!(offset_of!(Record, control_offset) == 24 && offset_of!(Record, control_length) == 28);
    assert!(offset_of!(Record, name_offset) == 32 && offset_of!(Record, name_length) == 36);
    assert!(offset_of!(Record, wire_length) == 40 && offset_of!(Record, msg_flags) == 44);
    assert!(offset_of!(Record, segment_size) == 48 && offset_of!(Record, pool) == 52);
    assert!(offset_of!(Record, buffer) == 54 && offset_of!(Record, generation) == 56);
    assert!(offset_of!(Record, segment) == 60 && offset_of!(Record, segments) == 62);
    assert!(size_of::<Metadata>() == 128);
    assert!(offset_of!(Metadata, family) == 4 && offset_of!(Metadata, source_port) == 6);
    assert!(offset_of!(Metadata, source) == 8 && offset_of!(Metadata, source_scope) == 24);
    assert!(offset_of!(Metadata, interface_index) == 28 && offset_of!(Metadata, destination) == 32);
    assert!(offset_of!(Metadata, destination_port) == 48);
    assert!(offset_of!(Metadata, traffic_class) == 50 && offset_of!(Metadata, hop_limit) == 51);
    assert!(offset_of!(Metadata, segment_size) == 52 && offset_of!(Metadata, dropped) == 56);
    assert!(offset_of!(Metadata, socket_error) == 60);
    assert!(offset_of!(Metadata, software_timestamp_ns) == 64);
    assert!(offset_of!(Metadata, hardware_timestamp_ns) == 72);
    assert!(offset_of!(Metadata, mark) == 80 && offset_of!(Metadata, flow_label) == 84);
    assert!(offset_of!(Metadata, local_v4) == 88 && offset_of!(Metadata, priority) == 92);
    assert!(offset_of!(Metadata, error_info) == 96 && offset_of!(Metadata, error_data) == 100);
    assert!(offset_of!(Metadata, error_origin) == 104 && offset_of!(Metadata, error_type) == 105);
    assert!(offset_of!(Metadata, error_code) == 106 && offset_of!(Metadata, offender) == 108);
    assert!(offset_of!(Metadata, reserved) == 124);
};
