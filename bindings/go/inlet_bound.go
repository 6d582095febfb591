//go:build linux && cgo

package ringmsg

import (
	"net"
	"time"
)

// boundInlet serves a loop over [Conn.Batches] in place: its goroutine is locked to its thread for
// as long as it iterates, and owns a DEFER_TASKRUN ring there. Nothing changes hands between
// threads, which is the cheapest way to receive, and the quickest to wake.
type boundInlet struct {
	receiver
	thread  int
	linger  time.Duration
	stopped bool
}

func newBoundInlet(conn *net.UDPConn, o *options) (inlet, error) {
	in := &boundInlet{receiver: receiver{conn: conn}, thread: thread(), linger: o.linger}
	if err := in.open(deferOrPlain(), o); err != nil {
		return nil, err
	}
	return in, nil
}

func deferOrPlain() uint32 { return remembered().SetupFlags & SetupDeferTaskrun }

func (in *boundInlet) fill(b *Batch, deadline time.Time) error {
	b.owner = in
	timeout, open := left(deadline)
	if !open {
		timeout = 0
	}
	if in.request == 0 {
		if err := in.arm(); err != nil {
			return err
		}
	}
	return in.next(b, &Wait{Timeout: timeout, Linger: in.linger})
}

func (in *boundInlet) wake() { in.wakeRing() }

// stop does nothing in another thread: the loop itself will.
func (in *boundInlet) stop(into *Batch) error {
	if in.thread != thread() || in.stopped {
		return nil
	}
	in.stopped = true
	err := in.drain(into)
	in.letGo()
	return err
}
