//go:build linux && cgo

package ringmsg

import (
	"sync"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// heldLoops refers to the loops with held batches. A payload slice keeps nothing alive: without
// this the collector would free the ring, and unmap the memory below the slice, once the program
// has dropped Conn and Batch.
var heldLoops = struct {
	sync.Mutex
	loops map[*loop]struct{}
}{loops: map[*loop]struct{}{}}

func (l *loop) hold(b *Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users++
	if l.held == nil {
		l.held = map[*Batch]struct{}{}
	}
	l.held[b] = struct{}{}
	l.conn.held.batches.Add(1)
	l.conn.held.datagrams.Add(int64(b.count))
	heldLoops.Lock()
	defer heldLoops.Unlock()
	heldLoops.loops[l] = struct{}{}
}

func (l *loop) release(b *Batch) {
	_ = l.ring.Release(b.records[:b.count])
	l.mu.Lock()
	delete(l.held, b)
	l.conn.held.batches.Add(-1)
	l.conn.held.datagrams.Add(-int64(b.count))
	if len(l.held) == 0 {
		heldLoops.Lock()
		delete(heldLoops.loops, l)
		heldLoops.Unlock()
	}
	l.mu.Unlock()
	if l.drop() { // not here: from another thread than the owner the kernel takes up to 60 ms
		go l.ring.Close()
	}
}

// heldBuffers returns the buffers that held batches are in.
func (l *loop) heldBuffers() map[uint16]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	held := map[uint16]bool{}
	for b := range l.held {
		for i := range b.records[:b.count] {
			if b.records[i].Flags&uring.RecordBuffer != 0 {
				held[b.records[i].Buffer] = true
			}
		}
	}
	return held
}

func addressOf(memory []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(memory))) }

// drop is for the loop and for each held batch, when they no longer need the ring. It reports
// whether the ring is to be closed.
func (l *loop) drop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	return l.users == 0
}
