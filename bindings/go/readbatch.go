package ringmsg

import (
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
)

// ReadBatch is the method of [ipv4.PacketConn], and of [golang.org/x/net/ipv6.PacketConn], whose
// messages are the same type: it waits for datagrams, and reads as many as there are into
// messages, one into each; trains are split. quic-go looks for this method. Flags must be 0.
//
// The control messages are those of options that the program switched on, not the Conn. What
// does not fit is cut between messages only, and then the message's Flags have MSG_CTRUNC.
func (c *Conn) ReadBatch(messages []ipv4.Message, flags int) (int, error) {
	if flags != 0 {
		return 0, c.fail(os.NewSyscallError("recvmmsg", syscall.EINVAL))
	}
	if len(messages) == 0 {
		return 0, nil
	}
	if err := c.enter(); err != nil {
		return 0, c.fail(err)
	}
	defer c.leave()
	d, err := c.next()
	if err == nil && d.record.Result < 0 {
		err = os.NewSyscallError("recvmmsg", syscall.Errno(-d.record.Result))
	}
	if err != nil {
		return 0, c.fail(err)
	}
	for n := 0; ; {
		c.copyMessage(&messages[n], d)
		n++
		if n == len(messages) {
			return n, nil
		}
		var found bool
		if d, found = c.ready(); !found {
			return n, nil
		}
		if d.record.Result < 0 {
			c.unread() // it is the next call's
			return n, nil
		}
	}
}

func (c *Conn) copyMessage(to *ipv4.Message, d Datagram) {
	payload := d.Payload()
	to.N, to.Flags = 0, int(d.record.MsgFlags)
	for _, buffer := range to.Buffers {
		to.N += copy(buffer, payload[to.N:])
	}
	if to.N < len(payload) {
		to.Flags |= msgTrunc
	}
	var cut bool
	if to.NN, cut = c.switched.copyControl(to.OOB, d.Control()); cut {
		to.Flags |= msgCtrunc
	}
	to.Addr = nil
	if from := d.metadata.udpAddr(); from != nil {
		to.Addr = from
	}
}
