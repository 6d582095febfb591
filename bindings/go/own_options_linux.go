package ringmsg

import "golang.org/x/sys/unix"

const ipv6FlowInfo = 11 // IPV6_FLOWINFO, which package unix does not have

// controlOptions are the socket options that bring control messages, and which.
var controlOptions = []struct {
	level, name int
	brings      controlType
}{
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, controlType{unix.SOL_SOCKET, unix.SO_RXQ_OVFL}},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, controlType{unix.SOL_SOCKET, unix.SO_TIMESTAMPING}},
	{unix.SOL_SOCKET, unix.SO_RCVMARK, controlType{unix.SOL_SOCKET, unix.SO_MARK}},
	{unix.SOL_SOCKET, unix.SO_RCVPRIORITY, controlType{unix.SOL_SOCKET, unix.SO_PRIORITY}},
	{unix.SOL_IP, unix.IP_PKTINFO, controlType{unix.SOL_IP, unix.IP_PKTINFO}},
	{unix.SOL_IP, unix.IP_RECVTOS, controlType{unix.SOL_IP, unix.IP_TOS}},
	{unix.SOL_IP, unix.IP_RECVTTL, controlType{unix.SOL_IP, unix.IP_TTL}},
	{unix.SOL_IP, unix.IP_RECVORIGDSTADDR, controlType{unix.SOL_IP, unix.IP_RECVORIGDSTADDR}},
	{unix.SOL_IP, unix.IP_RECVERR, controlType{unix.SOL_IP, unix.IP_RECVERR}},
	{unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, controlType{unix.SOL_IPV6, unix.IPV6_PKTINFO}},
	{unix.SOL_IPV6, unix.IPV6_RECVTCLASS, controlType{unix.SOL_IPV6, unix.IPV6_TCLASS}},
	{unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, controlType{unix.SOL_IPV6, unix.IPV6_HOPLIMIT}},
	{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, controlType{unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR}},
	{unix.SOL_IPV6, ipv6FlowInfo, controlType{unix.SOL_IPV6, ipv6FlowInfo}},
	{unix.SOL_IPV6, unix.IPV6_RECVERR, controlType{unix.SOL_IPV6, unix.IPV6_RECVERR}},
}

// ownOption is a socket option that the Conn needs for itself: with the value that the program gave
// it, and with the Conn's.
type ownOption struct {
	level, name   int
	before, after int
	brings        controlType
}

// isComplete reports whether a value of the program's has everything that the Conn needs. (The
// value of SO_TIMESTAMPING consists of flags.)
func (o *ownOption) isComplete(value int) bool { return value&o.after == o.after }

// switchOn runs a function that switches socket options on, and takes those that it changed for the
// Conn's own. The receiver's lock is held.
func (r *receiver) switchOn(fd int, enable func() error) error {
	before := make([]int, len(controlOptions))
	for i, option := range controlOptions {
		before[i], _ = unix.GetsockoptInt(fd, option.level, option.name)
	}
	err := enable()
	for i, option := range controlOptions {
		if after, _ := unix.GetsockoptInt(fd, option.level, option.name); after != before[i] {
			r.own = append(r.own, ownOption{option.level, option.name, before[i], after, option.brings})
		}
	}
	r.hideControl()
	return err
}

// hideControl makes the list of what readers of control messages are not shown: what only the Conn
// has switched on.
func (r *receiver) hideControl() {
	r.hidden = nil
	for _, option := range r.own {
		if option.before == 0 {
			r.hidden = append(r.hidden, option.brings)
		}
	}
}

func (r *receiver) hasOwnOptions() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.own) > 0
}

// hideOwnOptions sets the own options to what they were, so that the program sees and sets its own,
// until as many calls of showOwnOptions.
func (r *receiver) hideOwnOptions(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hiders++; r.hiders > 1 {
		return
	}
	for _, option := range r.own {
		if !option.isComplete(option.before) {
			_ = unix.SetsockoptInt(fd, option.level, option.name, option.before)
		}
	}
}

// showOwnOptions switches the own options on again. What the program has switched on by now, its
// readers are shown until it switches it off.
func (r *receiver) showOwnOptions(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hiders--; r.hiders > 0 {
		return
	}
	for i := range r.own {
		option := &r.own[i]
		option.before, _ = unix.GetsockoptInt(fd, option.level, option.name)
		if !option.isComplete(option.before) {
			_ = unix.SetsockoptInt(fd, option.level, option.name, option.before|option.after)
		}
	}
	r.hideControl()
}
