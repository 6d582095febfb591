//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import "unsafe"

// libraryPathReply is PathReply by the library: a test compares them.
func libraryPathReply(received *Metadata) (path Path, known bool) {
	return path, C.rm_path_reply(unsafe.Pointer(&path), unsafe.Pointer(received)) == 0
}
