//go:build linux && cgo

package ringmsg

// #include "shim.h"
//
// #cgo noescape rm_next
// #cgo nocallback rm_next
// #cgo noescape rm_release
// #cgo nocallback rm_release
import "C"

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Ring is an io_uring that receives messages: the C interface in Go's clothes. Its memory is the
// library's, never Go's.
//
// A ring whose granted flags ([Ring.Info]) hold [SetupSingleIssuer] or [SetupDeferTaskrun] is
// bound to the thread that made or enabled it: lock the goroutine to its thread
// ([runtime.LockOSThread]) first, and call NewPool, the Recvmsg family, Cancel, Submit, Reap and
// Next from there only. Elsewhere they return EPERM. Release, Wake, Stats, Info and Close are for
// any goroutine. [Conn] hides all this.
type Ring struct {
	handle *C.struct_ringmsg_ring
	// Calls hold it for reading, Close for writing: no call begins after the ring is freed.
	inside sync.RWMutex
	closed atomic.Bool
	safety runtime.Cleanup

	messages messages // of Recvmsg
}

// Available tells whether rings can be had here: nil, or why not. What it finds it remembers.
func Available() error {
	if support := remembered(); support.Engines == 0 {
		return &Error{Op: "ring_new", Errno: syscall.Errno(-support.CreateError), Reason: DescribeSupport()}
	}
	return nil
}

// remembered is what was found first: to ask is to make rings, one of them with a kernel thread.
var remembered = sync.OnceValue(QuerySupport)

// Version returns the library's version.
func Version() string { return C.GoString(C.ringmsg_version()) }

// QuerySupport tells what this kernel and this sandbox offer.
func QuerySupport() Support {
	var support C.struct_ringmsg_support
	support.size = C.sizeof_struct_ringmsg_support
	C.ringmsg_query_support(&support)
	return Support{
		Engines:         uint32(support.engines),
		SetupFlags:      uint32(support.setup_flags),
		Features:        uint32(support.features),
		CreateError:     int(support.create_error),
		IOURingDisabled: int(support.io_uring_disabled),
		KernelVersion:   uint32(support.kernel_version),
	}
}

// DescribeSupport says the same for a person, in a few lines.
func DescribeSupport() string {
	text := make([]byte, 2048)
	length := C.ringmsg_describe_support((*C.char)(unsafe.Pointer(&text[0])), C.size_t(len(text)))
	if length < 0 {
		return ""
	}
	return string(text[:min(int(length), len(text)-1)])
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

// NewRing makes a ring; nil means [SetupAuto]. Close it: the collector does so only as a safety
// net.
func NewRing(config *RingConfig) (*Ring, error) {
	if have := uint32(C.ringmsg_abi_version()); have != abiVersion {
		return nil, fmt.Errorf("ringmsg: the library has binary interface %d, this package needs %d", have, abiVersion)
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
	ring := &Ring{handle: handle}
	ring.safety = runtime.AddCleanup(ring, func(handle *C.struct_ringmsg_ring) { C.ringmsg_ring_free(handle) }, handle)
	return ring, nil
}

// enter begins a call: the ring lives until leave.
func (r *Ring) enter() error {
	if r == nil {
		return errClosed
	}
	r.inside.RLock()
	if r.closed.Load() {
		r.inside.RUnlock()
		return errClosed
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
// unmapped, and all records are void. Any goroutine may call it; from another thread than the
// owner of a bound ring it takes 30 to 60 ms.
func (r *Ring) Close() error {
	if r.closed.Swap(true) {
		return errClosed
	}
	C.rm_wake(r.handle)
	r.inside.Lock()
	defer r.inside.Unlock()
	r.safety.Stop()
	err := failure("ring_free", C.rm_free(r.handle))
	r.handle = nil
	if err == nil {
		r.messages.unpinAll()
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

// Info tells what was granted.
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
		Engine:      uint32(info.engine),
		Flags:       uint32(info.flags),
		Features:    uint32(info.features),
		SQEntries:   uint32(info.sq_entries),
		CQEntries:   uint32(info.cq_entries),
		OwnerThread: int(info.owner_thread),
	}, nil
}

// FD returns a descriptor that is readable when a Reap would return something: for poll and
// epoll, level or edge triggered. It is the library's: never read, write or close it.
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

// RecvmsgOnce receives one message into a buffer of the pool. The next Reap or Submit pushes it
// to the kernel.
func (r *Ring) RecvmsgOnce(pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64) error {
	return r.receive("recvmsg_once", pool, fd, msgFlags, flags, userData, 1)
}

// RecvmsgMultishot receives into buffers of the pool until it is cancelled. Closing fd does not
// end it.
func (r *Ring) RecvmsgMultishot(pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64) error {
	return r.receive("recvmsg_multishot", pool, fd, msgFlags, flags, userData, 0)
}

func (r *Ring) receive(op string, pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64, once C.int) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if pool == nil || pool.ring != r {
		return &Error{Op: op, Errno: syscall.EINVAL, Reason: op + ": a pool of another ring"}
	}
	return failure(op, C.rm_recv(r.handle, pool.handle, C.int(fd), C.int(msgFlags), C.uint32_t(flags), C.uint64_t(userData), once))
}

// Cancel ends every request with this user data; each answers with one final record.
func (r *Ring) Cancel(userData uint64) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("cancel", C.rm_cancel(r.handle, C.uint64_t(userData)))
}

// Submit pushes queued single-shots to the kernel now. Reap does it too.
func (r *Ring) Submit() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("submit", C.rm_submit(r.handle))
}

// Wake makes the current or, if there is none, the next Reap return.
func (r *Ring) Wake() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("wake", C.rm_wake(r.handle))
}

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
	if len(records) == 0 || done < 0 || done > len(records) || (metadata != nil && len(metadata) < len(records)) {
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
				return 0, errClosed
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
		return uint32(min(d/time.Microsecond, time.Duration(lingerMax)))
	}
	switch {
	case w.Linger == LingerAuto:
		return C.uint32_t(lingerAuto)
	case w.Linger < 0:
		return C.uint32_t(lingerAutoWithin | microseconds(-w.Linger))
	}
	return C.uint32_t(microseconds(w.Linger))
}

// Release gives the buffers of records back. Records without [RecordBuffer] are stepped over. A
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
