//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import (
	"sync"
	"syscall"
	"unsafe"
)

// Available returns nil where rings can be made, and otherwise why not. The answer is found once
// in a process.
func Available() error {
	if support := supportOnce(); support.Engines == 0 {
		return &Error{Op: "ring_new", Errno: syscall.Errno(-support.CreateError), Reason: DescribeSupport()}
	}
	return nil
}

// supportOnce is the first answer of QuerySupport, which makes rings to find it, one of them with
// a kernel thread.
var supportOnce = sync.OnceValue(QuerySupport)

// BestFlags returns the setup flags of the best mode for batches that this kernel offers:
// [SetupDeferTaskrun], or 0 where the kernel has no such mode. The answer is found once in a
// process.
func BestFlags() SetupFlags { return supportOnce().SetupFlags & SetupDeferTaskrun }

// Version returns the library's version.
func Version() string { return C.GoString(C.ringmsg_version()) }

// QuerySupport asks what this kernel and this sandbox offer.
func QuerySupport() Support {
	var support C.struct_ringmsg_support
	support.size = C.sizeof_struct_ringmsg_support
	C.ringmsg_query_support(&support)
	return Support{
		Engines:         uint32(support.engines),
		SetupFlags:      SetupFlags(support.setup_flags),
		Features:        Features(support.features),
		CreateError:     int(support.create_error),
		IOURingDisabled: int(support.io_uring_disabled),
		KernelVersion:   uint32(support.kernel_version),
	}
}

// DescribeSupport describes the same in a few lines for a person to read.
func DescribeSupport() string {
	text := make([]byte, 2048)
	length := C.ringmsg_describe_support((*C.char)(unsafe.Pointer(&text[0])), C.size_t(len(text)))
	if length < 0 {
		return ""
	}
	return string(text[:min(int(length), len(text)-1)])
}
