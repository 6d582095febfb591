package ringmsg

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// netInlet receives through package net: one datagram at a time, with its source address.
type netInlet struct {
	conn   *net.UDPConn
	buffer []byte
	held   atomic.Bool

	mu    sync.Mutex
	woken bool
}

var longAgo = time.Unix(1, 0)

func newNetInlet(conn *net.UDPConn) inlet {
	return &netInlet{conn: conn, buffer: make([]byte, payloadSpace+controlSpace)}
}

func (in *netInlet) fill(b *Batch, deadline time.Time) error {
	b.owner, b.bytes, b.count = in, in.buffer, 0
	if in.held.Swap(false) {
		in.buffer = make([]byte, payloadSpace+controlSpace)
		b.bytes = in.buffer
	}
	if !in.begin(deadline) {
		return nil
	}
	n, control, flags, from, err := in.conn.ReadMsgUDPAddrPort(in.buffer[:payloadSpace], in.buffer[payloadSpace:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		in.mu.Lock()
		in.woken = false
		in.mu.Unlock()
		return nil
	}
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return err
	}
	record := Record{
		Result:        int32(n),
		PayloadLength: uint32(n),
		ControlOffset: payloadSpace,
		ControlLength: uint32(control),
		WireLength:    uint32(n),
		MsgFlags:      uint32(flags),
		Pool:          PoolNone,
		Segments:      1,
	}
	if err != nil {
		record.Result = -int32(errno)
	}
	if flags&msgTrunc != 0 {
		record.Flags |= RecordTruncated
	}
	b.records[0], b.metadata[0], b.count = record, metadataOf(from), 1
	return nil
}

// begin sets the deadline, unless it was woken meanwhile.
func (in *netInlet) begin(deadline time.Time) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.woken {
		in.woken = false
		return false
	}
	_ = in.conn.SetReadDeadline(deadline) // it fails on a closed socket, as the read will
	return true
}

func (in *netInlet) wake() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.woken = true
	_ = in.conn.SetReadDeadline(longAgo)
}

func (in *netInlet) stop(*Batch) error      { return nil }
func (in *netInlet) retain()                { in.held.Store(true) } // the buffer is the batch's now
func (in *netInlet) release([]Record) error { return nil }
func (in *netInlet) letGo()                 {}
