//go:build linux && cgo

package ringmsg

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// ownerInlet serves [Conn.Batches] where the loop's goroutine cannot be locked to its thread. A
// goroutine that can owns a DEFER_TASKRUN ring and makes every call that only the owner may make;
// batches change hands through channels, so that the next one is received while the program works
// on this one.
type ownerInlet struct {
	receiver
	free     chan *Batch   // for the owner to fill
	full     chan *Batch   // for the program
	failed   error         // why the owner does not receive any more; read after full is closed
	woken    chan struct{} // sticky
	stopping atomic.Bool
	done     chan struct{} // closed when the owner has ended
	rest     *Batch        // what nobody has read by then
	lent     *Batch        // whose arrays the program's batch has
	timer    *time.Timer
	linger   time.Duration
}

// How many batches circulate besides the program's.
const spareBatches = 2

func newOwnerInlet(conn *net.UDPConn, o *options) (inlet, error) {
	in := &ownerInlet{
		receiver: receiver{conn: conn},
		free:     make(chan *Batch, spareBatches+1),
		full:     make(chan *Batch, spareBatches+1),
		woken:    make(chan struct{}, 1),
		done:     make(chan struct{}),
		rest:     &Batch{},
		linger:   o.linger,
	}
	for range spareBatches {
		in.free <- newBatch(o.batchSize)
	}
	opened := make(chan error)
	go in.own(o, opened)
	if err := <-opened; err != nil {
		return nil, err
	}
	return in, nil
}

// own is the owner's life.
func (in *ownerInlet) own(o *options, opened chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := in.open(deferOrPlain(), o)
	opened <- err
	if err != nil {
		return
	}
	in.failed = in.receive()
	close(in.full) // the program takes what is in there, or, after stop, rest does
	for range in.free {
	}
	for full := range in.full {
		in.rest.copied(full, 0)
	}
	if err := in.drain(in.rest); in.failed == nil {
		in.failed = err
	}
	in.letGo() // in this thread it is quick
	close(in.done)
}

// receive fills batches until it is told to stop.
func (in *ownerInlet) receive() error {
	wait := Wait{Timeout: -1, Linger: in.linger}
	for b := range in.free {
		for {
			if in.request == 0 && !in.stopping.Load() {
				if err := in.arm(); err != nil {
					return err
				}
			}
			if err := in.next(b, &wait); err != nil {
				return err
			}
			some := b.count > 0
			if some {
				in.full <- b // the program's from here on
			}
			if in.stopping.Load() { // looked at with records too: they win over a wake
				return nil
			}
			if some {
				break
			}
		}
	}
	return nil
}

func (in *ownerInlet) fill(b *Batch, deadline time.Time) error {
	b.owner, b.bytes = in, in.pool.Bytes()
	in.giveBack(b)
	var late <-chan time.Time
	if timeout, open := left(deadline); !open {
		return nil
	} else if timeout > 0 {
		late = in.after(timeout)
		defer in.timer.Stop()
	}
	select {
	case full, open := <-in.full:
		if !open {
			return in.end()
		}
		in.lent = full
		b.records, b.metadata, b.count = full.records, full.metadata, full.count
	case <-in.woken:
	case <-late:
	}
	return nil
}

// giveBack sends the arrays of the program's batch back to the owner, which releases their
// records when it fills them.
func (in *ownerInlet) giveBack(b *Batch) {
	if in.lent == nil {
		return
	}
	in.lent.records, in.lent.metadata, in.lent.count = b.records, b.metadata, b.count
	b.records, b.metadata, b.count = nil, nil, 0
	in.free <- in.lent
	in.lent = nil
}

func (in *ownerInlet) after(timeout time.Duration) <-chan time.Time {
	if in.timer == nil {
		in.timer = time.NewTimer(timeout)
	} else {
		in.timer.Reset(timeout)
	}
	return in.timer.C
}

func (in *ownerInlet) end() error {
	if in.failed != nil {
		return in.failed
	}
	return errClosed
}

func (in *ownerInlet) wake() {
	select {
	case in.woken <- struct{}{}:
	default:
	}
}

func (in *ownerInlet) stop(into *Batch) error {
	in.stopping.Store(true)
	in.wakeRing()
	close(in.free)
	<-in.done
	into.copied(in.rest, 0)
	return in.failed
}
