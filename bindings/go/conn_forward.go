package ringmsg

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// What a Conn leaves to the socket it was made of.

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

// File returns a duplicate of the socket. Reading it takes datagrams away from the Conn.
func (c *Conn) File() (*os.File, error) { return c.udp.File() }

// Write is [net.UDPConn.Write].
func (c *Conn) Write(b []byte) (int, error) { return c.udp.Write(b) }

// WriteTo is [net.UDPConn.WriteTo].
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) { return c.udp.WriteTo(b, to) }

// WriteToUDP is [net.UDPConn.WriteToUDP].
func (c *Conn) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) { return c.udp.WriteToUDP(b, to) }

// WriteToUDPAddrPort is [net.UDPConn.WriteToUDPAddrPort].
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.udp.WriteToUDPAddrPort(b, to)
}

// WriteMsgUDP is [net.UDPConn.WriteMsgUDP].
func (c *Conn) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	return c.udp.WriteMsgUDP(b, oob, to)
}

// WriteMsgUDPAddrPort is [net.UDPConn.WriteMsgUDPAddrPort].
func (c *Conn) WriteMsgUDPAddrPort(b, oob []byte, to netip.AddrPort) (n, oobn int, err error) {
	return c.udp.WriteMsgUDPAddrPort(b, oob, to)
}

// SyscallConn gives access to the socket: Control and Write work; Read is
// [errors.ErrUnsupported], so that nobody competes with the ring. While Control runs, the
// socket's options are as the program set them: what the Conn has switched on for itself is
// off, and what the program switches on appears in the control messages it reads.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.udp.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &rawConn{raw, &c.switched}, nil
}

type rawConn struct {
	raw      syscall.RawConn
	switched *switched
}

func (r *rawConn) Control(f func(fd uintptr)) error {
	return r.raw.Control(func(fd uintptr) {
		r.switched.hide(int(fd))
		defer r.switched.show(int(fd))
		f(fd)
	})
}

func (r *rawConn) Write(f func(fd uintptr) bool) error { return r.raw.Write(f) }

func (r *rawConn) Read(func(fd uintptr) bool) error { return errors.ErrUnsupported }
