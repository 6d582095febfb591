//go:build linux

package ringmsg

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// packetConn is what *net.UDPConn and *Conn are expected to do alike.
type packetConn interface {
	net.PacketConn
	net.Conn
	ReadFromUDP([]byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	ReadMsgUDP(b, oob []byte) (int, int, int, *net.UDPAddr, error)
	ReadMsgUDPAddrPort(b, oob []byte) (int, int, int, netip.AddrPort, error)
	SyscallConn() (syscall.RawConn, error)
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
	var timeout net.Error
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
	o.add(described, err != nil, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded),
		errors.Is(err, syscall.ECONNREFUSED), errors.As(err, &timeout) && timeout.Timeout())
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
	{"a raw read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err)
		called := 0
		seen.add(raw.Control(func(uintptr) { called++ }))
		seen.add(raw.Write(func(uintptr) bool { called++; return true }), called)
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

// Conn has every method of *net.UDPConn, with its signature.
func TestConnHasEveryMethodOfUDPConn(t *testing.T) {
	theirs, ours := reflect.TypeOf(&net.UDPConn{}), reflect.TypeOf(&Conn{})
	for i := range theirs.NumMethod() {
		method := theirs.Method(i)
		mine, found := ours.MethodByName(method.Name)
		if !found {
			t.Errorf("no %s", method.Name)
			continue
		}
		for j := 1; j < method.Type.NumIn(); j++ {
			if mine.Type.NumIn() != method.Type.NumIn() || mine.Type.In(j) != method.Type.In(j) {
				t.Errorf("%s: %v, not %v", method.Name, mine.Type, method.Type)
				break
			}
		}
		for j := range method.Type.NumOut() {
			if mine.Type.NumOut() != method.Type.NumOut() || mine.Type.Out(j) != method.Type.Out(j) {
				t.Errorf("%s: %v, not %v", method.Name, mine.Type, method.Type)
				break
			}
		}
	}
	var _ io.ReadWriteCloser = (*Conn)(nil)
}

// listen returns a conn that goes through a ring, and a peer.
func listen(t testing.TB, options ...Option) (*Conn, *net.UDPConn) {
	t.Helper()
	conn, err := Listen("udp4", "127.0.0.1:0", options...)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, sender(t, conn.LocalAddr())
}

func TestOneKindOfReaderAtATime(t *testing.T) {
	conn, peer := listen(t)
	write(t, peer, "x")
	for _, err := range conn.Batches(context.Background()) {
		ok(t, err)
		_, _, err := conn.ReadFrom(make([]byte, 10))
		if !errors.Is(err, ErrAnotherReader) {
			t.Fatalf("a read during an iteration: %v", err)
		}
		for _, err := range conn.Batches(context.Background()) {
			if !errors.Is(err, ErrAnotherReader) {
				t.Fatalf("a second iteration: %v", err)
			}
		}
		break
	}
	started := make(chan struct{})
	go func() {
		close(started)
		_, _, _ = conn.ReadFrom(make([]byte, 10))
	}()
	<-started
	time.Sleep(30 * time.Millisecond)
	for _, err := range conn.Batches(context.Background()) {
		if !errors.Is(err, ErrAnotherReader) {
			t.Fatalf("an iteration during a read: %v", err)
		}
	}
}

// Nothing is lost, and the order is kept, when readers of both kinds take turns.
func TestReadersTakeTurns(t *testing.T) {
	conn, peer := listen(t)
	next := byte(0)
	read := func(payload []byte) {
		t.Helper()
		equal(t, "datagram", payload[0], next)
		next++
	}
	b := make([]byte, 10)
	send := func(from, to int) {
		for i := from; i < to; i++ {
			write(t, peer, string([]byte{byte(i)}))
		}
	}
	for start := 0; start < 240; start += 30 {
		send(start, start+20)
		for range 5 {
			_, err := conn.Read(b)
			ok(t, err)
			read(b)
		}
		send(start+20, start+30) // which the armed ring has when the other reader comes
		for batch, err := range conn.Batches(context.Background()) {
			ok(t, err)
			for _, d := range batch.All() {
				read(d.Payload())
			}
			if next >= byte(start+10) {
				break
			}
		}
		for next < byte(start+30) {
			_, err := conn.Read(b)
			ok(t, err)
			read(b)
		}
	}
}

func TestNoGoroutineNorDescriptorIsLeftBehind(t *testing.T) {
	descriptors := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		ok(t, err)
		return len(entries)
	}
	use := func() {
		conn, peer := listen(t)
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		ok(t, err)
		write(t, peer, "x")
		for _, err := range conn.Batches(context.Background()) {
			ok(t, err)
			break
		}
		ok(t, conn.Close())
		ok(t, peer.Close())
	}
	use()
	goroutines, open := runtime.NumGoroutine(), descriptors()
	for range 10 {
		use()
	}
	deadline := time.Now().Add(5 * time.Second)
	for runtime.NumGoroutine() > goroutines || descriptors() > open {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d descriptors, before %d and %d", runtime.NumGoroutine(), descriptors(), goroutines, open)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
