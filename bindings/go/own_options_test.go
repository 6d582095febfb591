//go:build linux

package ringmsg

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a Conn has switched on for itself stays on when the program switches the same option on and
// off again: answers leave from the address that was asked, and readers see control messages
// exactly while the program has the option on.
func TestOwnOptionsOutlastThePrograms(t *testing.T) {
	conn, err := Listen("udp4", ":0", WithReplyFromDestination())
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	raw, err := conn.SyscallConn()
	ok(t, err)
	client := udp(t, "udp4", "127.0.0.1:0")
	port := conn.LocalAddr().(*net.UDPAddr).Port
	for _, value := range []int{0, 1, 1, 0, 1, 0} {
		ok(t, raw.Control(func(fd uintptr) {
			ok(t, unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, value))
		}))
		_, err := client.WriteTo([]byte("?"), at("127.0.0.2", port))
		ok(t, err)
		_, oobn, _, from, err := conn.ReadMsgUDP(make([]byte, 10), make([]byte, 100))
		ok(t, err)
		equal(t, "control messages", oobn, value*unix.CmsgSpace(unix.SizeofInet4Pktinfo))
		equal(t, "the answer's source", answerTo(t, conn, client, from), "127.0.0.2")
	}
}

// Of an option that consists of flags, the program has some and the Conn others: both get theirs.
func TestOwnFlagsBesideThePrograms(t *testing.T) {
	conn, peer := listen(t)
	raw, err := conn.SyscallConn()
	ok(t, err)
	const own = unix.SOF_TIMESTAMPING_RX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE
	const program = unix.SOF_TIMESTAMPING_RX_HARDWARE | unix.SOF_TIMESTAMPING_RAW_HARDWARE
	set := func(value int) func(fd uintptr) {
		return func(fd uintptr) {
			ok(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, value))
		}
	}
	// The kernel switches time stamps on in the background.
	untilStamped := func() {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			write(t, peer, "x")
			_, oobn, _, _, err := conn.udp.ReadMsgUDP(make([]byte, 10), make([]byte, 100))
			ok(t, err)
			if oobn > 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("no time stamps")
			}
		}
	}
	control := func() (messages int) {
		t.Helper()
		untilStamped()
		write(t, peer, "x")
		_, oobn, _, _, err := conn.ReadMsgUDP(make([]byte, 10), make([]byte, 100))
		ok(t, err)
		if oobn > 0 {
			messages = 1
		}
		return messages
	}
	fd := descriptorOf(t, conn.udp)
	conn.in.mu.Lock()
	err = conn.in.switchOn(fd, func() error { set(own)(uintptr(fd)); return nil })
	conn.in.mu.Unlock()
	ok(t, err)
	equal(t, "control messages that the program did not ask for", control(), 0)
	ok(t, raw.Control(set(program)))
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING)
	ok(t, err)
	equal(t, "SO_TIMESTAMPING", on, own|program)
	equal(t, "control messages that the program asked for", control(), 1)
	ok(t, raw.Control(func(fd uintptr) {
		on, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING)
		ok(t, err)
		equal(t, "SO_TIMESTAMPING, as the program set it", on, program)
		set(0)(fd)
	}))
	equal(t, "control messages after the program's end", control(), 0)
}

// A filter that Control attaches has the Conn read the socket, to switch UDP_GRO off. The datagrams
// it reads then keep the address that they were sent to, so that the answers leave from there.
func TestWhatAFilterHasReadKeepsItsDestination(t *testing.T) {
	for name, question := range replyReads {
		t.Run(name, func(t *testing.T) {
			conn, err := Listen("udp4", ":0", WithReplyFromDestination())
			ok(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			client := udp(t, "udp4", "127.0.0.1:0")
			equal(t, "before the filter", sourceOf(t, conn, client, "127.0.0.3"), "127.0.0.3")
			port := conn.LocalAddr().(*net.UDPAddr).Port
			_, err = client.WriteTo([]byte("queued"), at("127.0.0.2", port))
			ok(t, err)
			isOn := conn.Stats().GRO
			attachFilter(t, conn)
			equal(t, "pending", conn.Stats().Pending == 1, isOn)
			asked, from := question(t, conn)
			equal(t, "question", asked, "queued")
			equal(t, "the answer's source", answerTo(t, conn, client, from), "127.0.0.2")
			equal(t, "behind the filter", sourceOf(t, conn, client, "127.0.0.4"), "127.0.0.4")
		})
	}
}

// attachFilter attaches a socket filter that accepts everything, as a program does.
func attachFilter(t *testing.T, conn *Conn) {
	t.Helper()
	accept := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}
	program := unix.SockFprog{Len: 1, Filter: &accept}
	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) {
		ok(t, unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	}))
}
