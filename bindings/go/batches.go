package ringmsg

import (
	"context"
	"iter"
	"net"
	"os"
	"runtime"
	"strings"
	"time"
)

// Batches is the fast way to read: it yields datagrams as they arrive, many at a time, for one call
// into the library and without an allocation per datagram. A batch is valid until the next one is
// asked for, unless it is held.
//
// The iteration ends with (nil, error): ctx is done, the Conn is closed, the read deadline has
// passed, or no ring can be made ([Conn.Ring]). An error that belongs to one datagram is an item of
// its batch instead. Leaving the loop releases the batch; what has arrived by then goes to the next
// reader. A loop costs a ring and a sleeping thread, and gives both back when it ends.
//
// While it iterates, the goroutine is locked to its thread ([runtime.LockOSThread]), which owns the
// ring. The Go runtime stops the program if a locked goroutine advances an [iter.Pull] iterator
// that was made before: a loop whose body does so needs [WithUnlockedGoroutine]. Pulling Batches
// itself is noticed, and works.
func (c *Conn) Batches(ctx context.Context) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		if err := c.iterate(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

// iterate yields batches; nil when the program has left the loop.
func (c *Conn) iterate(ctx context.Context, yield func(*Batch, error) bool) error {
	if !c.readers.CompareAndSwap(0, -iterating) {
		return c.readError(ErrAnotherReader)
	}
	defer c.readers.Add(iterating)
	if err := c.Ring(); err != nil {
		return c.readError(err)
	}
	bound := bindsThread() && !c.options.unlocked && !pulled()
	if bound {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	l, err := c.begin(bound)
	if err != nil {
		return c.readError(err)
	}
	defer c.end(l)
	defer context.AfterFunc(ctx, l.wake)()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		deadline, err := c.due()
		if err != nil {
			return c.readError(err)
		}
		b, err := l.next(deadline)
		if err != nil {
			return c.readError(err)
		}
		if b.count > 0 && !c.hand(l, b, yield) {
			return nil
		}
	}
}

// pulled reports whether this goroutine is one that iter.Pull made: such a one must not be locked
// to its thread when it yields.
func pulled() bool {
	var counters [64]uintptr
	for skip := 2; ; skip += len(counters) {
		n := runtime.Callers(skip, counters[:])
		frames := runtime.CallersFrames(counters[:n])
		for more := n > 0; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			if strings.HasPrefix(frame.Function, "iter.Pull") || frame.Function == "runtime.corostart" {
				return true
			}
		}
		if n < len(counters) {
			return false
		}
	}
}

// begin makes the loop's ring.
func (c *Conn) begin(bound bool) (*loop, error) {
	l, err := newLoop(c, bound)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if !c.closed {
		c.loop = l
		c.mu.Unlock()
		return l, nil
	}
	c.mu.Unlock() // closed meanwhile: Close knows nothing of this loop
	l.close()
	return nil, net.ErrClosed
}

// end gives the loop's ring back. What it has received goes to the next reader.
func (c *Conn) end(l *loop) {
	l.close()
	close(l.ended)
}

// due returns the deadline, or why no read may go on.
func (c *Conn) due() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return c.deadline, net.ErrClosed
	}
	if !c.deadline.IsZero() && time.Until(c.deadline) <= 0 {
		return c.deadline, os.ErrDeadlineExceeded
	}
	return c.deadline, nil
}

// hand gives a batch to the loop's body; false: the program leaves the loop. The batch of a closed
// Conn is not handed out: Close waits for a loop that is not in its body.
func (c *Conn) hand(l *loop, b *Batch, yield func(*Batch, error) bool) bool {
	c.mu.Lock()
	l.body = !c.closed
	closed := c.closed
	c.mu.Unlock()
	if closed {
		return true // and the loop finds it closed
	}
	defer func() {
		c.mu.Lock()
		l.body = false
		c.mu.Unlock()
	}()
	return yield(b, nil)
}

// stopForClose ends a loop that sleeps. One that is in its body ends when the body returns.
func (l *loop) stopForClose() {
	l.wake()
	l.conn.mu.Lock()
	body := l.body
	l.conn.mu.Unlock()
	if !body {
		<-l.ended
	}
}
