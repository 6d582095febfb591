//go:build linux && cgo

package ringmsg

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// loop is a running loop over Batches: a ring with one pool and one armed request.
//
// It reaps in the loop's own goroutine, so that nothing changes hands between threads. A goroutine
// that is locked to its thread owns a DEFER_TASKRUN ring there; one that is not has a ring of the
// recvmmsg engine, which any thread may reap. docs/decisions.md has the measurements.
type loop struct {
	conn    *Conn
	ring    *uring.Ring
	pool    *uring.Pool
	request uint64 // user data of the armed request; 0: none is armed
	serial  uint64
	batch   *Batch // the one that the program has

	body  bool          // the loop is in its body; Conn.mu
	ended chan struct{} // closed when the loop is over

	touched int // bytes that were written to the pool's memory since it was trimmed

	mu    sync.Mutex
	users int // the loop itself, and held batches: the last one closes the ring
	held  map[*Batch]struct{}
}

// bindsThread reports whether the best ring for batches belongs to one thread here.
func bindsThread() bool { return uring.BestFlags() != 0 }

// newLoop makes a ring and arms its request. The calling thread owns the ring if it is bound.
func newLoop(c *Conn, bound bool) (*loop, error) {
	l := &loop{conn: c, users: 1, ended: make(chan struct{}), batch: newBatch(c.options.batchSize)}
	config := uring.RingConfig{Engine: uring.EngineRecvmmsg}
	if bound {
		config = uring.RingConfig{Flags: uring.BestFlags()}
	}
	if err := l.prepareSocket(); err != nil {
		return nil, err
	}
	ring, err := uring.NewRing(&config)
	if err != nil {
		return nil, err
	}
	l.ring = ring
	if err := l.open(); err != nil {
		_ = ring.Close()
		return nil, err
	}
	l.batch.loop, l.batch.bytes, l.batch.conn = l, l.pool.Bytes(), c
	return l, nil
}

// prepareSocket switches on what the loop's metadata needs.
func (l *loop) prepareSocket() (err error) {
	in, o := &l.conn.in, l.conn.options
	outer := l.conn.raw.Control(func(fd uintptr) {
		in.mu.Lock()
		defer in.mu.Unlock()
		in.hasRead = true
		in.prepare(int(fd), l.conn)
		metadata := o.metadata &^ uring.MetaSegmentSize // prepare switches it on
		if in.replies != nil || l.conn.isWildcard() {
			metadata |= uring.MetaDestination | uring.MetaLocalV4
		}
		err = in.switchOn(int(fd), func() error { return uring.EnableMetadata(int(fd), metadata) })
	})
	if outer != nil {
		return outer
	}
	return err
}

func (l *loop) open() (err error) {
	l.pool, err = l.ring.NewPool(uring.PoolConfig{
		Buffers:         l.conn.options.buffers,
		PayloadCapacity: payloadSpace,
		ControlCapacity: controlSpace,
		NameCapacity:    nameSpace,
	})
	if err != nil {
		return err
	}
	return l.arm()
}

func (l *loop) arm() (err error) {
	l.serial++
	outer := l.conn.raw.Control(func(fd uintptr) {
		err = l.ring.RecvmsgMultishot(l.pool, int(fd), 0, uring.RecvSplit, l.serial)
	})
	if outer != nil {
		return outer
	}
	if err == nil {
		l.request = l.serial
	}
	return err
}

func (l *loop) cancel() error {
	if l.request == 0 {
		return nil
	}
	if err := l.ring.Cancel(l.request); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}

// next gives the program's batch back and returns the next one, which is empty when the wait was
// woken or its deadline has passed. What earlier readers left comes first.
func (l *loop) next(deadline time.Time) (*Batch, error) {
	if earlier := l.conn.in.takeBatch(l.conn.options.batchSize); earlier != nil {
		earlier.conn = l.conn
		return earlier, nil
	}
	if l.request == 0 {
		if err := l.arm(); err != nil {
			return nil, err
		}
	}
	timeout := time.Duration(-1)
	if !deadline.IsZero() {
		timeout = max(time.Until(deadline), 0)
	}
	wait := uring.Wait{Timeout: l.trimTimeout(timeout), Linger: l.conn.options.linger}
	start := time.Now()
	if err := l.reap(l.batch, &wait); err != nil {
		return nil, err
	}
	if l.batch.count > 0 {
		l.touch(l.batch)
	} else if l.touched >= trimLeast && time.Since(start) >= trimAfter {
		if err := l.trim(); err != nil {
			return nil, err
		}
	}
	return l.batch, nil
}

// reap gives a batch's buffers back, and fills it again.
func (l *loop) reap(b *Batch, wait *uring.Wait) error {
	done := b.count
	b.count = 0
	n, err := l.ring.Next(done, b.records, b.metadata, wait)
	if err != nil {
		return err
	}
	b.count = n
	l.dropCancellations(b)
	if table := l.conn.in.replies; table != nil {
		for i := range b.count {
			table.learnFrom(&b.metadata[i])
		}
	}
	return nil
}

// dropCancellations takes out of a batch what is no datagram: the ends of cancelled requests.
func (l *loop) dropCancellations(b *Batch) {
	kept := 0
	for i := range b.records[:b.count] {
		record := &b.records[i]
		if record.Flags&uring.RecordFinal != 0 {
			if record.UserData == l.request {
				l.request = 0
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

// wake makes the current reap return or, if there is none, the next one.
func (l *loop) wake() { _ = l.ring.Wake() }

// close ends receiving: what the ring has received goes to the Conn's next reader, what arrives
// later waits in the socket. It gives the ring back, unless batches are held.
func (l *loop) close() {
	_ = l.drain()
	s := l.stats()
	l.conn.mu.Lock()
	l.conn.past.add(&s)
	l.conn.loop = nil // Stats would count it twice
	l.conn.mu.Unlock()
	if l.drop() {
		_ = l.ring.Close()
	}
}

// drainTimeout bounds the wait for the end of a request, which the kernel owes.
const drainTimeout = time.Second

// drain gives the program's batch back, cancels the request, and keeps what it still brings.
func (l *loop) drain() error {
	if err := l.ring.Release(l.batch.records[:l.batch.count]); err != nil {
		return err
	}
	l.batch.count = 0
	if err := l.cancel(); err != nil {
		return err
	}
	for until := time.Now().Add(drainTimeout); ; {
		wait := uring.Wait{}
		if l.request != 0 {
			wait.Timeout = max(time.Until(until), 0)
		}
		if err := l.reap(l.batch, &wait); err != nil {
			return err
		}
		l.conn.in.keepBatch(l.batch, l.pool)
		if l.batch.count == 0 && (l.request == 0 || wait.Timeout == 0) {
			return nil
		}
	}
}

// stats returns the ring's counters.
func (l *loop) stats() Stats {
	s, _ := l.ring.Stats()
	return s
}
