//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// packetConn is what *net.UDPConn and *Conn are expected to do alike.
type packetConn interface {
	net.PacketConn
	net.Conn
	ReadFromUDP([]byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	ReadMsgUDP(b, oob []byte) (int, int, int, *net.UDPAddr, error)
	ReadMsgUDPAddrPort(b, oob []byte) (int, int, int, netip.AddrPort, error)
	WriteToUDP([]byte, *net.UDPAddr) (int, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error)
	SyscallConn() (syscall.RawConn, error)
	File() (*os.File, error)
}

// batchConn is what x/net puts on top, and a *Conn has by itself.
type batchConn interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

func batchOf(conn packetConn) batchConn {
	if own, has := conn.(batchConn); has {
		return own
	}
	return ipv4.NewPacketConn(conn)
}

// makers are the implementations that the table below compares.
var makers = []struct {
	name string
	make func(*net.UDPConn) (packetConn, error)
}{
	{"net", func(udp *net.UDPConn) (packetConn, error) { return udp, nil }},
	{"ringmsg", func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp) }},
	{"ringmsg, one message a read", func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp, WithReadAhead(1)) }},
	{"ringmsg without GRO", func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp, WithGRO(false)) }},
	{"ringmsg with replies", func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp, WithReplyFromDestination()) }},
}

// outcome is what a behaviour looked like, in words that do not depend on ports and times.
type outcome []any

func (o *outcome) add(what ...any) { *o = append(*o, what...) }

// failure describes an error the way programs look at it.
func (o *outcome) fail(err error) {
	var op *net.OpError
	var call *os.SyscallError
	described := "no OpError"
	if errors.As(err, &op) {
		described = op.Op + " " + op.Net
		if op.Source != nil {
			described += " with source"
		}
		if op.Addr != nil {
			described += " with address"
		}
	}
	if errors.As(err, &call) {
		described += " " + call.Syscall
	}
	o.add(described)
	o.kind(err)
}

// kind is what errors.Is and errors.As find: x/net words its errors in its own way.
func (o *outcome) kind(err error) {
	var timeout net.Error
	o.add(err != nil, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ECONNREFUSED),
		errors.Is(err, syscall.EINVAL), errors.As(err, &timeout) && timeout.Timeout())
}

type behaviour struct {
	name string
	run  func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome)
}

func from(peer *net.UDPConn, address net.Addr) string {
	if address == nil || reflect.ValueOf(address).IsNil() {
		return "nobody"
	}
	at := address.(*net.UDPAddr)
	if at.Port != peer.LocalAddr().(*net.UDPAddr).Port {
		return "a stranger"
	}
	return at.IP.String() + string(rune('0'+len(at.IP)%10)) + at.Zone
}

var behaviours = []behaviour{
	{"each read in turn", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b, oob := make([]byte, 100), make([]byte, 100)
		for range 2 {
			write(t, peer, "ReadFrom")
			n, address, err := conn.ReadFrom(b)
			seen.add(string(b[:n]), from(peer, address), err)
			write(t, peer, "Read")
			n, err = conn.Read(b)
			seen.add(string(b[:n]), err)
			write(t, peer, "ReadFromUDP")
			n, udp, err := conn.ReadFromUDP(b)
			seen.add(string(b[:n]), from(peer, udp), err)
			write(t, peer, "ReadFromUDPAddrPort")
			n, port, err := conn.ReadFromUDPAddrPort(b)
			seen.add(string(b[:n]), port.Addr(), port.Port() == peer.LocalAddr().(*net.UDPAddr).AddrPort().Port(), err)
			write(t, peer, "ReadMsgUDP")
			n, oobn, flags, udp, err := conn.ReadMsgUDP(b, oob)
			seen.add(string(b[:n]), oobn, flags&(msgTrunc|msgCtrunc), from(peer, udp), err)
			write(t, peer, "ReadMsgUDPAddrPort")
			n, oobn, flags, port, err = conn.ReadMsgUDPAddrPort(b, nil)
			seen.add(string(b[:n]), oobn, flags&(msgTrunc|msgCtrunc), port.Addr(), err)
		}
	}},
	{"short buffers cut, and the rest is gone", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "first datagram")
		write(t, peer, "second datagram")
		write(t, peer, "third")
		b := make([]byte, 5)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
		n, _, flags, _, err := conn.ReadMsgUDP(b, nil)
		seen.add(string(b[:n]), flags&msgTrunc != 0, err)
		n, _, err = conn.ReadFrom(b)
		seen.add(string(b[:n]), err)
	}},
	{"an empty buffer", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "lost")
		write(t, peer, "kept")
		n, err := conn.Read(nil)
		seen.add(n, err)
		n, _, err = conn.ReadFrom(nil)
		seen.add(n, err)
		b := make([]byte, 10)
		n, err = conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"datagrams without payload", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 10)
		for range 3 {
			write(t, peer, "")
			write(t, peer, "x")
			n, address, err := conn.ReadFrom(b)
			seen.add(n, from(peer, address), err)
			n, err = conn.Read(b)
			seen.add(n, err)
		}
	}},
	{"the longest datagram", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		big := make([]byte, 65507)
		big[65506] = 7
		write(t, peer, string(big))
		b := make([]byte, 70000)
		n, err := conn.Read(b)
		seen.add(n, b[65506], err)
	}},
	{"a deadline that has passed", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "waiting")
		seen.add(conn.SetReadDeadline(time.Now().Add(-time.Second)))
		b := make([]byte, 10)
		for range 2 {
			n, address, err := conn.ReadFrom(b)
			seen.add(n, address == nil)
			seen.fail(err)
		}
		seen.add(conn.SetReadDeadline(time.Time{}))
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"a deadline that passes during a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		start := time.Now()
		seen.add(conn.SetDeadline(start.Add(40 * time.Millisecond)))
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
		took := time.Since(start)
		seen.add(took >= 39*time.Millisecond, took < 5*time.Second)
	}},
	{"a deadline set during a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		time.AfterFunc(30*time.Millisecond, func() { _ = conn.SetReadDeadline(time.Now()) })
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
	}},
	{"a deadline taken away during a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		seen.add(conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)))
		time.AfterFunc(20*time.Millisecond, func() { _ = conn.SetReadDeadline(time.Time{}) })
		time.AfterFunc(200*time.Millisecond, func() { _, _ = peer.Write([]byte("late")) })
		b := make([]byte, 10)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"close ends every read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		errs := make(chan error)
		for range 4 {
			go func() {
				_, _, err := conn.ReadFrom(make([]byte, 10))
				errs <- err
			}()
		}
		time.Sleep(30 * time.Millisecond)
		seen.add(conn.Close())
		for range 4 {
			seen.fail(<-errs)
		}
	}},
	{"a closed conn", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "unread")
		seen.add(conn.Close())
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
		_, _, _, _, err = conn.ReadMsgUDP(make([]byte, 10), nil)
		seen.fail(err)
		_, err = conn.WriteTo([]byte("x"), peer.LocalAddr())
		seen.fail(err)
		seen.fail(conn.SetReadDeadline(time.Now()))
		seen.fail(conn.SetDeadline(time.Now()))
		seen.fail(conn.Close())
		seen.add(isFree(conn.LocalAddr()))
	}},
	{"close of a conn that was read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		seen.add(err, conn.Close(), isFree(conn.LocalAddr()))
	}},
	{"many goroutines read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		const readers, datagrams = 8, 200
		got := make(chan byte, datagrams)
		var group sync.WaitGroup
		for range readers {
			group.Add(1)
			go func() {
				defer group.Done()
				b := make([]byte, 10)
				for {
					n, _, err := conn.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					if n == 1 {
						got <- b[0]
					}
				}
			}()
		}
		count := map[byte]int{}
		for i := range datagrams {
			write(t, peer, string([]byte{byte(i)}))
			count[<-got]++
		}
		seen.add(len(count))
		seen.add(conn.Close())
		group.Wait()
	}},
	{"answers find their way", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "ping")
		b := make([]byte, 10)
		_, address, err := conn.ReadFrom(b)
		seen.add(err)
		n, err := conn.WriteTo([]byte("pong"), address)
		seen.add(n, err)
		n, err = peer.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"trains are datagrams", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "first") // after it UDP_GRO is on
		b, oob := make([]byte, 300), make([]byte, 100)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
		train := make([]byte, 5*100+1)
		for i := range train {
			train[i] = byte(i / 100)
		}
		for range 4 {
			sendTrain(t, peer, train, 100)
			for range 2 {
				n, err = conn.Read(b)
				seen.add(n, b[0], err)
				n, address, err := conn.ReadFrom(b[:60])
				seen.add(n, b[0], from(peer, address), err)
				n, oobn, flags, _, err := conn.ReadMsgUDP(b[:60], oob)
				seen.add(n, oobn, flags, b[0], err)
			}
		}
	}},
	{"a deadline within a train", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 200)
		write(t, peer, "first")
		_, err := conn.Read(b)
		seen.add(err)
		sendTrain(t, peer, make([]byte, 300), 100)
		n, err := conn.Read(b)
		seen.add(n, err, conn.SetReadDeadline(time.Now().Add(-time.Second)))
		_, err = conn.Read(b)
		seen.fail(err)
		seen.add(conn.SetReadDeadline(time.Time{}))
		for range 2 {
			n, err = conn.Read(b)
			seen.add(n, err)
		}
	}},
	{"close within a train", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 200)
		for range 2 {
			sendTrain(t, peer, make([]byte, 300), 100)
			n, err := conn.Read(b)
			seen.add(n, err)
		}
		seen.add(conn.Close())
		_, err := conn.Read(b)
		seen.fail(err)
		seen.add(isFree(conn.LocalAddr()))
	}},
	{"control messages", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err, raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVTTL, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		}))
		b := make([]byte, 200)
		for i := range 3 {
			sendTrain(t, peer, make([]byte, 300), 100)
			for j := range 3 {
				oob := make([]byte, 20*j+60)
				n, oobn, flags, _, err := conn.ReadMsgUDP(b, oob)
				seen.add(i, n, oobn, flags, string(oob[:oobn]), err)
			}
		}
		write(t, peer, "no room")
		_, oobn, flags, _, err := conn.ReadMsgUDP(b, nil)
		seen.add(oobn, flags, err)
	}},
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

// Every behaviour looks the same whatever the conn is made of.
func TestConnBehavesLikeUDPConn(t *testing.T) {
	for _, network := range []struct{ name, at string }{{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}, {"udp", ":0"}} {
		for _, b := range behaviours {
			t.Run(network.name+"/"+b.name, func(t *testing.T) {
				var wanted outcome
				for _, maker := range makers {
					receiver := udp(t, network.name, network.at)
					to := *receiver.LocalAddr().(*net.UDPAddr)
					if to.IP.IsUnspecified() {
						to.IP = net.IPv4(127, 0, 0, 1)
					}
					conn, err := maker.make(receiver)
					ok(t, err)
					var seen outcome
					done := make(chan struct{})
					go func() {
						defer close(done)
						b.run(t, conn, sender(t, &to), &seen)
					}()
					within(t, 20*time.Second, maker.name, done)
					_ = conn.Close()
					if wanted == nil {
						wanted = seen
					} else if !reflect.DeepEqual(seen, wanted) {
						t.Errorf("%s: %v\nnet: %v", maker.name, seen, wanted)
					}
				}
			})
		}
	}
}

// A connected socket is told that nobody listens, and goes on.
func TestConnectedSocketsReportRefusals(t *testing.T) {
	nobody := udp(t, "udp4", "127.0.0.1:0")
	to := nobody.LocalAddr()
	var wanted outcome
	for _, maker := range makers {
		connect(t, nobody, to)
		conn, err := maker.make(sender(t, to))
		ok(t, err)
		var seen outcome
		for range 3 {
			_, err := conn.Write([]byte("anybody?"))
			seen.add(err)
			_, err = conn.Read(make([]byte, 10))
			seen.fail(err)
			_, err = conn.Write([]byte("anybody?"))
			seen.add(err)
			_, _, _, _, err = conn.ReadMsgUDPAddrPort(make([]byte, 10), nil)
			seen.fail(err)
		}
		connect(t, nobody, conn.LocalAddr())
		_, err = nobody.WriteTo([]byte("me"), conn.LocalAddr())
		ok(t, err)
		b := make([]byte, 10)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err, conn.RemoteAddr().String() == to.String())
		ok(t, conn.Close())
		if wanted == nil {
			wanted = seen
		} else if !reflect.DeepEqual(seen, wanted) {
			t.Errorf("%s: %v\nnet: %v", maker.name, seen, wanted)
		}
	}
}
