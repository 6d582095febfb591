package ringmsg

import (
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// What is known about a datagram is described by package uring, which a [Conn] shares with it.
type (
	Meta     = uring.Meta
	Metadata = uring.Metadata
	ECN      = uring.ECN
	Record   = uring.Record
	Error    = uring.Error
)

// The metadata that [WithMetadata] can ask for.
const (
	MetaSource            = uring.MetaSource
	MetaDestination       = uring.MetaDestination
	MetaInterface         = uring.MetaInterface
	MetaTrafficClass      = uring.MetaTrafficClass
	MetaHopLimit          = uring.MetaHopLimit
	MetaSegmentSize       = uring.MetaSegmentSize
	MetaDropped           = uring.MetaDropped
	MetaSoftwareTimestamp = uring.MetaSoftwareTimestamp
	MetaHardwareTimestamp = uring.MetaHardwareTimestamp
	MetaDestinationPort   = uring.MetaDestinationPort
	MetaSocketError       = uring.MetaSocketError
	MetaMark              = uring.MetaMark
	MetaFlowLabel         = uring.MetaFlowLabel
	MetaLocalV4           = uring.MetaLocalV4
	MetaPriority          = uring.MetaPriority
	MetaOffender          = uring.MetaOffender
)

// The four marks of RFC 3168.
const (
	ECNNotCapable = uring.ECNNotCapable
	ECNCapable1   = uring.ECNCapable1
	ECNCapable0   = uring.ECNCapable0
	ECNCongestion = uring.ECNCongestion
)

// LingerAuto, in [WithLinger], lets the library find out what saves CPU time: at most 100 µs.
const LingerAuto = uring.LingerAuto

// LingerAutoWithin is LingerAuto with a bound of the caller's instead of 100 µs.
func LingerAutoWithin(bound time.Duration) time.Duration { return uring.LingerAutoWithin(bound) }

// Available returns nil where rings can be made, and otherwise why not. The answer is found once
// in a process.
func Available() error { return uring.Available() }

// Version returns the ringmsg library's version.
func Version() string { return uring.Version() }

// DescribeSupport describes in a few lines what this kernel and this sandbox offer.
func DescribeSupport() string { return uring.DescribeSupport() }

// The rest of package uring had these names in version 0.1 before it became a package of its own.
// They stay as aliases for this version, but for Message, which is [uring.Message] now: here it is
// a message to send.
type (
	Ring           = uring.Ring
	RingConfig     = uring.RingConfig
	RingInfo       = uring.RingInfo
	Pool           = uring.Pool
	PoolConfig     = uring.PoolConfig
	Wait           = uring.Wait
	RecvFlags      = uring.RecvFlags
	Stats          = uring.Stats
	Support        = uring.Support
	ControlMessage = uring.ControlMessage
)

// Constants of package uring under their old names.
const (
	SetupSQPoll       = uring.SetupSQPoll
	SetupDisabled     = uring.SetupDisabled
	SetupCoopTaskrun  = uring.SetupCoopTaskrun
	SetupTaskrunFlag  = uring.SetupTaskrunFlag
	SetupSingleIssuer = uring.SetupSingleIssuer
	SetupDeferTaskrun = uring.SetupDeferTaskrun
	SetupAuto         = uring.SetupAuto

	EngineAuto     = uring.EngineAuto
	EngineIOURing  = uring.EngineIOURing
	EngineRecvmmsg = uring.EngineRecvmmsg

	FeatureMultishot = uring.FeatureMultishot
	FeatureMinWait   = uring.FeatureMinWait

	RecvSplit     = uring.RecvSplit
	RecvPollFirst = uring.RecvPollFirst
	RecvNoRearm   = uring.RecvNoRearm

	RecordBuffer           = uring.RecordBuffer
	RecordFinal            = uring.RecordFinal
	RecordTruncated        = uring.RecordTruncated
	RecordControlTruncated = uring.RecordControlTruncated
	RecordSegment          = uring.RecordSegment
	RecordNameTruncated    = uring.RecordNameTruncated

	PoolNone = uring.PoolNone
)

// NewRing is [uring.NewRing].
func NewRing(config *RingConfig) (*Ring, error) { return uring.NewRing(config) }

// QuerySupport is [uring.QuerySupport].
func QuerySupport() Support { return uring.QuerySupport() }

// EnableMetadata is [uring.EnableMetadata].
func EnableMetadata(fd int, metadata Meta) error { return uring.EnableMetadata(fd, metadata) }

// PoolConfigForSocket is [uring.PoolConfigForSocket].
func PoolConfigForSocket(fd int) (PoolConfig, error) { return uring.PoolConfigForSocket(fd) }

// ParseControl is [uring.ParseControl].
func ParseControl(control []byte) ([]ControlMessage, error) { return uring.ParseControl(control) }

// DecodeControl is [uring.DecodeControl].
func DecodeControl(control []byte) (Metadata, error) { return uring.DecodeControl(control) }
