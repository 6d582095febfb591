//go:build !linux || !cgo

package uring

import "errors"

// Without cgo, or off Linux, there is no library to call: every call says so.

// Available returns nil where rings can be made, and otherwise why not.
func Available() error { return errors.ErrUnsupported }

// Version returns the library's version; here it is empty.
func Version() string { return "" }

// BestFlags returns the setup flags of the best mode for batches.
func BestFlags() SetupFlags { return 0 }

// QuerySupport asks what this kernel and this sandbox offer: here, nothing.
func QuerySupport() Support { return Support{} }

// DescribeSupport describes the same for a person to read.
func DescribeSupport() string { return "ringmsg: this program was built without cgo, or not for Linux" }

// EnableMetadata sets the socket options that make the kernel send metadata.
func EnableMetadata(int, Meta) error { return errors.ErrUnsupported }

// PoolConfigForSocket sizes a pool.
func PoolConfigForSocket(int) (PoolConfig, error) { return PoolConfig{}, errors.ErrUnsupported }

// ParseControl returns the control messages of a slice.
func ParseControl([]byte) ([]ControlMessage, error) { return nil, errors.ErrUnsupported }

// DecodeControl decodes control messages.
func DecodeControl([]byte) (Metadata, error) { return Metadata{}, errors.ErrUnsupported }

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
func NewRing(*RingConfig) (*Ring, error) { return nil, errors.ErrUnsupported }

func (*Ring) Cancel(uint64) error                                       { return errors.ErrUnsupported }
func (*Ring) Close() error                                              { return errors.ErrUnsupported }
func (*Ring) Enable() error                                             { return errors.ErrUnsupported }
func (*Ring) FD() (int, error)                                          { return -1, errors.ErrUnsupported }
func (*Ring) Info() (RingInfo, error)                                   { return RingInfo{}, errors.ErrUnsupported }
func (*Ring) NewPool(PoolConfig) (*Pool, error)                         { return nil, errors.ErrUnsupported }
func (*Ring) Next(int, []Record, []Metadata, *Wait) (int, error)        { return 0, errors.ErrUnsupported }
func (*Ring) Reap([]Record, []Metadata, *Wait) (int, error)             { return 0, errors.ErrUnsupported }
func (*Ring) Recvmsg(int, *Message, int, RecvFlags, uint64) error       { return errors.ErrUnsupported }
func (*Ring) RecvmsgMultishot(*Pool, int, int, RecvFlags, uint64) error { return errors.ErrUnsupported }
func (*Ring) RecvmsgOnce(*Pool, int, int, RecvFlags, uint64) error      { return errors.ErrUnsupported }
func (*Ring) Release([]Record) error                                    { return errors.ErrUnsupported }
func (*Ring) RequestStats(uint64) (Stats, error)                        { return Stats{}, errors.ErrUnsupported }
func (*Ring) Stats() (Stats, error)                                     { return Stats{}, errors.ErrUnsupported }
func (*Ring) Submit() error                                             { return errors.ErrUnsupported }
func (*Ring) TakeFDs(*Record, []int) (int, error)                       { return 0, errors.ErrUnsupported }
func (*Ring) Wake() error                                               { return errors.ErrUnsupported }

func (*Pool) Bytes() []byte          { return nil }
func (*Pool) Close() error           { return errors.ErrUnsupported }
func (*Pool) Control(*Record) []byte { return nil }
func (*Pool) ID() uint16             { return PoolNone }
func (*Pool) Name(*Record) []byte    { return nil }
func (*Pool) Payload(*Record) []byte { return nil }
