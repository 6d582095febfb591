//go:build linux

package ringmsg

import (
	"fmt"
	"runtime"
	"sync/atomic"
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
	isGivenBack(t, before)
}

// readAhead returns a Conn that has messages of full size pending.
func readAhead(t *testing.T) *Conn {
	t.Helper()
	socket := udp(t, "udp4", "127.0.0.1:0")
	conn, err := NewConn(socket)
	ok(t, err)
	peer := sender(t, conn.LocalAddr())
	for range 60 {
		write(t, peer, "x")
	}
	for range 20 {
		_, err := conn.Read(make([]byte, 10))
		ok(t, err)
	}
	pending, whole := conn.Stats().Pending, conn.in.whole
	if pending == 0 || whole == nil || whole.Load() < int64(pending) {
		t.Fatalf("%d messages are pending, of full size are counted %v", pending, whole)
	}
	return conn
}

// isGivenBack checks that no more messages of full size are counted than before. (They may be
// fewer: Conns that other tests dropped are collected at any time.)
func isGivenBack(t *testing.T, before int64) {
	t.Helper()
	if kept := wholeKept.Load(); kept < 0 || kept > before {
		t.Errorf("%d messages of full size are still counted, %d were before", kept, before)
	}
}

// A program that closes the socket itself, before the Conn or instead of it, loses what is pending:
// Close says so, and gives it back.
func TestCloseOfAConnWithoutItsSocketGivesBackWhatIsReadAhead(t *testing.T) {
	before := wholeKept.Load()
	conn := readAhead(t)
	pending := conn.Stats().Pending
	ok(t, conn.udp.Close())
	if conn.Close() == nil {
		t.Error("no error")
	}
	stats := conn.Stats()
	equal(t, "discarded", stats.Discarded, uint64(pending))
	equal(t, "pending after Close", stats.Pending, 0)
	equal(t, "messages of full size that the Conn counts", conn.in.whole.Load(), 0)
	isGivenBack(t, before)
}

// A Conn that the program drops, unclosed or with its socket closed alone, gives back what it has
// read ahead when it is collected. Otherwise some of them would have every other Conn copy what it
// reads ahead, as long as the process runs.
func TestADroppedConnGivesBackWhatIsReadAhead(t *testing.T) {
	before := wholeKept.Load()
	var counts []*atomic.Int64
	drop := func() {
		for i := range 4 {
			conn := readAhead(t)
			counts = append(counts, conn.in.whole)
			if i%2 == 0 {
				ok(t, conn.udp.Close())
			}
		}
	}
	drop()
	deadline := time.Now().Add(20 * time.Second)
	for i, whole := range counts {
		for ; whole.Load() > 0; time.Sleep(time.Millisecond) {
			runtime.GC()
			if time.Now().After(deadline) {
				t.Fatalf("Conn %d: %d messages of full size are still counted", i, whole.Load())
			}
		}
	}
	for ; wholeKept.Load() > before && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	} // a cleanup sets the Conn's count first
	isGivenBack(t, before)
}
