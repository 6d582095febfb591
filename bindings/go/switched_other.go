//go:build !linux

package ringmsg

import "net"

// What the flags of package net's messages are elsewhere is not for us to say.
const (
	msgTrunc  = 0
	msgCtrunc = 0
)

func thread() int { return 0 }

// switched has nothing to do where the Conn switches nothing on.
type switched struct{}

func (*switched) enable(*net.UDPConn, Meta) error { return nil }
func (*switched) hide(int)                        {}
func (*switched) show(int)                        {}
func (*switched) restore(*net.UDPConn)            {}

func (*switched) copyControl(to, from []byte) (n int, cut bool) {
	n = copy(to, from)
	return n, n < len(from)
}
