//go:build linux && cgo

package uring

// #include "shim.h"
//
// #cgo noescape rm_next
// #cgo nocallback rm_next
// #cgo noescape rm_release
// #cgo nocallback rm_release
import "C"

import (
	"net"
	"syscall"
	"time"
	"unsafe"
)

// Reap returns as soon as there are records: how many it wrote to the front of records, and of
// metadata unless that is nil. It returns 0 after the timeout or a wake. An interrupted wait
// (EINTR) goes on with the time left.
func (r *Ring) Reap(records []Record, metadata []Metadata, wait *Wait) (int, error) {
	return r.Next(0, records, metadata, wait)
}

// Next releases the first done records, and then reaps into the same slice, in one call into C:
// the loop of a receiver.
func (r *Ring) Next(done int, records []Record, metadata []Metadata, wait *Wait) (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if metadata != nil && len(metadata) < len(records) || len(records) == 0 || done < 0 || done > len(records) {
		return 0, &Error{Op: "next", Errno: syscall.EINVAL, Reason: "next: no room in records, or less in metadata"}
	}
	w := Wait{Timeout: -1, Linger: LingerAuto}
	if wait != nil {
		w = *wait
	}
	var until time.Time
	if w.Timeout > 0 {
		until = time.Now().Add(w.Timeout)
	}
	for {
		result := C.rm_next(r.handle, C.uint32_t(done), unsafe.Pointer(&records[0]),
			unsafe.Pointer(unsafe.SliceData(metadata)), C.uint32_t(len(records)),
			C.int64_t(w.Timeout), w.lingerMicroseconds(), C.uint32_t(w.Spin/time.Microsecond))
		if result.value >= 0 {
			r.messages.completed(records[:result.value])
			if result.value == 0 && r.closed.Load() {
				return 0, net.ErrClosed
			}
			return int(result.value), nil
		}
		err := failure("next", result)
		if result.value != -C.int(syscall.EINTR) {
			return 0, err
		}
		done = 0 // released before the wait began
		if w.Timeout > 0 {
			w.Timeout = max(time.Until(until), 0)
		}
	}
}

func (w *Wait) lingerMicroseconds() C.uint32_t {
	microseconds := func(d time.Duration) uint32 {
		return uint32(min(d/time.Microsecond, time.Duration(lingerMaxUS)))
	}
	switch {
	case w.Linger == LingerAuto:
		return C.uint32_t(lingerAuto)
	case w.Linger < 0:
		return C.uint32_t(lingerAutoWithin | microseconds(-w.Linger))
	}
	return C.uint32_t(microseconds(w.Linger))
}

// Release gives the buffers of records back. Records without [RecordBuffer] are skipped. A
// record that is not held is an error, and then none is released.
func (r *Ring) Release(records []Record) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if len(records) == 0 {
		return nil
	}
	return failure("release", C.rm_release(r.handle, unsafe.Pointer(&records[0]), C.uint32_t(len(records))))
}

// TakeFDs hands over descriptors that arrived with a record, at most len(fds). What is not taken
// is closed on release.
func (r *Ring) TakeFDs(record *Record, fds []int) (int, error) {
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if len(fds) == 0 {
		return 0, nil
	}
	taken := make([]C.int, len(fds))
	result := C.rm_take_fds(r.handle, unsafe.Pointer(record), &taken[0], C.uint32_t(len(taken)))
	if err := failure("take_fds", result); err != nil {
		return 0, err
	}
	for i := range int(result.value) {
		fds[i] = int(taken[i])
	}
	return int(result.value), nil
}
