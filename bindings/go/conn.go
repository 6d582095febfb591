package ringmsg

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Conn is a [net.UDPConn] whose reads go through a ring. It has every method of that type, with
// the same behaviour, and two more ways to read: [Conn.Batches] and [Conn.ReadBatch].
//
// One kind of reader has it at a time: either an iteration over Batches, or any number of
// goroutines in the Read methods and ReadBatch. A reader of the other kind gets an error.
type Conn struct {
	udp      *net.UDPConn
	options  options
	switched switched    // socket options that are the Conn's own
	mold     net.OpError // of read errors
	reason   error       // why there is no ring

	readers  atomic.Int64 // how many goroutines are in a read; -1: an iteration has the Conn
	deadline atomic.Pointer[time.Time]

	turn   sync.Mutex // held by the reader that receives
	queue  *Batch     // what the inlet brought last
	at     int        // the first datagram of it that is not read yet
	kept   *Batch     // copies of what an earlier inlet received; they come first
	keptAt int
	kind   inletKind

	mu     sync.Mutex // for what Close and the deadlines reach for while others read
	inlet  inlet      // nil until somebody reads
	closed bool
	body   bool          // a loop over Batches is in its body
	ended  chan struct{} // closed when that loop is over; nil: there is none
}

// Listen is [net.ListenUDP] with reads through a ring: network is "udp", "udp4" or "udp6".
func Listen(network, address string, options ...Option) (*Conn, error) {
	at, err := net.ResolveUDPAddr(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	udp, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, err
	}
	conn, err := NewConn(udp, options...)
	if err != nil {
		_ = udp.Close()
		return nil, err
	}
	return conn, nil
}

// NewConn has the reads of udp go through a ring. The socket belongs to the Conn from here on: do
// not read it elsewhere. Its read deadline is reset. Where io_uring is not to be had, the Conn
// reads as package net does: see [Conn.Ring].
func NewConn(udp *net.UDPConn, options ...Option) (*Conn, error) {
	c := &Conn{udp: udp, options: newOptions(options)}
	if err := c.takeMold(); err != nil {
		return nil, err
	}
	c.reason = Available()
	if c.options.net {
		c.reason = errors.ErrUnsupported
	}
	if c.reason == nil {
		if err := c.switched.enable(udp, c.options.metadata); err != nil {
			return nil, &net.OpError{Op: "listen", Net: c.mold.Net, Addr: udp.LocalAddr(), Err: err}
		}
	}
	return c, nil
}

// takeMold learns from a read that cannot succeed how package net words this socket's errors.
func (c *Conn) takeMold() error {
	if err := c.udp.SetReadDeadline(longAgo); err != nil {
		return err
	}
	_, _, err := c.udp.ReadFromUDPAddrPort(nil)
	var mold *net.OpError
	if !errors.As(err, &mold) || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	c.mold = *mold
	return c.udp.SetReadDeadline(time.Time{})
}

// Ring tells whether reads go through a ring: nil, or why they do not.
func (c *Conn) Ring() error { return c.reason }

// fail makes of an error what package net would.
func (c *Conn) fail(err error) error {
	if err == nil {
		return nil
	}
	var made *net.OpError
	if errors.As(err, &made) {
		err = made.Err
	}
	failed := c.mold
	failed.Err = err
	return &failed
}

// open returns the inlet for this kind of reader, making it where there is none. What one of
// the other kind has received is kept. It is the caller's turn.
func (c *Conn) open(kind inletKind) (inlet, error) {
	c.mu.Lock()
	in, closed := c.inlet, c.closed
	c.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if in != nil && (c.kind == kind || c.reason != nil) {
		return in, nil
	}
	if err := c.shut(); err != nil {
		return nil, err
	}
	var err error
	size := readsBatch
	switch {
	case c.reason != nil:
		in = newNetInlet(c.udp)
	case kind == bound:
		in, err = newBoundInlet(c.udp, &c.options)
		size = c.options.batchSize
	case kind == owned:
		in, err = newOwnerInlet(c.udp, &c.options)
		size = 0 // the owner has its own
	default:
		in, err = newHomeInlet(c.udp, &c.options)
	}
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed { // meanwhile: Close knows nothing of this inlet
		_ = in.stop(&Batch{})
		return nil, errClosed
	}
	c.queue, c.at, c.kind = newBatch(size), 0, kind
	c.inlet = in
	return in, nil
}

// shut ends the inlet, if there is one, and keeps what it has received but nobody has read. It is
// the caller's turn. (A batch that a loop over Batches has in hand stays as it is.)
func (c *Conn) shut() error {
	c.mu.Lock()
	in := c.inlet
	c.inlet = nil
	c.mu.Unlock()
	if in == nil {
		return nil
	}
	if c.kept == nil {
		c.kept, c.keptAt = &Batch{}, 0
	}
	c.kept.copied(c.queue, c.at)
	c.queue, c.at = nil, 0
	return in.stop(c.kept)
}

// Close closes the socket, and ends its readers with [net.ErrClosed]. While a loop over Batches is
// in its body, in another goroutine, the port stays taken until the body returns.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	in, ended, body := c.inlet, c.ended, c.body
	c.mu.Unlock()
	if in != nil {
		in.wake()
	}
	if ended != nil && !body {
		<-ended
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	_ = c.shut()
	c.switched.restore(c.udp)
	return c.udp.Close() // which words the error of a second call
}

// SetDeadline sets the read and the write deadline.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.udp.SetWriteDeadline(t); err != nil {
		return err
	}
	return c.SetReadDeadline(t)
}

// SetReadDeadline sets when reads fail with [os.ErrDeadlineExceeded]; zero: never. It also holds
// for reads that sleep already.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.udp.SetReadDeadline(t) // which words the error
	}
	c.deadline.Store(&t)
	if c.inlet != nil {
		c.inlet.wake()
	}
	return nil
}

// due returns the deadline, and an error if no read may go on.
func (c *Conn) due() (deadline time.Time, err error) {
	if set := c.deadline.Load(); set != nil {
		deadline = *set
	}
	if _, open := left(deadline); !open {
		return deadline, os.ErrDeadlineExceeded
	}
	return deadline, nil
}

func (c *Conn) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}
