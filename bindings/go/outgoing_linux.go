package ringmsg

import (
	"sync"
	"sync/atomic"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

// outgoing is what the batch writes of a Conn share.
//
// The library's sender takes one call at a time. Every call of it is made in the Conn's
// RawConn.Write, and package net lets one writer in at a time. So no lock of our own is held while
// a writer sleeps.
type outgoing struct {
	sender  atomic.Pointer[uring.Sender] // made with the first batch
	checked atomic.Bool                  // of the socket: it does not change what is sent, see groups

	// An ICMP error that the sender took off the socket during a call of WriteBatch. The next call
	// returns it.
	refusal unix.Errno

	plain plainCounts

	mu   sync.Mutex
	past SenderStats // of the sender, once it is closed
}

// plainCounts counts what leaves without the library.
type plainCounts struct {
	messages, bytes, calls, wouldBlock, errors atomic.Uint64
}

func (p *plainCounts) add(messages, bytes int) {
	p.messages.Add(uint64(messages))
	p.bytes.Add(uint64(bytes))
	p.calls.Add(1)
}

// senderOn returns the Conn's sender; nil where the library cannot send as the socket would.
func (o *outgoing) senderOn(fd int) *uring.Sender {
	if o.checked.Load() {
		return o.sender.Load()
	}
	if !isPlainSocket(fd) {
		return nil
	}
	s := o.sender.Load()
	if s == nil {
		var err error
		if s, err = uring.NewSender(fd, nil); err != nil {
			return nil
		}
		o.sender.Store(s)
	}
	o.checked.Store(true)
	return s
}

// recheck has the next batch look at the socket again: the program may have changed its options.
func (o *outgoing) recheck() { o.checked.Store(false) }

// isPlainSocket reports whether a message is a datagram for the kernel. UDP_CORK joins messages to
// one, UDP_SEGMENT cuts them; a program that set one of them on the socket means it.
func isPlainSocket(fd int) bool {
	for _, option := range []int{unix.UDP_CORK, unix.UDP_SEGMENT} {
		if value, err := unix.GetsockoptInt(fd, unix.SOL_UDP, option); err == nil && value != 0 {
			return false
		}
	}
	return true
}

// close gives the sender's descriptor back. Package net has closed the socket by then, and no
// writer is inside.
func (o *outgoing) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if s := o.sender.Swap(nil); s != nil {
		o.past, _ = s.Stats()
		_ = s.Close()
	}
}

// stats returns what batch writes have sent, with and without the library.
func (o *outgoing) stats() SenderStats {
	o.mu.Lock()
	defer o.mu.Unlock()
	sent := o.past
	if s := o.sender.Load(); s != nil {
		sent, _ = s.Stats()
	}
	p := &o.plain
	sent.Messages += p.messages.Load()
	sent.Datagrams += p.messages.Load()
	sent.PayloadBytes += p.bytes.Load()
	sent.Calls += p.calls.Load()
	sent.WouldBlock += p.wouldBlock.Load()
	sent.Errors += p.errors.Load()
	return sent
}
