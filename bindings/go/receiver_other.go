//go:build !linux

package ringmsg

import (
	"errors"
	"net"
	"net/netip"
	"syscall"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/net/ipv4"
)

// Off Linux a Conn is a plain *net.UDPConn.

type (
	receiver struct{}
	read     struct{}
)

func (c *Conn) prepare() error { return nil }
func (c *Conn) settle()        {}
func (c *Conn) shareReads()    {}

func (*receiver) stats() ConnStats  { return ConnStats{} }
func (c *Conn) socketDrops() uint64 { return 0 }

type rawConn struct{ conn *Conn }

func (r *rawConn) Control(f func(fd uintptr)) error    { return r.conn.raw.Control(f) }
func (r *rawConn) Read(f func(fd uintptr) bool) error  { return r.conn.raw.Read(f) }
func (r *rawConn) Write(f func(fd uintptr) bool) error { return r.conn.raw.Write(f) }

var _ syscall.RawConn = (*rawConn)(nil)

// Read is [net.UDPConn.Read].
func (c *Conn) Read(b []byte) (int, error) { return c.udp.Read(b) }

// ReadFrom is [net.UDPConn.ReadFrom].
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) { return c.udp.ReadFrom(b) }

// ReadFromUDP is [net.UDPConn.ReadFromUDP].
func (c *Conn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) { return c.udp.ReadFromUDP(b) }

// ReadFromUDPAddrPort is [net.UDPConn.ReadFromUDPAddrPort].
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return c.udp.ReadFromUDPAddrPort(b)
}

// ReadMsgUDP is [net.UDPConn.ReadMsgUDP].
func (c *Conn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	return c.udp.ReadMsgUDP(b, oob)
}

// ReadMsgUDPAddrPort is [net.UDPConn.ReadMsgUDPAddrPort].
func (c *Conn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	return c.udp.ReadMsgUDPAddrPort(b, oob)
}

// ReadBatch is the method of [ipv4.PacketConn], which reads one message here.
func (c *Conn) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	return ipv4.NewPacketConn(c.udp).ReadBatch(messages, flags)
}

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

// WriteBatch is the method of [ipv4.PacketConn], which sends one message here.
func (c *Conn) WriteBatch(messages []ipv4.Message, flags int) (int, error) {
	return ipv4.NewPacketConn(c.udp).WriteBatch(messages, flags)
}

type outgoing struct{}

func (*outgoing) close()             {}
func (*outgoing) recheck()           {}
func (*outgoing) stats() SenderStats { return SenderStats{} }

// sendBatch sends one message after the other. What only Linux can do is an error.
func (c *Conn) sendBatch(messages []Message) (sent int, first error) {
	for i := range messages {
		m := &messages[i]
		m.N, m.Err = 0, errors.ErrUnsupported
		switch {
		case m.SegmentSize > 0 && m.SegmentSize < len(m.Payload) || m.ECN != ECNNotCapable:
		case m.Path == Path{}:
			m.N, m.Err = c.udp.Write(m.Payload)
		case m.Path.Valid == uring.PathRemote:
			m.N, m.Err = c.udp.WriteToUDPAddrPort(m.Payload, m.Path.Remote())
		}
		if m.Err == nil {
			sent++
		} else if first == nil {
			first = m.Err
		}
	}
	return sent, first
}

func (c *Conn) reply(*Batch, [][]byte) (int, error) { return 0, errors.ErrUnsupported }
