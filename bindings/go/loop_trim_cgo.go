//go:build linux && cgo

package ringmsg

import (
	"os"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

const (
	// A pool that was filled with at least trimLeast bytes gives its memory back to the system
	// after trimAfter without a datagram.
	trimAfter = time.Second
	trimLeast = 4 << 20
)

var pageSize = os.Getpagesize()

// trimTimeout shortens a wait for data to the time after which the pool is to be trimmed.
func (l *loop) trimTimeout(timeout time.Duration) time.Duration {
	if l.touched < trimLeast || timeout >= 0 && timeout < trimAfter {
		return timeout
	}
	return trimAfter
}

// trim gives the memory of a pool back to the system, but for the buffers of held batches. The
// kernel must not write to it meanwhile: so the request is cancelled, and armed again when the loop
// goes on. If it brings a datagram even now, nothing is trimmed.
func (l *loop) trim() error {
	if err := l.cancel(); err != nil {
		return err
	}
	if err := l.reap(l.batch, &uring.Wait{Timeout: drainTimeout}); err != nil {
		return err
	}
	if l.batch.count > 0 || l.request != 0 {
		return nil
	}
	l.touched = 0
	memory := l.pool.Bytes()
	stride := len(memory) / l.conn.options.buffers
	held := l.heldBuffers()
	from := 0
	for i := range l.conn.options.buffers {
		if held[uint16(i)] {
			giveBack(memory[from : i*stride])
			from = (i + 1) * stride
		}
	}
	giveBack(memory[from:])
	return nil
}

// giveBack frees the whole pages of a part of a mapping. They read as zeros from then on.
func giveBack(part []byte) {
	if len(part) < 2*pageSize {
		return
	}
	skip := -int(addressOf(part)) & (pageSize - 1)
	part = part[skip:]
	if part = part[:len(part)&^(pageSize-1)]; len(part) > 0 {
		_ = unix.Madvise(part, unix.MADV_DONTNEED)
	}
}
