package ringmsg

import (
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// receiver is what the reads of a Conn share. Its lock is held during system calls that do not
// block, never while a reader sleeps: a reader sleeps in package net, on the runtime's poller.
//
// What a lone read touches comes first: after a sleep nothing of it is in the cache.
type receiver struct {
	mu       sync.Mutex
	gro      groState
	hasRead  bool // there was a read
	closed   bool
	shared   bool // others read the socket: nothing is read ahead
	segment  int  // length of the last train's datagrams; 0: none is expected
	window   int  // how many messages to ask for in one system call
	awake    int  // reads of one message in a row that did not sleep
	patience int  // how many of them it takes to ask for two
	counts   readCounts
	replies  *replyTable // with WithReplyFromDestination, on a wildcard socket
	first    int
	pending  []*message // received and not read yet: those from first on, the oldest first
	// How many messages of full size are pending, or were since nothing was; nil: none ever were.
	whole *atomic.Int64

	parts  int           // how many datagrams the last train had
	lone   int           // messages since then that were no trains
	own    []ownOption   // socket options that the Conn switched on
	hidden []controlType // what they bring
	hiders int           // calls of Control that see the socket without them
}

// readCounts counts what reads have received. Stats shows it.
type readCounts struct {
	calls, datagrams, bytes, trains, discarded uint64
}

// note counts a message that was received, and remembers whether it was a train.
func (r *receiver) note(m *message) {
	if m.segment < m.length {
		r.segment, r.parts, r.lone = m.segment, m.datagrams(), 0
		r.counts.trains++
		r.counts.datagrams += uint64(r.parts)
		r.counts.bytes += uint64(m.length)
		return
	}
	r.noteAlone(m.length)
}

// noteAlone is note for a datagram that is no train.
func (r *receiver) noteAlone(length int) {
	r.counts.bytes += uint64(length)
	r.counts.datagrams++
	if r.segment == 0 {
		return
	}
	if r.lone++; length > r.segment || r.lone == loneMost {
		r.segment = 0
	}
}

// loneMost is after how many messages that were no trains no more trains are expected. One or two
// come among them: the end of a transfer.
const loneMost = 4

// learn remembers which address the peer asked, when a message's first datagram is handed out.
func (r *receiver) learn(m *message, from *unix.RawSockaddrInet6) {
	if r.replies != nil && m.at <= m.segment {
		r.replies.learn(from, m.control[:m.controlLength])
	}
}

// front returns how much of a buffer the next message is to be received into: all of it, or, while
// trains come, the length of one datagram, so that the others need no copy.
func (r *receiver) front(b []byte) []byte {
	n := min(len(b), maxPayload)
	if r.segment > 0 {
		n = min(n, r.segment)
	}
	return b[:n]
}

// wholeMost bounds how many messages of full size are kept for reads that have not come yet, by all
// Conns together: 17 MB. Beyond that only what they hold is kept, in a copy. Otherwise a thousand
// Conns whose program reads slowly would keep a gigabyte.
const wholeMost = 256

var wholeKept atomic.Int64

// takeWhole takes up to n of the messages of full size that all Conns together may keep, and
// returns how many. What a Conn has of them is counted outside of it: if the program drops the Conn
// without Close, the count is given back when the Conn is collected.
func (r *receiver) takeWhole(n int64) int64 {
	for {
		kept := wholeKept.Load()
		free := min(n, wholeMost-kept)
		if free <= 0 {
			return 0
		}
		if !wholeKept.CompareAndSwap(kept, kept+free) {
			continue
		}
		if r.whole == nil {
			r.whole = new(atomic.Int64)
			runtime.AddCleanup(r, giveBackWhole, r.whole)
		}
		r.whole.Add(free)
		return free
	}
}

// giveBackWhole gives back what takeWhole has counted.
func giveBackWhole(whole *atomic.Int64) {
	if n := whole.Swap(0); n > 0 {
		wholeKept.Add(-n)
	}
}

// keep puts messages whose datagrams are not all read behind those that are pending. The messages
// are the receiver's from then on. After Close nobody would read them.
func (r *receiver) keep(kept ...*message) {
	if r.closed {
		for _, m := range kept {
			r.counts.discarded += uint64(m.left())
			m.release()
		}
		return
	}
	whole := int64(0)
	for _, m := range kept {
		if m.isWhole() {
			whole++
		}
	}
	if whole > 0 {
		whole = r.takeWhole(whole)
	}
	for _, m := range kept {
		if m.isWhole() {
			if whole--; whole < 0 {
				small := m.compact()
				m.release()
				m = small
			}
		}
		r.pending = append(r.pending, m)
	}
}

// discardPending gives back what is pending.
func (r *receiver) discardPending() {
	for m := r.oldest(); m != nil; m = r.oldest() {
		r.counts.discarded += uint64(m.left())
		r.dropOldest()
	}
}

// oldest returns the message whose next datagram is the next to be read; nil if none is pending.
func (r *receiver) oldest() *message {
	if r.first == len(r.pending) {
		return nil
	}
	return r.pending[r.first]
}

// dropOldest ends the oldest pending message.
func (r *receiver) dropOldest() {
	r.pending[r.first].release()
	r.pending[r.first] = nil
	if r.first++; r.first == len(r.pending) {
		r.pending, r.first = r.pending[:0], 0
		if r.whole != nil {
			giveBackWhole(r.whole)
		}
	}
}

// several receives up to as many messages as taken has room for, each with its front in the head of
// the same index. The caller has the messages it returns.
func (r *receiver) several(fd int, v *vector, taken []*message, heads [][]byte) (int, syscall.Errno) {
	for i := range taken {
		taken[i] = messages.Get().(*message)
		taken[i].point(&v.headers[i].header, &v.places[i], heads[i])
	}
	n, errno := recvmmsg(fd, v.headers[:len(taken)])
	if errno != 0 {
		n = 0
	}
	for i, m := range taken {
		if i >= n {
			m.release()
			taken[i] = nil
			continue
		}
		m.received(&v.headers[i].header, int(v.headers[i].length))
		r.note(m)
	}
	if errno == 0 {
		r.counts.calls++
	}
	return n, errno
}
