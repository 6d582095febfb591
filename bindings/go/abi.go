package ringmsg

import (
	"net/netip"
	"time"
)

// Setup flags of a ring: [RingConfig].Flags. They mirror RINGMSG_SETUP_*.
const (
	SetupSQPoll        uint32 = 1 << 1
	SetupDisabled      uint32 = 1 << 6 // RINGMSG_SETUP_R_DISABLED
	SetupCoopTaskrun   uint32 = 1 << 8
	SetupTaskrunFlag   uint32 = 1 << 9
	SetupSingleIssuer  uint32 = 1 << 12
	SetupDeferTaskrun  uint32 = 1 << 13
	SetupAuto          uint32 = 1 << 31 // the best mode this kernel offers
	setupBoundToThread        = SetupSingleIssuer | SetupDeferTaskrun
)

// Engines: [RingConfig].Engine. They mirror RINGMSG_ENGINE_*.
const (
	EngineAuto     uint32 = 0
	EngineIOURing  uint32 = 1
	EngineRecvmmsg uint32 = 2
)

// Features of a kernel: [RingInfo].Features. They mirror RINGMSG_FEATURE_*.
const (
	FeatureMultishot uint32 = 1 << 0
	FeatureMinWait   uint32 = 1 << 1
)

// RecvFlags are the flags of a receive request. They mirror RINGMSG_RECV_*.
type RecvFlags uint32

const (
	RecvSplit     RecvFlags = 1 << 0 // one record per datagram instead of one per GRO train
	RecvPollFirst RecvFlags = 1 << 1 // wait for data before the first attempt
	RecvNoRearm   RecvFlags = 1 << 2 // report every end of a request as RecordFinal
)

// Flags of a [Record]. They mirror RINGMSG_RECORD_*.
const (
	RecordBuffer           uint32 = 1 << 0 // holds a pool buffer: release it
	RecordFinal            uint32 = 1 << 1 // the request is over; may carry data as well
	RecordTruncated        uint32 = 1 << 2 // the payload was cut
	RecordControlTruncated uint32 = 1 << 3 // control messages were cut or lost
	RecordSegment          uint32 = 1 << 4 // one datagram out of a GRO train
	RecordNameTruncated    uint32 = 1 << 5 // the source address was cut
)

// PoolNone is the Pool of a record that belongs to no pool.
const PoolNone uint16 = 0xffff

// LingerAuto, as [Wait].Linger, follows the arrival rate.
const LingerAuto time.Duration = -1

// LingerAutoWithin is LingerAuto with a bound of yours in place of 100 µs.
func LingerAutoWithin(bound time.Duration) time.Duration {
	return -max(bound, time.Microsecond)
}

// RINGMSG_LINGER_*.
const (
	lingerAuto       uint32 = 0xffffffff
	lingerAutoWithin uint32 = 1 << 31
	lingerMax        uint32 = 10000
	abiVersion       uint32 = 0
)

// Meta is a set of the things that can be known about a datagram besides its payload. It mirrors
// RINGMSG_META_*.
type Meta uint32

const (
	MetaSource            Meta = 1 << 0
	MetaDestination       Meta = 1 << 1
	MetaInterface         Meta = 1 << 2
	MetaTrafficClass      Meta = 1 << 3 // ECN is in here
	MetaHopLimit          Meta = 1 << 4
	MetaSegmentSize       Meta = 1 << 5 // GRO
	MetaDropped           Meta = 1 << 6
	MetaSoftwareTimestamp Meta = 1 << 7
	MetaHardwareTimestamp Meta = 1 << 8
	MetaDestinationPort   Meta = 1 << 9
	MetaSocketError       Meta = 1 << 10
	MetaMark              Meta = 1 << 11
	MetaFlowLabel         Meta = 1 << 12
	MetaLocalV4           Meta = 1 << 13
	MetaPriority          Meta = 1 << 14
	MetaOffender          Meta = 1 << 15
)

// Record is one datagram, one GRO train, one chunk of a stream, or one error. It is struct
// ringmsg_record, byte for byte; its offsets count from the start of [Pool.Bytes].
type Record struct {
	UserData      uint64
	Result        int32 // payload bytes, or -errno
	Flags         uint32
	PayloadOffset uint32
	PayloadLength uint32
	ControlOffset uint32
	ControlLength uint32
	NameOffset    uint32
	NameLength    uint32
	WireLength    uint32 // payload bytes before truncation
	MsgFlags      uint32 // MSG_TRUNC, MSG_CTRUNC, ... as the kernel set them
	SegmentSize   uint32 // GRO segment size; 0: not a train
	Pool          uint16
	Buffer        uint16
	Generation    uint32
	Segment       uint16 // which datagram of the train this is, from 0
	Segments      uint16 // datagrams in the train as it arrived; 1 when the record is whole
}

// Metadata is what the control messages and the source address of a datagram say. It is struct
// ringmsg_metadata, byte for byte: a field means something only if its bit is set in Valid.
type Metadata struct {
	Valid               Meta
	Family              uint16 // AF_INET or AF_INET6, of both addresses; 0 when neither is known
	SourcePort          uint16
	SourceBytes         [16]byte // IPv4 in the first four
	SourceScope         uint32
	InterfaceIndex      uint32
	DestinationBytes    [16]byte // IPv4 in the first four
	DestinationPort     uint16
	TrafficClass        uint8
	HopLimit            uint8
	SegmentSize         uint32
	Dropped             uint32 // socket buffers dropped so far (with GRO: trains); wraps
	SocketError         int32
	SoftwareTimestampNS int64
	HardwareTimestampNS int64
	Mark                uint32
	FlowLabel           uint32
	LocalV4Bytes        [4]byte
	Priority            uint32
	ErrorInfo           uint32 // ee_info: next hop's MTU, first zero-copy number; with MetaSocketError
	ErrorData           uint32 // ee_data: timestamp id, last zero-copy number; with MetaSocketError
	ErrorOrigin         uint8  // SO_EE_ORIGIN_*
	ErrorType           uint8  // ICMP type
	ErrorCode           uint8  // ICMP code
	_                   uint8
	OffenderBytes       [16]byte // the sender of the ICMP error; IPv4 in the first four
	reserved            uint32
}

// ECN is a datagram's mark of explicit congestion notification.
type ECN uint8

// The four marks of RFC 3168.
const (
	ECNNotCapable   ECN = 0
	ECNCapable1     ECN = 1 // ECT(1)
	ECNCapable0     ECN = 2 // ECT(0)
	ECNCongestion   ECN = 3 // CE
	ecnMask             = 3
	addressFamilyV4     = 2
	addressFamilyV6     = 10
)

// ECN returns the congestion mark; it means something if Valid has [MetaTrafficClass].
func (m *Metadata) ECN() ECN { return ECN(m.TrafficClass & ecnMask) }

// Source returns the sender's address; the zero AddrPort if it is not known.
func (m *Metadata) Source() netip.AddrPort {
	if m.Valid&MetaSource == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(withScope(m.address(&m.SourceBytes), m.SourceScope), m.SourcePort)
}

// Destination returns the address the datagram was sent to; the zero Addr if it is not known.
func (m *Metadata) Destination() netip.Addr {
	if m.Valid&MetaDestination == 0 {
		return netip.Addr{}
	}
	return m.address(&m.DestinationBytes)
}

// LocalV4 returns the local IPv4 address to reply from; the zero Addr if it is not known.
func (m *Metadata) LocalV4() netip.Addr {
	if m.Valid&MetaLocalV4 == 0 {
		return netip.Addr{}
	}
	return netip.AddrFrom4(m.LocalV4Bytes)
}

// Offender returns the router or host that sent the ICMP error; the zero Addr if it is not known.
func (m *Metadata) Offender() netip.Addr {
	if m.Valid&MetaOffender == 0 {
		return netip.Addr{}
	}
	if m.ErrorOrigin == originICMP && [12]byte(m.OffenderBytes[4:]) == [12]byte{} {
		return netip.AddrFrom4([4]byte(m.OffenderBytes[:4]))
	}
	return netip.AddrFrom16(m.OffenderBytes)
}

// originICMP is SO_EE_ORIGIN_ICMP.
const originICMP = 2

// Timestamp returns when the kernel received the datagram; the zero Time if it is not known.
func (m *Metadata) Timestamp() time.Time {
	if m.Valid&MetaSoftwareTimestamp == 0 {
		return time.Time{}
	}
	return time.Unix(0, m.SoftwareTimestampNS)
}

func (m *Metadata) address(bytes *[16]byte) netip.Addr {
	switch m.Family {
	case addressFamilyV4:
		return netip.AddrFrom4([4]byte(bytes[:4]))
	case addressFamilyV6:
		return netip.AddrFrom16(*bytes)
	}
	return netip.Addr{}
}

// Wait says how [Ring.Reap] is to wait. A nil *Wait means: for ever, with LingerAuto.
type Wait struct {
	Timeout time.Duration // for a first record; negative: no limit; 0: do not block
	Linger  time.Duration // for a second one, at most 10 ms, on DEFER_TASKRUN rings; or LingerAuto
	Spin    time.Duration // to poll before sleeping, inside Timeout
}

// RingConfig says how a ring is to be made. Zero entries: a good default.
type RingConfig struct {
	Flags        uint32 // Setup*; 0 is the kernel's plain mode
	Engine       uint32 // Engine*
	SQEntries    uint32
	CQEntries    uint32
	SQThreadIdle time.Duration
	SQThreadCPU  int // -1: any
}

// RingInfo tells what a ring turned out to be.
type RingInfo struct {
	Engine      uint32
	Flags       uint32 // Setup* in force
	Features    uint32 // Feature*
	SQEntries   uint32
	CQEntries   uint32
	OwnerThread int // the thread to which the ring is bound; 0: to none
}

// PoolConfig says what a pool is to hold. Zero fields: a good default.
type PoolConfig struct {
	Buffers         int // a power of two, at most 32768
	PayloadCapacity int
	ControlCapacity int
	NameCapacity    int
}

// Stats counts what a ring, or one request, has done so far. The fields are those of struct
// ringmsg_stats.
type Stats struct {
	Records          uint64 // handed out, errors and finals included
	Datagrams        uint64 // a train counts its segments
	PayloadBytes     uint64
	Reaps            uint64
	Enters           uint64 // kernel entries
	Wakes            uint64
	Rearms           uint64
	Starvations      uint64 // a request found every buffer held by the program
	WindowMisses     uint64
	CQOverflows      uint64
	Truncated        uint64
	ControlTruncated uint64
	ZeroLength       uint64
	Errors           uint64
	SocketDrops      uint64 // dropped by the kernel since the request was armed; with GRO: trains
	BuffersHeld      uint64
	BuffersPublished uint64
}

// Support tells what a kernel and a sandbox offer.
type Support struct {
	Engines         uint32 // bit Engine*: that engine works here
	SetupFlags      uint32
	Features        uint32
	CreateError     int // 0, or the -errno with which io_uring_setup(2) refuses
	IOURingDisabled int // kernel.io_uring_disabled; -1: cannot be read
	KernelVersion   uint32
}
