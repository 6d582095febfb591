package ringmsg

import (
	"net"
	"net/netip"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

// parcel is a batch of messages in the form in which the library takes them, on its way through the
// Conn's RawConn.Write: paths and messages without pointers, and payloads that are copied into one
// arena, or lie together already.
type parcel struct {
	conn     *Conn
	paths    []Path
	messages []uring.SendMessage
	base     []byte // what the payloads' offsets count from: the arena, or a pool
	arena    []byte
	payloads [][]byte     // where one is too long to be copied: then all are pinned instead
	answers  []bool       // by path: its source address is from the table of replies
	last     *net.UDPAddr // whose path is the last one

	wholly      bool // wait until every message has its result
	ownsErrors  bool // an ICMP error of an earlier datagram is this call's error
	doNotWait   bool // not even for the first message
	unavailable bool // the library cannot send on this socket: nothing was sent
	called      bool // the messages have results
	flags       uring.SendFlags
	errno       syscall.Errno // of the call, which had no results
	err         error         // the same in words

	attempt func(fd uintptr) bool
}

const (
	// A parcel takes at most as many messages as one system call of the kernel's, and copies about
	// a megabyte.
	parcelMessages = 1024
	parcelBytes    = 1 << 20
	// From this length on pinning a payload costs less than copying it.
	pinLength = 8 << 10
)

var parcels = sync.Pool{New: func() any {
	p := new(parcel)
	p.attempt = p.send
	return p
}}

func newParcel(c *Conn) *parcel {
	p := parcels.Get().(*parcel)
	*p = parcel{
		conn: c, paths: p.paths[:0], messages: p.messages[:0], arena: p.arena[:0],
		payloads: p.payloads[:0], answers: p.answers[:0], attempt: p.attempt,
	}
	return p
}

// release ends a parcel. It refers to the program's memory no more.
func (p *parcel) release() {
	clear(p.payloads[:cap(p.payloads)])
	p.conn, p.base = nil, nil
	parcels.Put(p)
}

// isFull reports whether no message more is to be added.
func (p *parcel) isFull() bool {
	return len(p.messages) == parcelMessages || len(p.arena) >= parcelBytes
}

// add appends a message whose payload consists of these parts.
func (p *parcel) add(path uint64, parts ...[]byte) *uring.SendMessage {
	offset, length := len(p.arena), 0
	if len(parts) == 1 && len(parts[0]) > pinLength {
		p.pinFrom(len(p.messages))
		length = len(parts[0])
		p.payloads = append(p.payloads, parts[0])
	} else {
		for _, part := range parts {
			p.arena = append(p.arena, part...)
		}
		length = len(p.arena) - offset
		if len(p.payloads) > 0 {
			p.payloads = append(p.payloads, nil) // where it is in the arena is known when that is complete
		}
	}
	p.messages = append(p.messages, uring.SendMessage{})
	m := &p.messages[len(p.messages)-1]
	m.PayloadOffset, m.PayloadLength, m.PathIndex = uint64(offset), uint32(length), path
	return m
}

// pinFrom has payloads in a list of their own from the message of this index on.
func (p *parcel) pinFrom(index int) {
	for len(p.payloads) < index {
		p.payloads = append(p.payloads, nil)
	}
}

// post sends the messages. The error is package net's, about the Conn, not about a message.
func (p *parcel) post() error {
	if p.base == nil {
		p.base = p.arena
	}
	for i := range p.payloads {
		if m := &p.messages[i]; p.payloads[i] == nil {
			p.payloads[i] = p.arena[m.PayloadOffset : m.PayloadOffset+uint64(m.PayloadLength)]
		}
	}
	return p.conn.raw.Write(p.attempt)
}

// send is what package net calls until it returns true, first at once and then whenever the socket
// has room again.
func (p *parcel) send(fd uintptr) bool {
	out := &p.conn.out
	if p.ownsErrors && !p.called && p.takeRefusal(int(fd)) {
		return true
	}
	s := out.senderOn(int(fd))
	if s == nil {
		p.unavailable = true
		return true
	}
	for again := true; again; again = p.sendWithoutSource() {
		if err := p.call(s); err != nil && err != syscall.EAGAIN {
			p.err = err
			return true
		}
		p.called, p.flags = true, uring.SendResume
	}
	if refusal := s.TakeSocketError(); refusal != 0 && p.ownsErrors {
		out.refusal = refusal
	}
	return p.doNotWait || p.isSettled()
}

func (p *parcel) call(s *uring.Sender) error {
	if len(p.payloads) > 0 {
		_, err := s.Send(p.payloads, p.paths, p.messages, p.flags)
		return err
	}
	_, err := s.SendFrom(p.base, p.paths, p.messages, p.flags)
	return err
}

// takeRefusal takes an ICMP error of an earlier datagram, which the kernel gives to the next call:
// from the socket, or from what the sender found there after it had sent something.
func (p *parcel) takeRefusal(fd int) bool {
	out := &p.conn.out
	p.errno, out.refusal = out.refusal, 0
	if p.errno == 0 && p.conn.udp.RemoteAddr() != nil {
		pending, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil {
			p.errno = syscall.Errno(pending)
		}
	}
	return p.errno != 0
}

// sendWithoutSource has the messages that were refused because of a source address from the table
// of replies sent once more, without it. It returns false if there are none.
func (p *parcel) sendWithoutSource() bool {
	if len(p.answers) == 0 {
		return false
	}
	var refused []uint64 // paths
	for i := range p.messages {
		m := &p.messages[i]
		if m.Result < 0 && p.isAnswer(m.PathIndex) && isSourceRefused(syscall.Errno(-m.Result)) {
			m.Result = -int32(syscall.EAGAIN)
			refused = append(refused, m.PathIndex)
		}
	}
	for _, index := range refused {
		p.answers[index] = false
		path := &p.paths[index]
		p.conn.in.replies.remove(peerOn(path))
		path.SetLocal(netip.Addr{})
		path.SetInterface(0)
	}
	return len(refused) > 0
}

// isAnswer reports whether a path has its source address from the table of replies.
func (p *parcel) isAnswer(path uint64) bool { return path < uint64(len(p.answers)) && p.answers[path] }

// isSettled reports whether the writer need not wait: every message has its result, or, where that
// is enough, those that have one are the first ones.
func (p *parcel) isSettled() bool {
	settled, waiting := 0, 0
	for i := range p.messages {
		if p.messages[i].Result != -int32(syscall.EAGAIN) {
			if settled++; waiting > 0 && !p.wholly {
				return false
			}
		} else if waiting++; p.wholly {
			return false
		}
	}
	return settled > 0
}

// peerOn returns the peer of a path.
func peerOn(path *Path) *peer {
	p := &peer{address: path.RemoteBytes, scope: path.RemoteScope, port: uint32(path.RemotePort)}
	if path.Family == uring.FamilyIPv4 {
		p.address = mapped([4]byte(path.RemoteBytes[:4]))
	}
	return p
}

// isWithin returns where in memory the slice is; false if it is elsewhere.
func isWithin(memory, slice []byte) (offset uint64, within bool) {
	if len(slice) == 0 {
		return 0, true
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(slice))) - uintptr(unsafe.Pointer(unsafe.SliceData(memory)))
	return uint64(from), from < uintptr(len(memory)) && uintptr(len(slice)) <= uintptr(len(memory))-from
}
