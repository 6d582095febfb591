//go:build linux && cgo

package ringmsg

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// receiver is what the ring inlets are made of: a ring, a pool, and one armed request.
//
// How to hide the thread rules of a ring from goroutines was measured: docs/decisions.md. In
// short, DEFER_TASKRUN is the cheapest under load, but belongs to one thread, and to wake another
// goroutine from there doubles the latency. Hence [boundInlet] and [ownerInlet] for batches; and
// for single reads, by goroutines that come and go, [homeInlet].
type receiver struct {
	conn    *net.UDPConn
	ring    *Ring
	pool    *Pool
	users   atomic.Int64 // the conn, an iteration, held batches: the last one closes the ring
	request uint64       // the user data of the armed request; 0: none is armed
	serial  uint64
}

// open makes the ring and the pool. The calling thread becomes the owner of a bound ring.
func (r *receiver) open(flags uint32, o *options) (err error) {
	r.users.Store(1)
	if r.ring, err = NewRing(&RingConfig{Flags: flags}); err != nil {
		return err
	}
	r.pool, err = r.ring.NewPool(PoolConfig{
		Buffers:         o.buffers,
		PayloadCapacity: payloadSpace,
		ControlCapacity: controlSpace,
		NameCapacity:    nameSpace,
	})
	if err == nil {
		err = r.arm()
	}
	if err != nil {
		_ = r.ring.Close()
	}
	return err
}

func (r *receiver) arm() error {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return err
	}
	r.serial++
	if outer := raw.Control(func(fd uintptr) {
		err = r.ring.RecvmsgMultishot(r.pool, int(fd), 0, RecvSplit, r.serial)
	}); outer != nil {
		return outer
	}
	if err == nil {
		r.request = r.serial
	}
	return err
}

func (r *receiver) cancel() error {
	if r.request == 0 {
		return nil
	}
	if err := r.ring.Cancel(r.request); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// next gives the batch's buffers back, and fills it again.
func (r *receiver) next(b *Batch, wait *Wait) error {
	b.bytes = r.pool.Bytes()
	done := b.count
	b.count = 0
	n, err := r.ring.Next(done, b.records, b.metadata, wait)
	if err != nil {
		return err
	}
	b.count = n
	r.sift(b)
	return nil
}

// sift takes out of a batch what is no datagram: the ends of requests that were cancelled.
func (r *receiver) sift(b *Batch) {
	kept := 0
	for i := range b.records[:b.count] {
		record := &b.records[i]
		if record.Flags&RecordFinal != 0 {
			if record.UserData == r.request {
				r.request = 0
			}
			if record.Result == -int32(syscall.ECANCELED) {
				continue
			}
		}
		if kept != i {
			b.records[kept], b.metadata[kept] = b.records[i], b.metadata[i]
		}
		kept++
	}
	b.count = kept
}

// drainTimeout bounds the wait for the end of a request, which the kernel owes us.
const drainTimeout = time.Second

// drain cancels the request, and adds a copy of what it still brings to into.
func (r *receiver) drain(into *Batch) error {
	if err := r.cancel(); err != nil {
		return err
	}
	b, until := newBatch(readsBatch), time.Now().Add(drainTimeout)
	for {
		wait := Wait{}
		if r.request != 0 {
			wait.Timeout = max(time.Until(until), 0)
		}
		if err := r.next(b, &wait); err != nil {
			return err
		}
		into.copied(b, 0)
		if b.count == 0 && (r.request == 0 || wait.Timeout == 0) {
			return nil
		}
	}
}

func (r *receiver) wakeRing() { _ = r.ring.Wake() }

func (r *receiver) retain() { r.users.Add(1) }

func (r *receiver) release(records []Record) error { return r.ring.Release(records) }

func (r *receiver) letGo() {
	if r.users.Add(-1) == 0 {
		_ = r.ring.Close()
	}
}
