//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// groOf returns whether UDP_GRO is on.
func groOf(t testing.TB, conn interface {
	SyscallConn() (syscall.RawConn, error)
}) bool {
	t.Helper()
	raw, err := conn.SyscallConn()
	ok(t, err)
	var on int
	ok(t, raw.Control(func(fd uintptr) { on, err = unix.GetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_GRO) }))
	ok(t, err)
	return on != 0
}

// The first read switches UDP_GRO on, on a connected socket the second one; Control and Write leave
// it, a raw Read and File end it permanently.
func TestWhenGROIsOn(t *testing.T) {
	conn, peer := listen(t)
	equal(t, "before a read", groOf(t, conn), false)
	read := func(conn *Conn, peer *net.UDPConn) {
		t.Helper()
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		ok(t, err)
	}
	read(conn, peer)
	equal(t, "after a read", groOf(t, conn), true)
	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Write(func(uintptr) bool { return true }))
	equal(t, "after a raw write", groOf(t, conn), true)
	equal(t, "in Stats", conn.Stats().GRO, true)
	ok(t, raw.Read(func(uintptr) bool { return true }))
	equal(t, "after a raw read", groOf(t, conn), false)
	read(conn, peer)
	equal(t, "after another read", groOf(t, conn), false)

	other, err := NewConn(sender(t, conn.LocalAddr()))
	ok(t, err)
	defer other.Close()
	for i, wanted := range []bool{false, true} {
		_, err := conn.WriteTo([]byte("answer"), other.LocalAddr())
		ok(t, err)
		_, err = other.Read(make([]byte, 10))
		ok(t, err)
		equal(t, "connected, reads before "+string(rune('0'+i)), groOf(t, other), wanted)
	}
	file, err := other.File()
	ok(t, err)
	ok(t, file.Close())
	equal(t, "after File", groOf(t, other), false)

	without, peer := listen(t, WithGRO(false))
	read(without, peer)
	equal(t, "without GRO", groOf(t, without), false)
}

// UDP_GRO that the program switched on stays its own: it is on after Close.
func TestGROOfTheProgramStays(t *testing.T) {
	socket := udp(t, "udp4", "127.0.0.1:0")
	file, err := socket.File()
	ok(t, err)
	defer file.Close()
	ok(t, unix.SetsockoptInt(int(file.Fd()), unix.SOL_UDP, unix.UDP_GRO, 1))
	conn, err := NewConn(socket)
	ok(t, err)
	peer := sender(t, conn.LocalAddr())
	for range 2 {
		sendTrain(t, peer, make([]byte, 300), 100)
	}
	for range 6 {
		n, err := conn.Read(make([]byte, 200))
		ok(t, err)
		equal(t, "datagram", n, 100)
	}
	ok(t, conn.Close())
	on, err := unix.GetsockoptInt(int(file.Fd()), unix.SOL_UDP, unix.UDP_GRO)
	ok(t, err)
	equal(t, "after Close", on, 1)
}

// What is queued when a raw Read switches UDP_GRO off, trains and datagrams, goes to the Conn's own
// reads, one by one and in order; the raw reads get what comes later, one by one as well.
func TestWhatIsQueuedBeforeARawReadIsKept(t *testing.T) {
	conn, peer := listen(t)
	b := make([]byte, 3000)
	write(t, peer, "first")
	_, err := conn.Read(b)
	ok(t, err)
	for i := range 5 {
		sendTrain(t, peer, fill(1000, byte(i)), 100)
		write(t, peer, string(fill(55, byte(i))))
	}
	packets := ipv4.NewPacketConn(conn)
	read := make(chan int)
	go func() {
		in := messagesOf(1, 3000, 0)
		for range 10 {
			if _, err := packets.ReadBatch(in, 0); err != nil {
				t.Error(err)
			}
			read <- in[0].N
		}
	}()
	for groOf(t, conn) {
		time.Sleep(time.Millisecond)
	}
	equal(t, "pending", conn.Stats().Pending, 10)
	sendTrain(t, peer, make([]byte, 1000), 100)
	for range 10 {
		select {
		case n := <-read:
			equal(t, "read raw", n, 100)
		case <-time.After(5 * time.Second):
			t.Fatal("the raw reads got less than what was sent after the first one began")
		}
	}
	for i := range 5 {
		for range 10 {
			n, err := conn.Read(b)
			ok(t, err)
			equal(t, "length", n, 100)
			equal(t, "content", b[99], byte(i))
		}
		n, err := conn.Read(b)
		ok(t, err)
		equal(t, "length of a lone one", n, 55)
		equal(t, "content of a lone one", b[0], byte(i))
	}
}

func fill(length int, with byte) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = with
	}
	return b
}

// While trains keep coming, UDP_GRO goes off by File or by a raw Read: nobody ever reads two
// datagrams as one. (Switched off with a train in the queue the kernel hands it over as one.)
func TestSwitchingGROOffMergesNothing(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 20
	}
	for round := range rounds {
		switchOffInAFlood(t, round)
	}
}

func switchOffInAFlood(t *testing.T, round int) {
	socket := udp(t, "udp4", "127.0.0.1:0")
	shared, err := socket.File()
	ok(t, err)
	duplicate, err := net.FilePacketConn(shared)
	ok(t, err)
	ok(t, shared.Close())
	conn, err := NewConn(socket)
	ok(t, err)
	peer := sender(t, conn.LocalAddr())
	b := make([]byte, 3000)
	write(t, peer, string(fill(100, 0)))
	_, err = conn.Read(b)
	ok(t, err)

	var stop atomic.Bool
	var senders sync.WaitGroup
	defer senders.Wait()
	defer stop.Store(true)
	senders.Add(1)
	go func() {
		defer senders.Done()
		for !stop.Load() {
			sendTrain(t, peer, make([]byte, 1000), 100)
		}
	}()
	time.Sleep(time.Millisecond)
	if round%2 == 0 {
		file, err := conn.File()
		ok(t, err)
		ok(t, file.Close())
	} else {
		raw, err := conn.SyscallConn()
		ok(t, err)
		ok(t, raw.Read(func(uintptr) bool { return true }))
	}
	for range 50 { // by a reader who knows nothing of trains
		n, _, err := duplicate.ReadFrom(b)
		ok(t, err)
		equal(t, "datagram", n, 100)
	}
	stop.Store(true)
	senders.Wait()
	ok(t, duplicate.SetReadDeadline(time.Now().Add(time.Millisecond)))
	for {
		n, _, err := duplicate.ReadFrom(b)
		if err != nil {
			break
		}
		equal(t, "datagram at the end", n, 100)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	for {
		n, err := conn.Read(b)
		if err != nil {
			break
		}
		equal(t, "datagram of the Conn", n, 100)
	}
	_ = conn.Close()
	_ = duplicate.Close()
}

// Close switches UDP_GRO off for those who have a duplicate of the socket. Trains that are queued
// by then are lost, and not read as one datagram each.
func TestCloseLeavesNoTrains(t *testing.T) {
	socket := udp(t, "udp4", "127.0.0.1:0")
	shared, err := socket.File()
	ok(t, err)
	duplicate, err := net.FilePacketConn(shared)
	ok(t, err)
	ok(t, shared.Close())
	defer duplicate.Close()
	conn, err := NewConn(socket)
	ok(t, err)
	peer := sender(t, conn.LocalAddr())
	b := make([]byte, 3000)
	write(t, peer, "first")
	_, err = conn.Read(b)
	ok(t, err)
	for range 3 {
		sendTrain(t, peer, make([]byte, 1000), 100)
	}
	ok(t, conn.Close())
	sendTrain(t, peer, make([]byte, 200), 100)
	for range 2 {
		n, _, err := duplicate.ReadFrom(b)
		ok(t, err)
		equal(t, "datagram after Close", n, 100)
	}
	equal(t, "GRO", groOf(t, duplicate.(*net.UDPConn)), false)
}

// File returns at once while a reader sleeps, and the reader goes on.
func TestFileDoesNotWaitForASleepingReader(t *testing.T) {
	conn, peer := listen(t)
	write(t, peer, "first")
	b := make([]byte, 10)
	_, err := conn.Read(b)
	ok(t, err)
	read := make(chan string)
	go func() {
		b := make([]byte, 10)
		n, err := conn.Read(b)
		if err != nil {
			t.Error(err)
		}
		read <- string(b[:n])
	}()
	time.Sleep(20 * time.Millisecond)
	done := make(chan struct{})
	go func() {
		defer close(done)
		file, err := conn.File()
		if err != nil {
			t.Error(err)
			return
		}
		_ = file.Close()
	}()
	within(t, 5*time.Second, "File", done)
	equal(t, "GRO", groOf(t, conn), false)
	write(t, peer, "second")
	equal(t, "the reader got", <-read, "second")
}

// A raw Read while a loop over Batches has the Conn is refused, as any other read is.
func TestARawReadIsARead(t *testing.T) {
	conn, _ := listen(t)
	conn.readers.Add(-iterating)
	raw, err := conn.SyscallConn()
	ok(t, err)
	if err := raw.Read(func(uintptr) bool { return true }); !errors.Is(err, ErrAnotherReader) {
		t.Fatal(err)
	}
	conn.readers.Add(iterating)
	ok(t, raw.Read(func(uintptr) bool { return true }))
}

// Once the socket is shared, nothing is read ahead: the other one gets what the Conn does not ask
// for.
func TestNothingIsReadAheadOnASharedSocket(t *testing.T) {
	for _, share := range []bool{false, true} {
		conn, peer := listen(t)
		b := make([]byte, 10)
		if share {
			file, err := conn.File()
			ok(t, err)
			ok(t, file.Close())
		}
		for range 100 {
			write(t, peer, "x")
		}
		for range 50 {
			_, err := conn.Read(b)
			ok(t, err)
		}
		equal(t, "read ahead", conn.Stats().Pending > 0, !share)
	}
}

// While the socket's filter keeps datagrams away from it, UDP_GRO is switched off without a doubt;
// a filter of the program's is left alone.
func TestAFilterOfTheProgramsStays(t *testing.T) {
	conn, peer := listen(t)
	b := make([]byte, 100)
	write(t, peer, "first")
	_, err := conn.Read(b)
	ok(t, err)
	fd := descriptorOf(t, conn.udp)
	accept := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16}
	program := unix.SockFprog{Len: 1, Filter: &accept}
	ok(t, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program))
	unexpected := func(*message) { t.Error("a message") }
	equal(t, "switched off beside a filter", conn.in.switchOffUndisturbed(fd, unexpected), false)
	equal(t, "GRO", groOf(t, conn.udp), true)
	ok(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0))
	equal(t, "switched off", conn.in.switchOffUndisturbed(fd, unexpected), true)
	equal(t, "GRO", groOf(t, conn.udp), false)
	write(t, peer, "still heard")
	_, err = conn.Read(b)
	ok(t, err)
}
