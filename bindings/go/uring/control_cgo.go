//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import "unsafe"

// EnableMetadata sets the socket options that make the kernel send this metadata with every
// datagram. MetaSegmentSize switches GRO on: from then on a plain read sees trains.
func EnableMetadata(fd int, metadata Meta) error {
	return failure("socket_enable", C.rm_socket_enable(C.int(fd), C.uint32_t(metadata)))
}

// ParseControl returns the control messages of a slice; EBADMSG if it is malformed.
func ParseControl(control []byte) ([]ControlMessage, error) {
	if len(control) == 0 {
		return nil, nil
	}
	var all []ControlMessage
	var cursor C.struct_ringmsg_cmsg
	for {
		result := C.rm_control_next(unsafe.Pointer(&control[0]), C.size_t(len(control)), &cursor)
		if result.value <= 0 {
			return all, failure("control_next", result)
		}
		all = append(all, ControlMessage{
			Level: int(cursor.level),
			Type:  int(cursor._type),
			Data:  part(control, uint32(cursor.offset), uint32(cursor.length)),
		})
	}
}

// DecodeControl decodes control messages as Reap does for its metadata.
func DecodeControl(control []byte) (Metadata, error) {
	var metadata Metadata
	if len(control) == 0 {
		return metadata, nil
	}
	// The form &slice[i] has cgo look at the slice only: what it is part of may hold pointers.
	result := C.rm_control_decode(unsafe.Pointer(&control[0]), C.size_t(len(control)), unsafe.Pointer(&metadata))
	return metadata, failure("control_decode", result)
}
