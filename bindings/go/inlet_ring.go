//go:build linux && cgo

package ringmsg

import (
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

// ringInlet receives through a ring of its own. There are two kinds:
//
// A bound one (DEFER_TASKRUN) belongs to the thread that made it, which must make every call but
// wake and release: [Conn.Batches] locks its goroutine to the thread for as long as it iterates.
// It is the cheapest way to receive, and the quickest to wake.
//
// An unbound one serves goroutines that come and go. In plain mode completions run in the thread
// that armed the request, and if the reader sleeps in another, that is two wake-ups; so a reader
// that is about to sleep arms the request again if it finds itself elsewhere.
//
// Both were weighed against a goroutine that owns a ring for others, and against ring_fd on the
// runtime's poller: docs/decisions.md.
type ringInlet struct {
	conn   *net.UDPConn // must live while fd is used
	fd     int
	ring   *Ring
	pool   *Pool
	linger time.Duration
	bound  bool

	users   atomic.Int64 // the conn, and held batches; the last one closes the ring
	request uint64       // the user data of the armed request; 0: none is armed
	serial  uint64
	thread  int // where it was armed
}

func newRingInlet(conn *net.UDPConn, o *options, bound bool) (inlet, error) {
	in := &ringInlet{conn: conn, linger: o.linger, bound: bound}
	in.users.Store(1)
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := raw.Control(func(fd uintptr) { in.fd = int(fd) }); err != nil {
		return nil, err
	}
	config := RingConfig{}
	if bound && QuerySupport().SetupFlags&SetupDeferTaskrun != 0 {
		config.Flags = SetupDeferTaskrun
	}
	if in.ring, err = NewRing(&config); err != nil {
		return nil, err
	}
	in.pool, err = in.ring.NewPool(PoolConfig{
		Buffers:         o.buffers,
		PayloadCapacity: payloadSpace,
		ControlCapacity: controlSpace,
		NameCapacity:    nameSpace,
	})
	if err == nil {
		err = in.arm()
	}
	if err != nil {
		_ = in.ring.Close()
		return nil, err
	}
	return in, nil
}

func (in *ringInlet) arm() error {
	in.serial++
	// The socket's number is asked for anew: it may have been closed meanwhile.
	raw, err := in.conn.SyscallConn()
	if err != nil {
		return err
	}
	var armed error
	if err := raw.Control(func(fd uintptr) {
		armed = in.ring.RecvmsgMultishot(in.pool, int(fd), 0, RecvSplit, in.serial)
	}); err != nil {
		return err
	}
	if armed == nil {
		in.request, in.thread = in.serial, syscall.Gettid()
	}
	return armed
}

func (in *ringInlet) fill(b *Batch, deadline time.Time) error {
	b.owner, b.bytes = in, in.pool.Bytes()
	wait := Wait{Linger: in.linger}
	var open bool
	if wait.Timeout, open = left(deadline); !open {
		wait.Timeout = 0
	}
	done := b.count
	b.count = 0
	if in.request == 0 {
		if err := in.arm(); err != nil {
			return err
		}
	}
	if !in.bound && wait.Timeout != 0 && in.thread != syscall.Gettid() {
		n, err := in.ring.Next(done, b.records, b.metadata, &Wait{})
		if n > 0 || err != nil {
			return in.filled(b, n, err)
		}
		done = 0
		if err := in.moveHere(); err != nil {
			return err
		}
	}
	n, err := in.ring.Next(done, b.records, b.metadata, &wait)
	return in.filled(b, n, err)
}

// filled takes out of the batch what is no datagram: the ends of requests that were cancelled.
func (in *ringInlet) filled(b *Batch, n int, err error) error {
	b.count = n
	if err != nil {
		return err
	}
	final := false
	for i := range b.records[:n] {
		final = final || b.records[i].Flags&RecordFinal != 0
	}
	if !final {
		return nil
	}
	kept := 0
	for i := range b.records[:n] {
		record := &b.records[i]
		if record.Flags&RecordFinal != 0 {
			if record.UserData == in.request {
				in.request = 0
			}
			if record.Result == -int32(syscall.ECANCELED) {
				continue
			}
		}
		b.records[kept], b.metadata[kept] = b.records[i], b.metadata[i]
		kept++
	}
	b.count = kept
	return nil
}

// moveHere arms the request in the calling thread, instead of where it was.
func (in *ringInlet) moveHere() error {
	if err := in.ring.Cancel(in.request); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return in.arm()
}

func (in *ringInlet) wake() { _ = in.ring.Wake() }

func (in *ringInlet) drain(into *Batch) error {
	if in.request != 0 {
		if err := in.ring.Cancel(in.request); err != nil && !errors.Is(err, syscall.ENOENT) {
			return err
		}
	}
	b := newBatch(readsBatch)
	b.owner, b.bytes = in, in.pool.Bytes()
	until := time.Now().Add(time.Second)
	for {
		wait := Wait{}
		if in.request != 0 {
			wait.Timeout = time.Until(until)
		}
		n, err := in.ring.Next(0, b.records, b.metadata, &wait)
		all := b.records[:max(n, 0)]
		if err := errors.Join(err, in.filled(b, n, err)); err != nil {
			return err
		}
		into.copied(b, 0)
		if err := in.release(all[:b.count]); err != nil {
			return err
		}
		if n == 0 && (in.request == 0 || wait.Timeout <= 0) {
			return nil
		}
	}
}

func (in *ringInlet) retain() { in.users.Add(1) }

func (in *ringInlet) release(records []Record) error { return in.ring.Release(records) }

func (in *ringInlet) letGo() {
	if in.users.Add(-1) == 0 {
		_ = in.ring.Close()
	}
	runtime.KeepAlive(in)
}
