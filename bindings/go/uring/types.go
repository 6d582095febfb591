package uring

import "time"

//go:generate go run ../internal/abigen/write ../../../include/ringmsg.h abi.go abi_cgo.go

// The setup flags that bind a ring to one thread.
const setupBoundToThread = SetupSingleIssuer | SetupDeferTaskrun

// LingerAuto, as [Wait].Linger, lets the library choose: it learns what saves CPU time, up to 100
// µs.
const LingerAuto time.Duration = -1

// LingerAutoWithin is LingerAuto with a bound of the caller's instead of 100 µs.
func LingerAutoWithin(bound time.Duration) time.Duration {
	return -max(bound, time.Microsecond)
}

// Wait says how [Ring.Reap] waits. A nil *Wait means: without a limit, with LingerAuto.
type Wait struct {
	Timeout time.Duration // for a first record; negative: no limit; 0: do not block
	Linger  time.Duration // for a second one, at most 10 ms, on DEFER_TASKRUN rings; or LingerAuto
	Spin    time.Duration // how long to poll before sleeping, inside Timeout
}

// RingConfig configures a ring. Zero entries mean a good default.
type RingConfig struct {
	Flags        SetupFlags // 0 is the kernel's plain mode
	Engine       Engine
	SQEntries    uint32
	CQEntries    uint32
	SQThreadIdle time.Duration
	SQThreadCPU  int // -1: any
}

// RingInfo says what a ring was granted.
type RingInfo struct {
	Engine      Engine
	Flags       SetupFlags // in force
	Features    Features
	SQEntries   uint32
	CQEntries   uint32
	OwnerThread int // the thread to which the ring is bound; 0: none
}

// Bound reports whether the ring belongs to one thread.
func (i RingInfo) Bound() bool { return i.Flags&setupBoundToThread != 0 }

// PoolConfig configures a pool. Zero fields mean a good default.
type PoolConfig struct {
	Buffers         int // a power of two, at most 32768
	PayloadCapacity int
	ControlCapacity int
	NameCapacity    int
}

// SenderConfig configures a sender. The zero value means the defaults.
type SenderConfig struct {
	Batch         int // messages that are grouped at once; 0: 1024
	Flags         SenderFlags
	TransmitClock int // of transmit times: CLOCK_MONOTONIC for fq, CLOCK_TAI for etf; 0: there are none
}

// Support says what a kernel and a sandbox offer.
type Support struct {
	Engines         uint32 // bit n is set when the Engine of that number works here
	SetupFlags      SetupFlags
	Features        Features
	CreateError     int // 0, or the -errno with which io_uring_setup(2) refuses
	IOURingDisabled int // kernel.io_uring_disabled; -1: cannot be read
	KernelVersion   uint32
}

// Has reports whether an engine works here.
func (s Support) Has(engine Engine) bool { return s.Engines>>engine&1 != 0 }

// ControlMessage is one control message: its data is a slice of what was parsed.
type ControlMessage struct {
	Level, Type int
	Data        []byte
}

// part returns a slice of bytes that cannot be extended beyond its end.
func part(bytes []byte, offset, length uint32) []byte {
	end := uint64(offset) + uint64(length)
	return bytes[offset:end:end]
}
