//go:build linux && cgo

package uring_test

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// A sender sends out of one slice, or out of slices anywhere: each message has its result, what is
// out of bounds is that message's EFAULT, and the counters say what left in trains.
func TestASenderSendsMessages(t *testing.T) {
	receiver, socket := udp(t, "udp4", "127.0.0.1:0"), udp(t, "udp4", "127.0.0.1:0")
	s, err := uring.NewSender(descriptorOf(t, socket), nil)
	ok(t, err)
	paths := []uring.Path{uring.PathTo(receiver.LocalAddr().(*net.UDPAddr).AddrPort())}
	base := []byte("onetwo")
	messages := []uring.SendMessage{
		{PayloadOffset: 0, PayloadLength: 3},
		{PayloadOffset: 3, PayloadLength: 3},
		{PayloadOffset: 4, PayloadLength: 3},
		{PathIndex: 1},
		{PathIndex: uring.PathNone, PayloadLength: 1},
	}
	n, err := s.SendFrom(base, paths, messages, 0)
	ok(t, err)
	equal(t, "settled", n, 5)
	for i, wanted := range []int32{3, 3, -int32(syscall.EFAULT), -int32(syscall.EFAULT), -int32(syscall.EDESTADDRREQ)} {
		equal(t, "result", messages[i].Result, wanted)
	}
	long := bytes.Repeat([]byte("long"), 4000)
	messages = []uring.SendMessage{{}, {}, {}}
	n, err = s.Send([][]byte{long, []byte("short"), nil}, paths, messages, 0)
	ok(t, err)
	equal(t, "settled", n, 3)
	equal(t, "result", messages[0].Result, int32(len(long)))
	_, err = s.Send([][]byte{long}, paths, []uring.SendMessage{{PathIndex: 7}}, 0)
	equal(t, "no such path", errors.Is(err, syscall.EFAULT), true)
	_, err = s.Send(nil, paths, messages, 0)
	equal(t, "no payloads", errors.Is(err, syscall.EINVAL), true)
	_, err = s.SendFrom(base, paths, messages, 1<<30)
	equal(t, "unknown flags", errors.Is(err, syscall.EINVAL), true)
	b := make([]byte, 20000)
	for _, wanted := range [][]byte{[]byte("one"), []byte("two"), long, []byte("short"), nil} {
		n, err := receiver.Read(b)
		ok(t, err)
		equal(t, "a datagram", bytes.Equal(b[:n], wanted), true)
	}
	stats, err := s.Stats()
	ok(t, err)
	equal(t, "messages", stats.Messages, 5)
	equal(t, "trains", stats.Trains >= 1, true)
	equal(t, "errors", stats.Errors, 3)
	ok(t, s.Close())
	_, err = s.SendFrom(base, paths, messages, 0)
	equal(t, "closed", errors.Is(err, net.ErrClosed), true)
	equal(t, "closed twice", errors.Is(s.Close(), net.ErrClosed), true)
	_, err = uring.NewSender(-1, nil)
	equal(t, "no descriptor", errors.Is(err, syscall.EBADF), true)
}

// A sender takes pending errors off the socket, and says so once.
func TestASenderTellsSocketErrors(t *testing.T) {
	nobody := udp(t, "udp4", "127.0.0.1:0")
	socket := sender(t, nobody.LocalAddr())
	ok(t, nobody.Close())
	s, err := uring.NewSender(descriptorOf(t, socket), nil)
	ok(t, err)
	defer s.Close()
	equal(t, "before", s.TakeSocketError(), 0)
	for range 3 {
		_, err = s.SendFrom([]byte("x"), nil, []uring.SendMessage{{PathIndex: uring.PathNone, PayloadLength: 1}}, 0)
		ok(t, err)
	}
	equal(t, "refused", s.TakeSocketError(), syscall.ECONNREFUSED)
	equal(t, "returned once", s.TakeSocketError(), 0)
}
