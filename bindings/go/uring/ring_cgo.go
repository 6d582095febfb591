//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Ring is an io_uring that receives messages. Its memory belongs to the library, never to Go.
//
// A ring whose granted flags ([Ring.Info]) hold [SetupSingleIssuer] or [SetupDeferTaskrun] is
// bound to the thread that made or enabled it: lock the goroutine to its thread
// ([runtime.LockOSThread]) first, and call NewPool, the Recvmsg family, Cancel, Submit, Reap and
// Next from there only. Elsewhere they return EPERM. Release, Wake, Stats, Info and Close are for
// any goroutine.
type Ring struct {
	handle *C.struct_ringmsg_ring
	// Calls hold it for reading, Close for writing: no call begins after the ring is freed.
	inside sync.RWMutex
	closed atomic.Bool
	safety runtime.Cleanup

	// What the kernel writes to lives until the ring is freed, also when the collector has found the
	// ring itself unreachable: the safety net refers to both.
	messages *messages // of Recvmsg
	memory   *ringMemory
}

// failure makes an error of a negative result, and frees its sentence.
func failure(op string, result C.struct_rm_result) error {
	if result.value >= 0 {
		return nil
	}
	err := &Error{Op: op, Errno: syscall.Errno(-result.value)}
	if result.why != nil {
		err.Reason = C.GoString(result.why)
		C.free(unsafe.Pointer(result.why))
	}
	return err
}

// NewRing makes a ring; nil means [SetupAuto]. The program closes it. A ring that the collector
// finds unreachable is closed as a safety net.
func NewRing(config *RingConfig) (*Ring, error) {
	if have := uint32(C.ringmsg_abi_version()); have != abiVersion {
		return nil, fmt.Errorf(
			"ringmsg: the library has binary interface %d, this package needs %d", have, abiVersion,
		)
	}
	given := C.struct_ringmsg_ring_config{flags: C.RINGMSG_SETUP_AUTO, sq_thread_cpu: -1}
	if config != nil {
		given.flags = C.uint32_t(config.Flags)
		given.engine = C.uint32_t(config.Engine)
		given.sq_entries = C.uint32_t(config.SQEntries)
		given.cq_entries = C.uint32_t(config.CQEntries)
		given.sq_thread_idle_ms = C.uint32_t(config.SQThreadIdle / time.Millisecond)
		given.sq_thread_cpu = C.int32_t(config.SQThreadCPU)
		if config.Flags&SetupSQPoll == 0 {
			given.sq_thread_cpu = -1
		}
	}
	var handle *C.struct_ringmsg_ring
	if err := failure("ring_new", C.rm_new(&given, &handle)); err != nil {
		return nil, err
	}
	memory, inFlight := &ringMemory{}, &messages{}
	ring := &Ring{handle: handle, messages: inFlight, memory: memory}
	ring.safety = runtime.AddCleanup(ring, func(handle *C.struct_ringmsg_ring) {
		if C.ringmsg_ring_free(handle) == 0 {
			inFlight.unpinAll()
			memory.allFreed()
		} else {
			inFlight.abandon()
		}
	}, handle)
	return ring, nil
}

// enter begins a call: the ring lives until leave.
func (r *Ring) enter() error {
	if r == nil {
		return net.ErrClosed
	}
	r.inside.RLock()
	if r.closed.Load() {
		r.inside.RUnlock()
		return net.ErrClosed
	}
	collect()
	return nil
}

func (r *Ring) leave() {
	collect()
	r.inside.RUnlock()
	runtime.KeepAlive(r)
}

// Close ends the ring: a sleeping Reap returns [net.ErrClosed], requests are cancelled, pools
// end, and all records are void. Any goroutine may call it; from another thread than the
// owner of a bound ring it takes 30 to 60 ms.
func (r *Ring) Close() error {
	if r.closed.Swap(true) {
		return net.ErrClosed
	}
	C.rm_wake(r.handle)
	r.inside.Lock()
	defer r.inside.Unlock()
	r.safety.Stop()
	err := failure("ring_free", C.rm_free(r.handle))
	r.handle = nil
	if err == nil {
		r.messages.unpinAll()
		r.memory.allFreed()
	} else { // the kernel may still write to the memory
		r.messages.abandon()
	}
	runtime.KeepAlive(r)
	return err
}

// Enable starts a ring that was made with [SetupDisabled]; the calling thread becomes its owner.
func (r *Ring) Enable() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("ring_enable", C.rm_enable(r.handle))
}

// Info returns what was granted.
func (r *Ring) Info() (RingInfo, error) {
	if err := r.enter(); err != nil {
		return RingInfo{}, err
	}
	defer r.leave()
	var info C.struct_ringmsg_ring_info
	if err := failure("ring_info", C.rm_info(r.handle, &info)); err != nil {
		return RingInfo{}, err
	}
	return RingInfo{
		Engine:      Engine(info.engine),
		Flags:       SetupFlags(info.flags),
		Features:    Features(info.features),
		SQEntries:   uint32(info.sq_entries),
		CQEntries:   uint32(info.cq_entries),
		OwnerThread: int(info.owner_thread),
	}, nil
}

// FD returns a descriptor that is readable when a Reap would return something: for poll and
// epoll, level or edge triggered. It belongs to the library: never read, write or close it.
func (r *Ring) FD() (int, error) {
	if err := r.enter(); err != nil {
		return -1, err
	}
	defer r.leave()
	result := C.rm_fd(r.handle)
	return int(result.value), failure("ring_fd", result)
}

// Stats returns the ring's counters.
func (r *Ring) Stats() (Stats, error) { return r.stats(nil) }

// RequestStats returns the counters of the requests with this user data, until their final
// record is reaped.
func (r *Ring) RequestStats(userData uint64) (Stats, error) { return r.stats(&userData) }

func (r *Ring) stats(userData *uint64) (Stats, error) {
	if err := r.enter(); err != nil {
		return Stats{}, err
	}
	defer r.leave()
	var stats C.struct_ringmsg_stats
	if err := failure("stats", C.rm_stats(r.handle, (*C.uint64_t)(userData), &stats)); err != nil {
		return Stats{}, err
	}
	return *(*Stats)(unsafe.Pointer(&stats.records)), nil
}
