package ringmsg

import (
	"errors"
	"net"
)

// ErrAnotherReader is what a read gets while a loop over [Conn.Batches] has the Conn, and what such
// a loop gets while others read.
var ErrAnotherReader = errors.New(
	"ringmsg: the Conn has another reader: either one loop over Batches, or other reads",
)

var errTooManyReplies = errors.New("ringmsg: more answers than datagrams in the batch")

// readError words an error as package net does those of this socket's reads.
func (c *Conn) readError(err error) error {
	var made *net.OpError
	if errors.As(err, &made) { // from RawConn: everything but the name of the operation is right
		worded := *made
		worded.Op = "read"
		return &worded
	}
	return &net.OpError{
		Op: "read", Net: c.network(), Source: c.udp.LocalAddr(), Addr: c.udp.RemoteAddr(), Err: err,
	}
}

// network returns the network under which the socket was made, "udp4" for example. Package net
// shows it in its errors only, so this asks for a write that fails before any system call: an
// unconnected socket needs an address, and a connected one takes none. (Package net does not know
// that a socket of net.FileConn is connected. There the kernel refuses port 0.)
func (c *Conn) network() string {
	var err error
	if c.udp.RemoteAddr() == nil {
		_, _, err = c.udp.WriteMsgUDP(nil, nil, nil)
	} else {
		_, _, err = c.udp.WriteMsgUDP(nil, nil, &net.UDPAddr{IP: net.IPv6loopback})
	}
	var refused *net.OpError
	if errors.As(err, &refused) {
		return refused.Net
	}
	return c.udp.LocalAddr().Network()
}
