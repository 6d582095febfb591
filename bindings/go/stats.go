package ringmsg

// ConnStats says what a Conn has done so far, and how it is.
type ConnStats struct {
	Datagrams    uint64 // received, each of a train's as one
	PayloadBytes uint64
	Trains       uint64 // of which the kernel joined datagrams (UDP_GRO)
	ReadCalls    uint64 // system calls of Read, ReadFrom, ReadBatch and the like that brought something

	Pending   int    // messages that were received, and wait for a read
	Discarded uint64 // datagrams received, and lost: to switch UDP_GRO off, or unread at Close
	Dropped   uint64 // messages that the kernel dropped because the socket's buffer was full, since it was made

	// HeldBatches counts batches that were held and are not released, also of loops over Batches that
	// have ended: one that is never released keeps the memory of its loop's ring until the process
	// ends.
	HeldBatches   int
	HeldDatagrams int

	Starvations uint64 // how often a loop over Batches had no buffer to receive into
	Starved     bool   // it has none now: all are in batches that the program has

	Sent SenderStats // by WriteBatch, SendBatch and Batch.Reply

	GRO  bool  // the Conn has switched UDP_GRO on
	Ring Stats // of the loop over Batches that runs now
}

// Stats returns the Conn's counters. Any goroutine may call it.
func (c *Conn) Stats() ConnStats {
	s := c.in.stats()
	s.Dropped = c.socketDrops()
	s.Sent = c.out.stats()
	s.HeldBatches = int(c.held.batches.Load())
	s.HeldDatagrams = int(c.held.datagrams.Load())
	c.mu.Lock()
	defer c.mu.Unlock()
	past := c.past
	if c.loop != nil {
		s.Ring = c.loop.stats()
		s.Starved = int(s.Ring.BuffersHeld) >= c.options.buffers
		past.add(&s.Ring)
	}
	s.Datagrams += past.datagrams
	s.PayloadBytes += past.bytes
	s.Starvations += past.starvations
	return s
}

// loopCounts is what is left of the counters of loops that have ended.
type loopCounts struct{ datagrams, bytes, starvations uint64 }

func (l *loopCounts) add(s *Stats) {
	l.datagrams += s.Datagrams
	l.bytes += s.PayloadBytes
	l.starvations += s.Starvations
}
