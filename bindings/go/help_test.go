//go:build linux

package ringmsg

import (
	"testing"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
)

var (
	needRing     = testkit.NeedRing
	ok           = testkit.OK
	within       = testkit.Within
	udp          = testkit.UDP
	sender       = testkit.Sender
	connect      = testkit.Connect
	isFree       = testkit.IsFree
	write        = testkit.Write
	descriptorOf = testkit.Descriptor
	sendTrain    = testkit.SendTrain
)

func equal[T comparable](t testing.TB, what string, seen, wanted T) {
	t.Helper()
	testkit.Equal(t, what, seen, wanted)
}
