package ringmsg

import (
	"net"
	"syscall"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// sendBatch sends in parcels until every message has its result.
func (c *Conn) sendBatch(messages []Message) (sent int, err error) {
	isIPv4 := c.isIPv4()
	for from := 0; from < len(messages); {
		p := newParcel(c)
		p.wholly = true
		for from+len(p.messages) < len(messages) && !p.isFull() {
			p.address(&messages[from+len(p.messages)], isIPv4)
		}
		part := messages[from : from+len(p.messages)]
		outer := p.post()
		if p.unavailable {
			p.release()
			n, failed := c.sendPlainly(messages[from:])
			if err == nil {
				err = failed
			}
			return sent + n, err
		}
		n, failed := p.deliver(part, outer)
		p.release()
		sent += n
		if from += len(part); err == nil {
			err = failed
		}
	}
	return sent, err
}

// address adds a message of SendBatch.
func (p *parcel) address(m *Message, isIPv4 bool) {
	path := uring.PathNone
	if m.Path != (Path{}) {
		given := m.Path
		if isIPv4 {
			unmap(&given)
		}
		if path = uint64(len(p.paths)); path > 0 && p.paths[path-1] == given {
			path--
		} else {
			p.paths = append(p.paths, given)
		}
	}
	to := p.add(path, m.Payload)
	to.SegmentSize = uint32(m.SegmentSize)
	if class, has := m.trafficClass(); has {
		to.Flags, to.TrafficClass = uring.MessageTrafficClass, class
	}
}

// unmap makes a path to a mapped IPv4 address one for an IPv4 socket. Mapped is how
// [net.UDPAddr.AddrPort] returns the IPv4 addresses of sixteen bytes that package net makes.
func unmap(path *Path) {
	if path.Family != uring.FamilyIPv6 || path.Valid&uring.PathRemote == 0 || !isMapped(&path.RemoteBytes) {
		return
	}
	path.Family, path.RemoteScope = uring.FamilyIPv4, 0
	path.RemoteBytes = unmapped(&path.RemoteBytes)
	if path.Valid&uring.PathLocal != 0 && isMapped(&path.LocalBytes) {
		path.LocalBytes = unmapped(&path.LocalBytes)
	}
}

// unmapped returns an IPv4 address as paths have it: in the first four bytes.
func unmapped(mapped *[16]byte) (ip [16]byte) {
	copy(ip[:4], mapped[12:])
	return ip
}

// trafficClass returns the message's own traffic class; false: its path's holds, or the socket's.
func (m *Message) trafficClass() (uint8, bool) {
	if m.ECN == ECNNotCapable {
		return 0, false
	}
	class := uint8(m.ECN) & 3
	if m.Path.Valid&uring.PathTrafficClass != 0 {
		class |= m.Path.TrafficClass &^ 3
	}
	return class, true
}

// deliver writes the results of a parcel into the messages of which it was made.
func (p *parcel) deliver(messages []Message, outer error) (sent int, first error) {
	for i := range messages {
		m, result := &messages[i], p.messages[i].Result
		m.N, m.Err = 0, nil
		if failed := p.failure(result, outer); failed != nil {
			m.Err = p.conn.writeError(failed, addrOf(&m.Path))
		} else if m.N = int(result); m.N < len(m.Payload) {
			m.Err = p.conn.writeError(syscallError("sendmmsg", syscall.EMSGSIZE), addrOf(&m.Path))
		}
		if m.Err == nil {
			sent++
		} else if first == nil {
			first = m.Err
		}
	}
	return sent, first
}

// failure returns why a message with this result was not sent; outer is what package net said.
func (p *parcel) failure(result int32, outer error) error {
	switch {
	case p.err != nil:
		return p.err
	case !p.called:
		return outer
	case result == -int32(syscall.EAGAIN) && outer != nil:
		return outer
	case result < 0:
		return syscallError("sendmmsg", syscall.Errno(-result))
	}
	return nil
}

// addrOf returns the address of a path for the words of an error.
func addrOf(path *Path) net.Addr {
	if path.Valid&uring.PathRemote == 0 {
		return nil
	}
	return net.UDPAddrFromAddrPort(path.Remote())
}

// reply answers datagrams of a batch.
func (c *Conn) reply(b *Batch, payloads [][]byte) (sent int, err error) {
	inPlace := areWithin(b.bytes, payloads)
	connected := c.udp.RemoteAddr() != nil
	for from := 0; from < len(payloads); {
		p := newParcel(c)
		p.wholly = true
		if inPlace {
			p.base = b.bytes
		}
		first := from
		for ; from < len(payloads) && !p.isFull(); from++ {
			if payloads[from] != nil && !p.answer(b, from, payloads[from], connected) {
				b.fail(from, c.writeError(syscallError("sendmmsg", syscall.EADDRNOTAVAIL), nil), &err)
			}
		}
		var outer error
		if len(p.messages) > 0 {
			outer = p.post()
		}
		if p.unavailable {
			sent += c.replyPlainly(b, payloads, first, from, &err)
		} else {
			sent += p.deliverReplies(b, outer, &err)
		}
		p.release()
	}
	return sent, err
}

// answer adds the answer to datagram i. It returns false if it is not known where to send it.
func (p *parcel) answer(b *Batch, i int, payload []byte, connected bool) bool {
	index := uring.PathNone
	if !connected {
		path, known := uring.PathReply(&b.metadata[i])
		if !known {
			return false
		}
		if index = uint64(len(p.paths)); index > 0 && p.paths[index-1] == path {
			index--
		} else {
			p.paths = append(p.paths, path)
		}
	}
	if p.base == nil {
		p.add(index, payload).UserData = uint64(i)
		return true
	}
	offset, _ := isWithin(p.base, payload)
	p.messages = append(p.messages, uring.SendMessage{
		PayloadOffset: offset, PayloadLength: uint32(len(payload)), PathIndex: index, UserData: uint64(i),
	})
	return true
}

// deliverReplies keeps the errors of a parcel's answers, and returns how many were sent.
func (p *parcel) deliverReplies(b *Batch, outer error, first *error) (sent int) {
	for i := range p.messages {
		m := &p.messages[i]
		failed := p.failure(m.Result, outer)
		if failed == nil {
			sent++
			continue
		}
		var to net.Addr
		if m.PathIndex != uring.PathNone {
			to = addrOf(&p.paths[m.PathIndex])
		}
		b.fail(int(m.UserData), p.conn.writeError(failed, to), first)
	}
	return sent
}

// fail keeps the error of an answer.
func (b *Batch) fail(index int, err error, first *error) {
	b.replies = append(b.replies, failedReply{index, err})
	if *first == nil {
		*first = err
	}
}

// areWithin reports whether all payloads are in this memory.
func areWithin(memory []byte, payloads [][]byte) bool {
	for _, payload := range payloads {
		if _, within := isWithin(memory, payload); !within {
			return false
		}
	}
	return true
}

// replyPlainly sends the answers from first to end without the library.
func (c *Conn) replyPlainly(b *Batch, payloads [][]byte, first, end int, err *error) int {
	var messages []Message
	var indexes []int
	for i := first; i < end; i++ {
		if path, known := uring.PathReply(&b.metadata[i]); known && payloads[i] != nil {
			messages = append(messages, Message{Payload: payloads[i], Path: path})
			indexes = append(indexes, i)
		}
	}
	sent, _ := c.sendPlainly(messages)
	for i := range messages {
		if messages[i].Err != nil {
			b.fail(indexes[i], messages[i].Err, err)
		}
	}
	return sent
}
