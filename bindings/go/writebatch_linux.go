package ringmsg

import (
	"errors"
	"net"
	"syscall"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/net/ipv4"
)

// The longest payload of a datagram, over IPv4 and IPv6.
const (
	longestV4 = 65507
	longestV6 = 65527
)

// errUnknownControl is for messages whose control messages only the kernel understands.
var errUnknownControl = errors.New("ringmsg: unknown control messages")

// writeBatch sends in groups where a program sees no difference but in cost.
func (c *Conn) writeBatch(messages []ipv4.Message, flags int) (total int, err error) {
	if flags != 0 || len(messages) < 2 {
		return c.writePlain(messages, flags)
	}
	for isIPv4 := c.isIPv4(); total < len(messages); {
		p := newParcel(c)
		p.ownsErrors, p.doNotWait = true, total > 0
		count, wrong := p.pack(messages[total:], isIPv4)
		n, at, err := 0, 0, wrong
		switch {
		case wrong == errUnknownControl:
		case count > 0:
			n, at, err = p.write(messages[total : total+count])
		case total == 0: // a Conn that is closed, or whose deadline has passed, says that first
			if outer := c.raw.Write(func(uintptr) bool { return true }); outer != nil {
				err = outer
			}
		}
		plainly := wrong == errUnknownControl || p.unavailable
		p.release()
		switch {
		case plainly:
			n, err = c.writePlain(messages[total:], 0)
			if n == 0 && total > 0 {
				err = nil
			}
			return total + n, err
		case err != nil && (n > 0 || total == 0):
			return total + n, c.writeError(err, messages[total+at].Addr)
		case n < count || n == 0:
			return total + n, nil // the next call finds the error again
		}
		total += n
	}
	return total, nil
}

// pack takes messages up to the first one that is wrong, or for which there is no room. It returns
// how many it took, and what is wrong.
func (p *parcel) pack(messages []ipv4.Message, isIPv4 bool) (int, error) {
	connected := p.conn.udp.RemoteAddr() != nil
	for i := range messages {
		m := &messages[i]
		if p.isFull() {
			return i, nil
		}
		path, segment := uring.PathNone, 0
		if m.Addr != nil || !connected {
			var err error
			if path, segment, err = p.pathFor(m, isIPv4); err != nil {
				return i, err
			}
		} else if len(m.OOB) > 0 {
			return i, errUnknownControl
		}
		length, longest := 0, longestV6
		for _, part := range m.Buffers {
			length += len(part)
		}
		if isIPv4 || path != uring.PathNone && isToV4(&p.paths[path]) {
			longest = longestV4
		}
		if length > longest {
			return i, syscallError("sendmmsg", syscall.EMSGSIZE)
		}
		p.add(path, m.Buffers...).SegmentSize = uint32(segment)
	}
	return len(messages), nil
}

// pathFor returns the index of the message's path, and the segment size that its control messages
// ask for.
func (p *parcel) pathFor(m *ipv4.Message, isIPv4 bool) (index uint64, segment int, err error) {
	at, isUDP := m.Addr.(*net.UDPAddr)
	switch {
	case m.Addr == nil:
		return 0, 0, syscallError("sendmmsg", syscall.EDESTADDRREQ)
	case !isUDP || at == nil:
		return 0, 0, syscall.EINVAL
	case at.Port == 0:
		return 0, 0, syscallError("sendmmsg", syscall.EINVAL)
	case at == p.last && len(m.OOB) == 0:
		return uint64(len(p.paths) - 1), 0, nil
	}
	p.paths = append(p.paths, Path{})
	path := &p.paths[len(p.paths)-1]
	if err := pathOf(path, at, isIPv4); err != nil {
		return 0, 0, err
	}
	isAnswer := false
	if p.last = at; len(m.OOB) > 0 {
		p.last = nil
		known := false
		if segment, known = setControl(path, m.OOB); !known {
			return 0, 0, errUnknownControl
		}
	} else if table := p.conn.in.replies; table != nil {
		var from local
		if from, isAnswer = table.get(peerOn(path)); isAnswer {
			from.leaveOn(path)
		}
	}
	if p.conn.in.replies != nil {
		p.answers = append(p.answers, isAnswer)
	}
	return uint64(len(p.paths) - 1), segment, nil
}

// pathOf makes the path to an address, in the socket's family.
func pathOf(path *Path, at *net.UDPAddr, isIPv4 bool) error {
	path.Valid, path.Family, path.RemotePort = uring.PathRemote, uring.FamilyIPv6, uint16(at.Port)
	if isIPv4 {
		path.Family = uring.FamilyIPv4
		if ip := at.IP.To4(); ip != nil {
			copy(path.RemoteBytes[:], ip)
		} else if len(at.IP) > 0 {
			return &net.AddrError{Err: "non-IPv4 address", Addr: at.IP.String()}
		}
		return nil
	}
	if ip := at.IP.To16(); ip == nil && len(at.IP) > 0 {
		return &net.AddrError{Err: "non-IPv6 address", Addr: at.IP.String()}
	} else if ip != nil && !at.IP.Equal(net.IPv4zero) {
		path.RemoteBytes = [16]byte(ip)
	}
	if at.Zone != "" {
		path.RemoteScope = zone.Index(at.Zone)
	}
	return nil
}

func isToV4(path *Path) bool { return path.Family == uring.FamilyIPv4 || isMapped(&path.RemoteBytes) }

// write sends the parcel that consists of these messages. It returns how many are over: N says of
// each of them how much was sent. An error belongs to message `at`: nothing was sent then, or later
// messages were.
func (p *parcel) write(messages []ipv4.Message) (n, at int, err error) {
	outer := p.post()
	switch {
	case p.errno != 0:
		return 0, 0, syscallError("sendmmsg", p.errno)
	case p.err != nil:
		return 0, 0, p.err
	case !p.called || p.unavailable:
		return 0, 0, outer
	}
	failed := -1
	for i := range messages {
		m, result := &messages[i], p.messages[i].Result
		if m.N, m.NN = int(max(result, 0)), 0; result >= 0 {
			m.NN, n = len(m.OOB), i+1
		} else if failed < 0 {
			failed = i
		}
	}
	switch {
	case failed < 0, n > 0 && failed >= n: // what comes behind n is for the next call
		return n, 0, nil
	case p.messages[failed].Result != -int32(syscall.EAGAIN):
		return n, failed, syscallError("sendmmsg", syscall.Errno(-p.messages[failed].Result))
	}
	return n, failed, outer // the wait for room ended
}
