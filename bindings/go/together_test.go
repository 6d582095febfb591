//go:build linux

package ringmsg

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Every method at once, from many goroutines, until two of them close the Conn: each call returns,
// with a result or an error that a program can tell, and nothing is torn (the race detector looks).
func TestEveryMethodAtOnce(t *testing.T) {
	for _, options := range [][]Option{nil, {WithReplyFromDestination()}} {
		conn, err := Listen("udp", ":0", options...)
		ok(t, err)
		to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: conn.LocalAddr().(*net.UDPAddr).Port}
		raw, err := conn.SyscallConn()
		ok(t, err)
		b := func() []byte { return make([]byte, 200) }
		calls := []func() error{
			func() error { _, err := conn.Read(b()); return err },
			func() error { _, _, err := conn.ReadFrom(b()); return err },
			func() error { _, _, err := conn.ReadFromUDPAddrPort(b()); return err },
			func() error { _, _, _, _, err := conn.ReadMsgUDP(b(), b()); return err },
			func() error { _, err := conn.ReadBatch(messagesOf(5, 100, 50), 0); return err },
			func() error { _, err := conn.WriteTo(b(), to); return err },
			func() error { _, err := conn.WriteToUDPAddrPort(b(), to.AddrPort()); return err },
			func() error {
				m := ipv4.Message{Buffers: [][]byte{b()}, Addr: to}
				_, err := conn.WriteBatch([]ipv4.Message{m, m, m}, 0)
				return err
			},
			func() error {
				_, err := conn.SendBatch([]Message{{Payload: b(), Path: PathTo(to.AddrPort()), SegmentSize: 50}})
				return err
			},
			func() error { return conn.SetReadDeadline(time.Now().Add(time.Millisecond)) },
			func() error { return conn.SetDeadline(time.Time{}) },
			func() error { return conn.SetReadBuffer(100_000) },
			func() error { return raw.Control(func(uintptr) {}) },
			func() error { _ = conn.Stats(); _ = conn.RemoteAddr(); return nil },
			func() error {
				for _, err := range conn.Batches(context.Background()) {
					if errors.Is(err, ErrAnotherReader) || errors.Is(err, errors.ErrUnsupported) {
						return nil
					}
					return err
				}
				return nil
			},
		}
		shared := []func() error{
			func() error {
				file, err := conn.File()
				if err == nil {
					err = file.Close()
				}
				return err
			},
			func() error {
				return raw.Read(func(fd uintptr) bool {
					_, _, err := unix.Recvfrom(int(fd), b(), unix.MSG_DONTWAIT)
					return err != unix.EAGAIN
				})
			},
		}
		var wait sync.WaitGroup
		var closed atomic.Bool
		run := func(call func() error) {
			defer wait.Done()
			for {
				err := call()
				switch {
				case errors.Is(err, net.ErrClosed), closed.Load():
					return
				case err != nil && !os.IsTimeout(err) && !errors.Is(err, ErrAnotherReader):
					t.Error(err)
					return
				}
				time.Sleep(20 * time.Microsecond)
			}
		}
		begin := func(calls []func() error) {
			for _, call := range calls {
				wait.Add(2)
				go run(call)
				go run(call)
			}
		}
		begin(calls)
		time.Sleep(150 * time.Millisecond)
		begin(shared)
		time.Sleep(50 * time.Millisecond)
		for range 2 {
			wait.Add(1)
			go func() {
				defer wait.Done()
				_ = conn.Close()
				closed.Store(true)
			}()
		}
		done := make(chan struct{})
		go func() { wait.Wait(); close(done) }()
		within(t, 10*time.Second, "the end of every call", done)
	}
}
