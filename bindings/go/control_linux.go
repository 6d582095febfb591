package ringmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlType names a kind of control message.
type controlType struct{ level, kind int32 }

var groType = controlType{unix.SOL_UDP, unix.UDP_GRO}

// nextControl returns the kind and the data of the first control message of a slice, and the space
// that it takes. There is none (false) at the end, or where the kernel had no room for a whole one.
func nextControl(from []byte) (kind controlType, data []byte, space int, found bool) {
	if len(from) < unix.SizeofCmsghdr {
		return kind, nil, 0, false
	}
	header := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(from))) // control messages are aligned
	length := int(header.Len)
	if length < unix.SizeofCmsghdr || length > len(from) {
		return kind, nil, 0, false
	}
	space = min(unix.CmsgSpace(length-unix.SizeofCmsghdr), len(from))
	return controlType{header.Level, header.Type}, from[unix.SizeofCmsghdr:length], space, true
}

// segmentSize returns the length of a train's datagrams; 0 if there is no train.
func segmentSize(control []byte) int {
	for {
		kind, data, space, found := nextControl(control)
		if !found {
			return 0
		}
		if kind == groType && len(data) >= 4 {
			return int(*(*int32)(unsafe.Pointer(unsafe.SliceData(data))))
		}
		control = control[space:]
	}
}

// copyControl copies control messages, except UDP_GRO's and the hidden ones. It cuts only between
// messages: a reader trusts the length of half a message. cut means that one did not fit.
func copyControl(to, from []byte, hidden []controlType) (n int, cut bool) {
	for {
		kind, data, space, found := nextControl(from)
		if !found {
			return n, false
		}
		switch length := unix.SizeofCmsghdr + len(data); {
		case kind == groType || isHidden(hidden, kind):
		case n+length > len(to):
			return n, true
		default:
			n += copy(to[n:], from[:space])
		}
		from = from[space:]
	}
}

func isHidden(hidden []controlType, kind controlType) bool {
	for _, each := range hidden {
		if each == kind {
			return true
		}
	}
	return false
}

// putHeader writes the header of a control message.
func putHeader(to []byte, header *unix.Cmsghdr) {
	copy(to, unsafe.Slice((*byte)(unsafe.Pointer(header)), unix.SizeofCmsghdr))
}
