//go:build linux && cgo

package uring

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A payload is a slice of a pool's memory, and the collector does not know of it. If that memory
// were unmapped, a program that kept the slice for too long would die of SIGSEGV, which recover
// cannot catch. So the memory of pools is never unmapped. When a pool is gone its memory keeps its
// bytes for a while, then they go back to the system (the slice reads zeros), and later another
// pool gets the addresses.
var kept struct {
	sync.Mutex
	all   []keptMemory // the oldest first
	timer *time.Timer
}

type keptMemory struct {
	bytes   []byte
	since   time.Time
	emptied bool
}

var (
	// keepBytes is how long the memory of a pool that is gone shows what it held.
	keepBytes = 10 * time.Second
	// keepAddresses is how long no other pool gets it. Past keptMost mappings the oldest is taken
	// at once.
	keepAddresses = time.Minute
)

const keptMost = 1024

// newMemory returns zeroed memory for a pool, which a forked child does not inherit.
func newMemory(size int) ([]byte, error) {
	if used := usedMemory(size); used != nil {
		return used, nil
	}
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, err
	}
	if err := unix.Madvise(memory, unix.MADV_DONTFORK); err != nil {
		dropMemory(memory)
		return nil, err
	}
	return memory, nil
}

// usedMemory returns the memory of a pool that is long gone; nil if there is none of this size.
func usedMemory(size int) []byte {
	kept.Lock()
	defer kept.Unlock()
	for i := range kept.all {
		m := kept.all[i]
		if time.Since(m.since) < keepAddresses && len(kept.all) <= keptMost {
			return nil
		}
		if len(m.bytes) != size {
			continue
		}
		if !m.emptied && unix.Madvise(m.bytes, unix.MADV_DONTNEED) != nil {
			continue
		}
		kept.all = append(kept.all[:i], kept.all[i+1:]...)
		return m.bytes
	}
	return nil
}

// dropMemory unmaps memory of which no slice was handed out.
func dropMemory(memory []byte) { _ = unix.Munmap(memory) }

// keepMemory keeps the memory of a pool that is gone: the kernel no longer writes to it.
func keepMemory(memory []byte) {
	kept.Lock()
	defer kept.Unlock()
	kept.all = append(kept.all, keptMemory{bytes: memory, since: time.Now()})
	if kept.timer == nil {
		kept.timer = time.AfterFunc(keepBytes, emptyKept)
	}
}

// emptyKept gives the bytes of memory that was kept for long enough back to the system.
func emptyKept() {
	kept.Lock()
	defer kept.Unlock()
	kept.timer = nil
	for i := range kept.all {
		m := &kept.all[i]
		if m.emptied {
			continue
		}
		if age := time.Since(m.since); age < keepBytes {
			kept.timer = time.AfterFunc(keepBytes-age, emptyKept)
			return
		}
		m.emptied = unix.Madvise(m.bytes, unix.MADV_DONTNEED) == nil
	}
}

// ringMemory is the memory of a ring's pools. It does not refer to the ring.
type ringMemory struct {
	sync.Mutex
	pools map[*byte][]byte
}

func (r *ringMemory) add(memory []byte) {
	r.Lock()
	defer r.Unlock()
	if r.pools == nil {
		r.pools = map[*byte][]byte{}
	}
	r.pools[&memory[0]] = memory
}

// freed keeps the memory of a pool that is gone.
func (r *ringMemory) freed(memory []byte) {
	r.Lock()
	defer r.Unlock()
	delete(r.pools, &memory[0])
	keepMemory(memory)
}

// allFreed keeps the memory of a ring that is gone.
func (r *ringMemory) allFreed() {
	r.Lock()
	defer r.Unlock()
	for _, memory := range r.pools {
		keepMemory(memory)
	}
	r.pools = nil
}
