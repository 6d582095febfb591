//go:build linux

package ringmsg

import (
	"net"
	"testing"
	"time"
)

// A read that hands out one datagram allocates nothing, alone or from a train.
func TestReadFromUDPAddrPortDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector sync.Pool drops what it is given")
	}
	conn, peer := listen(t)
	b, train := make([]byte, 100), make([]byte, 450)
	read := func() {
		if _, _, err := conn.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
	}
	one := testing.AllocsPerRun(200, func() {
		if _, err := peer.Write(b[:50]); err != nil {
			t.Fatal(err)
		}
		read()
	})
	sending := testing.AllocsPerRun(200, func() { sendTrain(t, peer, train, 100) })
	many := testing.AllocsPerRun(200, func() {
		sendTrain(t, peer, train, 100)
		for range 5 {
			read()
		}
	})
	if one > 0.5 || many-sending > 0.5 {
		t.Fatalf("%.2f allocations for one datagram, %.2f for a train of five", one, many-sending)
	}
}

// ReadBatch allocates the addresses of a train's datagrams together. Each datagram has one of its
// own: a program that changes one changes no other.
func TestReadBatchAllocatesOnceForATrain(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector sync.Pool drops what it is given")
	}
	conn, peer := listen(t)
	train, in := make([]byte, 32*100), messagesOf(32, 100, 0)
	ok(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	send := func() { sendTrain(t, peer, train, 100) }
	read := func() {
		for left := len(in); left > 0; {
			n, err := conn.ReadBatch(in[:left], 0)
			ok(t, err)
			left -= n
		}
	}
	elsewhere := sender(t, udp(t, "udp4", "127.0.0.1:0").LocalAddr())
	sending := testing.AllocsPerRun(100, func() { sendTrain(t, elsewhere, train, 100) })
	both := testing.AllocsPerRun(100, func() { send(); read() })
	if each := both - sending; each > 2.5 {
		t.Fatalf("%.2f allocations for a train of %d", each, len(in))
	}
	send()
	n, err := conn.ReadBatch(in, 0)
	ok(t, err)
	equal(t, "datagrams of a train", n, len(in))
	wanted := in[1].Addr.String()
	in[0].Addr.(*net.UDPAddr).Port, in[0].Addr.(*net.UDPAddr).IP[0] = 1, 1
	equal(t, "the next address", in[1].Addr.String(), wanted)
}

// A Read on a connected socket does not ask the kernel for the sender. When what it received was a
// train, the reads that return the rest of it know the sender all the same.
func TestTheSenderOfATrainThatReadBegan(t *testing.T) {
	first := udp(t, "udp4", "127.0.0.1:0")
	dialled, err := net.DialUDP("udp4", nil, first.LocalAddr().(*net.UDPAddr))
	ok(t, err)
	ok(t, first.Close()) // its address is taken by a socket that is connected, too
	peer, err := net.DialUDP("udp4", first.LocalAddr().(*net.UDPAddr), dialled.LocalAddr().(*net.UDPAddr))
	ok(t, err)
	t.Cleanup(func() { _ = peer.Close() })
	conn, err := NewConn(dialled)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	b := make([]byte, 100)
	for range 3 { // UDP_GRO is on after the second read
		write(t, peer, "alone")
		n, err := conn.Read(b)
		ok(t, err)
		equal(t, "a datagram", string(b[:n]), "alone")
	}
	for range 2 { // the second train is asked for its sender: trains come
		sendTrain(t, peer, make([]byte, 250), 100)
		n, err := conn.Read(b)
		ok(t, err)
		equal(t, "bytes", n, 100)
		n, from, err := conn.ReadFromUDPAddrPort(b)
		ok(t, err)
		equal(t, "bytes", n, 100)
		equal(t, "the sender", from, conn.RemoteAddr().(*net.UDPAddr).AddrPort())
		n, address, err := conn.ReadFromUDP(b)
		ok(t, err)
		equal(t, "bytes", n, 50)
		equal(t, "the sender", address.String(), conn.RemoteAddr().String())
	}
	equal(t, "trains", conn.Stats().Trains, 2)
}

// After a train, datagrams that come alone and are shorter than its own are read several at a time
// again, as before it.
func TestShortDatagramsAfterATrainAreReadAhead(t *testing.T) {
	conn, peer := listen(t)
	b := make([]byte, 2000)
	sendTrain(t, peer, make([]byte, 3000), 1000)
	const count = 60
	for range count {
		write(t, peer, "short")
	}
	for range 3 { // before them UDP_GRO is off: the train comes as datagrams
		_, err := conn.Read(b)
		ok(t, err)
	}
	for round := range 2 {
		calls := conn.Stats().ReadCalls
		for range count {
			_, err := conn.Read(b)
			ok(t, err)
		}
		if calls = conn.Stats().ReadCalls - calls; calls > count/3 {
			t.Errorf("round %d: %d calls for %d datagrams", round, calls, count)
		}
		sendTrain(t, peer, make([]byte, 3000), 1000)
		for range 3 {
			_, err := conn.Read(b)
			ok(t, err)
		}
		equal(t, "trains", conn.Stats().Trains, uint64(round+1))
		for range count {
			write(t, peer, "short")
		}
	}
}
