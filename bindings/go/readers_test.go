//go:build linux && cgo

package ringmsg

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"
)

func TestOneKindOfReaderAtATime(t *testing.T) {
	conn, peer := listen(t)
	write(t, peer, "x")
	for _, err := range conn.Batches(context.Background()) {
		ok(t, err)
		_, _, err := conn.ReadFrom(make([]byte, 10))
		if !errors.Is(err, ErrAnotherReader) {
			t.Fatalf("a read during an iteration: %v", err)
		}
		for _, err := range conn.Batches(context.Background()) {
			if !errors.Is(err, ErrAnotherReader) {
				t.Fatalf("a second iteration: %v", err)
			}
		}
		break
	}
	started := make(chan struct{})
	go func() {
		close(started)
		_, _, _ = conn.ReadFrom(make([]byte, 10))
	}()
	<-started
	time.Sleep(30 * time.Millisecond)
	for _, err := range conn.Batches(context.Background()) {
		if !errors.Is(err, ErrAnotherReader) {
			t.Fatalf("an iteration during a read: %v", err)
		}
	}
}

// Nothing is lost, and the order is kept, when readers of both kinds take turns.
func TestReadersTakeTurns(t *testing.T) {
	conn, peer := listen(t)
	next := byte(0)
	read := func(payload []byte) {
		t.Helper()
		equal(t, "datagram", payload[0], next)
		next++
	}
	b := make([]byte, 10)
	send := func(from, to int) {
		for i := from; i < to; i++ {
			write(t, peer, string([]byte{byte(i)}))
		}
	}
	for start := 0; start < 240; start += 30 {
		send(start, start+20)
		for range 5 {
			_, err := conn.Read(b)
			ok(t, err)
			read(b)
		}
		send(start+20, start+30) // which the armed ring has when the other reader comes
		for batch, err := range conn.Batches(context.Background()) {
			ok(t, err)
			for _, d := range batch.All() {
				read(d.Payload())
			}
			if next >= byte(start+10) {
				break
			}
		}
		for next < byte(start+30) {
			_, err := conn.Read(b)
			ok(t, err)
			read(b)
		}
	}
}

// A loop gives its ring back when it ends, however it ends, and not only with Close.
func TestALoopGivesItsRingBack(t *testing.T) {
	needRing(t)
	for _, options := range [][]Option{nil, {WithUnlockedGoroutine()}} {
		conn, peer := listen(t, options...)
		before := descriptors(t)
		for round := range 3 {
			write(t, peer, "x")
			func() {
				defer func() { _ = recover() }()
				for _, err := range conn.Batches(context.Background()) {
					ok(t, err)
					equal(t, "a ring has descriptors", descriptors(t) > before, true)
					if round == 1 {
						panic("in the body")
					}
					break
				}
			}()
			equal(t, "descriptors after the loop", descriptors(t), before)
		}
	}
}

func TestNoGoroutineNorDescriptorIsLeftBehind(t *testing.T) {
	use := func() {
		conn, peer := listen(t)
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		ok(t, err)
		write(t, peer, "x")
		for _, err := range conn.Batches(context.Background()) {
			ok(t, err)
			break
		}
		ok(t, conn.Close())
		ok(t, peer.Close())
	}
	use()
	goroutines, open := runtime.NumGoroutine(), descriptors(t)
	for range 10 {
		use()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > goroutines || descriptors(t) > open {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d descriptors, before %d and %d",
				runtime.NumGoroutine(), descriptors(t), goroutines, open)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
