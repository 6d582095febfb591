//go:build linux

package ringmsg

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
	"golang.org/x/sys/unix"
)

// socketBehaviours are what a conn says about its socket, and what it refuses.
var socketBehaviours = []behaviour{
	{"addresses of its own", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		for range 2 { // before and after Close
			local, isUDP := conn.LocalAddr().(*net.UDPAddr)
			seen.add(isUDP, local.IP.String(), len(local.IP), local.Port > 0, local.Network())
			seen.add(conn.RemoteAddr() == nil, conn.Close() == nil)
		}
	}},
	{"writes to nowhere", writeToNowhere},
	{"addresses of either family", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
		for _, address := range []netip.Addr{
			to.Addr(), to.Addr().Unmap(), netip.AddrFrom16(to.Addr().As16()), netip.MustParseAddr("127.0.0.1"),
			netip.MustParseAddr("::ffff:127.0.0.1"), netip.MustParseAddr("::1"),
		} {
			at := netip.AddrPortFrom(address, to.Port())
			n, err := conn.WriteToUDPAddrPort([]byte("x"), at)
			seen.add(n, words(err))
			n, err = conn.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(at))
			seen.add(n, words(err))
			n, _, err = conn.WriteMsgUDPAddrPort([]byte("x"), nil, at)
			seen.add(n, words(err))
		}
	}},
	{"sizes of buffers", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		ok(t, err)
		size := func(option int) (bytes int) {
			ok(t, raw.Control(func(fd uintptr) {
				bytes, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option)
			}))
			return bytes
		}
		seen.add(conn.SetReadBuffer(40_000), conn.SetWriteBuffer(50_000))
		seen.add(size(unix.SO_RCVBUF), size(unix.SO_SNDBUF))
		seen.fail(conn.SetReadBuffer(-1))
		seen.add(size(unix.SO_RCVBUF) > 0, conn.Close())
		seen.fail(conn.SetReadBuffer(40_000))
		seen.fail(conn.SetWriteBuffer(40_000))
	}},
	{"the socket of a closed conn", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err, conn.Close())
		called := 0
		seen.fail(raw.Control(func(uintptr) { called++ }))
		seen.fail(raw.Read(func(uintptr) bool { called++; return true }))
		seen.fail(raw.Write(func(uintptr) bool { called++; return true }))
		seen.add(called)
		_, err = conn.File()
		seen.fail(err)
	}},
	{"raw reads wait as others do", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		ok(t, err)
		b := make([]byte, 10)
		receive := func(fd uintptr) bool {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				return false
			}
			seen.add(n, err)
			return true
		}
		time.AfterFunc(20*time.Millisecond, func() { _, _ = peer.Write([]byte("late")) })
		seen.add(raw.Read(receive))
		seen.add(conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond)))
		seen.fail(raw.Read(receive))
		seen.add(conn.SetReadDeadline(time.Time{}))
		time.AfterFunc(10*time.Millisecond, func() { _ = conn.Close() })
		seen.fail(raw.Read(receive))
	}},
	{"control messages and no payload", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err, raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVTTL, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		}))
		oob := make([]byte, 60)
		for _, text := range []string{"", "x"} {
			for _, b := range [][]byte{nil, {}, make([]byte, 1)} {
				write(t, peer, text)
				n, oobn, flags, address, err := conn.ReadMsgUDPAddrPort(b, oob)
				seen.add(n, oobn, flags, string(oob[:oobn]), address.Addr(), err)
			}
		}
	}},
	{"deadlines that keep changing", changeDeadlines},
	{"a filter before the first read", filterDatagrams},
	{"a filter after a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "before")
		_, err := conn.Read(make([]byte, 20))
		seen.add(err)
		filterDatagrams(t, conn, peer, seen)
	}},
}

// writeToNowhere writes to what is no address of a peer, by every method.
func writeToNowhere(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
	b := []byte("x")
	n, err := conn.Write(b)
	seen.add(n)
	seen.fail(err)
	for _, to := range []net.Addr{
		nil, (*net.UDPAddr)(nil), &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)}, &net.UnixAddr{Name: "x"},
		&net.UDPAddr{}, &net.UDPAddr{IP: net.IP{1, 2}, Port: 9999},
		&net.UDPAddr{IP: net.IPv6loopback, Zone: "none"},
	} {
		n, err := conn.WriteTo(b, to)
		seen.add(n)
		seen.fail(err)
		if udp, isUDP := to.(*net.UDPAddr); isUDP {
			n, err := conn.WriteToUDP(b, udp)
			seen.add(n)
			seen.fail(err)
			n, oobn, err := conn.WriteMsgUDP(b, nil, udp)
			seen.add(n, oobn)
			seen.fail(err)
		}
	}
	for _, to := range []netip.AddrPort{{}, netip.AddrPortFrom(netip.Addr{}, 9999)} {
		n, err := conn.WriteToUDPAddrPort(b, to)
		seen.add(n)
		seen.fail(err)
		n, oobn, err := conn.WriteMsgUDPAddrPort(b, nil, to)
		seen.add(n, oobn)
		seen.fail(err)
	}
	n, err = conn.WriteTo(make([]byte, 70_000), peer.LocalAddr())
	seen.add(n)
	seen.fail(err)
}

// filterDatagrams attaches a socket filter, which sees each datagram of a train: it refuses those
// that begin with b, and cuts the others to three bytes of payload.
func filterDatagrams(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 8}, // behind the UDP header
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 'b', Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 8 + 3},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(fd uintptr) {
		ok(t, unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	}))
	for range 2 {
		sendTrain(t, peer, []byte("aaaabbbbccccbbbbd"), 4)
		for range 3 {
			b := make([]byte, 20)
			n, err := conn.Read(b)
			seen.add(string(b[:n]), err)
		}
	}
}

// changeDeadlines has readers and changing deadlines at once: every datagram is read, and every
// failed read has met its deadline.
func changeDeadlines(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
	const readers, datagrams = 4, 100
	var got, others atomic.Int64
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for range readers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			b := make([]byte, 10)
			for {
				_, _, err := conn.ReadFromUDPAddrPort(b)
				switch {
				case err == nil:
					got.Add(1)
				case !os.IsTimeout(err):
					others.Add(1)
					return
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
	}
	for i := range datagrams {
		write(t, peer, "x")
		switch i % 3 {
		case 0:
			_ = conn.SetReadDeadline(time.Now().Add(-time.Second))
		case 1:
			_ = conn.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(300)) * time.Microsecond))
		default:
			_ = conn.SetReadDeadline(time.Time{})
		}
		time.Sleep(50 * time.Microsecond)
	}
	for limit := time.Now().Add(5 * time.Second); got.Load() < datagrams && time.Now().Before(limit); {
		_ = conn.SetReadDeadline(time.Time{})
		time.Sleep(time.Millisecond)
	}
	close(stop)
	_ = conn.SetReadDeadline(time.Now())
	wait.Wait()
	seen.add(got.Load(), others.Load())
}

// A connected socket refuses addresses, says whose peer it is, and names both in its errors.
func TestConnectedSocketsBehaveAlike(t *testing.T) {
	for _, network := range []struct{ name, at string }{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}} {
		var wanted outcome
		for _, maker := range makers {
			peer := udp(t, network.name, network.at)
			socket, err := net.DialUDP(network.name, nil, peer.LocalAddr().(*net.UDPAddr))
			ok(t, err)
			conn, err := maker.make(socket)
			ok(t, err)
			var seen outcome
			connected(t, conn, peer, &seen)
			if wanted == nil {
				wanted = seen
			} else if !reflect.DeepEqual(seen, wanted) {
				t.Errorf("%s, %s: %v\nnet: %v", network.name, maker.name, seen, wanted)
			}
		}
	}
}

func connected(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
	b := []byte("x")
	to := peer.LocalAddr().(*net.UDPAddr)
	remote, isUDP := conn.RemoteAddr().(*net.UDPAddr)
	seen.add(isUDP, remote.String() == to.String(), len(remote.IP))
	for range 2 {
		n, err := conn.WriteTo(b, to)
		seen.add(n)
		seen.fail(err)
		n, err = conn.WriteToUDPAddrPort(b, to.AddrPort())
		seen.add(n)
		seen.fail(err)
		n, _, err = conn.WriteMsgUDP(b, nil, to)
		seen.add(n)
		seen.fail(err)
		n, _, err = conn.WriteMsgUDP(b, nil, nil)
		seen.add(n, err)
		n, _, err = conn.WriteMsgUDPAddrPort(b, nil, netip.AddrPort{}) // Go 1.24 refuses it
		seen.add(n)
		seen.fail(err)
		n, err = conn.Write(b)
		seen.add(n, err)
		_, err = peer.WriteTo([]byte("answer"), conn.LocalAddr())
		ok(t, err)
		room := make([]byte, 3)
		n, address, err := conn.ReadFrom(room)
		seen.add(n, fmt.Sprint(address) == to.String(), err)
	}
	seen.add(conn.SetReadDeadline(time.Now()))
	_, err := conn.Read(make([]byte, 1))
	seen.fail(err)
	file, err := conn.File()
	ok(t, err)
	flags, err := unix.FcntlInt(file.Fd(), syscall.F_GETFD, 0)
	seen.add(flags, err, file.Close(), conn.Close(), remote.String() == conn.RemoteAddr().String())
	_, err = conn.Read(make([]byte, 1))
	seen.fail(err)
}

// Link-local addresses carry the name of their interface, whatever reads them, and an answer to one
// finds its way.
func TestZonesAreNamed(t *testing.T) {
	if !testkit.Namespace(t, "link set lo up", "link add d0 type veth peer name d1", "link set d0 up",
		"link set d1 up", "addr add fe80::9/64 dev d0 nodad") {
		return
	}
	for _, bound := range []string{"[fe80::9%d0]:0", "[::]:0"} {
		var wanted outcome
		for _, maker := range makers {
			conn, err := maker.make(udp(t, "udp6", bound))
			ok(t, err)
			var seen outcome
			to := *conn.LocalAddr().(*net.UDPAddr)
			seen.add(to.IP.String(), to.Zone)
			to.IP, to.Zone = net.ParseIP("fe80::9"), "d0"
			readZones(t, conn, sender(t, &to), &seen)
			if wanted == nil {
				wanted = seen
			} else if !reflect.DeepEqual(seen, wanted) {
				t.Errorf("%s, %s: %v\nnet: %v", bound, maker.name, seen, wanted)
			}
		}
		if first := fmt.Sprint(wanted...); bound[1] == 'f' && first[:len("fe80::9d0")] != "fe80::9d0" {
			t.Errorf("package net says %s", first)
		}
	}
}

func readZones(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
	ok(t, conn.SetReadDeadline(time.Now().Add(5*time.Second)))
	ok(t, peer.SetReadDeadline(time.Now().Add(5*time.Second)))
	b, answer := make([]byte, 10), make([]byte, 10)
	for range 2 {
		write(t, peer, "x")
		_, address, err := conn.ReadFrom(b)
		ok(t, err)
		seen.add(ports.ReplaceAllString(address.String(), ":port"))
		write(t, peer, "x")
		_, at, err := conn.ReadFromUDPAddrPort(b)
		ok(t, err)
		seen.add(at.Addr(), at.Port() == uint16(address.(*net.UDPAddr).Port))
		write(t, peer, "x")
		_, _, _, at, err = conn.ReadMsgUDPAddrPort(b, nil)
		ok(t, err)
		seen.add(at.Addr())
		write(t, peer, "x")
		in := messagesOf(1, 10, 0)
		_, err = batchOf(conn).ReadBatch(in, 0)
		ok(t, err)
		seen.add(ports.ReplaceAllString(in[0].Addr.String(), ":port"))
		_, err = conn.WriteTo([]byte("1"), address)
		seen.add(err)
		_, err = conn.WriteToUDPAddrPort([]byte("2"), at)
		seen.add(err)
		in[0].Buffers[0] = []byte("3")
		_, err = writeAll(batchOf(conn), in)
		seen.add(err)
		for range 3 {
			n, err := peer.Read(answer)
			seen.add(string(answer[:n]), err)
		}
	}
}
