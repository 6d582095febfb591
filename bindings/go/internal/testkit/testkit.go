//go:build linux

// Package testkit is what the tests of the Go packages share.
package testkit

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

// NeedIOURing skips what only io_uring has where it is unavailable.
func NeedIOURing(t testing.TB) {
	t.Helper()
	if uring.QuerySupport().CreateError != 0 {
		t.Skip(uring.DescribeSupport())
	}
}

// NeedRing skips the test, counted, where RINGMSG_TEST_ALLOW_SKIP is set and there are no rings;
// without that variable it is a failure.
func NeedRing(t testing.TB) {
	t.Helper()
	if err := uring.Available(); err != nil {
		if os.Getenv("RINGMSG_TEST_ALLOW_SKIP") != "" {
			t.Skip(err)
		}
		t.Fatalf("%v (RINGMSG_TEST_ALLOW_SKIP=1 makes this a skip)", err)
	}
}

// OK fails the test on an error.
func OK(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Equal fails the test unless both values are equal.
func Equal[T comparable](t testing.TB, what string, seen, wanted T) {
	t.Helper()
	if seen != wanted {
		t.Fatalf("%s is %v, not %v", what, seen, wanted)
	}
}

// Within fails unless done is closed in time, with the stacks of all goroutines.
func Within(t testing.TB, limit time.Duration, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(limit):
		stacks := make([]byte, 1<<20)
		t.Fatalf("%s: not within %v\n%s", what, limit, stacks[:runtime.Stack(stacks, true)])
	}
}

// UDP returns a socket that is bound to address.
func UDP(t testing.TB, network, address string) *net.UDPConn {
	t.Helper()
	at, err := net.ResolveUDPAddr(network, address)
	OK(t, err)
	conn, err := net.ListenUDP(network, at)
	OK(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Sender returns a socket that is connected to an address.
func Sender(t testing.TB, to net.Addr) *net.UDPConn {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, to.(*net.UDPAddr))
	OK(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Connect makes conn receive only what comes from to. A socket that is connected to itself refuses
// everybody else, and keeps its port, which another program could take if the socket were closed.
func Connect(t testing.TB, conn *net.UDPConn, to net.Addr) {
	t.Helper()
	at := to.(*net.UDPAddr).AddrPort()
	OK(t, unix.Connect(
		Descriptor(t, conn), &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()},
	))
}

// IsFree checks that a socket can be bound to the address of a closed one. The runtime's poller may
// hold the closed one for a moment longer.
func IsFree(address net.Addr) error {
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

// Write sends one datagram.
func Write(t testing.TB, conn *net.UDPConn, payload string) {
	t.Helper()
	_, err := conn.Write([]byte(payload))
	OK(t, err)
}

// Descriptor returns the number of the socket's descriptor.
func Descriptor(t testing.TB, conn *net.UDPConn) int {
	t.Helper()
	var fd int
	raw, err := conn.SyscallConn()
	OK(t, err)
	OK(t, raw.Control(func(number uintptr) { fd = int(number) }))
	return fd
}

// SendTrain sends payload as one train, cut by the kernel into segments of this size.
func SendTrain(t testing.TB, conn *net.UDPConn, payload []byte, segment uint16) {
	t.Helper()
	oob := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	header.Level = unix.SOL_UDP
	header.Type = unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = segment
	_, _, err := conn.WriteMsgUDP(payload, oob, nil)
	OK(t, err)
}
