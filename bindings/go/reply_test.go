//go:build linux && cgo

package ringmsg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
)

// A loop over Batches on a wildcard socket, made without options, answers each client from the
// address that it asked, whatever that is.
func TestRepliesLeaveFromTheAddressThatWasAsked(t *testing.T) {
	if !testkit.Namespace(t, replyNetwork...) {
		return
	}
	needRing(t)
	for _, network := range []string{"udp", "udp4", "udp6"} {
		conn, err := Listen(network, ":0")
		ok(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for batch, err := range conn.Batches(context.Background()) {
				if err != nil {
					return
				}
				var payloads [][]byte
				for _, d := range batch.All() {
					payloads = append(payloads, d.Payload())
				}
				if _, err := batch.Reply(payloads); err != nil {
					t.Error(err)
				}
			}
		}()
		for _, address := range []string{
			"127.0.0.1", "127.0.0.2", "10.1.0.2", "10.2.0.1", "169.254.9.9", "fd00::2", "fe80::9%d0",
		} {
			ip := netip.MustParseAddr(address)
			if network == "udp4" && ip.Is6() || network == "udp6" && ip.Is4() {
				continue
			}
			client := sender(t, at(address, conn.LocalAddr().(*net.UDPAddr).Port))
			ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
			for i := range 3 {
				question := fmt.Sprint("question ", i)
				write(t, client, question)
				equal(t, network+" "+address, readText(client), fmt.Sprint(len(question), " ", question))
			}
		}
		ok(t, conn.Close())
		within(t, 10*time.Second, "the loop", done)
	}
}

// Answers may be what was received, the program's own, a mixture, empty, or too long to be copied;
// nil sends nothing; a batch that is held can be answered later, also when its loop is over.
// Answers to one client leave in order, as trains.
func TestRepliesOfEveryKind(t *testing.T) {
	needRing(t)
	for _, options := range [][]Option{nil, {WithUnlockedGoroutine()}} {
		conn, client := listen(t, options...)
		ok(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
		for i := range 8 {
			write(t, client, fmt.Sprintf("question %d", i))
		}
		i, held := 0, (*Batch)(nil)
		for batch, err := range conn.Batches(context.Background()) {
			ok(t, err)
			payloads := make([][]byte, batch.Len())
			nothing := 0
			for k, d := range batch.All() {
				switch i++; i {
				case 1:
					payloads[k] = d.Payload()
				case 2:
					payloads[k] = []byte("my own")
				case 3:
					payloads[k] = []byte{}
				case 4:
					payloads[k] = fill(30000, 7)
				case 5:
					nothing++
				default:
					payloads[k] = d.Payload()[:5]
				}
			}
			n, err := batch.Reply(payloads)
			ok(t, err)
			equal(t, "sent", n, batch.Len()-nothing)
			for k := range payloads {
				equal(t, "its error", batch.ReplyError(k), nil)
			}
			if held == nil {
				held = batch.Hold()
			}
			if i == 8 {
				break
			}
		}
		b := make([]byte, 40000)
		for _, wanted := range [][]byte{
			[]byte("question 0"), []byte("my own"), {}, fill(30000, 7), []byte("quest"), []byte("quest"), []byte("quest"),
		} {
			n, err := client.Read(b)
			ok(t, err)
			equal(t, "an answer", bytes.Equal(b[:n], wanted), true)
		}
		n, err := held.Reply([][]byte{held.At(0).Payload()})
		ok(t, err)
		equal(t, "sent", n, 1)
		equal(t, "a late answer", readText(client), "10 question 0")
		_, err = held.Reply(make([][]byte, held.Len()+1))
		equal(t, "more answers than datagrams", err, errTooManyReplies)
		ok(t, conn.Close())
		n, err = held.Reply([][]byte{[]byte("closed")})
		equal(t, "sent on a closed Conn", n, 0)
		equal(t, "its error", errors.Is(err, net.ErrClosed) && errors.Is(held.ReplyError(0), net.ErrClosed), true)
		held.Release()
	}
}

// An answer that is refused is its own error, and the others are sent. What earlier readers left is
// answered as well.
func TestRepliesTellEachOnesError(t *testing.T) {
	needRing(t)
	conn, client := listen(t)
	ok(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
	sendTrain(t, client, make([]byte, 30), 10)
	_, err := conn.Read(make([]byte, 10)) // the rest of the train is pending
	ok(t, err)
	sendTrain(t, client, make([]byte, 30), 10)
	seen, wrong := 0, 0
	for batch, err := range conn.Batches(context.Background()) {
		ok(t, err)
		payloads := make([][]byte, batch.Len())
		for i := range payloads {
			if payloads[i] = []byte("good"); i == 1 {
				payloads[i] = make([]byte, 70000)
			}
		}
		n, err := batch.Reply(payloads)
		if batch.Len() > 1 {
			wrong++
			equal(t, "sent", n, batch.Len()-1)
			equal(t, "the error", errors.Is(err, syscall.EMSGSIZE), true)
			equal(t, "the answer's error", errors.Is(batch.ReplyError(1), syscall.EMSGSIZE), true)
			equal(t, "another's", batch.ReplyError(0), nil)
		}
		if seen += batch.Len(); seen >= 5 {
			break
		}
	}
	equal(t, "batches of several", wrong > 0, true)
	for range seen - wrong {
		equal(t, "an answer", readText(client), "4 good")
	}
}

// A loop that answers each batch allocates nothing.
func TestRepliesDoNotAllocate(t *testing.T) {
	needRing(t)
	if raceEnabled {
		t.Skip("with the race detector sync.Pool drops what it is given")
	}
	conn, client := listen(t)
	ok(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
	next, stop := iterPull(conn)
	defer stop()
	payloads := make([][]byte, 0, 64)
	question, b := make([]byte, 100), make([]byte, 200)
	allocs := testing.AllocsPerRun(100, func() {
		for range 16 {
			_, _ = client.Write(question)
		}
		for seen := 0; seen < 16; {
			batch := next()
			payloads = payloads[:0]
			for i := range batch.Len() {
				payloads = append(payloads, batch.At(i).Payload())
			}
			if n, err := batch.Reply(payloads); n != batch.Len() {
				t.Fatal(n, err)
			}
			seen += batch.Len()
		}
		for range 16 {
			if _, err := client.Read(b); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs > 0.5 {
		t.Fatalf("%.2f allocations per 16 answers", allocs)
	}
}
