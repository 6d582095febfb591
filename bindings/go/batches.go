package ringmsg

import (
	"context"
	"iter"
	"runtime"
)

// Batches is the fast way to read: it yields datagrams as they arrive, many at a time, for one
// call into the library and without an allocation per datagram. A batch is valid until the next
// one is asked for, unless it is held.
//
// The iteration ends with (nil, error): ctx is done, the Conn is closed, the read deadline has
// passed. An error that belongs to one datagram is an item of its batch instead. Leaving the
// loop releases the batch; what arrives meanwhile is the next reader's.
//
// For as long as it iterates the goroutine is locked to its thread, which owns the ring.
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
	c.reading.Lock()
	defer c.reading.Unlock()
	if c.reason == nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	if err := c.begin(); err != nil {
		return c.fail(err)
	}
	defer c.end()
	if err := c.shut(); err != nil { // the inlet of goroutines that come and go
		return c.fail(err)
	}
	in, err := c.open(true)
	if err != nil {
		return c.fail(err)
	}
	defer context.AfterFunc(ctx, in.wake)()
	if c.kept != nil {
		rest := &Batch{}
		rest.copied(c.kept, c.at)
		c.kept, c.at = nil, 0
		if rest.count > 0 && !c.hand(rest, yield) {
			return nil
		}
	}
	c.queue = newBatch(c.options.batchSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		deadline, err := c.due()
		if c.isClosed() {
			err = errClosed
		}
		if err == nil {
			err = in.fill(c.queue, deadline)
		}
		if err != nil {
			return c.fail(err)
		}
		if c.queue.count > 0 && !c.hand(c.queue, yield) {
			return nil
		}
	}
}

// begin announces the iteration to Close.
func (c *Conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.ended, c.owner = make(chan struct{}), thread()
	return nil
}

// end ends the ring in its own thread.
func (c *Conn) end() {
	if c.queue != nil {
		c.at = c.queue.count // the program has seen it
	}
	_ = c.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.ended)
	c.ended, c.body = nil, false
}

// hand gives a batch to the loop's body; false: the program leaves the loop. A closed Conn's is
// not handed out: Close waits for an iteration that is not in its body.
func (c *Conn) hand(b *Batch, yield func(*Batch, error) bool) bool {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return true
	}
	c.body = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.body = false
		c.mu.Unlock()
	}()
	return yield(b, nil)
}
