//go:build linux && cgo

package ringmsg

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// collectPayloads iterates until it has n datagrams.
func collectPayloads(t testing.TB, conn *Conn, count int) (payloads []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for batch, err := range conn.Batches(ctx) {
		ok(t, err)
		for _, d := range batch.All() {
			payloads = append(payloads, string(d.Payload()))
		}
		if len(payloads) >= count {
			break
		}
	}
	return payloads
}

func TestBatchesYieldWhatWasSent(t *testing.T) {
	needRing(t)
	conn, peer := listen(t, WithMetadata(MetaTrafficClass|MetaDestination|MetaHopLimit|MetaInterface))
	ok(t, conn.Ring())
	ok(t, unix.SetsockoptInt(descriptorOf(t, peer), unix.IPPROTO_IP, unix.IP_TOS, int(ECNCapable0)))
	sendFifty := func(from int) { // what the socket holds on any machine
		for i := range 50 {
			write(t, peer, fmt.Sprint(from+i))
		}
	}
	sendFifty(0)
	next := 0
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		for _, d := range batch.All() {
			ok(t, d.Err())
			equal(t, "payload", string(d.Payload()), fmt.Sprint(next))
			equal(t, "source", d.Source(), peer.LocalAddr().(*net.UDPAddr).AddrPort())
			equal(t, "destination", d.Destination(), netip.MustParseAddr("127.0.0.1"))
			equal(t, "ECN", d.ECN(), ECNCapable0)
			equal(t, "hop limit", d.Metadata().HopLimit, 64)
			next++
		}
		if next == 500 {
			break
		}
		if next%50 == 0 {
			sendFifty(next)
		}
	}
}

func TestTrainsComeAsDatagrams(t *testing.T) {
	needRing(t)
	conn, peer := listen(t)
	train := make([]byte, 10*100+7)
	for i := range train {
		train[i] = byte(i / 100)
	}
	sendTrain(t, peer, train, 100)
	payloads := collectPayloads(t, conn, 11)
	equal(t, "datagrams", len(payloads), 11)
	for i, payload := range payloads {
		equal(t, "datagram", payload, string(train[i*100:min(i*100+100, len(train))]))
	}
	// And through the reads that hand out one at a time.
	sendTrain(t, peer, train, 100)
	b := make([]byte, 200)
	for i := range 11 {
		n, oobn, _, _, err := conn.ReadMsgUDP(b, make([]byte, 100))
		ok(t, err)
		equal(t, "datagram", string(b[:n]), string(train[i*100:min(i*100+100, len(train))]))
		equal(t, "control", oobn, 0)
	}
}

func TestAnIterationEnds(t *testing.T) {
	needRing(t)
	for _, ending := range []struct {
		name string
		end  func(conn *Conn, cancel func())
		is   error
	}{
		{"cancelled", func(_ *Conn, cancel func()) { cancel() }, context.Canceled},
		{"closed", func(conn *Conn, _ func()) { _ = conn.Close() }, net.ErrClosed},
		{"deadline", func(conn *Conn, _ func()) { _ = conn.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
	} {
		for _, when := range []string{"before", "asleep", "in the body"} {
			t.Run(ending.name+" "+when, func(t *testing.T) {
				conn, peer := listen(t)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				end := func() { ending.end(conn, cancel) }
				switch when {
				case "before":
					end()
				case "asleep":
					time.AfterFunc(30*time.Millisecond, end)
				default:
					write(t, peer, "x")
				}
				bodies, last := 0, error(nil)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for batch, err := range conn.Batches(ctx) {
						if err != nil {
							equal(t, "no batch with an error", batch == nil, true)
							equal(t, "no error before", last == nil, true)
							last = err
							continue
						}
						bodies++
						end()
					}
				}()
				within(t, 10*time.Second, "the iteration", done)
				if !errors.Is(last, ending.is) {
					t.Fatalf("ended by %v", last)
				}
				if when == "in the body" {
					equal(t, "bodies", bodies, 1)
				}
				if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Fatal(err)
				}
				ok(t, isFree(conn.LocalAddr()))
			})
		}
	}
}

// Close from another goroutine does not wait for the loop's body, which may wait for it.
func TestCloseWhileTheBodyWaitsForIt(t *testing.T) {
	needRing(t)
	conn, peer := listen(t)
	write(t, peer, "x")
	closed := make(chan struct{})
	for batch, err := range conn.Batches(context.Background()) {
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			break
		}
		go func() {
			_ = conn.Close()
			close(closed)
		}()
		within(t, 10*time.Second, "close", closed)
		equal(t, "the batch in hand", string(batch.At(0).Payload()), "x")
	}
}

func TestAPanicInTheBodyLeavesTheConnUsable(t *testing.T) {
	needRing(t)
	conn, peer := listen(t)
	write(t, peer, "x")
	func() {
		defer func() { _ = recover() }()
		for range conn.Batches(context.Background()) {
			panic("the program's own")
		}
	}()
	write(t, peer, "y")
	b := make([]byte, 10)
	n, err := conn.Read(b)
	ok(t, err)
	equal(t, "the next datagram", string(b[:n]), "y")
}

func TestHeldBatchesKeepTheirBuffers(t *testing.T) {
	needRing(t)
	conn, peer := listen(t, WithBuffers(4))
	var held []*Batch
	sent := 0
	write(t, peer, fmt.Sprint(sent))
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		held = append(held, batch.Hold())
		sent++
		if sent == 4 { // every buffer is held: one must come back before the next datagram can
			time.AfterFunc(30*time.Millisecond, held[0].Release)
			held = held[1:]
		}
		if sent == 6 {
			break
		}
		if sent == 5 {
			held[0].Release()
			held = held[1:]
		}
		write(t, peer, fmt.Sprint(sent))
	}
	ok(t, conn.Close())
	for i, batch := range held {
		equal(t, "a held payload, after Close", string(batch.At(0).Payload()), fmt.Sprint(6-len(held)+i))
		batch.Release()
		batch.Release()
		equal(t, "after the release", batch.Len(), 0)
	}
}

func TestErrorsAreItems(t *testing.T) {
	needRing(t)
	nobody := udp(t, "udp4", "127.0.0.1:0")
	connect(t, nobody, nobody.LocalAddr())
	conn, err := NewConn(sender(t, nobody.LocalAddr()))
	ok(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("anybody?"))
	ok(t, err)
	_, err = nobody.WriteTo([]byte("me"), conn.LocalAddr())
	ok(t, err)
	refused := false
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		for _, d := range batch.All() {
			if errors.Is(d.Err(), syscall.ECONNREFUSED) {
				refused = true
				continue
			}
			ok(t, d.Err())
			equal(t, "payload", string(d.Payload()), "me")
			equal(t, "the refusal came", refused, true)
			return
		}
	}
}

// The same without a lock on the thread, also where the loop is pulled.
func TestBatchesOfAnUnlockedGoroutine(t *testing.T) {
	needRing(t)
	for _, pull := range []bool{false, true} {
		conn, peer := listen(t, WithUnlockedGoroutine())
		b := make([]byte, 10)
		for i := range 20 {
			write(t, peer, fmt.Sprint(i))
			if pull {
				next, stop := iterPull(conn)
				equal(t, "pulled", string(next().At(0).Payload()), fmt.Sprint(i))
				stop()
			} else {
				equal(t, "payload", collectPayloads(t, conn, 1)[0], fmt.Sprint(i))
			}
			if i%5 == 4 { // the other kind of reader, in turn
				write(t, peer, "single")
				n, err := conn.Read(b)
				ok(t, err)
				equal(t, "read", string(b[:n]), "single")
			}
		}
		for round := range 3 {
			write(t, peer, "x")
			for batch, err := range conn.Batches(context.Background()) {
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Fatal(err)
					}
					break
				}
				if round < 2 {
					break
				}
				ok(t, conn.Close())
				equal(t, "in hand after Close", string(batch.At(0).Payload()), "x")
			}
		}
	}
}

// A body may advance an iterator that was pulled before the loop, if its goroutine is not locked to
// its thread. (If it is, the runtime stops the program, which no test survives.)
func TestABodyMayAdvanceAnotherIterator(t *testing.T) {
	needRing(t)
	conn, peer := listen(t, WithUnlockedGoroutine())
	count, stop := iter.Pull(func(yield func(int) bool) {
		for i := 0; yield(i); i++ {
		}
	})
	defer stop()
	write(t, peer, "x")
	for range conn.Batches(context.Background()) {
		i, _ := count()
		if i == 5 {
			break
		}
		write(t, peer, "x")
	}
}

// What a loop's metadata needs stays on after it, unseen by readers of control messages until the
// program asks for it itself, and another loop has it at once.
func TestMetadataStaysUnseenAfterALoop(t *testing.T) {
	needRing(t)
	conn, peer := listen(t, WithMetadata(MetaHopLimit))
	hopLimit := func() {
		t.Helper()
		write(t, peer, "x")
		for batch, err := range conn.Batches(context.Background()) {
			ok(t, err)
			equal(t, "hop limit", batch.At(0).Metadata().HopLimit, 64)
			break
		}
	}
	control := func() int {
		t.Helper()
		write(t, peer, "x")
		_, oobn, _, _, err := conn.ReadMsgUDP(make([]byte, 10), make([]byte, 100))
		ok(t, err)
		return oobn
	}
	hopLimit()
	equal(t, "control messages", control(), 0)
	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) {
		on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL)
		ok(t, err)
		equal(t, "IP_RECVTTL, as the program set it", on, 0)
	}))
	hopLimit()
	ok(t, raw.Control(
		func(fd uintptr) { ok(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1)) },
	))
	equal(t, "control messages that the program asked for", control(), unix.CmsgSpace(4))
	hopLimit()
}
