//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

var batchBehaviours = []behaviour{
	{"batches", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		batch, in := batchOf(conn), messagesOf(8, 50, 60)
		for round := range 20 {
			sent := 0
			for i := range round % 5 {
				write(t, peer, string(make([]byte, 10*i)))
				sent++
			}
			sendTrain(t, peer, make([]byte, 100*(round%7)+30), 100)
			sent += round%7 + 1
			for sent > 0 {
				n, err := batch.ReadBatch(in, 0)
				ok(t, err)
				for _, m := range in[:n] {
					seen.add(m.N, m.NN, m.Flags, from(peer, m.Addr))
				}
				sent -= n
			}
		}
		out := messagesOf(5, 10, 0)
		for i := range out {
			out[i].Buffers = append(out[i].Buffers, []byte{byte(i)})
			out[i].OOB, out[i].Addr = nil, peer.LocalAddr()
		}
		n, err := batch.WriteBatch(out, 0)
		seen.add(n, err)
		b := make([]byte, 20)
		for i := range n {
			length, err := peer.Read(b)
			seen.add(out[i].N, length, b[10], err)
		}
	}},
	{"batches that fail", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		batch := batchOf(conn)
		seen.add(conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond)))
		_, err := batch.ReadBatch(messagesOf(3, 10, 0), 0)
		seen.kind(err)
		out := messagesOf(2, 10, 0)
		for i := range out {
			out[i].OOB, out[i].Addr = nil, &net.UDPAddr{IP: peer.LocalAddr().(*net.UDPAddr).IP} // port 0
		}
		_, err = batch.WriteBatch(out, 0)
		seen.kind(err)
		seen.add(conn.Close())
		_, err = batch.ReadBatch(messagesOf(3, 10, 0), 0)
		seen.kind(err)
		_, err = batch.WriteBatch(out, 0)
		seen.kind(err)
	}},
	{"x/net's packet conns", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 100)
		write(t, peer, "first")
		_, err := conn.Read(b)
		seen.add(err)
		p4, p6 := ipv4.NewPacketConn(conn), ipv6.NewPacketConn(conn)
		raw, err := conn.SyscallConn()
		seen.add(err, raw.Read(func(uintptr) bool { return true })) // from here on the socket is theirs
		seen.add(p4.SetTTL(9) == nil, p6.SetHopLimit(9) == nil)
		for _, batch := range []batchConn{p4, p6} {
			sendTrain(t, peer, make([]byte, 250), 100)
			for sum := 0; sum < 250; {
				in := messagesOf(4, 100, 100)
				n, err := batch.ReadBatch(in, 0)
				ok(t, err)
				for _, m := range in[:n] {
					seen.add(m.N, m.Flags, from(peer, m.Addr))
					sum += m.N
				}
			}
			out := messagesOf(1, 7, 0)
			out[0].OOB, out[0].Addr = nil, peer.LocalAddr()
			n, err := batch.WriteBatch(out, 0)
			seen.add(n, err, out[0].N)
			n, err = peer.Read(b)
			seen.add(n, err)
		}
	}},
	{"raw access", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err)
		called := 0
		seen.add(raw.Control(func(uintptr) { called++ }))
		seen.add(raw.Write(func(uintptr) bool { called++; return true }), called)
		b := make([]byte, 100)
		for i := range 3 {
			time.AfterFunc(time.Duration(10*i)*time.Millisecond, func() { sendTrain(t, peer, make([]byte, 300), 100) })
			for range 3 {
				seen.add(raw.Read(func(fd uintptr) bool {
					n, _, err := unix.Recvfrom(int(fd), b, 0)
					if err != nil {
						return false
					}
					seen.add(n)
					return true
				}))
			}
		}
		seen.add(conn.Close())
		seen.fail(raw.Read(func(uintptr) bool { return true }))
		seen.fail(raw.Control(func(uintptr) {}))
	}},
	{"a duplicate", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 100)
		write(t, peer, "first")
		_, err := conn.Read(b)
		seen.add(err)
		file, err := conn.File()
		seen.add(err)
		duplicate, err := net.FilePacketConn(file)
		seen.add(err, file.Close())
		defer duplicate.Close()
		sendTrain(t, peer, make([]byte, 300), 100)
		n, address, err := duplicate.ReadFrom(b)
		seen.add(n, from(peer, address), err)
		n, address, err = conn.ReadFrom(b)
		seen.add(n, from(peer, address), err)
		seen.add(conn.Close())
		n, address, err = duplicate.ReadFrom(b)
		seen.add(n, from(peer, address), err)
		_, err = conn.File()
		seen.add(err != nil, errors.Is(err, net.ErrClosed))
	}},
	{"writes of every kind", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		to := peer.LocalAddr().(*net.UDPAddr)
		n, err := conn.WriteTo([]byte("a"), to)
		seen.add(n, err)
		n, err = conn.WriteToUDP([]byte("b"), to)
		seen.add(n, err)
		n, err = conn.WriteToUDPAddrPort([]byte("c"), to.AddrPort())
		seen.add(n, err)
		n, oobn, err := conn.WriteMsgUDP([]byte("d"), nil, to)
		seen.add(n, oobn, err)
		b := make([]byte, 10)
		for range 4 {
			n, err = peer.Read(b)
			seen.add(string(b[:n]), err)
		}
		_, err = conn.Write([]byte("nowhere"))
		seen.fail(err)
		_, err = conn.WriteTo([]byte("x"), &net.TCPAddr{})
		seen.fail(err)
		_, err = conn.WriteTo([]byte("x"), (*net.UDPAddr)(nil))
		seen.fail(err)
		_, err = conn.WriteToUDPAddrPort([]byte("x"), netip.AddrPort{})
		seen.fail(err)
		_, err = conn.WriteTo(make([]byte, 70000), to)
		seen.fail(err)
	}},
}
