//go:build linux && cgo

package ringmsg

import (
	"net"
	"time"
)

// homeInlet serves goroutines that come and go, from a plain ring: whoever's turn it is sleeps in
// its reap. Completions run in the thread that armed the request; if the reader sleeps in
// another, that makes two wake-ups of one. So a reader that is about to sleep arms the request
// again if it finds itself elsewhere: home is where you sleep.
type homeInlet struct {
	receiver
	thread int // where the request was armed
}

func newHomeInlet(conn *net.UDPConn, o *options) (inlet, error) {
	in := &homeInlet{receiver: receiver{conn: conn}, thread: thread()}
	if err := in.open(0, o); err != nil {
		return nil, err
	}
	return in, nil
}

func (in *homeInlet) fill(b *Batch, deadline time.Time) error {
	b.owner = in
	timeout, open := left(deadline)
	if !open {
		timeout = 0
	}
	if here := thread(); timeout != 0 && (in.request == 0 || here != in.thread) {
		if err := in.next(b, &Wait{}); err != nil || b.count > 0 {
			return err
		}
		if err := in.moveTo(here); err != nil {
			return err
		}
	}
	return in.next(b, &Wait{Timeout: timeout})
}

func (in *homeInlet) moveTo(here int) error {
	if err := in.cancel(); err != nil {
		return err
	}
	in.thread = here
	return in.arm()
}

func (in *homeInlet) wake() { in.wakeRing() }

func (in *homeInlet) stop(into *Batch) error {
	err := in.drain(into)
	in.letGo()
	return err
}
