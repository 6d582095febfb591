//go:build linux && cgo

package uring

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// filledPool makes a ring and a pool, writes to the pool, and closes the ring, or leaves it to the
// collector. It returns a slice of the pool's memory.
func filledPool(t *testing.T, content string, closed bool) []byte {
	t.Helper()
	ring, err := NewRing(&RingConfig{Engine: EngineRecvmmsg})
	if err != nil {
		t.Fatal(err)
	}
	pool, err := ring.NewPool(PoolConfig{Buffers: 16, PayloadCapacity: 1 << 16})
	if err != nil {
		t.Fatal(err)
	}
	slice := pool.Bytes()[4096 : 4096+len(content)]
	copy(slice, content)
	if closed {
		if err := ring.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return slice
}

// isResident reports whether the page of a slice takes memory.
func isResident(t *testing.T, slice []byte) bool {
	t.Helper()
	page := uintptr(os.Getpagesize())
	at := addressOf(slice) &^ (page - 1)
	var vector [1]byte
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, at, page, uintptr(unsafe.Pointer(&vector))); errno != 0 {
		t.Fatal(errno)
	}
	return vector[0]&1 != 0
}

// A slice of a pool that is closed, or collected, shows what it was for a while and zeros later:
// the memory goes back to the system, and after a longer while to another pool.
func TestSlicesOutliveTheirPool(t *testing.T) {
	defer keepFor(keepBytes, keepAddresses)
	keepFor(time.Hour, time.Hour)
	closed, collected := filledPool(t, "closed", true), filledPool(t, "collected", false)
	before := len(keptNow())
	for deadline := time.Now().Add(10 * time.Second); len(keptNow()) == before; time.Sleep(time.Millisecond) {
		runtime.GC() // its cleanup runs in a goroutine
		if time.Now().After(deadline) {
			t.Fatal("the ring was not collected")
		}
	}
	if fresh := filledPool(t, "another", true); addressOf(fresh) == addressOf(closed) || addressOf(fresh) == addressOf(collected) {
		t.Fatal("another pool has the memory already")
	}
	if string(closed) != "closed" || string(collected) != "collected" {
		t.Fatalf("%q %q", closed, collected)
	}
	if !isResident(t, closed) {
		t.Fatal("the memory is gone already")
	}
	keepFor(0, time.Hour)
	emptyKept()
	if isResident(t, closed) || isResident(t, collected) {
		t.Fatal("the memory is still there")
	}
	if closed[0] != 0 || collected[0] != 0 {
		t.Fatalf("%q %q", closed, collected)
	}
	keepFor(0, 0)
	oldest := keptNow()[0].bytes
	if again := filledPool(t, "again", true); addressOf(again) != addressOf(oldest)+4096 {
		t.Fatal("the oldest memory was not taken")
	}
}

func keptNow() []keptMemory {
	kept.Lock()
	defer kept.Unlock()
	return append([]keptMemory(nil), kept.all...)
}

// A pool that the library refuses leaves no memory behind, and one that is too large is refused.
func TestARefusedPoolKeepsNothing(t *testing.T) {
	ring, err := NewRing(&RingConfig{Engine: EngineRecvmmsg})
	if err != nil {
		t.Fatal(err)
	}
	before := len(keptNow())
	for _, config := range []PoolConfig{{Buffers: 3}, {Buffers: 1 << 15, PayloadCapacity: 1 << 20}} {
		pool, err := ring.NewPool(config)
		if refused, is := err.(*Error); pool != nil || !is || refused.Errno != syscall.EINVAL {
			t.Fatal(pool, err)
		}
	}
	if err := ring.Close(); err != nil {
		t.Fatal(err)
	}
	if len(keptNow()) != before {
		t.Fatal("memory was kept of which there is no slice")
	}
}

func addressOf(slice []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(slice))) }

func keepFor(bytes, addresses time.Duration) {
	kept.Lock()
	defer kept.Unlock()
	keepBytes, keepAddresses = bytes, addresses
}
