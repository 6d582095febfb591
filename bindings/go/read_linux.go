package ringmsg

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read is one call of a read method. A call allocates nothing: each Conn has one for the reader
// that comes alone, and keeps another for those that come on top.
type read struct {
	conn   *Conn
	b, oob []byte
	slept  bool
	peer   bool // the caller asks for no address, and a connected socket has only one

	n, oobn, msgFlags int
	from              unix.RawSockaddrInet6 // large enough for IPv4 as well
	errno             syscall.Errno

	attempt func(fd uintptr) bool
	header  unix.Msghdr
	places  [2]unix.Iovec
}

// prepare fills in what stays as it is.
func (r *read) prepare(c *Conn) {
	r.conn = c
	r.attempt = r.receive
	r.header.Iov = &r.places[0]
	r.header.SetIovlen(len(r.places))
}

// takeRead begins a read; nil: a loop over Batches has the Conn.
func (c *Conn) takeRead() *read {
	r := &c.ownRead
	if !c.readers.CompareAndSwap(0, aloneInRead) {
		if !c.enter() {
			return nil
		}
		if r = c.lastRead.Swap(nil); r == nil {
			r = new(read)
		}
	}
	if r.conn == nil {
		r.prepare(c)
	}
	return r
}

// finish ends a read.
func (c *Conn) finish(r *read) {
	if r == &c.ownRead {
		c.readers.Add(-aloneInRead)
		return
	}
	c.lastRead.Store(r)
	c.leave()
}

// read reads the next datagram; call names the system call in errors, as package net does. Without
// an error the caller takes from the read what it returns, and then calls finish.
func (c *Conn) read(call string, b, oob []byte) (*read, error) {
	return c.readAs(call, b, oob, false)
}

// readAs is read; with peer, for a caller that asks for no address, on a connected socket.
func (c *Conn) readAs(call string, b, oob []byte, peer bool) (*read, error) {
	r := c.takeRead()
	if r == nil {
		return nil, c.readError(ErrAnotherReader)
	}
	r.b, r.oob, r.slept, r.peer, r.errno = b, oob, false, peer, 0
	err := c.raw.Read(r.attempt)
	r.b, r.oob = nil, nil
	if err == nil && r.errno == 0 {
		return r, nil
	}
	if err == nil {
		err = syscallError(call, r.errno)
	}
	err = c.readError(err)
	c.finish(r)
	return nil, err
}

// receive is what package net calls until it returns true, first at once and then whenever the
// socket has become readable.
func (r *read) receive(fd uintptr) bool {
	in := &r.conn.in
	in.mu.Lock()
	done := r.next(in, int(fd))
	in.mu.Unlock()
	if !done {
		r.slept = true
	}
	return done
}

// next takes the next datagram: from what is pending, or from the socket. It returns false if there
// is none.
func (r *read) next(in *receiver, fd int) bool {
	if m := in.oldest(); m != nil {
		r.takeFrom(in, m)
		return true
	}
	if in.gro == groUntouched && !r.slept {
		in.prepare(fd, r.conn)
	}
	if r.readsAhead(in) {
		return r.ahead(in, fd)
	}
	return r.one(in, fd)
}

// one receives one message. A datagram that comes alone is in place then.
func (r *read) one(in *receiver, fd int) bool {
	m := messages.Get().(*message)
	head := in.front(r.b)
	m.pointPlaces(&r.places, head)
	m.pointControl(&r.header)
	r.header.Name, r.header.Flags = (*byte)(unsafe.Pointer(&r.from)), 0
	r.header.Namelen = unix.SizeofSockaddrInet6
	nameless := r.peer && in.segment == 0
	if nameless { // a tenth of the call
		r.header.Name, r.header.Namelen = nil, 0
	}
	n, errno := recvmsg(fd, &r.header, r.slept)
	r.places[0].Base, r.places[1].Base, r.header.Control = nil, nil, nil // an idle Conn holds no memory
	if errno != 0 {
		m.release()
		return r.fail(errno)
	}
	in.counts.calls++
	if r.header.Controllen == 0 && in.replies == nil {
		r.alone(in, m, head, n)
		return true
	}
	m.received(&r.header, n)
	in.note(m)
	r.describe(in, m, m.firstLength())
	r.n = m.first(r.b, head)
	if m.done() {
		m.release()
		return true
	}
	if nameless {
		r.from = peerName(fd) // for those that follow, whose readers may ask
	}
	m.name = r.from
	in.keep(m)
	return true
}

// alone settles a datagram that came without control messages, so that it is no train.
func (r *read) alone(in *receiver, m *message, head []byte, length int) {
	in.noteAlone(length)
	r.oobn, r.msgFlags = 0, int(r.header.Flags)
	r.n = length
	if length > len(head) { // the part of b that was left to the message, or more than b has room for
		if r.n = len(head) + copy(r.b[len(head):], m.payload[len(head):length]); r.n < length {
			r.msgFlags |= msgTrunc
		}
	}
	m.release()
}

// fail settles a receive that brought nothing: only the lack of data has the reader sleep.
func (r *read) fail(errno syscall.Errno) bool {
	if errno == unix.EAGAIN {
		return false
	}
	r.errno = errno
	return true
}

// takeFrom reads the next datagram of a pending message.
func (r *read) takeFrom(in *receiver, m *message) {
	datagram := m.next()
	r.errno, r.from = m.errno, m.name
	r.describe(in, m, len(datagram))
	r.n = copy(r.b, datagram)
	if m.done() {
		in.dropOldest()
	}
}

// describe copies what is known about a datagram of this length.
func (r *read) describe(in *receiver, m *message, length int) {
	in.learn(m, &r.from)
	r.oobn, r.msgFlags = 0, m.flags
	if length > len(r.b) {
		r.msgFlags |= msgTrunc
	}
	if !m.isPlain {
		var cut bool
		if r.oobn, cut = copyControl(r.oob, m.control[:m.controlLength], in.hidden); cut {
			r.msgFlags |= msgCtrunc
		}
	}
}

// readsAhead reports whether this read takes more than one message: when the reads before it did
// not have to sleep, and what they received were no trains. A system call of two messages that
// brings one costs more than it saves: after such a try it waits twice as long for the next one.
func (r *read) readsAhead(in *receiver) bool {
	switch {
	case r.conn.options.readAhead < 2 || in.shared || in.segment > 0:
		return false
	case r.slept:
		in.window, in.awake = 1, 0
		return false
	case in.window > 1:
		return true
	}
	in.patience = max(in.patience, patienceLeast)
	if in.awake++; in.awake < in.patience {
		return false
	}
	in.window, in.awake = 2, 0
	return true
}

const (
	patienceLeast = 2
	patienceMost  = 256
)

// ahead receives as many messages as came with the last calls, and keeps all but the first datagram
// for the reads that follow.
func (r *read) ahead(in *receiver, fd int) bool {
	v := vectors.Get().(*vector)
	defer v.release()
	var taken [maxMessages]*message
	var heads [maxMessages][]byte
	asked := min(in.window, r.conn.options.readAhead, maxMessages)
	heads[0] = in.front(r.b)
	n, errno := in.several(fd, v, taken[:asked], heads[:asked])
	if errno != 0 {
		in.window = 1
		return r.fail(errno)
	}
	switch {
	case n == asked:
		in.window, in.patience = min(2*asked, r.conn.options.readAhead, maxMessages), patienceLeast
	case n == 1 && asked == 2:
		in.window, in.patience = 1, min(2*in.patience, patienceMost)
	case n <= asked/4:
		in.window = asked / 2
	}
	m := taken[0]
	r.from = m.name
	r.describe(in, m, m.firstLength())
	r.n = m.first(r.b, heads[0])
	unread := taken[:n]
	if m.done() {
		m.release()
		unread = taken[1:n]
	}
	in.keep(unread...)
	return true
}
