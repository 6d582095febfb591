package ringmsg

import "golang.org/x/sys/unix"

func (r *receiver) stats() ConnStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return ConnStats{
		Datagrams:    r.counts.datagrams,
		PayloadBytes: r.counts.bytes,
		Trains:       r.counts.trains,
		ReadCalls:    r.counts.calls,
		Discarded:    r.counts.discarded,
		Pending:      len(r.pending) - r.first,
		GRO:          r.gro == groOn,
	}
}

// socketDrops asks the kernel; 0 when the socket is closed.
func (c *Conn) socketDrops() (drops uint64) {
	_ = c.raw.Control(func(fd uintptr) {
		if info, err := memoryInfo(int(fd)); err == nil {
			drops = uint64(info[unix.SK_MEMINFO_DROPS])
		}
	})
	return drops
}
