package ringmsg

import (
	"net"
	"os"
	"syscall"
	"time"
)

// LocalAddr returns the local address.
func (c *Conn) LocalAddr() net.Addr { return c.udp.LocalAddr() }

// RemoteAddr returns the address the socket is connected to; nil if it is not.
func (c *Conn) RemoteAddr() net.Addr { return c.udp.RemoteAddr() }

// SetWriteDeadline is [net.UDPConn.SetWriteDeadline].
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.udp.SetWriteDeadline(t) }

// SetReadBuffer sets the size of the socket's receive buffer.
func (c *Conn) SetReadBuffer(bytes int) error { return c.udp.SetReadBuffer(bytes) }

// SetWriteBuffer sets the size of the socket's send buffer.
func (c *Conn) SetWriteBuffer(bytes int) error { return c.udp.SetWriteBuffer(bytes) }

// Write is [net.UDPConn.Write].
func (c *Conn) Write(b []byte) (int, error) { return c.udp.Write(b) }

// File returns a duplicate of the socket. Others may read it as any socket: UDP_GRO goes off, and
// stays off; what has to be read for that goes to the Conn's own reads.
func (c *Conn) File() (*os.File, error) {
	c.shareReads()
	defer c.out.recheck()
	return c.udp.File()
}

// SyscallConn gives access to the socket, as [net.UDPConn.SyscallConn] does.
//
// The first Read switches UDP_GRO off, if a read of the Conn switched it on, so that a datagram is
// a datagram; what has to be read for that goes to the Conn's own reads. Control and Write leave it
// as it is, unless Control attaches a socket filter. While Control runs, other options that the
// Conn switched on for itself are off: the program sees the socket as it set it, and finds in its
// control messages what it switches on.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if _, err := c.udp.SyscallConn(); err != nil {
		return nil, err
	}
	return &rawConn{c}, nil
}
