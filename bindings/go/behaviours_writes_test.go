//go:build linux

package ringmsg

import (
	"fmt"
	"net"
	"os"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// peersOf returns sockets like the peer, in its network.
func peersOf(t *testing.T, peer *net.UDPConn, count int) (peers []*net.UDPConn) {
	t.Helper()
	for range count {
		one := udp(t, "udp", net.JoinHostPort(peer.LocalAddr().(*net.UDPAddr).IP.String(), "0"))
		ok(t, one.SetReadDeadline(time.Now().Add(10*time.Second)))
		peers = append(peers, one)
	}
	return peers
}

// writeAll writes messages as programs do: from the first that is not sent.
func writeAll(conn batchConn, messages []ipv4.Message) (sent int, err error) {
	for sent < len(messages) && err == nil {
		var n int
		n, err = conn.WriteBatch(messages[sent:], 0)
		sent += max(n, 0) // x/net returns -1 with an error
	}
	return sent, err
}

// readText reads a datagram.
func readText(peer *net.UDPConn) string {
	b := make([]byte, 2000)
	n, err := peer.Read(b)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(n, " ", string(b[:min(n, 20)]))
}

// nothing reports whether no datagram is left.
func nothing(peer *net.UDPConn) bool {
	_ = peer.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := peer.Read(make([]byte, 1))
	return os.IsTimeout(err)
}

var writeBehaviours = []behaviour{
	{"batches to several peers", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		peers := peersOf(t, peer, 4)
		var out []ipv4.Message
		for i := range 100 {
			text := fmt.Sprintf("%03d", i) + string(make([]byte, []int{0, 100, 100, 700}[i/8%4]))
			m := ipv4.Message{Buffers: [][]byte{[]byte(text[:2]), []byte(text[2:])}, Addr: peers[i%len(peers)].LocalAddr()}
			if i%17 == 0 {
				m.Buffers = nil
			}
			out = append(out, m)
		}
		sent, err := writeAll(batchOf(conn), out)
		seen.add(sent, err)
		for i := range out {
			seen.add(out[i].N, out[i].NN, readText(peers[i%len(peers)]))
		}
		for _, each := range peers {
			seen.add(nothing(each))
		}
	}},
	{"batches with a message that is wrong", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		peers := peersOf(t, peer, 2)
		good := func(i int) ipv4.Message {
			return ipv4.Message{Buffers: [][]byte{[]byte("good")}, Addr: peers[i%2].LocalAddr()}
		}
		for _, wrong := range []ipv4.Message{
			{Buffers: [][]byte{{1}}, Addr: &net.UDPAddr{IP: peer.LocalAddr().(*net.UDPAddr).IP}}, // port 0
			{Buffers: [][]byte{make([]byte, 70000)}, Addr: peer.LocalAddr()},
			{Buffers: [][]byte{make([]byte, 40000), make([]byte, 30000)}, Addr: peer.LocalAddr()},
			{Buffers: [][]byte{{1}}}, // no address
		} {
			out := []ipv4.Message{good(0), good(1), good(0), wrong, good(1)}
			n, err := batchOf(conn).WriteBatch(out, 0)
			seen.add(n, err, out[0].N, out[3].N, out[4].N)
			n, err = batchOf(conn).WriteBatch(out[3:], 0)
			seen.add(max(n, 0))
			seen.kind(err)
			n, err = batchOf(conn).WriteBatch(out[4:], 0)
			seen.add(n, err)
			for i := range 4 {
				seen.add(readText(peers[i%2]))
			}
			seen.add(nothing(peers[0]), nothing(peers[1]))
			peers = peersOf(t, peer, 2)
		}
	}},
	{"batches after the deadline and Close", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		to := peersOf(t, peer, 1)[0]
		out := messagesOf(3, 10, 0)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, to.LocalAddr()
		}
		seen.add(conn.SetWriteDeadline(time.Now().Add(-time.Second)))
		n, err := batchOf(conn).WriteBatch(out, 0)
		seen.add(max(n, 0))
		seen.kind(err)
		seen.add(conn.SetWriteDeadline(time.Time{}))
		n, err = batchOf(conn).WriteBatch(out, 0)
		seen.add(n, err)
		batch := batchOf(conn)
		seen.add(conn.Close())
		n, err = batch.WriteBatch(out, 0)
		seen.add(max(n, 0))
		seen.kind(err)
		for range 3 {
			seen.add(readText(to))
		}
		seen.add(nothing(to))
	}},
	{"batches with control messages", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		to := peersOf(t, peer, 1)[0]
		fd := descriptorOf(t, to)
		isV4 := to.LocalAddr().(*net.UDPAddr).IP.To4() != nil
		tos, class := unix.IP_TOS, unix.SOL_IP
		ok(t, unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVTOS, 1))
		if !isV4 {
			tos, class = unix.IPV6_TCLASS, unix.SOL_IPV6
			ok(t, unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1))
		}
		out := messagesOf(6, 50, 0)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, to.LocalAddr()
			if i > 0 {
				out[i].OOB = appendControl(nil, class, tos, 4, uint32(i/2))
			}
		}
		out[5].OOB = appendControl(out[5].OOB, unix.SOL_UDP, unix.UDP_SEGMENT, 2, 20) // a train of its own
		sent, err := writeAll(batchOf(conn), out)
		seen.add(sent, err)
		for i := range out {
			seen.add(out[i].N, out[i].NN == len(out[i].OOB))
		}
		b, oob := make([]byte, 100), make([]byte, 100)
		for range 8 {
			n, oobn, _, _, err := to.ReadMsgUDP(b, oob)
			_, data, _, found := nextControl(oob[:oobn])
			seen.add(n, err, found && len(data) > 0 && data[0] > 0, found && data[0] == 2)
		}
		out[1].OOB = appendControl(nil, unix.SOL_SOCKET, unix.SO_MARK, 4, 0) // the library does not know it
		sent, err = writeAll(batchOf(conn), out[:3]) // an ordinary user is refused it
		seen.add(sent, nothing(peer))
		seen.kind(err)
	}},
	{"batches on a socket that cuts", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		to := peersOf(t, peer, 1)[0]
		out := messagesOf(2, 50, 0)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, to.LocalAddr()
		}
		_, err := writeAll(batchOf(conn), out)
		seen.add(err)
		raw, err := conn.SyscallConn()
		ok(t, err)
		ok(t, raw.Control(func(fd uintptr) {
			seen.add(unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 20))
		}))
		_, err = writeAll(batchOf(conn), out)
		seen.add(err)
		for range 2 + 6 {
			seen.add(readText(to))
		}
		seen.add(nothing(to))
	}},
	{"several writers of batches", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		const writers, rounds, each = 4, 15, 12
		peers := peersOf(t, peer, writers)
		var wait sync.WaitGroup
		for w := range writers {
			wait.Add(1)
			go func() {
				defer wait.Done()
				out := messagesOf(each, 1, 0)
				for round := range rounds {
					for i := range out {
						out[i].Buffers[0] = fmt.Appendf(nil, "%d.%d.%d", w, round, i)
						out[i].OOB, out[i].Addr = nil, peers[w].LocalAddr()
					}
					if _, err := writeAll(batchOf(conn), out); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		for _, from := range peers {
			for range rounds * each {
				seen.add(readText(from))
			}
		}
		wait.Wait()
	}},
}

// A socket whose buffer is full: a batch waits for room, for its first message at least; the
// deadline and Close end that wait; with MSG_DONTWAIT it does not wait. What is sent in the end was
// sent once. The same for x/net's WriteBatch and a Conn's.
func TestWriteBatchWaitsForRoom(t *testing.T) {
	if !testkit.Namespace(t, "link set lo up", "tc qdisc replace dev lo root tbf rate 1600kbit burst 3000 limit 200000") {
		return
	}
	var wanted outcome
	for _, maker := range makers {
		socket := udp(t, "udp4", "127.0.0.1:0")
		receivers := peersOf(t, socket, 10)
		ok(t, socket.SetWriteBuffer(8000))
		conn, err := maker.make(socket)
		ok(t, err)
		var seen outcome
		done := make(chan struct{})
		go func() {
			defer close(done)
			writeUntilFull(conn, receivers, &seen)
		}()
		within(t, 20*time.Second, maker.name, done)
		if wanted == nil {
			wanted = seen
		} else if !reflect.DeepEqual(seen, wanted) {
			t.Errorf("%s: %v\nnet: %v", maker.name, seen, wanted)
		}
	}
}

func writeUntilFull(conn packetConn, receivers []*net.UDPConn, seen *outcome) {
	messages := func() []ipv4.Message {
		out := messagesOf(40, 1000, 0)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, receivers[i%len(receivers)].LocalAddr()
			copy(out[i].Buffers[0], fmt.Sprintf("%02d", i))
		}
		return out
	}
	batch := batchOf(conn)
	out := messages()
	n, err := batch.WriteBatch(out, 0) // the buffer takes a few
	seen.add(n > 0, err)               // and may wait for more: of a train the buffer takes all
	sent, err := writeAll(batch, out[n:])
	seen.add(n+sent, err)
	counts := map[string]int{}
	for i := range out {
		_ = receivers[i%len(receivers)].SetReadDeadline(time.Now().Add(10 * time.Second))
		counts[readText(receivers[i%len(receivers)])[:7]]++
	}
	seen.add(len(counts))
	for _, receiver := range receivers {
		seen.add(nothing(receiver))
	}

	fill := func() {
		for _, m := range messages() {
			if _, err := batch.WriteBatch([]ipv4.Message{m}, unix.MSG_DONTWAIT); err != nil {
				break
			}
		}
	}
	// The queue goes on emptying: a call that finds room by then says nothing, and is made again.
	whenFull := func(write func() (int, error)) {
		for range 100 {
			fill()
			if n, err = write(); n <= 0 {
				break
			}
		}
		seen.add(max(n, 0))
		seen.kind(err)
	}
	whenFull(func() (int, error) { return batch.WriteBatch(out[:1], unix.MSG_DONTWAIT) })
	whenFull(func() (int, error) {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
		defer func() { _ = conn.SetWriteDeadline(time.Time{}) }()
		return batch.WriteBatch(out, 0)
	})
	fill()
	time.AfterFunc(time.Millisecond, func() { _ = conn.Close() })
	n, err = writeAll(batch, out)
	seen.add(n < len(out))
	seen.kind(err)
}
