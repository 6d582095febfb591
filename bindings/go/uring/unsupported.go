//go:build !linux || !cgo

package uring

import (
	"errors"
	"syscall"
)

var unsupported = errors.ErrUnsupported

// Without cgo, or off Linux, there is no library to call: every call says so.

// Available returns nil where rings can be made, and otherwise why not.
func Available() error { return unsupported }

// Version returns the library's version; here it is empty.
func Version() string { return "" }

// BestFlags returns the setup flags of the best mode for batches.
func BestFlags() SetupFlags { return 0 }

// QuerySupport asks what this kernel and this sandbox offer: here, nothing.
func QuerySupport() Support { return Support{} }

// DescribeSupport describes the same for a person to read.
func DescribeSupport() string { return "ringmsg: this program was built without cgo, or not for Linux" }

// EnableMetadata sets the socket options that make the kernel send metadata.
func EnableMetadata(int, Meta) error { return unsupported }

// PoolConfigForSocket sizes a pool.
func PoolConfigForSocket(int) (PoolConfig, error) { return PoolConfig{}, unsupported }

// ParseControl returns the control messages of a slice.
func ParseControl([]byte) ([]ControlMessage, error) { return nil, unsupported }

// DecodeControl decodes control messages.
func DecodeControl([]byte) (Metadata, error) { return Metadata{}, unsupported }

// Message is the program's own memory for one message.
type Message struct {
	Buffers       [][]byte
	Name          []byte
	Control       []byte
	NameLength    int
	ControlLength int
	Flags         int
}

// Ring receives through an io_uring; here every call is [errors.ErrUnsupported].
type Ring struct{}

// Pool is the buffers of a ring.
type Pool struct{}

// NewRing makes a ring.
func NewRing(*RingConfig) (*Ring, error) { return nil, unsupported }

func (*Ring) Cancel(uint64) error                                       { return unsupported }
func (*Ring) Close() error                                              { return unsupported }
func (*Ring) Enable() error                                             { return unsupported }
func (*Ring) FD() (int, error)                                          { return -1, unsupported }
func (*Ring) Info() (RingInfo, error)                                   { return RingInfo{}, unsupported }
func (*Ring) NewPool(PoolConfig) (*Pool, error)                         { return nil, unsupported }
func (*Ring) Next(int, []Record, []Metadata, *Wait) (int, error)        { return 0, unsupported }
func (*Ring) Reap([]Record, []Metadata, *Wait) (int, error)             { return 0, unsupported }
func (*Ring) Recvmsg(int, *Message, int, RecvFlags, uint64) error       { return unsupported }
func (*Ring) RecvmsgMultishot(*Pool, int, int, RecvFlags, uint64) error { return unsupported }
func (*Ring) RecvmsgOnce(*Pool, int, int, RecvFlags, uint64) error      { return unsupported }
func (*Ring) Release([]Record) error                                    { return unsupported }
func (*Ring) RequestStats(uint64) (Stats, error)                        { return Stats{}, unsupported }
func (*Ring) Stats() (Stats, error)                                     { return Stats{}, unsupported }
func (*Ring) Submit() error                                             { return unsupported }
func (*Ring) TakeFDs(*Record, []int) (int, error)                       { return 0, unsupported }
func (*Ring) Wake() error                                               { return unsupported }

func (*Pool) Bytes() []byte          { return nil }
func (*Pool) Close() error           { return unsupported }
func (*Pool) Control(*Record) []byte { return nil }
func (*Pool) ID() uint16             { return PoolNone }
func (*Pool) Name(*Record) []byte    { return nil }
func (*Pool) Payload(*Record) []byte { return nil }

// Sender sends batches of messages on one socket.
type Sender struct{}

// NewSender makes a sender.
func NewSender(int, *SenderConfig) (*Sender, error) { return nil, unsupported }

func (*Sender) Send([][]byte, []Path, []SendMessage, SendFlags) (int, error)   { return 0, unsupported }
func (*Sender) SendFrom([]byte, []Path, []SendMessage, SendFlags) (int, error) { return 0, unsupported }
func (*Sender) TakeSocketError() syscall.Errno                                 { return 0 }
func (*Sender) Stats() (SenderStats, error)                                    { return SenderStats{}, unsupported }
func (*Sender) Close() error                                                   { return unsupported }
