//go:build linux && cgo

package ringmsg

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstPayload returns the payload of a batch that was held and is not released. Nothing else
// refers to the batch or the Conn when it returns.
func firstPayload(t *testing.T, content string) []byte {
	conn, peer := listen(t)
	write(t, peer, content)
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		payload := batch.Hold().At(0).Payload()
		ok(t, conn.Close())
		return payload
	}
	return nil
}

// A held batch's payload stays what it is when the loop has ended, the Conn is closed, both are
// forgotten, and the collector has run: nothing but the slice refers to them then.
func TestAHeldPayloadOutlivesEverything(t *testing.T) {
	needRing(t)
	var payloads [][]byte
	for i := range 5 {
		payloads = append(payloads, firstPayload(t, fmt.Sprint("secret ", i)))
	}
	for range 3 {
		runtime.GC()
		time.Sleep(20 * time.Millisecond) // cleanups run in a goroutine
	}
	for i, payload := range payloads {
		equal(t, "payload", string(payload), fmt.Sprint("secret ", i))
	}
}

// A datagram that was taken from a batch before Hold is the held batch's: it stays what it is while
// the loop goes on, and after it.
func TestADatagramTakenBeforeHoldStays(t *testing.T) {
	needRing(t)
	conn, peer := listen(t)
	var taken []Datagram
	var held []*Batch
	write(t, peer, "0")
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		for i := range batch.Len() {
			taken = append(taken, batch.At(i))
		}
		held = append(held, batch.Hold())
		if len(held) == 5 {
			break
		}
		write(t, peer, fmt.Sprint(len(held)))
	}
	ok(t, conn.Close())
	equal(t, "datagrams", len(taken), 5)
	for i, d := range taken {
		equal(t, "payload", string(d.Payload()), fmt.Sprint(i))
		equal(t, "source", d.Source(), peer.LocalAddr().(*net.UDPAddr).AddrPort())
		held[i].Release()
	}
}

// A Datagram is handed out for every datagram of a batch. The compiler keeps a struct in registers
// if it has four fields at most, and four words.
func TestADatagramFitsIntoRegisters(t *testing.T) {
	fields := reflect.TypeOf(Datagram{}).NumField()
	if size := unsafe.Sizeof(Datagram{}); fields > 4 || size > 4*unsafe.Sizeof(uintptr(0)) {
		t.Fatalf("%d fields, %d bytes", fields, size)
	}
}

// A batch that is never released shows in Stats, also after its loop; the last Release gives the
// ring and its descriptors back.
func TestHeldBatchesShowInStats(t *testing.T) {
	needRing(t)
	before := descriptors(t)
	conn, peer := listen(t)
	var held []*Batch
	write(t, peer, "x")
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		held = append(held, batch.Hold().Hold()) // the second one changes nothing
		equal(t, "held", conn.Stats().HeldBatches, len(held))
		if len(held) == 3 {
			break
		}
		write(t, peer, "x")
	}
	s := conn.Stats()
	equal(t, "held after the loop", s.HeldBatches, 3)
	equal(t, "datagrams held", s.HeldDatagrams, 3)
	equal(t, "datagrams", s.Datagrams, 3)
	equal(t, "bytes", s.PayloadBytes, 3)
	ok(t, conn.Close())
	ok(t, peer.Close())
	for i, batch := range held {
		equal(t, "payload", string(batch.At(0).Payload()), "x")
		batch.Release()
		equal(t, "held", conn.Stats().HeldBatches, 2-i)
		equal(t, "datagrams held", conn.Stats().HeldDatagrams, 2-i)
	}
	for deadline := time.Now().Add(10 * time.Second); descriptors(t) > before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors, %d before", descriptors(t), before)
		}
	}
}

// A loop whose buffers are all held by the program receives nothing, and Stats says so.
func TestStarvationShowsInStats(t *testing.T) {
	needRing(t)
	conn, peer := listen(t, WithBuffers(2))
	var held []*Batch
	write(t, peer, "x")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for batch, err := range conn.Batches(ctx) {
		if err != nil {
			break
		}
		if len(held) == 0 {
			equal(t, "starved before", conn.Stats().Starved, false)
		}
		held = append(held, batch.Hold())
		write(t, peer, "x")
		if len(held) == 2 {
			go func() {
				defer cancel()
				for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
					if s := conn.Stats(); s.Starved && s.Starvations > 0 {
						return
					}
					if time.Now().After(deadline) {
						t.Errorf("not starved: %+v", conn.Stats())
						return
					}
				}
			}()
		}
	}
	equal(t, "held", len(held), 2)
	for _, batch := range held {
		batch.Release()
	}
}

// resident returns how many KiB of some memory are in use.
func resident(t *testing.T, memory []byte) (kib int) {
	t.Helper()
	pages := make([]byte, (len(memory)+pageSize-1)/pageSize)
	_, _, errno := unix.Syscall(unix.SYS_MINCORE,
		addressOf(memory), uintptr(len(memory)), uintptr(unsafe.Pointer(unsafe.SliceData(pages))))
	if errno != 0 {
		t.Fatal(errno)
	}
	for _, page := range pages {
		kib += int(page&1) * pageSize >> 10
	}
	return kib
}

// What a burst of trains has filled goes back to the system after a second of quiet, but for what
// held batches keep; and the loop goes on.
func TestABurstsMemoryIsGivenBack(t *testing.T) {
	needRing(t)
	for _, options := range [][]Option{nil, {WithUnlockedGoroutine(), WithBuffers(0)}} {
		conn, peer := listen(t, options...)
		_ = conn.SetReadBuffer(1 << 20)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var held []*Batch
		var pool []byte
		most, seen, quiet := 0, 0, make(chan struct{})
		train := fill(1000*50, 7)
		sendTrain(t, peer, train, 1000)
		for batch, err := range conn.Batches(ctx) {
			ok(t, err)
			if pool == nil {
				pool = conn.loop.pool.Bytes()
			}
			for _, d := range batch.All() {
				if len(d.Payload()) == 4 { // sent when all was given back
					equal(t, "a datagram after the quiet", string(d.Payload()), "late")
					cancel()
				}
			}
			seen += batch.Len()
			if seen/50%2 == 0 && len(held) < 10 {
				held = append(held, batch.Hold())
			}
			if ctx.Err() != nil {
				break
			}
			most = max(most, resident(t, pool))
			if seen < 200*50 {
				sendTrain(t, peer, train, 1000)
			} else if seen == 200*50 {
				go func() {
					defer close(quiet)
					for resident(t, pool) > 10*100 && ctx.Err() == nil {
						time.Sleep(20 * time.Millisecond)
					}
					_, _ = peer.Write([]byte("late"))
				}()
			}
		}
		<-quiet
		if most < 3<<10 {
			t.Fatalf("the burst took no more than %d KiB", most)
		}
		for _, batch := range held {
			for _, d := range batch.All() {
				equal(t, "a held payload", bytes.Equal(d.Payload(), train[:len(d.Payload())]), true)
			}
			batch.Release()
		}
		ok(t, conn.Close())
	}
}

// A payload that the program keeps for longer than its batch, which it must not do, shows its old
// bytes when the Conn is closed and everything is forgotten and collected. It does not kill the
// process, and other loops do not write to it.
func TestAPayloadKeptPastItsBatchIsNoFault(t *testing.T) {
	needRing(t)
	kept := func(content string, options ...Option) []byte {
		conn, peer := listen(t, options...)
		write(t, peer, content)
		for batch, err := range conn.Batches(context.Background()) {
			ok(t, err)
			payload := batch.At(0).Payload()
			batch.Release() // it was not held: no effect
			held := batch.Hold()
			held.Release() // void from here on
			ok(t, conn.Close())
			return payload
		}
		return nil
	}
	var payloads [][]byte
	for i := range 6 {
		options := []Option{WithUnlockedGoroutine()}[:i%2]
		payloads = append(payloads, kept(fmt.Sprint("kept ", i), options...))
		runtime.GC()
	}
	time.Sleep(100 * time.Millisecond) // a bound ring that another thread closes takes a while
	for i := range 20 {
		_ = kept(fmt.Sprint("other ", i))
		runtime.GC()
	}
	for i, payload := range payloads {
		equal(t, "payload", string(payload), fmt.Sprint("kept ", i))
	}
}
