//go:build linux && cgo

package ringmsg

import "sync"

// holdings counts what a loop's held batches keep.
type holdings struct {
	batches int
	buffers map[uint16]int // how many held records each buffer has
}

// heldLoops refers to the loops with held batches. A payload slice keeps nothing alive: without this
// the collector would free the ring, and unmap the memory below the slice, once the program has
// dropped Conn and Batch.
var heldLoops = struct {
	sync.Mutex
	loops map[*loop]struct{}
}{loops: map[*loop]struct{}{}}

func (l *loop) hold(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	l.leased.batches++
	l.conn.held.batches.Add(1)
	l.conn.held.datagrams.Add(int64(b.count))
	heldLoops.Lock()
	defer heldLoops.Unlock()
	heldLoops.loops[l] = struct{}{}
}

func (l *loop) release(b *Batch) {
	_ = l.ring.Release(b.records[:b.count])
	l.mu.Lock()
	l.leased.batches--
	l.conn.held.batches.Add(-1)
	l.conn.held.datagrams.Add(-int64(b.count))
	if l.leased.batches == 0 {
		heldLoops.Lock()
		delete(heldLoops.loops, l)
		heldLoops.Unlock()
	}
	l.mu.Unlock()
	if l.drop() { // not here: the kernel takes up to 60 ms from another thread than the owner
		go l.ring.Close()
	}
}

// drop is for the loop and for each held batch, when they need the ring no more. It reports whether
// the ring is to be closed.
func (l *loop) drop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	return l.users == 0
}
