// Code generated from include/ringmsg.h by go generate; DO NOT EDIT.

package uring

// SetupFlags are the setup flags of a ring: [RingConfig].Flags. They mirror RINGMSG_SETUP_*.
type SetupFlags uint32

const (
	// A kernel thread polls for submissions and runs completions (IORING_SETUP_SQPOLL). Excludes
	// COOP_TASKRUN, TASKRUN_FLAG and DEFER_TASKRUN.
	SetupSQPoll SetupFlags = 1 << 1
	// Create the ring disabled: [Ring.Enable] makes its caller the owner (IORING_SETUP_R_DISABLED).
	SetupDisabled SetupFlags = 1 << 6
	// Completions wait for the arming thread's next kernel entry (IORING_SETUP_COOP_TASKRUN).
	SetupCoopTaskrun SetupFlags = 1 << 8
	// With COOP_TASKRUN: the kernel flags waiting task work, so that a non-blocking reap costs no
	// kernel entry when there is none (IORING_SETUP_TASKRUN_FLAG).
	SetupTaskrunFlag SetupFlags = 1 << 9
	// Bind the ring to one thread (IORING_SETUP_SINGLE_ISSUER).
	SetupSingleIssuer SetupFlags = 1 << 12
	// Completions wait until the owner reaps: the mode for batches. Binds the ring to its thread;
	// SINGLE_ISSUER is added for you (IORING_SETUP_DEFER_TASKRUN).
	SetupDeferTaskrun SetupFlags = 1 << 13
	// The best mode this kernel offers: DEFER_TASKRUN, else COOP_TASKRUN, else plain. The mode may
	// bind the ring to its thread: [Ring.Info] shows it.
	SetupAuto SetupFlags = 1 << 31
)

// Engine is what moves the data of a ring. It mirrors RINGMSG_ENGINE_*.
type Engine uint32

const (
	// io_uring where multishot recvmsg works, and where a ring and a pool have memory; else
	// [EngineRecvmmsg], which does not grant setup flags that mean nothing to it. [Ring.Info] says
	// which engine it is, [DescribeSupport] why. If io_uring has no memory for a pool
	// (RLIMIT_MEMLOCK) before anything is armed and before [Ring.FD] was called, the ring changes
	// its engine.
	EngineAuto Engine = 0
	// io_uring: kernel 6.0 or later, unless a sandbox forbids it.
	EngineIOURing Engine = 1
	// epoll and recvmmsg(2), with the same records: for older kernels (5.10 is the oldest tried)
	// and sandboxes that forbid io_uring. It takes R_DISABLED, SINGLE_ISSUER and AUTO; with another
	// setup flag [NewRing] returns -EINVAL.
	EngineRecvmmsg Engine = 2
)

// Features are what a kernel offers: [RingInfo].Features. They mirror RINGMSG_FEATURE_*.
type Features uint32

const (
	// Multishot requests work (io_uring: kernel 6.0; recvmmsg: always).
	FeatureMultishot Features = 1 << 0
	// The kernel can wait a minimum time for a batch (kernel 6.12).
	FeatureMinWait Features = 1 << 1
)

// RecvFlags are the flags of a receive request. They mirror RINGMSG_RECV_*.
type RecvFlags uint32

const (
	// One record per datagram instead of one per GRO train.
	RecvSplit RecvFlags = 1 << 0
	// Wait for data before the first attempt: saves a failed attempt when none is expected yet.
	RecvPollFirst RecvFlags = 1 << 1
	// Report every end of a request as FINAL instead of arming it again.
	RecvNoRearm RecvFlags = 1 << 2
)

// RecordFlags are the flags of a [Record]. They mirror RINGMSG_RECORD_*.
type RecordFlags uint32

const (
	// The record holds a pool buffer: return it with [Ring.Release].
	RecordBuffer RecordFlags = 1 << 0
	// The request is over. The record may carry data as well.
	RecordFinal RecordFlags = 1 << 1
	// The payload was cut. wire_length is its length before that; for [Ring.Recvmsg] only if
	// MSG_TRUNC is among its msg_flags.
	RecordTruncated RecordFlags = 1 << 2
	// Control messages were cut or lost: the control capacity was too small.
	RecordControlTruncated RecordFlags = 1 << 3
	// One datagram out of a GRO train.
	RecordSegment RecordFlags = 1 << 4
	// The source address was cut: the name capacity was too small.
	RecordNameTruncated RecordFlags = 1 << 5
	// The descriptor of a ringmsg_writable() takes data again. The record carries no data.
	RecordWritable RecordFlags = 1 << 6
)

// Meta is a set of the things that can be known about a datagram besides its payload. It mirrors
// RINGMSG_META_*.
type Meta uint32

const (
	// The source address and port are known.
	MetaSource Meta = 1 << 0
	// The destination address is known (IP_PKTINFO, IPV6_PKTINFO).
	MetaDestination Meta = 1 << 1
	// The index of the receiving interface is known.
	MetaInterface Meta = 1 << 2
	// The traffic class is known (IP_TOS, IPV6_TCLASS); ECN is traffic_class & 3.
	MetaTrafficClass Meta = 1 << 3
	// The hop limit is known (IP_TTL, IPV6_HOPLIMIT).
	MetaHopLimit Meta = 1 << 4
	// The payload is a GRO train of segments of segment_size bytes (UDP_GRO).
	MetaSegmentSize Meta = 1 << 5
	// The socket's drop counter is known (SO_RXQ_OVFL; it appears after the first drop).
	MetaDropped Meta = 1 << 6
	// The software timestamp is known: CLOCK_REALTIME, ns.
	MetaSoftwareTimestamp Meta = 1 << 7
	// The hardware timestamp is known: the network card's clock, ns.
	MetaHardwareTimestamp Meta = 1 << 8
	// The destination port is known (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR).
	MetaDestinationPort Meta = 1 << 9
	// The record comes from the socket's error queue (MSG_ERRQUEUE): an error, or a notification
	// about a datagram that was sent (a transmit timestamp, a zero-copy completion). Its name, and
	// so the source in its metadata, is the address to which that datagram was sent.
	MetaSocketError Meta = 1 << 10
	// The packet's mark is known (SO_RCVMARK).
	MetaMark Meta = 1 << 11
	// The IPv6 flow label is known (IPV6_FLOWINFO).
	MetaFlowLabel Meta = 1 << 12
	// The local IPv4 address to reply from is known (IP_PKTINFO's ipi_spec_dst).
	MetaLocalV4 Meta = 1 << 13
	// The packet's priority is known (SO_RCVPRIORITY, kernel 6.14).
	MetaPriority Meta = 1 << 14
	// The router or host that sent the ICMP error is known.
	MetaOffender Meta = 1 << 15
)

// PathFlags say which fields of a [Path] apply. They mirror RINGMSG_PATH_*.
type PathFlags uint32

const (
	// remote, remote_port and remote_scope apply. Without it: the connected peer.
	PathRemote PathFlags = 1 << 0
	// local applies: the source address.
	PathLocal PathFlags = 1 << 1
	// interface_index applies: the interface to leave through.
	PathInterface PathFlags = 1 << 2
	// traffic_class applies.
	PathTrafficClass PathFlags = 1 << 3
	// hop_limit applies.
	PathHopLimit PathFlags = 1 << 4
	// flow_label applies.
	PathFlowLabel PathFlags = 1 << 5
)

// MessageFlags are the flags of a [SendMessage]. They mirror RINGMSG_MESSAGE_*.
type MessageFlags uint32

const (
	// Never in a train with other messages.
	MessageAlone MessageFlags = 1 << 0
	// Ask for a transmit timestamp. Implies [MessageAlone].
	MessageTimestamp MessageFlags = 1 << 1
	// The message's own traffic_class applies, not the path's.
	MessageTrafficClass MessageFlags = 1 << 2
)

// SenderFlags are the flags of a [Sender]: [SenderConfig].Flags. They mirror RINGMSG_SENDER_*.
type SenderFlags uint32

const (
	// Every message leaves as it is given: none are joined into trains.
	SenderNoGrouping SenderFlags = 1 << 0
	// Set the options that bring transmit timestamps back (SO_TIMESTAMPING with SOFTWARE, OPT_ID
	// and OPT_TSONLY), beside those that are on already.
	SenderTimestamps SenderFlags = 1 << 1
)

// SendFlags say how a [Sender] sends a batch. They mirror RINGMSG_SEND_*.
type SendFlags uint32

const (
	// Wait for room in the socket's buffer instead of leaving messages with -EAGAIN.
	SendWait SendFlags = 1 << 0
	// Take only messages whose result is -EAGAIN.
	SendResume SendFlags = 1 << 1
)

const (
	// The `pool` of a record that belongs to no pool ([Ring.Recvmsg], ringmsg_writable()).
	PoolNone uint16 = 65535
)

const (
	// For [Wait].Linger: like RINGMSG_LINGER_AUTO, with the caller's bound in microseconds, as in
	// RINGMSG_LINGER_AUTO_WITHIN | 250.
	lingerAutoWithin uint32 = 1 << 31
	// For [Wait].Linger: the library chooses, from 0 to 100 us. In short trials, on the traffic
	// that arrives, it compares the thread's CPU time per datagram with and without lingering, and
	// takes what saves at least 5 %. It does not linger where that lowers the arrival rate, as it
	// does when clients wait for their answers, nor while datagrams arrive alone. Trials take place
	// in reaps that may sleep and do not spin, and not while signals, wakes or changes of the
	// reaping thread keep ending them. [Ring.Stats] shows the choice and the trials. A datagram may
	// be late by the linger: where latency matters more than CPU time, give 0 or a lower bound.
	lingerAuto uint32 = 4294967295
	// The longest linger, in microseconds. More is -EINVAL.
	lingerMaxUS uint32 = 10000
)

const (
	// For ringmsg_steering.by: the number of the processor that handles the datagram's arrival,
	// modulo the number of sockets.
	steerCpu uint32 = 0
	// For ringmsg_steering.by: bytes of the payload.
	steerPayload uint32 = 1
	// For ringmsg_steering.by: bytes of the destination connection id of QUIC packets, with long
	// and short headers.
	steerQuic uint32 = 2
)

const (
	// The binary interface that this header describes.
	abiVersion uint32 = 0
)

// Record is one datagram, one GRO train, one chunk of a stream, or one error. It is struct
// ringmsg_record, byte for byte; its offsets count from the start of [Pool.Bytes].
type Record struct {
	// The number that the caller passed when it armed the request.
	UserData uint64
	// Payload bytes of this record, or -errno.
	Result int32
	// RINGMSG_RECORD_*
	Flags RecordFlags
	// Where the payload starts, in bytes.
	PayloadOffset uint32
	// Payload bytes that are there.
	PayloadLength uint32
	// Where the control messages start: 8-byte aligned.
	ControlOffset uint32
	// Bytes of control messages, as the kernel wrote them.
	ControlLength uint32
	// Where the source address (a sockaddr) starts: 8-byte aligned.
	NameOffset uint32
	// Bytes of the source address that are there; 0 when the kernel gave none.
	NameLength uint32
	// Payload bytes before truncation. Of [Ring.Recvmsg] without MSG_TRUNC in msg_flags: the bytes
	// that were copied, as recvmsg(2) returns them.
	WireLength uint32
	// MSG_TRUNC, MSG_CTRUNC, MSG_ERRQUEUE, ... as the kernel set them.
	MsgFlags uint32
	// GRO segment size in bytes; 0: not a train.
	SegmentSize uint32
	// The pool's id; [PoolNone] for [Ring.Recvmsg] and ringmsg_writable().
	Pool uint16
	// The buffer's number within its pool.
	Buffer uint16
	// Distinguishes this use of the buffer from earlier ones, so that a stale release is refused.
	Generation uint32
	// Which datagram of the train this is, from 0.
	Segment uint16
	// Datagrams in the train as it arrived; 1 when the record is whole.
	Segments uint16
}

// Metadata is what the control messages and the source address of a datagram say. It is struct
// ringmsg_metadata, byte for byte: a field means something only if its bit is set in Valid.
type Metadata struct {
	// RINGMSG_META_*
	Valid Meta
	// AF_INET or AF_INET6, of both addresses; 0 when neither is known. IPv4 on an IPv6 socket stays
	// AF_INET6, as ::ffff:a.b.c.d.
	Family uint16
	// Host byte order.
	SourcePort uint16
	// IPv4 in the first four bytes.
	SourceBytes [16]uint8
	// The scope (interface index) of a link-local source.
	SourceScope uint32
	// The receiving interface.
	InterfaceIndex uint32
	// IPv4 in the first four bytes.
	DestinationBytes [16]uint8
	// Host byte order.
	DestinationPort uint16
	// The TOS byte or traffic class; ECN is traffic_class & 3.
	TrafficClass uint8
	// TTL or hop limit.
	HopLimit uint8
	// GRO segment size in bytes.
	SegmentSize uint32
	// SO_RXQ_OVFL: socket buffers dropped so far; with GRO these are trains. Wraps.
	Dropped uint32
	// ee_errno of a queued error, positive; 0 for a notification, which is no error.
	SocketError int32
	// CLOCK_REALTIME, ns.
	SoftwareTimestampNS int64
	// The network card's clock, ns.
	HardwareTimestampNS int64
	// SO_MARK of the packet.
	Mark uint32
	// IPv6 flow label, 20 bits, host byte order.
	FlowLabel uint32
	// ipi_spec_dst: the local IPv4 address to reply from.
	LocalV4Bytes [4]uint8
	// SO_PRIORITY of the packet.
	Priority uint32
	// ee_info, with SOCKET_ERROR: the next hop's MTU (EMSGSIZE), the first number of a zero-copy
	// range, the kind of a timestamp (SCM_TSTAMP_*).
	ErrorInfo uint32
	// ee_data, with SOCKET_ERROR: the id of a timestamp (SOF_TIMESTAMPING_OPT_ID), the last number
	// of a zero-copy range.
	ErrorData   uint32
	ErrorOrigin uint8
	// ee_type, with SOCKET_ERROR: the ICMP type.
	ErrorType uint8
	// ee_code, with SOCKET_ERROR: the ICMP code; for a zero-copy notification 1 if the kernel
	// copied the data.
	ErrorCode uint8
	reserved8 uint8
	// With OFFENDER: the sender of the ICMP error. IPv4 in the first four bytes; on an IPv6 socket
	// as ::ffff:a.b.c.d.
	OffenderBytes [16]uint8
	reserved      uint32
}

// Stats counts what a ring, or one request, has done so far: struct ringmsg_stats without its head.
type Stats struct {
	// Records handed out, errors and FINALs included.
	Records uint64
	// Datagrams (or stream chunks) received; a train counts its segments, split or not. An entry of
	// the error queue (MSG_ERRQUEUE) is not a datagram: it counts only as a record.
	Datagrams uint64
	// Payload bytes received.
	PayloadBytes uint64
	// Calls of [Ring.Reap] and [Ring.Next]. Ring only.
	Reaps uint64
	// Kernel entries: io_uring_enter(2); on the recvmmsg engine all its system calls. Ring only.
	Enters uint64
	// Wake-ups: waits that ended before their timeout, and ringmsg_wake() calls that ended a reap
	// before it slept. Ring only.
	Wakes uint64
	// How often a multishot request ended in the kernel and was armed again.
	Rearms uint64
	// How often a request found every buffer of its pool filled: held by the caller, or still to be
	// reaped.
	Starvations uint64
	// How often a request found no published buffer although others were free: the hot window was
	// too narrow, and was widened.
	WindowMisses uint64
	// How often the completion queue was found to have overflowed (nothing is lost). Ring only.
	CQOverflows uint64
	// Records with [RecordTruncated].
	Truncated uint64
	// Records with [RecordControlTruncated].
	ControlTruncated uint64
	// Zero-length datagrams.
	ZeroLength uint64
	// Records whose result is an error other than a requested -ECANCELED.
	Errors uint64
	// Socket buffers the kernel dropped since the request was armed, from SO_MEMINFO; with GRO
	// these are trains. Right even when no datagram followed the last drop.
	SocketDrops uint64
	// Pool buffers that records hold now, of all pools; for a request, those of its pool, including
	// records of other requests.
	BuffersHeld uint64
	// Pool buffers that are published to the kernel now; counted in the same way.
	BuffersPublished uint64
	// The linger that RINGMSG_LINGER_AUTO uses now outside of trials, in microseconds; 0 also while
	// there is nothing to save. Ring only.
	LingerUS uint64
	// How many trials AUTO has begun: short times in which it compares lingers. Ring only.
	LingerTrials uint64
	// How long the finished trials have lasted, in ns. Ring only.
	LingerTrialNS uint64
}

// Path is where a datagram goes, and how it leaves. It is struct ringmsg_path, byte for byte:
// comparable, and compared as a whole when messages are grouped. The zero Path is that of the
// connected peer. [PathTo] makes one for an address, [PathReply] one for an answer.
type Path struct {
	// RINGMSG_PATH_*: which of the following apply. Without [PathRemote] the datagram goes to the
	// connected peer, with these settings.
	Valid PathFlags
	// AF_INET or AF_INET6, of both addresses. IPv4 on an IPv6 socket is AF_INET6, as
	// ::ffff:a.b.c.d.
	Family uint16
	// Host byte order.
	RemotePort uint16
	// IPv4 in the first four bytes.
	RemoteBytes [16]uint8
	// The scope (interface index) of a link-local remote address.
	RemoteScope uint32
	// The interface to leave through.
	InterfaceIndex uint32
	// The source address; IPv4 in the first four bytes.
	LocalBytes [16]uint8
	// TOS byte or traffic class, ECN included. A message may have its own.
	TrafficClass uint8
	// TTL or hop limit.
	HopLimit   uint8
	reserved16 uint16
	// IPv6 flow label, 20 bits, host byte order. IPv4 has none: ignored there.
	FlowLabel uint32
	reserved  [2]uint32
}

// SendMessage is one datagram to send, or one train of them. It is struct ringmsg_message, byte for
// byte, as [Sender.SendFrom] takes it: without a pointer.
type SendMessage struct {
	// Where the payload starts, counted from the base.
	PayloadOffset uint64
	// Which of the paths it takes; [PathNone] for the connected peer's.
	PathIndex uint64
	// Bytes of payload.
	PayloadLength uint32
	// 0: one datagram, whatever the socket's own UDP_SEGMENT says; else datagrams of this size, of
	// which the last may be shorter.
	SegmentSize uint32
	// RINGMSG_MESSAGE_*
	Flags MessageFlags
	// Out: payload bytes that the socket took, or -errno.
	Result int32
	// When to send it, in the sender's transmit clock (SO_TXTIME), ns; 0: now.
	TransmitTimeNS uint64
	// For the caller; the library does not read it.
	UserData uint64
	// With [MessageTimestamp]: comes back as error_data in the timestamp's metadata, from Linux
	// 6.13 on (SCM_TS_OPT_ID). On older kernels error_data is the socket's own count, which refused
	// sends and other users of the socket advance.
	TimestampID uint32
	// With [MessageTrafficClass]: TOS byte or traffic class, ECN included.
	TrafficClass uint8
	reserved8    [3]uint8
	reserved     uint64
}

// SenderStats counts what a sender has done so far: struct ringmsg_sender_stats without its head.
type SenderStats struct {
	// Messages that the socket took, whole or in part.
	Messages uint64
	// Datagrams that it took; a train counts its segments.
	Datagrams uint64
	// Payload bytes that it took.
	PayloadBytes uint64
	// System calls that sent: sendmmsg(2).
	Calls uint64
	// UDP_SEGMENT trains of two datagrams or more.
	Trains uint64
	// Messages that left in a train together with others.
	Grouped uint64
	// Trains that were refused, and whose datagrams were then sent one by one.
	Fallbacks uint64
	// How often the socket was full (-EAGAIN).
	WouldBlock uint64
	// Messages whose result is an error, other than -EAGAIN.
	Errors uint64
	// Pending errors of earlier datagrams that were taken off the socket.
	SocketErrors uint64
}
