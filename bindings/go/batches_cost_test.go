//go:build linux && cgo

package ringmsg

import (
	"runtime"
	"testing"
)

func TestBatchesDoNotAllocate(t *testing.T) {
	needRing(t)
	conn, peer := listen(t)
	var sum int
	payload := make([]byte, 100)
	next, stopIteration := iterPull(conn)
	defer stopIteration()
	const datagrams = 32
	allocs := testing.AllocsPerRun(100, func() {
		for range datagrams {
			if _, err := peer.Write(payload); err != nil {
				t.Fatal(err)
			}
		}
		for got := 0; got < datagrams; {
			batch := next()
			for i := range batch.Len() {
				d := batch.At(i)
				sum += len(d.Payload()) + int(d.Source().Port())
				got++
			}
		}
	})
	// iter.Pull itself allocates nothing per step; one in a while is the runtime's.
	if allocs > 0.5 {
		t.Fatalf("%.2f allocations per %d datagrams", allocs, datagrams)
	}
	equal(t, "payload seen", sum > 0, true)
}

// A million datagrams through Batches: the heap stays as it was.
func TestAMillionDatagramsDoNotGrowTheHeap(t *testing.T) {
	needRing(t)
	if testing.Short() {
		t.Skip("-short")
	}
	conn, peer := listen(t)
	_ = conn.SetReadBuffer(4 << 20)
	total := 1_000_000
	if raceEnabled {
		total = 100_000
	}
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	train := make([]byte, 60*100)
	seen := 0
	var before uint64
	for seen < total {
		next, stop := iterPull(conn)
		for round := 0; seen < total && round < total/600; round++ {
			sendTrain(t, peer, train, 100)
			for got := 0; got < 60; {
				got += next().Len()
			}
			seen += 60
		}
		stop()
		if before == 0 {
			before = heap()
		}
	}
	if after := heap(); after > before+1<<20 {
		t.Fatalf("the heap grew from %d to %d bytes over %d datagrams", before, after, seen)
	}
}
