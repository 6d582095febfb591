//go:build linux && cgo

package uring_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

var modes = []struct {
	name  string
	flags uring.SetupFlags
}{
	{"plain", 0},
	{"coop", uring.SetupCoopTaskrun},
	{"coop_flag", uring.SetupCoopTaskrun | uring.SetupTaskrunFlag},
	{"defer", uring.SetupDeferTaskrun},
}

// inModes runs a test in every task-work mode, on a thread of its own, which ends with the test.
func inModes(t *testing.T, test func(t *testing.T, ring *uring.Ring)) {
	needRing(t)
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			runtime.LockOSThread()
			ring, err := uring.NewRing(&uring.RingConfig{Flags: mode.flags})
			ok(t, err)
			defer func() {
				if err := ring.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			}()
			test(t, ring)
		})
	}
}

func arm(t testing.TB, ring *uring.Ring, conn *net.UDPConn, buffers int, flags uring.RecvFlags) *uring.Pool {
	t.Helper()
	fd := descriptorOf(t, conn)
	config, err := uring.PoolConfigForSocket(fd)
	ok(t, err)
	config.Buffers = buffers
	pool, err := ring.NewPool(config)
	ok(t, err)
	ok(t, ring.RecvmsgMultishot(pool, fd, 0, flags, 42))
	return pool
}

func soon() *uring.Wait { return &uring.Wait{Timeout: 5 * time.Second} }

func reapOne(t testing.TB, ring *uring.Ring) (uring.Record, uring.Metadata) {
	t.Helper()
	var records [1]uring.Record
	var metadata [1]uring.Metadata
	n, err := ring.Reap(records[:], metadata[:], soon())
	ok(t, err)
	equal(t, "records", n, 1)
	return records[0], metadata[0]
}

func TestADatagramArrives(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		receiver := udp(t, "udp4", "127.0.0.1:0")
		from := sender(t, receiver.LocalAddr())
		pool := arm(t, ring, receiver, 16, 0)
		write(t, from, "hello")
		record, metadata := reapOne(t, ring)
		equal(t, "user data", record.UserData, 42)
		equal(t, "payload", string(pool.Payload(&record)), "hello")
		equal(t, "flags", record.Flags, uring.RecordBuffer)
		equal(t, "source", metadata.Source(), from.LocalAddr().(*net.UDPAddr).AddrPort())
		equal(t, "pool", record.Pool, pool.ID())
		ok(t, ring.Release([]uring.Record{record}))
		err := ring.Release([]uring.Record{record})
		if !errors.Is(err, syscall.EINVAL) {
			t.Fatalf("a second release: %v", err)
		}
		var explained *uring.Error
		if !errors.As(err, &explained) || explained.Reason == "" {
			t.Fatalf("no sentence in %#v", err)
		}
		stats, err := ring.Stats()
		ok(t, err)
		equal(t, "datagrams", stats.Datagrams, 1)
		equal(t, "held", stats.BuffersHeld, 0)
		request, err := ring.RequestStats(42)
		ok(t, err)
		equal(t, "the request's bytes", request.PayloadBytes, 5)
	})
}

func TestTypedMetadata(t *testing.T) {
	for _, network := range []string{"udp4 127.0.0.1:0", "udp6 [::1]:0"} {
		inModes(t, func(t *testing.T, ring *uring.Ring) {
			var name, address string
			fmt.Sscan(network, &name, &address)
			receiver := udp(t, name, address)
			const asked = uring.MetaDestination | uring.MetaTrafficClass |
				uring.MetaHopLimit | uring.MetaSoftwareTimestamp
			ok(t, uring.EnableMetadata(descriptorOf(t, receiver), asked))
			from := sender(t, receiver.LocalAddr())
			fd := descriptorOf(t, from)
			if name == "udp4" {
				ok(t, unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, int(uring.ECNCongestion)))
			} else {
				ok(t, unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, int(uring.ECNCongestion)))
			}
			arm(t, ring, receiver, 16, 0)
			// The kernel begins to take timestamps a moment after they were asked for.
			var metadata uring.Metadata
			for range 100 {
				write(t, from, "x")
				var record uring.Record
				record, metadata = reapOne(t, ring)
				ok(t, ring.Release([]uring.Record{record}))
				if metadata.Valid&uring.MetaSoftwareTimestamp != 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			equal(t, "ECN", metadata.ECN(), uring.ECNCongestion)
			equal(t, "destination", metadata.Destination(), receiver.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
			equal(t, "hop limit", metadata.HopLimit, 64)
			loopback, err := net.InterfaceByName("lo")
			ok(t, err)
			equal(t, "interface", int(metadata.InterfaceIndex), loopback.Index)
			if age := time.Since(metadata.Timestamp()); age < 0 || age > time.Minute {
				t.Fatalf("a timestamp %v old", age)
			}
		})
	}
}

func TestTrainsAreSplitWithoutACopy(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		receiver := udp(t, "udp4", "127.0.0.1:0")
		ok(t, uring.EnableMetadata(descriptorOf(t, receiver), uring.MetaSegmentSize))
		pool := arm(t, ring, receiver, 16, uring.RecvSplit)
		train := bytes.Repeat([]byte("abcdefghij"), 25) // 250 bytes: 2 of 100 and a tail of 50
		sendTrain(t, sender(t, receiver.LocalAddr()), train, 100)
		records := make([]uring.Record, 8)
		n := 0
		for n < 3 {
			more, err := ring.Reap(records[n:], nil, soon())
			ok(t, err)
			n += more
		}
		equal(t, "records", n, 3)
		for i, length := range []uint32{100, 100, 50} {
			equal(t, "length", records[i].PayloadLength, length)
			equal(t, "segments", records[i].Segments, 3)
			equal(t, "offset", records[i].PayloadOffset, records[0].PayloadOffset+uint32(i)*100)
		}
		var joined []byte
		for i := range records[:n] {
			joined = append(joined, pool.Payload(&records[i])...)
		}
		equal(t, "the train", string(joined), string(train))
		ok(t, ring.Release(records[:n]))
	})
}

func TestNextReleasesAndReaps(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		receiver := udp(t, "udp4", "127.0.0.1:0")
		from := sender(t, receiver.LocalAddr())
		pool := arm(t, ring, receiver, 4, 0) // fewer buffers than datagrams: nothing may be forgotten
		records := make([]uring.Record, 4)
		n := 0
		for i := range 100 {
			write(t, from, fmt.Sprint(i))
			var err error
			n, err = ring.Next(n, records, nil, soon())
			ok(t, err)
			equal(t, "payload", string(pool.Payload(&records[0])), fmt.Sprint(i))
		}
	})
}

func TestWakeAndTimeout(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		arm(t, ring, udp(t, "udp4", "127.0.0.1:0"), 4, 0)
		records := make([]uring.Record, 1)
		start := time.Now()
		n, err := ring.Reap(records, nil, &uring.Wait{Timeout: 30 * time.Millisecond})
		ok(t, err)
		equal(t, "records", n, 0)
		if time.Since(start) < 25*time.Millisecond {
			t.Fatal("the timeout came too early")
		}
		time.AfterFunc(20*time.Millisecond, func() { _ = ring.Wake() })
		start = time.Now()
		n, err = ring.Reap(records, nil, &uring.Wait{Timeout: 20 * time.Second})
		ok(t, err)
		equal(t, "records", n, 0)
		if time.Since(start) > 10*time.Second {
			t.Fatal("the wake did not arrive")
		}
	})
}

func TestCloseEndsASleepingReap(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		pool := arm(t, ring, udp(t, "udp4", "127.0.0.1:0"), 4, 0)
		closed := make(chan struct{})
		time.AfterFunc(30*time.Millisecond, func() {
			if err := ring.Close(); err != nil {
				t.Error(err)
			}
			close(closed)
		})
		_, err := ring.Reap(make([]uring.Record, 1), nil, nil)
		if !errors.Is(err, net.ErrClosed) {
			t.Fatalf("reap: %v", err)
		}
		within(t, 10*time.Second, "close", closed)
		_, stats := ring.Stats()
		_, info := ring.Info()
		_, fd := ring.FD()
		_, created := ring.NewPool(uring.PoolConfig{})
		for i, err := range []error{
			ring.Close(), ring.Wake(), ring.Cancel(42), ring.Submit(), ring.Enable(), stats, info, fd, created,
			ring.Release(nil), pool.Close(), ring.Recvmsg(0, &uring.Message{}, 0, 0, 1),
			ring.RecvmsgOnce(pool, 0, 0, 0, 0),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("call %d on a closed ring: %v", i, err)
			}
		}
	})
}

func TestCancelAnswersWithOneFinal(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		pool := arm(t, ring, udp(t, "udp4", "127.0.0.1:0"), 4, 0)
		if err := pool.Close(); !errors.Is(err, syscall.EBUSY) {
			t.Fatalf("closing an armed pool: %v", err)
		}
		ok(t, ring.Cancel(42))
		record, _ := reapOne(t, ring)
		equal(t, "final", record.Flags, uring.RecordFinal)
		equal(t, "result", syscall.Errno(-record.Result), syscall.ECANCELED)
		if err := ring.Cancel(42); !errors.Is(err, syscall.ENOENT) {
			t.Fatalf("cancelling nothing: %v", err)
		}
		ok(t, pool.Close())
	})
}

func TestOneMessageIntoTheProgramsMemory(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		receiver := udp(t, "udp4", "127.0.0.1:0")
		fd := descriptorOf(t, receiver)
		ok(t, uring.EnableMetadata(fd, uring.MetaTrafficClass))
		from := sender(t, receiver.LocalAddr())
		message := &uring.Message{
			Buffers: [][]byte{make([]byte, 3), make([]byte, 16)}, Name: make([]byte, 128), Control: make([]byte, 64),
		}
		for range 3 {
			ok(t, ring.Recvmsg(fd, message, 0, 0, 7))
			if err := ring.Recvmsg(fd, message, 0, 0, 8); !errors.Is(err, syscall.EBUSY) {
				t.Fatalf("a message in flight: %v", err)
			}
			ok(t, ring.Submit())
			runtime.GC()
			write(t, from, "pinned")
			record, _ := reapOne(t, ring)
			equal(t, "result", record.Result, 6)
			equal(t, "payload", string(message.Buffers[0])+string(message.Buffers[1][:3]), "pinned")
			equal(t, "name length", message.NameLength, 16)
			metadata, err := uring.DecodeControl(message.Control[:message.ControlLength])
			ok(t, err)
			equal(t, "valid", metadata.Valid, uring.MetaTrafficClass)
			all, err := uring.ParseControl(message.Control[:message.ControlLength])
			ok(t, err)
			equal(t, "control messages", len(all), 1)
			equal(t, "type", all[0].Type, unix.IP_TOS)
		}
		ok(t, ring.Recvmsg(fd, message, 0, 0, 9)) // in flight when the ring is closed
	})
}

func TestOneMessageIntoAPoolBuffer(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		receiver := udp(t, "udp4", "127.0.0.1:0")
		pool, err := ring.NewPool(uring.PoolConfig{Buffers: 1, PayloadCapacity: 8})
		ok(t, err)
		fd := descriptorOf(t, receiver)
		ok(t, ring.RecvmsgOnce(pool, fd, 0, 0, 1))
		if err := ring.RecvmsgOnce(pool, fd, 0, 0, 1); !errors.Is(err, syscall.ENOBUFS) {
			t.Fatalf("a second request with one buffer: %v", err)
		}
		write(t, sender(t, receiver.LocalAddr()), "longer than eight")
		record, _ := reapOne(t, ring)
		equal(t, "flags", record.Flags, uring.RecordBuffer|uring.RecordFinal|uring.RecordTruncated)
		equal(t, "wire length", record.WireLength, 17)
		equal(t, "payload", string(pool.Payload(&record)), "longer t")
	})
}

func TestDescriptorsArrive(t *testing.T) {
	inModes(t, func(t *testing.T, ring *uring.Ring) {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		ok(t, err)
		defer unix.Close(pair[0])
		defer unix.Close(pair[1])
		config, err := uring.PoolConfigForSocket(pair[1])
		ok(t, err)
		config.Buffers = 4
		pool, err := ring.NewPool(config)
		ok(t, err)
		ok(t, ring.RecvmsgMultishot(pool, pair[1], 0, 0, 1))
		read, writeEnd, err := os.Pipe()
		ok(t, err)
		ok(t, unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(writeEnd.Fd())), nil, 0))
		ok(t, writeEnd.Close())
		record, _ := reapOne(t, ring)
		fds := make([]int, 4)
		n, err := ring.TakeFDs(&record, fds)
		ok(t, err)
		equal(t, "descriptors", n, 1)
		arrived := os.NewFile(uintptr(fds[0]), "pipe")
		_, err = arrived.WriteString("through")
		ok(t, err)
		ok(t, arrived.Close())
		got := make([]byte, 16)
		n, err = read.Read(got)
		ok(t, err)
		equal(t, "what came through", string(got[:n]), "through")
		ok(t, read.Close())
	})
}

func TestABoundRingRefusesOtherThreads(t *testing.T) {
	needRing(t)
	needIOURing(t)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ring, err := uring.NewRing(&uring.RingConfig{Flags: uring.SetupDeferTaskrun | uring.SetupDisabled})
	ok(t, err)
	defer ring.Close()
	if _, err := ring.Reap(make([]uring.Record, 1), nil, &uring.Wait{}); !errors.Is(err, syscall.EBADFD) {
		t.Fatalf("before enable: %v", err)
	}
	ok(t, ring.Enable())
	info, err := ring.Info()
	ok(t, err)
	equal(t, "owner", info.OwnerThread, syscall.Gettid())
	elsewhere := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, err := ring.Reap(make([]uring.Record, 1), nil, &uring.Wait{})
		elsewhere <- err
	}()
	if err := <-elsewhere; !errors.Is(err, syscall.EPERM) {
		t.Fatalf("from another thread: %v", err)
	}
}

func TestWrongConfigurationsAreExplained(t *testing.T) {
	needRing(t)
	_, err := uring.NewRing(&uring.RingConfig{Flags: uring.SetupSQPoll | uring.SetupDeferTaskrun})
	if !errors.Is(err, syscall.EINVAL) {
		t.Fatalf("contradictory flags: %v", err)
	}
	ring, err := uring.NewRing(&uring.RingConfig{})
	ok(t, err)
	defer ring.Close()
	_, err = ring.NewPool(uring.PoolConfig{Buffers: 300})
	bare := &uring.Error{Op: "pool_new", Errno: syscall.EINVAL}
	if !errors.Is(err, syscall.EINVAL) || err.Error() == bare.Error() {
		t.Fatalf("300 buffers: %v", err)
	}
	if err := uring.EnableMetadata(-1, uring.MetaSource); !errors.Is(err, syscall.EBADF) {
		t.Fatalf("no socket: %v", err)
	}
	if uring.Version() == "" || uring.DescribeSupport() == "" || uring.QuerySupport().KernelVersion == 0 {
		t.Fatal("no version, or no support")
	}
}

// The collector runs while a ring's only reference is inside its own call: `make test-go` runs
// the tests of this file also with -tags ringmsg_gc, which collects at each use of a handle.
func TestARingInUseIsNotCollected(t *testing.T) {
	needRing(t)
	receiver := udp(t, "udp4", "127.0.0.1:0")
	for range 5 {
		ring, err := uring.NewRing(&uring.RingConfig{})
		ok(t, err)
		arm(t, ring, receiver, 4, 0)
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				default:
					runtime.GC()
				}
			}
		}()
		n, err := ring.Reap(make([]uring.Record, 1), nil, &uring.Wait{Timeout: 20 * time.Millisecond})
		close(stop)
		ok(t, err)
		equal(t, "records", n, 0)
	}
}
