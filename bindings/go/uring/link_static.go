//go:build linux && cgo && ringmsg_static

package uring

// The archive by its name: with both files installed, -lringmsg would take the shared one. Where
// it is not in the linker's path, say so in CGO_LDFLAGS and CGO_CFLAGS.

// #cgo LDFLAGS: -l:libringmsg.a -lpthread -ldl -lm
import "C"
