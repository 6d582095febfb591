//go:build linux

package ringmsg

import (
	"fmt"
	"testing"
	"time"
)

// What Conns have read ahead takes memory of its own size, not of the largest message's: a thousand
// Conns whose program reads slowly do not keep a gigabyte. Nothing of it is lost, and what a closed
// Conn has kept is given back.
func TestWhatIsReadAheadTakesLittleMemory(t *testing.T) {
	const conns, sent, read = 100, 60, 20
	before := wholeKept.Load()
	var all []*Conn
	pending := func() (messages, whole int) {
		for _, conn := range all {
			messages += conn.Stats().Pending
			for _, m := range conn.in.pending[conn.in.first:] {
				if m.isWhole() {
					whole++
				}
			}
		}
		return messages, whole
	}
	next := func(conn *Conn, from, to int) {
		b := make([]byte, 20)
		for i := from; i < to; i++ {
			n, err := conn.Read(b)
			ok(t, err)
			equal(t, "datagram", string(b[:n]), fmt.Sprint(i))
		}
	}
	for range conns {
		conn, peer := listen(t)
		ok(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		all = append(all, conn)
		for i := range sent {
			write(t, peer, fmt.Sprint(i))
		}
		next(conn, 0, read)
	}
	if !all[0].Stats().GRO {
		t.Skip("UDP_GRO is not available, without which Close does not receive what is queued")
	}
	messages, whole := pending()
	if messages < 4*wholeMost {
		t.Fatalf("%d messages are pending", messages)
	}
	if whole == 0 || whole > wholeMost {
		t.Errorf("%d messages of full size are pending, at most %d are allowed", whole, wholeMost)
	}
	for _, conn := range all[:conns/2] {
		next(conn, read, sent)
	}
	for i, conn := range all {
		unread := sent - read // what the socket still has, Close receives to switch UDP_GRO off
		if i < conns/2 {
			unread = 0
		}
		ok(t, conn.Close())
		equal(t, "discarded", conn.Stats().Discarded, uint64(unread))
	}
	messages, _ = pending()
	equal(t, "pending after Close", messages, 0)
	equal(t, "messages of full size that are still counted", wholeKept.Load(), before)
}
