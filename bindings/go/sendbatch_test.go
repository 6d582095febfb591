//go:build linux

package ringmsg

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

func pathTo(conn net.PacketConn) Path {
	return PathTo(conn.LocalAddr().(*net.UDPAddr).AddrPort())
}

// toClients returns a Conn, and sockets that read what it sends and its traffic class.
func toClients(t *testing.T, at string, count int) (*Conn, []*net.UDPConn) {
	t.Helper()
	conn, err := Listen("udp", at)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	clients := peersOf(t, udp(t, "udp", at), count)
	for _, client := range clients {
		ok(t, unix.SetsockoptInt(descriptorOf(t, client), unix.SOL_IP, unix.IP_RECVTOS, 1))
		if at[0] == '[' {
			ok(t, unix.SetsockoptInt(descriptorOf(t, client), unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1))
		}
	}
	return conn, clients
}

// datagram describes a datagram: its length, its first byte, its traffic class.
func datagram(payload []byte, class uint8) string {
	return fmt.Sprint(len(payload), payload[:min(len(payload), 1)], class)
}

func readDatagram(client *net.UDPConn) string {
	b, oob := make([]byte, 20000), make([]byte, 100)
	n, oobn, _, _, err := client.ReadMsgUDP(b, oob)
	if err != nil {
		return err.Error()
	}
	class := uint8(0)
	if _, data, _, found := nextControl(oob[:oobn]); found {
		class = data[0]
	}
	return datagram(b[:n], class)
}

// SendBatch sends each message on its path, with its mark, and cuts those with a segment size; each
// has its result. Payloads may be empty, or too long to be copied.
func TestSendBatchSendsEveryMessage(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		conn, clients := toClients(t, at, 3)
		for round := range 30 {
			var out []Message
			var wanted [3][]string
			for i := range 30 {
				m := Message{Path: pathTo(clients[i%3]), Payload: fill([]int{100, 0, 100, 30, 9000}[round%5], byte(i+1))}
				class := uint8(0)
				if round/5%2 == 1 {
					m.Path.SetTrafficClass(0xb8)
					class = 0xb8
				}
				if i/9%2 == 1 {
					m.ECN = ECNCapable0
					class |= 2
				}
				size := max(len(m.Payload), 1)
				if round%3 == 1 {
					m.SegmentSize, size = 1400, 1400
				}
				for from := 0; from == 0 || from < len(m.Payload); from += size {
					part := m.Payload[from:min(from+size, len(m.Payload))]
					wanted[i%3] = append(wanted[i%3], datagram(part, class))
				}
				out = append(out, m)
			}
			n, err := conn.SendBatch(out)
			ok(t, err)
			equal(t, "sent", n, len(out))
			for k, client := range clients {
				for _, each := range wanted[k] {
					equal(t, "datagram", readDatagram(client), each)
				}
			}
			for i := range out {
				equal(t, "N", out[i].N, len(out[i].Payload))
				equal(t, "Err", out[i].Err, nil)
			}
		}
	}
}

// A path to an IPv4 address that is mapped into IPv6, which is how a net.UDPAddr of sixteen bytes
// returns it, works on a socket of either kind, with a source address, too.
func TestSendBatchTakesMappedAddresses(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		conn, err := Listen(network, ":0")
		ok(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		client := udp(t, "udp4", "127.0.0.1:0")
		ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
		port := client.LocalAddr().(*net.UDPAddr).Port
		path := PathTo((&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).AddrPort())
		equal(t, "mapped", path.Remote().Addr().Is4In6(), true)
		from := path
		from.SetLocal(netip.MustParseAddr("127.0.0.2"))
		out := []Message{{Path: path, Payload: []byte("plain")}, {Path: from, Payload: []byte("from")}}
		n, err := conn.SendBatch(out)
		ok(t, err)
		equal(t, "sent", n, 2)
		for _, source := range []string{"127.0.0.1", "127.0.0.2"} {
			_, at, err := client.ReadFromUDPAddrPort(make([]byte, 10))
			ok(t, err)
			equal(t, "source", at.Addr().String(), source)
		}
	}
}

// An error belongs to its message: the others are sent, each once, and the call returns how many
// and the first error.
func TestSendBatchTellsEachMessagesError(t *testing.T) {
	conn, clients := toClients(t, "127.0.0.1:0", 2)
	good := func(i int) Message { return Message{Path: pathTo(clients[i%2]), Payload: []byte("good")} }
	wrong := []Message{
		{Path: PathTo(netip.MustParseAddrPort("127.0.0.1:0")), Payload: []byte("port 0")},
		{Payload: []byte("nowhere")},
		{Path: PathTo(netip.MustParseAddrPort("[::1]:7")), Payload: []byte("of another family")},
		{Path: pathTo(clients[0]), Payload: make([]byte, 70000)},
	}
	is := []error{syscall.EINVAL, syscall.EDESTADDRREQ, syscall.EAFNOSUPPORT, syscall.EMSGSIZE}
	out := []Message{good(0), wrong[0], good(1), wrong[1], good(0), wrong[2], wrong[3], good(1)}
	n, err := conn.SendBatch(out)
	equal(t, "sent", n, 4)
	equal(t, "the first error", errors.Is(err, out[1].Err), true)
	for i, at := range []int{1, 3, 5, 6} {
		var op *net.OpError
		if !errors.Is(out[at].Err, is[i]) || !errors.As(out[at].Err, &op) || op.Op != "write" {
			t.Errorf("message %d: %v, not %v", at, out[at].Err, is[i])
		}
		equal(t, "N", out[at].N, 0)
	}
	for i := range 4 {
		equal(t, "datagram", readText(clients[i%2]), "4 good")
	}
	equal(t, "no more", nothing(clients[0]) && nothing(clients[1]), true)
	ok(t, conn.Close())
	n, err = conn.SendBatch([]Message{good(0)})
	equal(t, "sent on a closed Conn", n, 0)
	equal(t, "its error", errors.Is(err, net.ErrClosed), true)
}

// SendBatch without addresses goes to the connected peer. Its errors of earlier datagrams are not
// those of later ones.
func TestSendBatchOnAConnectedSocket(t *testing.T) {
	server := udp(t, "udp4", "127.0.0.1:0")
	conn, err := NewConn(sender(t, server.LocalAddr()))
	ok(t, err)
	for i := range 3 {
		n, err := conn.SendBatch([]Message{{Payload: []byte("a")}, {Payload: []byte("b")}, {Payload: []byte("c")}})
		ok(t, err)
		equal(t, "sent", n, 3)
		if i == 0 {
			equal(t, "read", readText(server)+readText(server)+readText(server), "1 a1 b1 c")
			ok(t, server.Close())
		}
	}
}

// The source address and the interface of a Path are those of the datagram; one that is not ours is
// that message's error.
func TestSendBatchLeavesFromThePathsSource(t *testing.T) {
	if !testkit.Namespace(t, replyNetwork...) {
		return
	}
	conn, err := Listen("udp", ":0")
	ok(t, err)
	for _, c := range []struct{ to, from string }{
		{"127.0.0.1:0", "10.1.0.3"}, {"[::1]:0", "fd00::3"},
	} {
		client := udp(t, "udp", c.to)
		ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
		out := make([]Message, 3)
		for i := range out {
			out[i] = Message{Path: pathTo(client), Payload: []byte("x")}
			if i > 0 {
				out[i].Path.SetLocal(netip.MustParseAddr(c.from))
			}
		}
		out[2].Path.SetLocal(netip.MustParseAddr(map[bool]string{true: "9.9.9.9", false: "fd99::1"}[c.from[0] == '1']))
		n, err := conn.SendBatch(out)
		equal(t, "sent", n, 2)
		equal(t, "an error", err != nil && out[2].Err != nil, true)
		for i := range 2 {
			_, from, err := client.ReadFromUDPAddrPort(make([]byte, 10))
			ok(t, err)
			equal(t, "sent from its source", from.Addr().Unmap().String() == c.from, i == 1)
		}
	}
}

// A full buffer: SendBatch waits until every message has its result; the deadline ends that, and
// what has none by then has that error. Each datagram that it says was sent arrives once.
func TestSendBatchWaitsForRoom(t *testing.T) {
	if !testkit.Namespace(t, "link set lo up", "tc qdisc replace dev lo root tbf rate 1600kbit burst 3000 limit 200000") {
		return
	}
	conn, clients := toClients(t, "127.0.0.1:0", 10)
	ok(t, conn.SetWriteBuffer(8000))
	out := make([]Message, 60)
	for i := range out {
		out[i] = Message{Path: pathTo(clients[i%10]), Payload: fill(1000, byte(i+1))}
	}
	n, err := conn.SendBatch(out)
	ok(t, err)
	equal(t, "sent", n, len(out))
	equal(t, "waited", conn.Stats().Sent.WouldBlock > 0, true)
	for i := range out {
		equal(t, "datagram", readDatagram(clients[i%10]), datagram(out[i].Payload, 0))
	}
	ok(t, conn.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	n, err = conn.SendBatch(out)
	equal(t, "the deadline", errors.Is(err, os.ErrDeadlineExceeded), true)
	for i := range out {
		if out[i].Err == nil {
			n--
			equal(t, "datagram", readDatagram(clients[i%10]), datagram(out[i].Payload, 0))
		} else if !errors.Is(out[i].Err, os.ErrDeadlineExceeded) || out[i].N != 0 {
			t.Errorf("message %d: %v, %d bytes", i, out[i].Err, out[i].N)
		}
	}
	equal(t, "counted as sent, and not", n, 0)
	for _, client := range clients {
		equal(t, "no more", nothing(client), true)
	}
}

// A message in the middle that the kernel refuses, where later ones left in a train with earlier
// ones: WriteBatch counts it among those that are over, with its error, and N says that it was not
// sent. So who goes on behind them sends nothing twice. The last message's error is the next
// call's.
func TestWriteBatchOverARefusedMessage(t *testing.T) {
	if !testkit.Namespace(t, "link set lo up", "route add unreachable 10.9.9.9/32") {
		return
	}
	conn, clients := toClients(t, "0.0.0.0:0", 2)
	good := func(i int) ipv4.Message {
		return ipv4.Message{Buffers: [][]byte{[]byte("good")}, Addr: at("127.0.0.1", clients[i].LocalAddr().(*net.UDPAddr).Port)}
	}
	bad := ipv4.Message{Buffers: [][]byte{[]byte("lost")}, Addr: at("10.9.9.9", 7)}
	out := []ipv4.Message{good(0), bad, good(1), good(0), bad}
	n, err := conn.WriteBatch(out, 0)
	if n < 1 || n > 4 || n == 4 != errors.Is(err, unix.EHOSTUNREACH) {
		t.Fatal(n, err)
	}
	for n < len(out) {
		var k int
		if k, err = conn.WriteBatch(out[n:], 0); k == 0 {
			equal(t, "the error", errors.Is(err, unix.EHOSTUNREACH), true)
			k = 1
		}
		n += k
	}
	equal(t, "N", [5]int{out[0].N, out[1].N, out[2].N, out[3].N, out[4].N}, [5]int{4, 0, 4, 4, 0})
	for _, i := range []int{0, 0, 1} {
		equal(t, "datagram", readText(clients[i]), "4 good")
	}
	equal(t, "no more", nothing(clients[0]) && nothing(clients[1]), true)
}

// A pending ICMP error of a connected socket is the next WriteBatch's, once, as it is x/net's.
func TestWriteBatchReportsRefusals(t *testing.T) {
	nobody := udp(t, "udp4", "127.0.0.1:0")
	connect(t, nobody, nobody.LocalAddr())
	conn, err := NewConn(sender(t, nobody.LocalAddr()))
	ok(t, err)
	out := []ipv4.Message{{Buffers: [][]byte{[]byte("a")}}, {Buffers: [][]byte{[]byte("b")}}}
	refused := 0
	for range 10 {
		n, err := conn.WriteBatch(out, 0)
		if err != nil {
			refused++
			equal(t, "sent with the error", n, 0)
			equal(t, "the error", errors.Is(err, syscall.ECONNREFUSED), true)
		}
	}
	if refused == 0 {
		t.Fatal("no error says that nobody listens")
	}
}

// Stats shows what left in batches, and how much of it in trains.
func TestStatsShowWhatWasSent(t *testing.T) {
	conn, clients := toClients(t, "127.0.0.1:0", 2)
	out := make([]Message, 20)
	for i := range out {
		out[i] = Message{Path: pathTo(clients[i%2]), Payload: bytes.Repeat([]byte("x"), 100)}
	}
	_, err := conn.SendBatch(out)
	ok(t, err)
	_, err = conn.WriteBatch([]ipv4.Message{{Buffers: [][]byte{[]byte("alone")}, Addr: clients[0].LocalAddr()}}, 0)
	ok(t, err)
	check := func() {
		s := conn.Stats().Sent
		equal(t, "messages", s.Messages, 21)
		equal(t, "datagrams", s.Datagrams, 21)
		equal(t, "bytes", s.PayloadBytes, 2005)
		if conn.Ring() == nil {
			equal(t, "trains", s.Trains, 2)
			equal(t, "in trains", s.Grouped, 20)
		}
	}
	check()
	ok(t, conn.Close())
	check()
	equal(t, "the port", isFree(conn.LocalAddr()), nil)
}
