//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Message is the program's own memory for one message, as a msghdr describes it. [Ring.Recvmsg]
// pins its slices; the lengths are filled in when its record is reaped.
type Message struct {
	Buffers [][]byte
	Name    []byte // room for the source address, a sockaddr
	Control []byte

	NameLength    int
	ControlLength int
	Flags         int

	header *C.struct_msghdr // C memory, with the iovecs behind it
	pinner runtime.Pinner
}

// messages are those in flight, by user data.
type messages struct {
	sync.Mutex
	count atomic.Int64
	byID  map[uint64]*Message
}

// Recvmsg receives one message into the program's own memory, as recvmsg(2) does. The message's
// slices stay pinned, and must not be changed, until its record is reaped or the ring is closed;
// no two such requests in flight may share their user data. The next Reap or Submit pushes the
// request to the kernel.
func (r *Ring) Recvmsg(fd int, message *Message, msgFlags int, flags RecvFlags, userData uint64) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	m := r.messages
	m.Lock()
	defer m.Unlock()
	if _, taken := m.byID[userData]; taken || message.header != nil {
		return &Error{
			Op: "recvmsg", Errno: syscall.EBUSY, Reason: "recvmsg: this message or this user data is in flight",
		}
	}
	message.pin()
	err := failure("recvmsg", C.rm_recvmsg(
		r.handle, C.int(fd), message.header, C.int(msgFlags), C.uint32_t(flags), C.uint64_t(userData),
	))
	if err != nil {
		message.unpin()
		return err
	}
	if m.byID == nil {
		m.byID = map[uint64]*Message{}
	}
	m.byID[userData] = message
	m.count.Add(1)
	return nil
}

// pin makes the msghdr, in C memory: it may hold pointers to Go's memory as long as that is
// pinned.
func (message *Message) pin() {
	parts := len(message.Buffers)
	memory := C.calloc(1, C.size_t(C.sizeof_struct_msghdr+parts*C.sizeof_struct_iovec))
	if memory == nil {
		panic("ringmsg: out of memory")
	}
	message.header = (*C.struct_msghdr)(memory)
	vector := unsafe.Slice((*C.struct_iovec)(unsafe.Add(memory, C.sizeof_struct_msghdr)), parts)
	for i, part := range message.Buffers {
		vector[i].iov_base = message.address(part)
		vector[i].iov_len = C.size_t(len(part))
	}
	message.header.msg_iov = unsafe.SliceData(vector)
	message.header.msg_iovlen = C.size_t(parts)
	message.header.msg_name = message.address(message.Name)
	message.header.msg_namelen = C.socklen_t(len(message.Name))
	message.header.msg_control = message.address(message.Control)
	message.header.msg_controllen = C.size_t(len(message.Control))
}

func (message *Message) address(slice []byte) unsafe.Pointer {
	if len(slice) == 0 {
		return nil
	}
	message.pinner.Pin(&slice[0])
	return unsafe.Pointer(&slice[0])
}

func (message *Message) unpin() {
	C.free(unsafe.Pointer(message.header))
	message.header = nil
	message.pinner.Unpin()
}

// completed hands the messages of these records back to the program.
func (m *messages) completed(records []Record) {
	if m.count.Load() == 0 {
		return
	}
	m.Lock()
	defer m.Unlock()
	for i := range records {
		if records[i].Pool != PoolNone {
			continue
		}
		if message, found := m.byID[records[i].UserData]; found {
			message.NameLength = int(message.header.msg_namelen)
			message.ControlLength = int(message.header.msg_controllen)
			message.Flags = int(message.header.msg_flags)
			message.unpin()
			delete(m.byID, records[i].UserData)
			m.count.Add(-1)
		}
	}
}

// unpinAll is called when the kernel no longer uses any of them.
func (m *messages) unpinAll() {
	m.Lock()
	defer m.Unlock()
	for id, message := range m.byID {
		message.unpin()
		delete(m.byID, id)
	}
	m.count.Store(0)
}

// abandoned are the messages of rings that could not be freed: they stay pinned.
var abandoned struct {
	sync.Mutex
	all []*messages
}

// abandon keeps the messages for good.
func (m *messages) abandon() {
	if m.count.Load() == 0 {
		return
	}
	abandoned.Lock()
	defer abandoned.Unlock()
	abandoned.all = append(abandoned.all, m)
}
