//go:build linux && cgo

package uring

// #include "shim.h"
//
// #cgo noescape rm_send_from
// #cgo nocallback rm_send_from
// #cgo nocallback rm_send
import "C"

import (
	"math"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Sender sends batches of messages on one socket, grouped into UDP_SEGMENT trains. It needs no
// ring. It has a duplicate of the descriptor. One goroutine sends at a time: a second gets EBUSY.
type Sender struct {
	handle *C.struct_ringmsg_sender
	// Calls hold it for reading, Close for writing: no call begins after the sender is freed.
	inside sync.RWMutex
	closed atomic.Bool
	safety runtime.Cleanup

	socketErrors uint64 // that were taken off the socket so far
	socketError  syscall.Errno
}

// NewSender makes a sender for the socket behind fd; nil means the defaults. The program closes it.
// One that the collector finds unreachable is closed as a safety net.
func NewSender(fd int, config *SenderConfig) (*Sender, error) {
	given := SenderConfig{}
	if config != nil {
		given = *config
	}
	clock := C.int(given.TransmitClock)
	if clock == 0 {
		clock = -1
	}
	if given.Batch < 0 || given.Batch > math.MaxInt32 {
		return nil, &Error{Op: "sender_new", Errno: syscall.EINVAL, Reason: "sender: a batch out of range"}
	}
	var handle *C.struct_ringmsg_sender
	err := failure("sender_new", C.rm_sender_new(
		C.int(fd), C.uint32_t(given.Batch), C.uint32_t(given.Flags), clock, &handle,
	))
	if err != nil {
		return nil, err
	}
	s := &Sender{handle: handle}
	s.safety = runtime.AddCleanup(
		s, func(handle *C.struct_ringmsg_sender) { C.ringmsg_sender_free(handle) }, handle,
	)
	return s, nil
}

func (s *Sender) enter() error {
	s.inside.RLock()
	if s.closed.Load() {
		s.inside.RUnlock()
		return net.ErrClosed
	}
	collect()
	return nil
}

func (s *Sender) leave() {
	collect()
	s.inside.RUnlock()
	runtime.KeepAlive(s)
}

// SendFrom sends messages whose payloads are in base, on paths of which they name one each. It
// returns how many it settled, and EAGAIN if it could settle none. Each settled message has its
// Result: the bytes that the socket took, or -errno. A Result of -EAGAIN, which may be anywhere,
// has the message given again, by a call with [SendResume] on the same slice.
func (s *Sender) SendFrom(base []byte, paths []Path, messages []SendMessage, flags SendFlags) (int, error) {
	if len(messages) == 0 {
		return 0, nil
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	return s.sent(C.rm_send_from(s.handle,
		unsafe.Pointer(unsafe.SliceData(base)), C.size_t(len(base)),
		unsafe.Pointer(unsafe.SliceData(paths)), C.uint32_t(len(paths)),
		unsafe.Pointer(&messages[0]), C.uint32_t(len(messages)), C.uint32_t(flags)))
}

// Send is SendFrom with the payload of message i in payloads[i], wherever it is in Go's memory:
// pinned there, and not copied. That pays for payloads of 8 KiB and more.
func (s *Sender) Send(payloads [][]byte, paths []Path, messages []SendMessage, flags SendFlags) (int, error) {
	if len(payloads) != len(messages) {
		return 0, &Error{Op: "send", Errno: syscall.EINVAL, Reason: "send: as many payloads as messages"}
	}
	if len(messages) == 0 {
		return 0, nil
	}
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.leave()
	memory := C.malloc(C.size_t(len(messages)) * C.sizeof_struct_ringmsg_message)
	if memory == nil {
		return 0, &Error{Op: "send", Errno: syscall.ENOMEM}
	}
	defer C.free(memory)
	given := unsafe.Slice((*C.struct_ringmsg_message)(memory), len(messages))
	var pinner runtime.Pinner
	defer pinner.Unpin()
	if len(paths) > 0 {
		pinner.Pin(&paths[0])
	}
	for i := range messages {
		m := messages[i]
		m.PayloadOffset, m.PathIndex, m.PayloadLength = 0, 0, uint32(len(payloads[i]))
		*(*SendMessage)(unsafe.Pointer(&given[i])) = m
		if len(payloads[i]) > 0 {
			pinner.Pin(&payloads[i][0])
			given[i].payload = unsafe.Pointer(&payloads[i][0])
		}
		if at := messages[i].PathIndex; at < uint64(len(paths)) {
			given[i].path = (*C.struct_ringmsg_path)(unsafe.Pointer(&paths[at]))
		} else if at != PathNone {
			return 0, &Error{Op: "send", Errno: syscall.EFAULT, Reason: "send: no such path"}
		}
	}
	n, err := s.sent(C.rm_send(s.handle, &given[0], C.uint32_t(len(messages)), C.uint32_t(flags)))
	for i := range messages {
		messages[i].Result = int32(given[i].result)
	}
	return n, err
}

func (s *Sender) sent(result C.struct_rm_sent) (int, error) {
	if now := uint64(result.socket_errors); now != s.socketErrors {
		s.socketErrors, s.socketError = now, syscall.Errno(result.socket_error)
	}
	if result.result.value == -C.int(syscall.EAGAIN) {
		return 0, syscall.EAGAIN
	}
	return max(int(result.result.value), 0), failure("send", result.result)
}

// TakeSocketError returns the pending error that the sender took off the socket last, such as
// ECONNREFUSED, once; 0 if there was none since the last call. It belongs to the goroutine that
// sends.
func (s *Sender) TakeSocketError() syscall.Errno {
	errno := s.socketError
	s.socketError = 0
	return errno
}

// Stats returns the sender's counters.
func (s *Sender) Stats() (SenderStats, error) {
	if err := s.enter(); err != nil {
		return SenderStats{}, err
	}
	defer s.leave()
	var stats C.struct_ringmsg_sender_stats
	if err := failure("sender_stats", C.rm_sender_stats(s.handle, &stats)); err != nil {
		return SenderStats{}, err
	}
	return *(*SenderStats)(unsafe.Pointer(&stats.messages)), nil
}

// Close frees the sender, once no call is inside.
func (s *Sender) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	s.inside.Lock()
	defer s.inside.Unlock()
	s.safety.Stop()
	err := failure("sender_free", C.rm_sender_free(s.handle))
	s.handle = nil
	runtime.KeepAlive(s)
	return err
}
