package ringmsg

import (
	"context"
	"iter"
	"runtime"
	"strings"
)

// Batches is the fast way to read: it yields datagrams as they arrive, many at a time, for one
// call into the library and without an allocation per datagram. A batch is valid until the next
// one is asked for, unless it is held.
//
// The iteration ends with (nil, error): ctx is done, the Conn is closed, the read deadline has
// passed. An error that belongs to one datagram is an item of its batch instead. Leaving the
// loop releases the batch; what arrives meanwhile is the next reader's.
//
// While it iterates, the goroutine is locked to its thread ([runtime.LockOSThread]), which owns the
// ring. The Go runtime does not let a locked goroutine advance an [iter.Pull] iterator that was
// made outside: a loop body that does so needs [WithOwnerGoroutine]. Pulling Batches itself is
// noticed, and works.
func (c *Conn) Batches(ctx context.Context) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		if err := c.iterate(ctx, yield); err != nil {
			yield(nil, err)
		}
	}
}

// iterate yields batches; nil when the program has left the loop.
func (c *Conn) iterate(ctx context.Context, yield func(*Batch, error) bool) error {
	if !c.readers.CompareAndSwap(0, -1) {
		return c.fail(errReaders)
	}
	defer c.readers.Store(0)
	kind := owned
	if c.reason == nil && !c.options.owner && !pulled() {
		kind = bound
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	in, kept, err := c.begin(kind)
	if err != nil {
		return c.fail(err)
	}
	defer c.end(in, kind)
	defer context.AfterFunc(ctx, in.wake)()
	if kept != nil && !c.hand(kept, yield) {
		return nil
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := c.fill(in)
		if err != nil {
			return c.fail(err)
		}
		if b.count > 0 && !c.hand(b, yield) {
			return nil
		}
	}
}

// pulled tells whether this goroutine is one that iter.Pull made: such a one must not be locked
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

// begin returns the inlet of an iteration, which lives until end, and what was received before.
func (c *Conn) begin(kind inletKind) (inlet, *Batch, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	in, err := c.open(kind)
	if err != nil {
		return nil, nil, err
	}
	in.retain()
	c.mu.Lock()
	c.ended = make(chan struct{})
	c.mu.Unlock()
	var rest *Batch
	if c.kept != nil && c.keptAt < c.kept.count {
		rest = &Batch{}
		rest.copied(c.kept, c.keptAt)
	}
	c.kept = nil
	return in, rest, nil
}

// fill returns the next batch; an empty one when it was woken.
func (c *Conn) fill(in inlet) (*Batch, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.isClosed() {
		return nil, errClosed
	}
	deadline, err := c.due()
	if err != nil {
		return nil, err
	}
	err = in.fill(c.queue, deadline)
	c.at = c.queue.count // the program sees them all
	return c.queue, err
}

// hand gives a batch to the loop's body; false: the program leaves the loop. A closed Conn's is
// not handed out: Close waits for a loop that is not in its body.
func (c *Conn) hand(b *Batch, yield func(*Batch, error) bool) bool {
	c.mu.Lock()
	c.body = !c.closed
	c.mu.Unlock()
	if !c.body {
		return true // and find it closed
	}
	defer func() {
		c.mu.Lock()
		c.body = false
		c.mu.Unlock()
	}()
	return yield(b, nil)
}

// end releases the program's batch. A bound ring ends with its loop: nobody else can receive from
// it. Datagrams wait in the socket then. An owned one stays armed.
func (c *Conn) end(in inlet, kind inletKind) {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.queue != nil {
		_ = in.release(c.queue.records[:c.queue.count])
		c.queue.count, c.at = 0, 0
	}
	if kind == bound {
		_ = c.shut()
		_ = in.stop(&Batch{}) // where Close was here first, from another thread
	}
	in.letGo()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ended)
	c.ended = nil
}
