//go:build linux

package ringmsg

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// needIOURing skips what only io_uring has, where that is not to be had.
func needIOURing(t testing.TB) {
	t.Helper()
	if QuerySupport().CreateError != 0 {
		t.Skip(DescribeSupport())
	}
}

// needRing skips the test, counted, where RINGMSG_TEST_ALLOW_SKIP is set and there are no rings;
// without that variable it is a failure.
func needRing(t testing.TB) {
	t.Helper()
	if err := Available(); err != nil {
		if os.Getenv("RINGMSG_TEST_ALLOW_SKIP") != "" {
			t.Skip(err)
		}
		t.Fatalf("%v (RINGMSG_TEST_ALLOW_SKIP=1 makes this a skip)", err)
	}
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, seen, wanted T) {
	t.Helper()
	if seen != wanted {
		t.Fatalf("%s is %v, not %v", what, seen, wanted)
	}
}

// within fails unless done is closed in time, with the stacks of all goroutines.
func within(t testing.TB, limit time.Duration, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(limit):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: not within %v\n%s", what, limit, stacks[:runtime.Stack(stacks, true)])
	}
}

func udp(t testing.TB, network, address string) *net.UDPConn {
	t.Helper()
	at, err := net.ResolveUDPAddr(network, address)
	ok(t, err)
	conn, err := net.ListenUDP(network, at)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// sender returns a socket that sends to conn.
func sender(t testing.TB, to net.Addr) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// connect makes conn hear only what comes from to. Connected to itself it hears nobody: what others send is
// refused, while the port stays its own. (The port of a closed socket may be anybody's.)
func connect(t testing.TB, conn *net.UDPConn, to net.Addr) {
	t.Helper()
	at := to.(*net.UDPAddr).AddrPort()
	ok(t, unix.Connect(descriptorOf(t, conn), &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}))
}

// isFree checks that a socket can be bound to the address of a closed one. The runtime's poller may hold the
// closed one for a moment longer.
func isFree(address net.Addr) error {
	for deadline := time.Now().Add(100 * time.Millisecond); ; time.Sleep(time.Millisecond) {
		again, err := net.ListenUDP("udp", address.(*net.UDPAddr))
		if err == nil {
			return again.Close()
		}
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
	}
}

func write(t testing.TB, conn *net.UDPConn, payload string) {
	t.Helper()
	_, err := conn.Write([]byte(payload))
	ok(t, err)
}

func descriptorOf(t testing.TB, conn *net.UDPConn) int {
	t.Helper()
	var fd int
	raw, err := conn.SyscallConn()
	ok(t, err)
	ok(t, raw.Control(func(number uintptr) { fd = int(number) }))
	return fd
}

// sendTrain sends payload as one train, cut by the kernel into segments of this size.
func sendTrain(t testing.TB, conn *net.UDPConn, payload []byte, segment uint16) {
	t.Helper()
	oob := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	header.Level = unix.SOL_UDP
	header.Type = unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = segment
	_, _, err := conn.WriteMsgUDP(payload, oob, nil)
	ok(t, err)
}
