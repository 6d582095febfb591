package ringmsg

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// WriteTo is [net.UDPConn.WriteTo].
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	if at, isUDP := to.(*net.UDPAddr); isUDP && at != nil {
		return c.WriteToUDP(b, at)
	}
	return c.udp.WriteTo(b, to)
}

// WriteToUDP is [net.UDPConn.WriteToUDP].
func (c *Conn) WriteToUDP(b []byte, to *net.UDPAddr) (int, error) {
	if c.in.replies != nil && to != nil {
		at := to.AddrPort() // an IPv4 address may have 16 bytes
		if n, sent, err := c.writeReply(b, netip.AddrPortFrom(at.Addr().Unmap(), at.Port())); sent {
			return n, err
		}
	}
	return c.udp.WriteToUDP(b, to)
}

// WriteToUDPAddrPort is [net.UDPConn.WriteToUDPAddrPort].
func (c *Conn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if c.in.replies != nil {
		if n, sent, err := c.writeReply(b, to); sent {
			return n, err
		}
	}
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

// replyControls are room for control messages, which a system call would have escape to the heap.
var replyControls = sync.Pool{New: func() any { return new([replyControl]byte) }}

// writeReply sends from the address that the peer asked. It returns false where there is none, or
// where the kernel refused it: then the datagram is still to be sent.
func (c *Conn) writeReply(b []byte, to netip.AddrPort) (n int, sent bool, err error) {
	p := peerAt(to)
	from, found := c.in.replies.get(&p)
	if !found {
		return 0, false, nil
	}
	room := replyControls.Get().(*[replyControl]byte)
	n, _, err = c.udp.WriteMsgUDPAddrPort(b, from.control(room), to)
	replyControls.Put(room)
	if isSourceRefused(err) {
		c.in.replies.remove(&p)
		return 0, false, nil
	}
	return n, true, err
}

func peerAt(at netip.AddrPort) peer {
	return peer{address: at.Addr().As16(), scope: zone.Index(at.Addr().Zone()), port: uint32(at.Port())}
}

// isSourceRefused reports whether a send may have failed because of its source address: one that
// was removed, or one from which there is no way to the peer.
func isSourceRefused(err error) bool {
	for _, errno := range []error{
		unix.EINVAL, unix.EADDRNOTAVAIL, unix.ENODEV, unix.ENETUNREACH, unix.EHOSTUNREACH,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// WriteBatch is the method of [ipv4.PacketConn], and of [golang.org/x/net/ipv6.PacketConn], whose
// messages are the same type: it sends one datagram for each message, to its Addr (nil on a
// connected socket). It returns how many messages are over, which may be fewer: then the program
// gives the rest again. N is the number of bytes sent. An error without a count belongs to the
// first message.
//
// Messages to one peer that have the same length and control messages leave as one train
// (UDP_SEGMENT), also where messages to others are between them, which costs a fraction of single
// datagrams. Order is kept among messages to one peer. For the first message it waits until the
// socket's buffer has room, and goes on waiting only where later messages have been sent before
// earlier ones. If it cannot send such an earlier message (a firewall, no route, the deadline), it
// returns its error together with the count, and the message's N is 0.
func (c *Conn) WriteBatch(messages []ipv4.Message, flags int) (int, error) {
	if len(messages) == 0 {
		return 0, nil
	}
	return c.writeBatch(messages, flags)
}
