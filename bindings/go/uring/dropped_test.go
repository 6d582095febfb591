//go:build linux && cgo

package uring_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// A ring that is dropped with a message in flight is closed by the collector: the message stays
// pinned until then (the runtime stops a program that drops a pinned one), and its memory is the
// program's again.
func TestADroppedRingUnpinsItsMessages(t *testing.T) {
	needRing(t)
	receiver := udp(t, "udp4", "127.0.0.1:0")
	var collected atomic.Int64
	const rings = 4
	for i := range rings {
		engine := []uring.Engine{uring.EngineAuto, uring.EngineRecvmmsg}[i%2]
		ring, err := uring.NewRing(&uring.RingConfig{Engine: engine})
		ok(t, err)
		message := &uring.Message{Buffers: [][]byte{make([]byte, 100)}, Control: make([]byte, 64)}
		runtime.AddCleanup(message, func(int) { collected.Add(1) }, 0)
		ok(t, ring.Recvmsg(descriptorOf(t, receiver), message, 0, 0, 1))
		ok(t, ring.Submit())
	}
	for deadline := time.Now().Add(20 * time.Second); collected.Load() < rings; time.Sleep(time.Millisecond) {
		runtime.GC()
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d messages were collected", collected.Load(), rings)
		}
	}
}
