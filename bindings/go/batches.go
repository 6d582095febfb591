package ringmsg

import (
	"context"
	"iter"
)

// Batches is the fast way to read: it yields datagrams as they arrive, many at a time, for one
// call into the library and without an allocation per datagram. A batch is valid until the next
// one is asked for, unless it is held.
//
// The iteration ends with (nil, error): ctx is done, the Conn is closed, the read deadline has
// passed. An error that belongs to one datagram is an item of its batch instead. Leaving the
// loop releases the batch; what arrives meanwhile is the next reader's.
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
	in, kept, err := c.begin()
	if err != nil {
		return c.fail(err)
	}
	defer c.end(in)
	defer context.AfterFunc(ctx, in.wake)()
	if kept != nil && !yield(kept, nil) {
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
		if b.count > 0 && !yield(b, nil) {
			return nil
		}
	}
}

// begin returns the inlet of an iteration, which lives until end, and what was received before.
func (c *Conn) begin() (inlet, *Batch, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	in, err := c.open(true)
	if err != nil {
		return nil, nil, err
	}
	in.retain()
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

// end releases the program's batch. The ring stays armed.
func (c *Conn) end(in inlet) {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.queue != nil {
		_ = in.release(c.queue.records[:c.queue.count])
		c.queue.count, c.at = 0, 0
	}
	in.letGo()
}
