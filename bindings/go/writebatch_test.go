//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// WriteBatch sends a datagram for each message, more than one system call takes, of any number of
// buffers, to addresses of both lengths, in order.
func TestWriteBatchSendsEveryMessage(t *testing.T) {
	for _, network := range []struct{ name, from, to string }{
		{"udp4", "127.0.0.1:0", "127.0.0.1:0"}, {"udp6", "[::1]:0", "[::1]:0"}, {"udp", "[::]:0", "127.0.0.1:0"},
	} {
		conn, err := Listen(network.name, network.from)
		ok(t, err)
		peer := udp(t, "udp", network.to)
		to := peer.LocalAddr().(*net.UDPAddr)
		out := make([]ipv4.Message, 150)
		for i := range out {
			out[i].Buffers = [][]byte{[]byte("message "), nil, []byte(strconv.Itoa(i))}
			out[i].Addr = to
			if i%2 == 0 && network.name != "udp6" {
				out[i].Addr = &net.UDPAddr{IP: to.IP.To16(), Port: to.Port}
			}
		}
		out[7].Buffers = nil // an empty datagram
		for sent := 0; sent < len(out); {
			n, err := conn.WriteBatch(out[sent:], 0)
			ok(t, err)
			sent += n
		}
		b := make([]byte, 100)
		for i := range out {
			wanted := "message " + strconv.Itoa(i)
			if i == 7 {
				wanted = ""
			}
			n, err := peer.Read(b)
			ok(t, err)
			equal(t, "datagram", string(b[:n]), wanted)
			equal(t, "N", out[i].N, len(wanted))
		}
		ok(t, conn.Close())
	}
}

// An error belongs to the first message of a call: those before the one that fails are sent.
func TestWriteBatchStopsAtTheMessageThatFails(t *testing.T) {
	conn, peer := listen(t)
	to := peer.LocalAddr()
	for _, c := range []struct {
		name  string
		wrong ipv4.Message
		is    error
	}{
		{"port 0", ipv4.Message{
			Buffers: [][]byte{{1}}, Addr: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)},
		}, syscall.EINVAL},
		{"too long", ipv4.Message{Buffers: [][]byte{make([]byte, 70000)}, Addr: to}, syscall.EMSGSIZE},
		{"no address", ipv4.Message{Buffers: [][]byte{{1}}}, syscall.EDESTADDRREQ},
		{"of another family", ipv4.Message{
			Buffers: [][]byte{{1}}, Addr: &net.UDPAddr{IP: net.IPv6loopback, Port: 1},
		}, nil},
		{"of another kind", ipv4.Message{Buffers: [][]byte{{1}}, Addr: &net.TCPAddr{}}, syscall.EINVAL},
	} {
		good := ipv4.Message{Buffers: [][]byte{[]byte("good")}, Addr: to}
		messages := []ipv4.Message{good, good, c.wrong, good}
		n, err := conn.WriteBatch(messages, 0)
		ok(t, err)
		equal(t, c.name+": sent before it", n, 2)
		n, err = conn.WriteBatch(messages[2:], 0)
		equal(t, c.name+": sent at it", n, 0)
		var op *net.OpError
		if !errors.As(err, &op) || op.Op != "write" || c.is != nil && !errors.Is(err, c.is) {
			t.Fatalf("%s: %v", c.name, err)
		}
		n, err = conn.WriteBatch(messages[3:], 0)
		ok(t, err)
		equal(t, c.name+": sent behind it", n, 1)
		b := make([]byte, 10)
		for range 3 {
			n, err := peer.Read(b)
			ok(t, err)
			equal(t, "datagram", string(b[:n]), "good")
		}
	}
	ok(t, conn.SetWriteDeadline(time.Now().Add(-time.Second)))
	_, err := conn.WriteBatch([]ipv4.Message{{Buffers: [][]byte{{1}}, Addr: to}}, 0)
	equal(t, "the deadline", errors.Is(err, os.ErrDeadlineExceeded), true)
}

// A connected socket sends to its peer.
func TestWriteBatchOfAConnectedSocket(t *testing.T) {
	server, peer := listen(t)
	conn, err := NewConn(peer)
	ok(t, err)
	n, err := conn.WriteBatch(
		[]ipv4.Message{{Buffers: [][]byte{[]byte("a")}}, {Buffers: [][]byte{[]byte("b")}}}, 0,
	)
	ok(t, err)
	equal(t, "sent", n, 2)
	b := make([]byte, 10)
	for _, wanted := range []string{"a", "b"} {
		n, err := server.Read(b)
		ok(t, err)
		equal(t, "datagram", string(b[:n]), wanted)
	}
}

// A batch that is sent again and again allocates nothing.
func TestWriteBatchDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector sync.Pool drops what it is given")
	}
	conn, peer := listen(t)
	out := make([]ipv4.Message, 10)
	for i := range out {
		out[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 10)}, Addr: peer.LocalAddr()}
	}
	if allocs := testing.AllocsPerRun(200, func() {
		if _, err := conn.WriteBatch(out, 0); err != nil {
			t.Fatal(err)
		}
	}); allocs > 0.5 {
		t.Fatalf("%.2f allocations per batch", allocs)
	}
}
