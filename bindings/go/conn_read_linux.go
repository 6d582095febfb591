package ringmsg

import (
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Read is [net.UDPConn.Read].
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return c.udp.Read(b) // which receives nothing
	}
	r, err := c.readAs("read", b, nil, c.udp.RemoteAddr() != nil)
	if err != nil {
		return 0, err
	}
	n := r.n
	c.finish(r)
	return n, nil
}

// ReadFrom is [net.UDPConn.ReadFrom].
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDP(b)
	if from == nil {
		return n, nil, err // not a net.Addr that holds nil
	}
	return n, from, err
}

// ReadFromUDP is [net.UDPConn.ReadFromUDP].
func (c *Conn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	r, err := c.read("recvfrom", b, nil)
	if err != nil {
		return 0, nil, err
	}
	n, from := r.n, udpAddr(&r.from)
	c.finish(r)
	return n, from, nil
}

// ReadFromUDPAddrPort is [net.UDPConn.ReadFromUDPAddrPort]. It does not allocate.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	r, err := c.read("recvfrom", b, nil)
	if err != nil {
		return 0, netip.AddrPort{}, err
	}
	n, from := r.n, addrPort(&r.from)
	c.finish(r)
	return n, from, nil
}

// ReadMsgUDP is [net.UDPConn.ReadMsgUDP]. The control messages are those of options that the
// program switched on, not the Conn; they are cut only between messages.
func (c *Conn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	r, err := c.read("recvmsg", b, oob)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	n, oobn, flags, from = r.n, r.oobn, r.msgFlags, udpAddr(&r.from)
	c.finish(r)
	return n, oobn, flags, from, nil
}

// ReadMsgUDPAddrPort is [net.UDPConn.ReadMsgUDPAddrPort], with control messages as in ReadMsgUDP.
func (c *Conn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	r, err := c.read("recvmsg", b, oob)
	if err != nil {
		return 0, 0, 0, netip.AddrPort{}, err
	}
	n, oobn, flags, from = r.n, r.oobn, r.msgFlags, addrPort(&r.from)
	c.finish(r)
	return n, oobn, flags, from, nil
}

// ReadBatch is the method of [ipv4.PacketConn], and of [golang.org/x/net/ipv6.PacketConn], whose
// messages are the same type: it waits for datagrams, and reads as many as there are into messages,
// one into each; trains are split. quic-go looks for this method. Flags may be 0, MSG_DONTWAIT or
// MSG_WAITFORONE, which change nothing: ReadBatch waits for the first datagram only.
//
// The control messages are those of options that the program switched on, not the Conn. What does
// not fit is cut between messages only, and then the message's Flags have MSG_CTRUNC.
func (c *Conn) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	if flags&^(unix.MSG_DONTWAIT|unix.MSG_WAITFORONE) != 0 {
		return 0, c.readError(syscallError("recvmmsg", syscall.EINVAL))
	}
	if len(messages) == 0 {
		return 0, nil
	}
	return c.readBatch(messages)
}
