package ringmsg

import (
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

// setControl puts what a message's control messages say into its path, and returns the segment size
// that they ask for. It returns false where they say something else, or what the kernel would
// ignore for this peer.
func setControl(path *Path, control []byte) (segment int, known bool) {
	toV4 := isToV4(path)
	for len(control) > 0 {
		kind, data, space, found := nextControl(control)
		if !found {
			return 0, false
		}
		control = control[space:]
		at := unsafe.Pointer(unsafe.SliceData(data))
		switch {
		case kind == controlType{unix.SOL_UDP, unix.UDP_SEGMENT} && len(data) == 2:
			segment = int(*(*uint16)(at))
		case kind == controlType{unix.SOL_IP, unix.IP_PKTINFO} && toV4 && len(data) == unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(at)
			local{mapped(info.Spec_dst), uint32(info.Ifindex)}.leaveOn(path)
		case kind == controlType{unix.SOL_IPV6, unix.IPV6_PKTINFO} && !toV4 && len(data) == unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(at)
			local{info.Addr, info.Ifindex}.leaveOn(path)
		case kind == controlType{unix.SOL_IP, unix.IP_TOS} && toV4 && len(data) == 4,
			kind == controlType{unix.SOL_IPV6, unix.IPV6_TCLASS} && !toV4 && len(data) == 4:
			class := *(*int32)(at)
			if class < 0 || class > 255 {
				return 0, false
			}
			path.SetTrafficClass(uint8(class))
		case kind == controlType{unix.SOL_IP, unix.IP_TOS} && toV4 && len(data) == 1:
			path.SetTrafficClass(data[0])
		case kind == controlType{unix.SOL_IP, unix.IP_TTL} && toV4 && len(data) == 4,
			kind == controlType{unix.SOL_IPV6, unix.IPV6_HOPLIMIT} && !toV4 && len(data) == 4:
			limit := *(*int32)(at)
			if limit < 1 || limit > 255 {
				return 0, false
			}
			path.SetHopLimit(uint8(limit))
		default:
			return 0, false
		}
	}
	return segment, true
}

// leaveOn has a path leave from this address, in the path's family; from 0.0.0.0 and :: means that
// the kernel chooses.
func (l local) leaveOn(path *Path) {
	if l.index != 0 {
		path.SetInterface(l.index)
	}
	switch {
	case isMapped(&l.address) && [4]byte(l.address[12:]) == [4]byte{}, l.address == [16]byte{}:
		return
	case path.Family == uring.FamilyIPv4:
		copy(path.LocalBytes[:4], l.address[12:])
	default:
		path.LocalBytes = l.address
	}
	path.Valid |= uring.PathLocal
}
