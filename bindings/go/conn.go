package ringmsg

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a [net.UDPConn] that reads GRO trains, answers in batches, and can receive through a
// ring. It has every method of that type, with the same behaviour; [Conn.ReadBatch] and
// [Conn.WriteBatch], which programs know from x/net; and [Conn.Batches], the fast way to read.
//
// A Conn has one kind of reader at a time: either one loop over Batches, or any number of
// goroutines in the other reads. A reader of the other kind gets [ErrAnotherReader].
type Conn struct {
	udp     *net.UDPConn
	raw     syscall.RawConn // of udp
	options *options

	// How many goroutines are in a read, one with ownRead counting as aloneInRead; far below zero
	// while a loop over Batches has the Conn.
	readers  atomic.Int64
	in       receiver
	ownRead  read
	lastRead atomic.Pointer[read]

	mu       sync.Mutex // of what follows
	deadline time.Time  // of reads
	closed   bool
	loop     *loop // over Batches; nil: there is none
	past     loopCounts

	held heldCounts
	out  outgoing
}

// Listen is [net.ListenUDP] for a Conn: network is "udp", "udp4" or "udp6".
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

// NewConn returns a Conn on a socket, which belongs to the Conn from then on: do not read it
// elsewhere. If another process goes on reading the socket, which may be the case with an inherited
// one, it needs [WithGRO](false) and [WithReadAhead](1): otherwise the other process reads a train
// as one datagram. NewConn costs no thread, no second descriptor and no locked memory, and nothing
// happens to the socket before the first read.
func NewConn(udp *net.UDPConn, options ...Option) (*Conn, error) {
	raw, err := udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &Conn{udp: udp, raw: raw, options: newOptions(options)}
	if err := c.prepare(); err != nil {
		return nil, &net.OpError{Op: "listen", Net: c.network(), Addr: udp.LocalAddr(), Err: err}
	}
	return c, nil
}

// Ring returns nil if [Conn.Batches] can receive through a ring here, and otherwise why not.
func (c *Conn) Ring() error {
	if c.options.withoutRing {
		return errors.ErrUnsupported
	}
	return Available()
}

const (
	// iterating is what a loop over Batches subtracts from the number of readers.
	iterating = 1 << 32
	// aloneInRead is what a reader adds that found no other one.
	aloneInRead = 1<<48 + 1
)

// enter begins a read, unless a loop over Batches has the Conn.
func (c *Conn) enter() bool {
	if c.readers.Add(1) > 0 {
		return true
	}
	c.readers.Add(-1)
	return false
}

func (c *Conn) leave() { c.readers.Add(-1) }

// Close closes the socket, and ends its readers with [net.ErrClosed]. While a loop over Batches is
// in its body, in another goroutine, the port stays taken until the body returns.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	running := c.loop
	c.mu.Unlock()
	if running != nil {
		running.stopForClose()
	}
	c.settle()
	err := c.udp.Close() // which words the error of a second call
	c.out.close()
	return err
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
	if err := c.udp.SetReadDeadline(t); err != nil {
		return err
	}
	c.deadline = t
	if c.loop != nil {
		c.loop.wake()
	}
	return nil
}
