//go:build linux

package ringmsg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// replyNetwork is a loopback and an interface with several addresses each.
var replyNetwork = []string{
	"link set lo up", "link set lo multicast on",
	"addr add 10.1.0.1/32 dev lo", "addr add 10.1.0.2/32 dev lo",
	"addr add 10.1.0.3/32 dev lo", "addr add 10.1.0.4/32 dev lo",
	"addr add fd00::1/128 dev lo nodad", "addr add fd00::2/128 dev lo nodad",
	"addr add fd00::3/128 dev lo nodad", "addr add fd00::4/128 dev lo nodad",
	"link add d0 type veth peer name d1", "link set d0 up", "link set d1 up",
	"addr add 10.2.0.1/24 brd + dev d0", "addr add 169.254.9.9/16 dev d0",
	"addr add fe80::9/64 dev d0 nodad",
	"route add 239.0.0.0/8 dev d0", "-6 route add ff15::/16 dev d0 table local",
}

// at returns a UDP address.
func at(address string, port int) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port)))
}

// replyReads are the ways to read a question, each returning it and who asked.
var replyReads = map[string]func(t *testing.T, c *Conn) (string, net.Addr){
	"ReadFrom": func(t *testing.T, c *Conn) (string, net.Addr) {
		b := make([]byte, 50)
		n, from, err := c.ReadFrom(b)
		ok(t, err)
		return string(b[:n]), from
	},
	"ReadMsgUDP": func(t *testing.T, c *Conn) (string, net.Addr) {
		b, oob := make([]byte, 50), make([]byte, 100)
		n, oobn, _, from, err := c.ReadMsgUDP(b, oob)
		ok(t, err)
		equal(t, "control messages that the program did not ask for", oobn, 0)
		return string(b[:n]), from
	},
	"ReadBatch": func(t *testing.T, c *Conn) (string, net.Addr) {
		in := messagesOf(1, 50, 100)
		_, err := c.ReadBatch(in, 0)
		ok(t, err)
		equal(t, "control messages that the program did not ask for", in[0].NN, 0)
		return string(in[0].Buffers[0][:in[0].N]), in[0].Addr
	},
}

// replyWrites are the ways to answer.
var replyWrites = map[string]func(c *Conn, answer string, to net.Addr) error{
	"WriteTo": func(c *Conn, answer string, to net.Addr) error {
		_, err := c.WriteTo([]byte(answer), to)
		return err
	},
	"WriteToUDPAddrPort": func(c *Conn, answer string, to net.Addr) error {
		_, err := c.WriteToUDPAddrPort([]byte(answer), to.(*net.UDPAddr).AddrPort())
		return err
	},
	"WriteBatch": func(c *Conn, answer string, to net.Addr) error {
		_, err := c.WriteBatch([]ipv4.Message{{Buffers: [][]byte{[]byte(answer)}, Addr: to}}, 0)
		return err
	},
	"WriteBatch of several": func(c *Conn, answer string, to net.Addr) error { // grouped by the library
		m := ipv4.Message{Buffers: [][]byte{[]byte(answer)}, Addr: to}
		nobody := ipv4.Message{Buffers: m.Buffers, Addr: at("127.0.0.1", 9)}
		if to.(*net.UDPAddr).IP.To4() == nil {
			nobody.Addr = at("::1", 9)
		}
		n, err := c.WriteBatch([]ipv4.Message{m, nobody}, 0)
		if n != 2 && err == nil {
			err = fmt.Errorf("%d sent", n)
		}
		return err
	},
}

// A client that is connected to one of our addresses hears only answers from there. On a wildcard
// socket of each kind, each way to read and each way to write, it hears them.
func TestAnswersLeaveFromTheAddressThatWasAsked(t *testing.T) {
	if !testkit.Namespace(t, replyNetwork...) {
		return
	}
	v4 := []string{"127.0.0.1", "127.0.0.2", "10.1.0.1", "10.1.0.2", "10.2.0.1", "169.254.9.9"}
	v6 := []string{"::1", "fd00::1", "fd00::2", "fe80::9%d0"}
	for network, addresses := range map[string][]string{"udp4": v4, "udp6": v6, "udp": append(v4, v6...)} {
		conn, err := Listen(network, ":0", WithReplyFromDestination())
		ok(t, err)
		port := conn.LocalAddr().(*net.UDPAddr).Port
		for _, address := range addresses {
			client := sender(t, at(address, port))
			ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
			for read, question := range replyReads {
				for write, answer := range replyWrites {
					what := strings.Join([]string{network, address, read, write}, " ")
					_, err := client.Write([]byte(what))
					ok(t, err)
					asked, from := question(t, conn)
					equal(t, "question", asked, what)
					ok(t, answer(conn, what, from))
					b := make([]byte, 100)
					n, err := client.Read(b)
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					equal(t, "answer", string(b[:n]), what)
				}
			}
		}
		ok(t, conn.Close())
	}
}

// sourceOf sends a question from a socket that hears everybody, and returns from where the answer
// came.
func sourceOf(t *testing.T, conn *Conn, client *net.UDPConn, to string) string {
	t.Helper()
	port := conn.LocalAddr().(*net.UDPAddr).Port
	_, err := client.WriteTo([]byte("?"), at(to, port))
	ok(t, err)
	b := make([]byte, 10)
	ok(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, from, err := conn.ReadFrom(b)
	if err != nil {
		t.Fatalf("the question to %s: %v", to, err)
	}
	return answerTo(t, conn, client, from)
}

func answerTo(t *testing.T, conn *Conn, client *net.UDPConn, to net.Addr) string {
	t.Helper()
	_, err := conn.WriteTo([]byte("!"), to)
	ok(t, err)
	ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, source, err := client.ReadFrom(make([]byte, 10))
	ok(t, err)
	return source.(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("").String()
}

// What surprises, as WithReplyFromDestination says it: two addresses asked at once, an address that
// is gone, broadcast and multicast, control messages that the program brings.
func TestWhatRepliesDoOtherwise(t *testing.T) {
	if !testkit.Namespace(t, replyNetwork...) {
		return
	}
	conn, err := Listen("udp", ":0", WithReplyFromDestination())
	ok(t, err)
	defer conn.Close()
	client4, client6 := udp(t, "udp4", "10.2.0.1:0"), udp(t, "udp6", "[fd00::1]:0")
	raw, err := client4.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(
		func(fd uintptr) { ok(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1)) },
	))

	// The peer asks one address after the other, before it is answered.
	port := conn.LocalAddr().(*net.UDPAddr).Port
	for _, to := range []string{"10.1.0.1", "10.1.0.2"} {
		_, err := client4.WriteTo([]byte("?"), at(to, port))
		ok(t, err)
	}
	var from net.Addr
	// The second question is in the socket, or read ahead, when the first one is answered.
	for _, last := range []string{"10.1.0.1", "10.1.0.2"} {
		_, from, err = conn.ReadFrom(make([]byte, 10))
		ok(t, err)
		equal(t, "an answer comes from", answerTo(t, conn, client4, from), last)
	}
	equal(t, "another answer comes from", answerTo(t, conn, client4, from), "10.1.0.2")

	// The address is gone when the answer leaves.
	for _, gone := range []struct {
		address, prefix, write string
		client                 *net.UDPConn
	}{
		{"10.1.0.3", "/32", "WriteTo", client4},
		{"10.1.0.4", "/32", "WriteBatch", client4},
		{"fd00::3", "/128", "WriteTo", client6},
		{"fd00::4", "/128", "WriteBatch", client6},
	} {
		equal(t, "before", sourceOf(t, conn, gone.client, gone.address), gone.address)
		_, err = gone.client.WriteTo([]byte("?"), at(gone.address, port))
		ok(t, err)
		_, from, err := conn.ReadFrom(make([]byte, 10))
		ok(t, err)
		ok(t, exec.Command("ip", "addr", "del", gone.address+gone.prefix, "dev", "lo").Run())
		ok(t, replyWrites[gone.write](conn, "!", from))
		ok(t, gone.client.SetReadDeadline(time.Now().Add(5*time.Second)))
		_, source, err := gone.client.ReadFrom(make([]byte, 10))
		ok(t, err)
		if source.(*net.UDPAddr).AddrPort().Addr().Unmap().String() == gone.address {
			t.Fatalf("%s: an answer from %s, which is gone", gone.write, source)
		}
	}

	// Broadcast, and multicast of both families.
	equal(t, "broadcast", sourceOf(t, conn, client4, "10.2.0.255"), "10.2.0.1")
	d0, err := net.InterfaceByName("d0")
	ok(t, err)
	ok(t, ipv4.NewPacketConn(conn).JoinGroup(d0, &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3)}))
	equal(t, "IPv4 multicast", sourceOf(t, conn, client4, "239.1.2.3"), "10.2.0.1")
	group := net.ParseIP("ff15::77")
	ok(t, ipv6.NewPacketConn(conn).JoinGroup(d0, &net.UDPAddr{IP: group}))
	ok(t, ipv6.NewPacketConn(client6).SetMulticastInterface(d0))
	equal(t, "before the multicast question", sourceOf(t, conn, client6, "fd00::2"), "fd00::2")
	if source := sourceOf(t, conn, client6, "ff15::77"); source == "ff15::77" || source == "fd00::2" {
		t.Fatal("IPv6 multicast is answered from", source)
	}

	// Control messages of the program.
	equal(t, "before", sourceOf(t, conn, client4, "10.1.0.2"), "10.1.0.2")
	other := local{address: mapped([4]byte{10, 1, 0, 1})}
	_, err = conn.WriteBatch([]ipv4.Message{{
		Buffers: [][]byte{[]byte("!")}, Addr: client4.LocalAddr(),
		OOB: other.control(new([replyControl]byte)),
	}}, 0)
	ok(t, err)
	_, source, err := client4.ReadFrom(make([]byte, 10))
	ok(t, err)
	equal(t, "by control message", source.(*net.UDPAddr).IP.String(), "10.1.0.1")
}

// The table is bounded: a flood of peers pushes out the entries that were used least recently, set
// by set, and entries that nobody used for five minutes are void.
func TestTheReplyTableForgets(t *testing.T) {
	table := newReplyTable()
	peerNumber := func(i int) *peer {
		return &peer{address: mapped([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), port: uint32(i % 3)}
	}
	from := func(i int) local { return local{address: mapped([4]byte{192, 168, byte(i >> 8), byte(i)})} }
	for i := range 1000 {
		table.put(peerNumber(i), from(i))
	}
	known := func(peers int) (known int) {
		for i := range peers {
			if got, found := table.get(peerNumber(i)); found {
				equal(t, "address", got, from(i))
				known++
			}
		}
		return known
	}
	if few := known(1000); few < 990 { // five in one set are rare
		t.Fatalf("%d of 1000 peers are known", few)
	}
	const peers = 100_000
	for i := range peers {
		table.put(peerNumber(i), from(i))
	}
	if full, many := replySets*replyWays, known(peers); many > full || many < full*9/10 {
		t.Fatalf("%d of %d peers are known, with room for %d", many, peers, full)
	}

	p := peerNumber(7)
	table.put(p, from(7))
	for i := range table.set(p) {
		table.set(p)[i].used += 1 << 20 // as if that much older: the others do not matter
		table.set(p)[i].used -= 1<<20 + uint32(replyLifetime/time.Second) + 1
	}
	_, found := table.get(p)
	equal(t, "an old entry", found, false)
	table.put(p, from(8))
	got, found := table.get(p)
	equal(t, "asked again", found && got == from(8), true)
	table.remove(p)
	_, found = table.get(p)
	equal(t, "removed", found, false)
}

// Without a choice of addresses the option changes nothing: no control messages are switched on.
func TestRepliesOfBoundAndConnectedSockets(t *testing.T) {
	bound, peer := listen(t, WithReplyFromDestination())
	connected, err := NewConn(sender(t, bound.LocalAddr()), WithReplyFromDestination())
	ok(t, err)
	defer connected.Close()
	for _, conn := range []*Conn{bound, connected} {
		raw, err := conn.SyscallConn()
		ok(t, err)
		ok(t, raw.Control(func(fd uintptr) {
			on, err := unix.GetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO)
			ok(t, err)
			equal(t, "IP_PKTINFO", on, 0)
		}))
	}
	write(t, peer, "x")
	_, from, err := bound.ReadFrom(make([]byte, 10))
	ok(t, err)
	_, err = bound.WriteTo([]byte("y"), from)
	ok(t, err)
	_, err = peer.Read(make([]byte, 10))
	ok(t, err)
	_, err = connected.WriteTo([]byte("y"), from)
	equal(t, "a connected socket refuses addresses", errors.Is(err, net.ErrWriteToConnected), true)
}

// An IPv4 address of 16 bytes, which net.ParseIP and net.IPv4 return, is answered like one of four,
// as package net does.
func TestRepliesToAddressesOfSixteenBytes(t *testing.T) {
	for _, network := range []string{"udp4", "udp"} {
		conn, err := Listen(network, ":0", WithReplyFromDestination())
		ok(t, err)
		defer conn.Close()
		port := conn.LocalAddr().(*net.UDPAddr).Port
		peer := sender(t, at("127.0.0.2", port)) // takes answers from there only
		ok(t, peer.SetReadDeadline(time.Now().Add(5*time.Second)))
		b := make([]byte, 10)
		write(t, peer, "x")
		_, err = conn.Read(b)
		ok(t, err)
		to := *peer.LocalAddr().(*net.UDPAddr)
		for _, to.IP = range []net.IP{to.IP.To16(), to.IP.To4()} {
			_, err = conn.WriteTo([]byte("1"), &to)
			ok(t, err)
			_, err = conn.WriteToUDP([]byte("2"), &to)
			ok(t, err)
			m := ipv4.Message{Buffers: [][]byte{[]byte("3")}, Addr: &to}
			_, err = writeAll(conn, []ipv4.Message{m, m})
			ok(t, err)
			for _, wanted := range "1233" {
				n, err := peer.Read(b)
				ok(t, err)
				equal(t, network+": answer", string(b[:n]), string(wanted))
			}
		}
	}
}
