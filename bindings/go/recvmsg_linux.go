package ringmsg

import (
	"bytes"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	msgTrunc  = unix.MSG_TRUNC
	msgCtrunc = unix.MSG_CTRUNC

	// maxPayload is room for the longest message that a UDP socket hands over: a train of 65,535
	// bytes.
	maxPayload = 1 << 16
	// maxMessages is how many messages one system call receives at most.
	maxMessages = 16
)

// message is what one message of recvmsg(2) brought: a datagram, or a train of datagrams of one
// sender that the kernel joined (UDP_GRO). Its parts are handed out one by one.
type message struct {
	payload []byte
	control []byte
	name    unix.RawSockaddrInet6 // large enough for IPv4 as well

	length        int // of the payload
	controlLength int
	isPlain       bool // no control message is there for the program
	flags         int  // MSG_TRUNC and the like
	segment       int  // length of each datagram but the last
	at            int  // where the next datagram starts

	errno syscall.Errno // in a datagram's place: an error that a ring received
}

// messages have room for any message. They are in use only while something was received and is not
// read yet, never while a reader sleeps.
var messages = sync.Pool{New: func() any {
	room := new(struct {
		message
		control [controlSpace / 8]uint64 // control messages are read in place, so they are aligned
		payload [maxPayload]byte
	})
	room.message.control = unsafe.Slice((*byte)(unsafe.Pointer(&room.control)), controlSpace)
	room.message.payload = room.payload[:]
	return &room.message
}}

// isWhole reports whether the message has room for any other one.
func (m *message) isWhole() bool { return len(m.payload) == maxPayload }

// release ends a message.
func (m *message) release() {
	if m.isWhole() {
		messages.Put(m)
	}
}

// compact returns a copy that takes no more memory than it needs.
func (m *message) compact() *message {
	small := *m
	small.payload = bytes.Clone(m.payload[:m.length])
	small.control = bytes.Clone(m.control[:m.controlLength])
	return &small
}

// datagrams returns how many datagrams the message holds.
func (m *message) datagrams() int {
	if m.length == 0 {
		return 1
	}
	return (m.length + m.segment - 1) / m.segment
}

// left returns how many datagrams have not been handed out.
func (m *message) left() int {
	switch {
	case m.errno != 0:
		return 0
	case m.length == 0:
		return 1
	}
	return (m.length - m.at + m.segment - 1) / m.segment
}

// mmsghdr is the kernel's struct mmsghdr.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// vector is what recvmmsg(2) and sendmmsg(2) take: headers, each with two places for its payload.
type vector struct {
	headers [maxMessages]mmsghdr
	places  [maxMessages][2]unix.Iovec
}

// vectors are for system calls of several messages.
var vectors = sync.Pool{New: func() any { return new(vector) }}

// release ends the use of a vector. It refers to the program's buffers no more.
func (v *vector) release() {
	clear(v.places[:])
	vectors.Put(v)
}

// point makes a header describe a message whose payload starts in head, the program's memory, and
// goes on in the message's own at the same offset.
func (m *message) point(header *unix.Msghdr, places *[2]unix.Iovec, head []byte) {
	m.pointPlaces(places, head)
	*header = unix.Msghdr{
		Name:    (*byte)(unsafe.Pointer(&m.name)),
		Namelen: unix.SizeofSockaddrInet6,
		Iov:     &places[0],
	}
	header.SetIovlen(len(places))
	m.pointControl(header)
}

func (m *message) pointPlaces(places *[2]unix.Iovec, head []byte) {
	rest := m.payload[len(head):]
	places[0].Base, places[1].Base = unsafe.SliceData(head), unsafe.SliceData(rest)
	places[0].SetLen(len(head))
	places[1].SetLen(len(rest))
}

func (m *message) pointControl(header *unix.Msghdr) {
	header.Control = unsafe.SliceData(m.control)
	header.SetControllen(len(m.control))
}

// received takes over what the kernel wrote into the header.
func (m *message) received(header *unix.Msghdr, length int) {
	m.length, m.at = length, 0
	m.flags = int(header.Flags)
	m.controlLength = int(header.Controllen)
	m.segment = length
	if m.isPlain = m.controlLength == 0; !m.isPlain {
		var size int
		if size, m.isPlain = segmentSize(m.control[:m.controlLength]); size > 0 && size < length {
			m.segment = size
		}
	}
	if header.Namelen == 0 {
		m.name.Family = unix.AF_UNSPEC
	}
}

// firstLength returns the length of the message's first datagram.
func (m *message) firstLength() int { return min(m.segment, m.length) }

// first settles the message's first datagram, which began in head: what of it did not fit there is
// copied to b, of which head is the front, and what of the next datagrams landed there is saved.
// It returns how many bytes of b are filled.
func (m *message) first(b, head []byte) int {
	end := min(m.segment, m.length)
	if end > len(head) {
		copy(b[len(head):], m.payload[len(head):end])
	} else if inHead := min(len(head), m.length); end < inHead {
		copy(m.payload[end:], head[end:inHead])
	}
	m.at = end
	return min(end, len(b))
}

// save copies what landed in head to the message's own memory, so that it can be read from there.
func (m *message) save(head []byte) { copy(m.payload[:m.length], head) }

// next returns the next datagram.
func (m *message) next() []byte {
	end := min(m.at+m.segment, m.length)
	datagram := m.payload[m.at:end]
	m.at = end
	return datagram
}

// done reports whether every datagram has been handed out.
func (m *message) done() bool { return m.at >= m.length }

// The system calls below pass MSG_DONTWAIT and never block, even if O_NONBLOCK was cleared
// (os.File.Fd of a duplicate clears it for every user of the socket). So they may bypass the
// scheduler.

// recvmsg receives one message. After the reader has slept, the call goes through the scheduler as
// package net's do: that wakes the runtime's monitor thread, and an answer arrives sooner.
func recvmsg(fd int, header *unix.Msghdr, slept bool) (int, syscall.Errno) {
	for {
		var n uintptr
		var errno syscall.Errno
		if slept {
			n, _, errno = syscall.Syscall(
				unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(header)), unix.MSG_DONTWAIT,
			)
		} else {
			n, _, errno = syscall.RawSyscall(
				unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(header)), unix.MSG_DONTWAIT,
			)
		}
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// peerName returns the name of a connected socket's peer. Without one its family is 0.
func peerName(fd int) (name unix.RawSockaddrInet6) {
	length := uint32(unsafe.Sizeof(name))
	_, _, _ = syscall.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&name)),
		uintptr(unsafe.Pointer(&length)))
	return name
}

func recvmmsg(fd int, headers []mmsghdr) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])),
			uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
