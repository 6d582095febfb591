package ringmsg

import "time"

// inlet is where a Conn's datagrams come from: a ring, or package net.
type inlet interface {
	holder
	// fill gives the batch's buffers back and fills it again, sleeping until there is something,
	// wake is called, or the deadline (zero: none) passes: then the batch is empty.
	fill(b *Batch, deadline time.Time) error
	// wake makes the current or, if there is none, the next fill return.
	wake()
	// stop ends receiving, and adds a copy of what has been received to b. Afterwards datagrams
	// wait in the socket. Batches that are held stay valid until the last user lets go.
	stop(b *Batch) error
}

// inletKind is for whom an inlet is; of package net there is one kind.
type inletKind int

const (
	home  inletKind = iota // single reads
	bound                  // a loop over Batches, in its own thread
	owned                  // a loop over Batches that cannot be locked to its thread
)

// left is how long a wait may last; false: the deadline has passed.
func left(deadline time.Time) (time.Duration, bool) {
	if deadline.IsZero() {
		return -1, true
	}
	remaining := time.Until(deadline)
	return remaining, remaining > 0
}
