package ringmsg

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batchWrite is one call of WriteBatch that groups nothing: for one message, for flags and control
// messages that the library does not know, and where it cannot be called.
type batchWrite struct {
	conn     *Conn
	messages []ipv4.Message
	flags    int
	n        int // of messages that are sent
	errno    syscall.Errno
	err      error
	isIPv4   bool

	attempt  func(fd uintptr) bool
	headers  [writeMost]mmsghdr
	names    [writeMost]unix.RawSockaddrInet6
	places   []unix.Iovec
	controls [writeMost][replyControl]byte
	replies  [writeMost]bool // the message's source address is from the table of replies
}

// writeMost is how many messages one system call sends at most.
const writeMost = 64

var batchWrites = sync.Pool{New: func() any {
	w := new(batchWrite)
	w.attempt = w.send
	return w
}}

func (c *Conn) writePlain(messages []ipv4.Message, flags int) (int, error) {
	w := batchWrites.Get().(*batchWrite)
	w.conn, w.messages, w.flags, w.n, w.errno, w.err = c, messages, flags, 0, 0, nil
	w.isIPv4 = c.isIPv4()
	err := c.raw.Write(w.attempt)
	n := w.n
	switch {
	case err != nil:
	case w.errno != 0:
		err = syscallError("sendmmsg", w.errno)
	default:
		err = w.err
	}
	w.conn, w.messages = nil, nil
	clear(w.headers[:])
	clear(w.places)
	batchWrites.Put(w)
	if n > 0 || err == nil {
		return n, nil // the next call finds the error again
	}
	return 0, c.writeError(err, messages[0].Addr)
}

// writeError words an error as package net does those of this socket's writes.
func (c *Conn) writeError(err error, to net.Addr) error {
	var made *net.OpError
	if errors.As(err, &made) {
		err = made.Err
	}
	return &net.OpError{Op: "write", Net: c.network(), Source: c.udp.LocalAddr(), Addr: to, Err: err}
}

// send is what package net calls until it returns true, first at once and then whenever the socket
// has room again.
func (w *batchWrite) send(fd uintptr) bool {
	for w.n < len(w.messages) {
		count := w.prepare(w.messages[w.n:])
		if count == 0 {
			return true // the first message is wrong: err says how
		}
		sent, errno := sendmmsg(int(fd), w.headers[:count], w.flags)
		switch {
		case errno == unix.EAGAIN:
			w.conn.out.plain.wouldBlock.Add(1)
			return w.n > 0 || w.flags&unix.MSG_DONTWAIT != 0 && w.fail(errno)
		case errno != 0 && w.replies[0] && isSourceRefused(errno):
			w.conn.in.replies.removeAt(&w.names[0])
		case errno != 0:
			return w.fail(errno)
		default:
			w.settle(sent) // where it sent fewer, the next call returns the error
		}
	}
	return true
}

// fail ends the call with the error of its first message.
func (w *batchWrite) fail(errno syscall.Errno) bool {
	w.errno = errno
	if errno != unix.EAGAIN {
		w.conn.out.plain.errors.Add(1)
	}
	return true
}

// settle writes the results of the messages that the kernel took.
func (w *batchWrite) settle(sent int) {
	bytes := 0
	for i := range sent {
		m := &w.messages[w.n+i]
		m.N, m.NN = int(w.headers[i].length), len(m.OOB)
		bytes += m.N
	}
	w.n += sent
	w.conn.out.plain.add(sent, bytes)
}

// prepare fills in headers for as many messages as one call sends, and returns how many they are.
func (w *batchWrite) prepare(messages []ipv4.Message) int {
	messages = messages[:min(len(messages), writeMost)]
	places := 0
	for i := range messages {
		places += len(messages[i].Buffers)
	}
	if cap(w.places) < places {
		w.places = make([]unix.Iovec, places)
	}
	w.places = w.places[:0]
	for i := range messages {
		m, header := &messages[i], &w.headers[i].header
		*header = unix.Msghdr{}
		if m.Addr != nil {
			length, err := encodeName(&w.names[i], m.Addr, w.isIPv4)
			if err != nil {
				w.err = err
				return i
			}
			header.Name, header.Namelen = (*byte)(unsafe.Pointer(&w.names[i])), length
		}
		w.point(header, m.Buffers)
		w.control(i, header, m)
	}
	return len(messages)
}

// point makes a header describe a payload.
func (w *batchWrite) point(header *unix.Msghdr, buffers [][]byte) {
	from := len(w.places)
	for _, buffer := range buffers {
		place := unix.Iovec{Base: unsafe.SliceData(buffer)}
		place.SetLen(len(buffer))
		w.places = append(w.places, place)
	}
	if len(buffers) > 0 {
		header.Iov = &w.places[from]
		header.SetIovlen(len(buffers))
	}
}

// control adds the message's control messages or, where it has none, the address that its peer
// asked.
func (w *batchWrite) control(i int, header *unix.Msghdr, m *ipv4.Message) {
	control := m.OOB
	w.replies[i] = false
	if table := w.conn.in.replies; table != nil && len(control) == 0 && header.Name != nil {
		if p, ok := peerOf(&w.names[i]); ok {
			if from, found := table.get(&p); found {
				control, w.replies[i] = from.control(&w.controls[i]), true
			}
		}
	}
	if len(control) > 0 {
		header.Control = unsafe.SliceData(control)
		header.SetControllen(len(control))
	}
}

// encodeName writes a socket address of the socket's family, and returns its length.
func encodeName(name *unix.RawSockaddrInet6, to net.Addr, isIPv4 bool) (uint32, error) {
	at, isUDP := to.(*net.UDPAddr)
	if !isUDP || at == nil {
		return 0, syscall.EINVAL
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6}
	setPort(name, at.Port)
	if isIPv4 {
		ip := at.IP.To4()
		if len(at.IP) == 0 {
			ip = net.IPv4zero.To4()
		}
		if ip == nil {
			return 0, &net.AddrError{Err: "non-IPv4 address", Addr: at.IP.String()}
		}
		name.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr = [4]byte(ip)
		return unix.SizeofSockaddrInet4, nil
	}
	ip := at.IP.To16()
	if len(at.IP) == 0 || at.IP.Equal(net.IPv4zero) {
		ip = net.IPv6zero
	}
	if ip == nil {
		return 0, &net.AddrError{Err: "non-IPv6 address", Addr: at.IP.String()}
	}
	name.Addr, name.Scope_id = [16]byte(ip), zone.Index(at.Zone)
	return unix.SizeofSockaddrInet6, nil
}

func sendmmsg(fd int, headers []mmsghdr, flags int) (int, syscall.Errno) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&headers[0])),
			uintptr(len(headers)), uintptr(flags), 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
