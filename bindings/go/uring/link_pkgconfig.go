//go:build linux && cgo && !ringmsg_static

package uring

// #cgo pkg-config: ringmsg
import "C"
