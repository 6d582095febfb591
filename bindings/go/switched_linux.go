package ringmsg

import (
	"net"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	msgTrunc  = unix.MSG_TRUNC
	msgCtrunc = unix.MSG_CTRUNC

	ipv6FlowInfo = 11 // IPV6_FLOWINFO, which package unix has not got
)

func thread() int { return unix.Gettid() }

// messageType names a control message.
type messageType struct{ level, kind int32 }

// groType is never shown: trains are split.
var groType = messageType{unix.SOL_UDP, unix.UDP_GRO}

// metadataOptions are the socket options that EnableMetadata sets, and what they bring.
var metadataOptions = []struct {
	level, name int
	brings      messageType
}{
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, messageType{unix.SOL_SOCKET, unix.SO_RXQ_OVFL}},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, messageType{unix.SOL_SOCKET, unix.SO_TIMESTAMPING}},
	{unix.SOL_SOCKET, unix.SO_RCVMARK, messageType{unix.SOL_SOCKET, unix.SO_MARK}},
	{unix.SOL_UDP, unix.UDP_GRO, groType},
	{unix.SOL_IP, unix.IP_PKTINFO, messageType{unix.SOL_IP, unix.IP_PKTINFO}},
	{unix.SOL_IP, unix.IP_RECVTOS, messageType{unix.SOL_IP, unix.IP_TOS}},
	{unix.SOL_IP, unix.IP_RECVTTL, messageType{unix.SOL_IP, unix.IP_TTL}},
	{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, messageType{unix.SOL_IP, unix.IP_RECVORIGDSTADDR}},
	{unix.SOL_IP, unix.IP_RECVERR, messageType{unix.SOL_IP, unix.IP_RECVERR}},
	{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, messageType{unix.SOL_IPV6, unix.IPV6_PKTINFO}},
	{unix.SOL_IPV6, unix.IPV6_RECVTCLASS, messageType{unix.SOL_IPV6, unix.IPV6_TCLASS}},
	{unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, messageType{unix.SOL_IPV6, unix.IPV6_HOPLIMIT}},
	{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, messageType{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR}},
	{unix.SOL_IPV6, ipv6FlowInfo, messageType{unix.SOL_IPV6, ipv6FlowInfo}},
	{unix.SOL_IPV6, unix.IPV6_RECVERR, messageType{unix.SOL_IPV6, unix.IPV6_RECVERR}},
}

// option is a socket option that the Conn switched on, and what it was before.
type option struct {
	level, name   int
	before, after int
	brings        messageType
}

// switched is the socket options that are the Conn's own: what they bring is not shown to
// readers of control messages, and they are switched off at Close.
type switched struct {
	mu     sync.Mutex
	own    []option
	hidden atomic.Pointer[[]messageType]
}

func readOptions(fd int) []int {
	values := make([]int, len(metadataOptions))
	for i, option := range metadataOptions {
		values[i], _ = unix.GetsockoptInt(fd, option.level, option.name)
	}
	return values
}

// enable switches on what brings this metadata.
func (s *switched) enable(conn *net.UDPConn, metadata Meta) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var enabled error
	if err := raw.Control(func(fd uintptr) {
		before := readOptions(int(fd))
		if enabled = EnableMetadata(int(fd), metadata); enabled != nil {
			return
		}
		for i, after := range readOptions(int(fd)) {
			if o := metadataOptions[i]; after != before[i] {
				s.own = append(s.own, option{o.level, o.name, before[i], after, o.brings})
			}
		}
	}); err != nil {
		return err
	}
	s.note()
	return enabled
}

func (s *switched) note() {
	hidden := []messageType{groType}
	for _, option := range s.own {
		hidden = append(hidden, option.brings)
	}
	s.hidden.Store(&hidden)
}

// hide switches the Conn's own options off, so that the program sees and sets its own. (Not
// UDP_GRO, whose message nobody is shown.)
func (s *switched) hide(fd int) {
	s.mu.Lock()
	for _, option := range s.own {
		if option.brings != groType {
			_ = unix.SetsockoptInt(fd, option.level, option.name, option.before)
		}
	}
}

// show switches them on again. Those that are on are the program's now.
func (s *switched) show(fd int) {
	defer s.mu.Unlock()
	kept := s.own[:0]
	for _, option := range s.own {
		if option.brings != groType {
			now, err := unix.GetsockoptInt(fd, option.level, option.name)
			if err == nil && now&option.after == option.after {
				continue
			}
			_ = unix.SetsockoptInt(fd, option.level, option.name, now|option.after)
		}
		kept = append(kept, option)
	}
	s.own = kept
	s.note()
}

// restore leaves the socket as it was: others may have duplicates of it.
func (s *switched) restore(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = raw.Control(func(fd uintptr) {
		for _, option := range s.own {
			_ = unix.SetsockoptInt(int(fd), option.level, option.name, option.before)
		}
	})
	s.own = nil
}

// copyControl copies control messages, but for those the Conn's own options brought; cut: not
// all of them found room. Half a message would be worse than none: readers take its length for
// true.
func (s *switched) copyControl(to, from []byte) (n int, cut bool) {
	var hidden []messageType
	if p := s.hidden.Load(); p != nil {
		hidden = *p
	}
	for len(from) >= unix.SizeofCmsghdr {
		header := (*unix.Cmsghdr)(unsafe.Pointer(&from[0])) // control messages are aligned
		length := int(header.Len)
		if length < unix.SizeofCmsghdr || length > len(from) {
			break // the kernel's own cut
		}
		kind := messageType{header.Level, header.Type}
		message := from[:min(unix.CmsgSpace(length-unix.SizeofCmsghdr), len(from))]
		from = from[len(message):]
		switch {
		case contains(hidden, kind):
		case n+length > len(to):
			return n, true
		default:
			n += copy(to[n:], message)
		}
	}
	return n, false
}

func contains(types []messageType, wanted messageType) bool {
	for _, t := range types {
		if t == wanted {
			return true
		}
	}
	return false
}
