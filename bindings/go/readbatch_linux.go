package ringmsg

import (
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batchRead is one call of ReadBatch.
type batchRead struct {
	conn  *Conn
	out   []ipv4.Message
	slept bool
	n     int // of out that are filled
	errno syscall.Errno
	names []udpName // made for the datagrams of a train, and not given to one of them yet

	attempt func(fd uintptr) bool
	vector  vector
	taken   [maxMessages]*message
	heads   [maxMessages][]byte // the part of each message that was received into out's buffers
}

var batchReads = sync.Pool{New: func() any {
	r := new(batchRead)
	r.attempt = r.receive
	return r
}}

func (c *Conn) readBatch(out []ipv4.Message) (int, error) {
	if !c.enter() {
		return 0, c.readError(ErrAnotherReader)
	}
	r := batchReads.Get().(*batchRead)
	r.conn, r.out, r.slept, r.n, r.errno = c, out, false, 0, 0
	err := c.raw.Read(r.attempt)
	if err == nil && r.errno != 0 {
		err = syscallError("recvmmsg", r.errno)
	}
	n := r.n
	if err != nil {
		n, err = 0, c.readError(err)
	}
	clear(r.heads[:])
	clear(r.vector.places[:])
	r.conn, r.out, r.names = nil, nil, nil
	batchReads.Put(r)
	c.leave()
	return n, err
}

func (r *batchRead) receive(fd uintptr) bool {
	in := &r.conn.in
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.oldest() != nil {
		r.takePending(in)
		return true
	}
	if !r.slept {
		in.prepare(int(fd), r.conn)
	}
	asked := r.ask(in)
	n, errno := in.several(int(fd), &r.vector, r.taken[:asked], r.heads[:asked])
	if errno == unix.EAGAIN {
		r.slept = true
		return false
	}
	if r.errno = errno; errno == 0 {
		switch {
		case n == asked:
			in.window = min(2*asked, maxMessages)
		case n <= asked/4:
			in.window = asked / 2
		}
		r.distribute(in, r.taken[:n])
	}
	return true
}

// ask returns how many messages to receive, and says into which of the program's buffers. While
// trains come, none: a train's datagrams belong into several of them.
func (r *batchRead) ask(in *receiver) int {
	asked := min(max(in.window, 1), len(r.out), maxMessages)
	if in.segment > 0 {
		asked = min(asked, (len(r.out)+in.parts-1)/in.parts)
	}
	for i := range r.heads[:asked] {
		r.heads[i] = nil
		if in.segment == 0 && len(r.out[i].Buffers) == 1 {
			r.heads[i] = in.front(r.out[i].Buffers[0])
		}
	}
	return asked
}

// distribute hands the datagrams of the received messages to the program, one to each of its own,
// and keeps what finds no room.
func (r *batchRead) distribute(in *receiver, taken []*message) {
	inPlace := true // message i is in out[i]: no train came before it
	for i, m := range taken {
		switch {
		case r.n == len(r.out):
			in.keep(taken[i:]...)
			return
		case inPlace && r.heads[i] != nil:
			to := &r.out[r.n]
			r.describe(in, to, m, m.firstLength())
			to.N = m.first(to.Buffers[0], r.heads[i])
			r.n++
		default:
			r.take(in, m)
		}
		if !m.done() && inPlace {
			inPlace = false
			for j := i + 1; j < len(taken); j++ {
				taken[j].save(r.heads[j])
			}
		}
		for !m.done() && r.n < len(r.out) {
			r.take(in, m)
		}
		if !m.done() { // out is full
			in.keep(taken[i:]...)
			return
		}
		m.release()
	}
}

// takePending hands out pending datagrams.
func (r *batchRead) takePending(in *receiver) {
	for m := in.oldest(); m != nil && r.n < len(r.out); m = in.oldest() {
		if m.errno != 0 {
			if r.n == 0 { // else it is the next call's
				r.errno = m.errno
				in.dropOldest()
			}
			return
		}
		if r.take(in, m); m.done() {
			in.dropOldest()
		}
	}
}

// take copies a message's next datagram to the program's next message.
func (r *batchRead) take(in *receiver, m *message) {
	to := &r.out[r.n]
	datagram := m.next()
	r.describe(in, to, m, len(datagram))
	for _, buffer := range to.Buffers {
		to.N += copy(buffer, datagram[to.N:])
	}
	r.n++
}

// describe fills in everything but the payload, of which N bytes are still to be copied.
func (r *batchRead) describe(in *receiver, to *ipv4.Message, m *message, length int) {
	in.learn(m, &m.name)
	room := 0
	for _, buffer := range to.Buffers {
		room += len(buffer)
	}
	to.N, to.NN, to.Flags = 0, 0, m.flags
	if length > room {
		to.Flags |= msgTrunc
	}
	if !m.isPlain {
		var cut bool
		if to.NN, cut = copyControl(to.OOB, m.control[:m.controlLength], in.hidden); cut {
			to.Flags |= msgCtrunc
		}
	}
	to.Addr = nil
	if from := r.name(m).set(&m.name); from != nil {
		to.Addr = from
	}
}

// name returns room for an address: each datagram has one of its own, and those of a train are
// allocated together.
func (r *batchRead) name(m *message) *udpName {
	if len(r.names) == 0 {
		left := 1
		if m.segment > 0 {
			left += (m.length - m.at) / m.segment
		}
		r.names = make([]udpName, max(min(left, len(r.out)-r.n), 1))
	}
	made := &r.names[0]
	r.names = r.names[1:]
	return made
}
