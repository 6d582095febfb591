//go:build linux && cgo && !ringmsg_static

package ringmsg

// #cgo pkg-config: ringmsg
import "C"
