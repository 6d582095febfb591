//go:build linux

package uring_test

import (
	"testing"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
)

var (
	needRing     = testkit.NeedRing
	needIOURing  = testkit.NeedIOURing
	ok           = testkit.OK
	within       = testkit.Within
	udp          = testkit.UDP
	sender       = testkit.Sender
	write        = testkit.Write
	descriptorOf = testkit.Descriptor
	sendTrain    = testkit.SendTrain
)

func equal[T comparable](t testing.TB, what string, seen, wanted T) {
	t.Helper()
	testkit.Equal(t, what, seen, wanted)
}
