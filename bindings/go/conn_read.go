package ringmsg

import (
	"net"
	"net/netip"
	"os"
	"syscall"
)

// enter is the start of a read: it is this goroutine's turn until leave.
func (c *Conn) enter() error {
	for {
		readers := c.readers.Load()
		if readers < 0 {
			return errReaders
		}
		if c.readers.CompareAndSwap(readers, readers+1) {
			c.turn.Lock()
			return nil
		}
	}
}

func (c *Conn) leave() {
	c.turn.Unlock()
	c.readers.Add(-1)
}

// next returns the next datagram, waiting for it. It is this goroutine's turn, and the datagram
// is valid as long as that.
func (c *Conn) next() (Datagram, error) {
	for {
		in, err := c.open(home)
		if err != nil {
			return Datagram{}, err
		}
		deadline, err := c.due() // after open: who changes it later, wakes the inlet
		if err != nil {
			return Datagram{}, err
		}
		if d, found := c.ready(); found {
			return d, nil
		}
		c.at = 0
		if err := in.fill(c.queue, deadline); err != nil {
			return Datagram{}, err
		}
	}
}

// ready returns the next datagram if one has been received.
func (c *Conn) ready() (Datagram, bool) {
	if c.kept != nil {
		if c.keptAt < c.kept.count {
			c.keptAt++
			return c.kept.At(c.keptAt - 1), true
		}
		c.kept = nil
	}
	if c.queue == nil || c.at == c.queue.count {
		return Datagram{}, false
	}
	c.at++
	return c.queue.At(c.at - 1), true
}

// unread takes back what ready returned.
func (c *Conn) unread() {
	if c.kept != nil {
		c.keptAt--
	} else {
		c.at--
	}
}

// read copies the next datagram, and returns what is known about it.
func (c *Conn) read(call string, b, oob []byte) (n, oobn, flags int, m Metadata, err error) {
	if err := c.enter(); err != nil {
		return 0, 0, 0, m, c.fail(err)
	}
	defer c.leave()
	d, err := c.next()
	if err == nil && d.record.Result < 0 {
		err = os.NewSyscallError(call, syscall.Errno(-d.record.Result))
	}
	if err != nil {
		return 0, 0, 0, m, c.fail(err)
	}
	payload := d.Payload()
	n, flags = copy(b, payload), int(d.record.MsgFlags)
	if n < len(payload) {
		flags |= msgTrunc
	}
	if oob != nil {
		var cut bool
		oobn, cut = c.switched.copyControl(oob, d.Control())
		if cut {
			flags |= msgCtrunc
		}
	}
	return n, oobn, flags, *d.metadata, nil
}

// Read is [net.UDPConn.Read].
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil // as package net does
	}
	n, _, _, _, err := c.read("read", b, nil)
	return n, err
}

// ReadFrom is [net.UDPConn.ReadFrom].
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDP(b)
	if from == nil {
		return n, nil, err
	}
	return n, from, err
}

// ReadFromUDP is [net.UDPConn.ReadFromUDP].
func (c *Conn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, _, _, m, err := c.read("recvfrom", b, nil)
	return n, m.udpAddr(), err
}

// ReadFromUDPAddrPort is [net.UDPConn.ReadFromUDPAddrPort]. It does not allocate.
func (c *Conn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, _, _, m, err := c.read("recvfrom", b, nil)
	return n, m.Source(), err
}

// ReadMsgUDP is [net.UDPConn.ReadMsgUDP]. The control messages are those of options that the
// program switched on, not the Conn; they are cut only between messages.
func (c *Conn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	n, oobn, flags, m, err := c.read("recvmsg", b, oob)
	return n, oobn, flags, m.udpAddr(), err
}

// ReadMsgUDPAddrPort is [net.UDPConn.ReadMsgUDPAddrPort].
func (c *Conn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	n, oobn, flags, m, err := c.read("recvmsg", b, oob)
	return n, oobn, flags, m.Source(), err
}
