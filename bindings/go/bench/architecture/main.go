//go:build linux && cgo

// Architecture measures the ways in which a Go program can own a ring, which docs/decisions.md
// compares: a goroutine locked to its thread with a DEFER_TASKRUN ring, a ring whose ring_fd is on
// the runtime's poller, a ring in whose reap the reading goroutine itself sleeps; and package net.
// Figures are the receiving process's CPU per datagram (CLOCK_PROCESS_CPUTIME_ID), and the round
// trip of a ping-pong. Sender and pinger are processes of their own.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go"
	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

const capacity = 256

type batch struct {
	records  []ringmsg.Record
	metadata []ringmsg.Metadata
	n        int
	err      error
}

func newBatch() *batch {
	return &batch{records: make([]ringmsg.Record, capacity), metadata: make([]ringmsg.Metadata, capacity)}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func descriptor(conn *net.UDPConn) (fd int) {
	raw, err := conn.SyscallConn()
	check(err)
	check(raw.Control(func(number uintptr) { fd = int(number) }))
	return fd
}

// ring arms a ring for the socket, in this thread.
func ring(conn *net.UDPConn, flags uring.SetupFlags) (*ringmsg.Ring, *ringmsg.Pool) {
	r, err := ringmsg.NewRing(&ringmsg.RingConfig{Flags: flags})
	check(err)
	pool, err := r.NewPool(ringmsg.PoolConfig{Buffers: 1024, PayloadCapacity: 2048})
	check(err)
	check(r.RecvmsgMultishot(pool, descriptor(conn), 0, 0, 0))
	return r, pool
}

// A receiver calls handle with each datagram's source until it fails.
type receiver func(conn *net.UDPConn, handle func(netip.AddrPort))

func deliver(b *batch, handle func(netip.AddrPort)) {
	for i := range b.n {
		if b.records[i].Result < 0 {
			continue
		}
		handle(b.metadata[i].Source())
	}
}

// One locked goroutine owns the ring; batches change hands through channels.
func owner(flags uring.SetupFlags) receiver {
	return func(conn *net.UDPConn, handle func(netip.AddrPort)) {
		free, full := make(chan *batch, 2), make(chan *batch, 2)
		free <- newBatch()
		free <- newBatch()
		go func() {
			runtime.LockOSThread()
			r, _ := ring(conn, flags)
			for b := range free {
				check(r.Release(b.records[:b.n]))
				b.n, b.err = r.Next(0, b.records, b.metadata, nil)
				full <- b
			}
		}()
		for b := range full {
			deliver(b, handle)
			free <- b
		}
	}
}

// The reading goroutine waits on the runtime's poller, and reaps what is there.
func poller(flags uring.SetupFlags) receiver {
	return func(conn *net.UDPConn, handle func(netip.AddrPort)) {
		r, _ := ring(conn, flags)
		fd, err := r.FD()
		check(err)
		duplicate, err := syscall.Dup(fd)
		check(err)
		raw, err := os.NewFile(uintptr(duplicate), "ring").SyscallConn()
		check(err)
		b := newBatch()
		for {
			check(raw.Read(func(uintptr) bool {
				b.n, b.err = r.Next(b.n, b.records, b.metadata, &ringmsg.Wait{})
				check(b.err)
				return b.n > 0
			}))
			deliver(b, handle)
		}
	}
}

// The reading goroutine sleeps in reap.
func direct(flags uring.SetupFlags, lock bool) receiver {
	return func(conn *net.UDPConn, handle func(netip.AddrPort)) {
		if lock {
			runtime.LockOSThread()
		}
		r, _ := ring(conn, flags)
		b := newBatch()
		for {
			b.n, b.err = r.Next(b.n, b.records, b.metadata, nil)
			check(b.err)
			deliver(b, handle)
		}
	}
}

// The reading goroutine sleeps in reap, and arms the request again when it finds itself on another
// thread: completions run in the thread that armed.
func rearm(flags uring.SetupFlags) receiver {
	return func(conn *net.UDPConn, handle func(netip.AddrPort)) {
		r, pool := ring(conn, flags)
		at := syscall.Gettid()
		b := newBatch()
		for {
			b.n, b.err = r.Next(b.n, b.records, b.metadata, &ringmsg.Wait{})
			check(b.err)
			if b.n == 0 {
				if here := syscall.Gettid(); here != at {
					at = here
					check(r.Cancel(0))
					check(r.RecvmsgMultishot(pool, descriptor(conn), 0, 0, 0))
				}
				b.n, b.err = r.Next(b.n, b.records, b.metadata, nil)
				check(b.err)
			}
			deliver(b, handle)
		}
	}
}

// The reading goroutine waits for the socket itself on the runtime's poller, and has the ring
// take what is there: armed and cancelled in its own thread, nothing stays behind.
func socket(flags uring.SetupFlags) receiver {
	return func(conn *net.UDPConn, handle func(netip.AddrPort)) {
		r, pool := ring(conn, flags)
		check(r.Cancel(0))
		fd := descriptor(conn)
		raw, err := conn.SyscallConn()
		check(err)
		b := newBatch()
		for {
			check(raw.Read(func(uintptr) bool {
				check(r.RecvmsgMultishot(pool, fd, 0, ringmsg.RecvNoRearm, 1))
				if err := r.Cancel(1); err != nil && !errors.Is(err, syscall.ENOENT) {
					panic(err)
				}
				b.n, b.err = r.Next(b.n, b.records, b.metadata, &ringmsg.Wait{})
				check(b.err)
				return b.n > 1 || b.n == 1 && b.records[0].Result >= 0
			}))
			deliver(b, handle)
		}
	}
}

// The reading goroutine sleeps in the reap of the recvmmsg engine, which belongs to no thread.
func engine(conn *net.UDPConn, handle func(netip.AddrPort)) {
	r, err := ringmsg.NewRing(&ringmsg.RingConfig{Engine: ringmsg.EngineRecvmmsg})
	check(err)
	pool, err := r.NewPool(ringmsg.PoolConfig{Buffers: 1024, PayloadCapacity: 2048})
	check(err)
	check(r.RecvmsgMultishot(pool, descriptor(conn), 0, 0, 0))
	b := newBatch()
	for {
		b.n, b.err = r.Next(b.n, b.records, b.metadata, nil)
		check(b.err)
		deliver(b, handle)
	}
}

func plainNet(conn *net.UDPConn, handle func(netip.AddrPort)) {
	buffer := make([]byte, 2048)
	oob := make([]byte, 256)
	for {
		_, _, _, from, err := conn.ReadMsgUDPAddrPort(buffer, oob)
		check(err)
		handle(from)
	}
}

type candidate struct {
	name string
	run  receiver
}

var receivers = []candidate{
	{"net", plainNet},
	{"owner-defer", owner(ringmsg.SetupDeferTaskrun)},
	{"poller-plain", poller(0)},
	{"poller-coop", poller(ringmsg.SetupCoopTaskrun | ringmsg.SetupTaskrunFlag)},
	{"direct-plain", direct(0, false)},
	{"direct-coop", direct(ringmsg.SetupCoopTaskrun, false)},
	{"rearm-plain", rearm(0)},
	{"rearm-coop", rearm(ringmsg.SetupCoopTaskrun)},
	{"socket-plain", socket(0)},
	{"socket-coop", socket(ringmsg.SetupCoopTaskrun)},
	{"recvmmsg-engine", engine},
	{"direct-defer-locked", direct(ringmsg.SetupDeferTaskrun, true)},
}

func cpu() time.Duration {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)) // getrusage counts in ticks here
	return time.Duration(now.Nano())
}

// receive runs one receiver for as long as its input is open, and prints what it saw.
func receive(name string, echo bool) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	check(conn.SetReadBuffer(1 << 20))
	count := 0
	for _, candidate := range receivers {
		if candidate.name == name {
			go candidate.run(conn, func(from netip.AddrPort) {
				count++
				if echo {
					_, err := conn.WriteToUDPAddrPort([]byte("pong"), from)
					check(err)
				}
			})
		}
	}
	time.Sleep(50 * time.Millisecond)
	fmt.Println(conn.LocalAddr())
	before := cpu()
	_, _ = io.Copy(io.Discard, os.Stdin)
	fmt.Println(count, (cpu() - before).Nanoseconds())
}

// send sends 64-byte datagrams in bursts, `rate` per second; 0: as fast as it goes.
func send(to string, rate int, during time.Duration) {
	conn, err := net.Dial("udp4", to)
	check(err)
	payload := make([]byte, 64)
	start, sent := time.Now(), 0
	for time.Since(start) < during {
		due := sent + 32
		if rate > 0 {
			due = int(time.Since(start).Seconds() * float64(rate))
		}
		for ; sent < due; sent++ {
			_, _ = conn.Write(payload)
		}
		if rate > 0 {
			time.Sleep(20 * time.Microsecond)
		}
	}
	fmt.Println(sent)
}

// ping prints the median and the 99th percentile of round trips, in ns.
func ping(to string, count int, pause time.Duration) {
	runtime.LockOSThread()
	address := netip.MustParseAddrPort(to)
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	check(err)
	check(syscall.Connect(fd, &syscall.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}))
	buffer := make([]byte, 64)
	times := make([]int64, 0, count)
	for range count {
		start := time.Now()
		_, err := syscall.Write(fd, []byte("ping"))
		check(err)
		_, err = syscall.Read(fd, buffer)
		check(err)
		times = append(times, time.Since(start).Nanoseconds())
		time.Sleep(pause)
	}
	slices.Sort(times)
	fmt.Println(times[count/2], times[count*99/100])
}

// together runs a receiver and a peer, and returns what both said.
func together(name, echo string, peer ...string) (received, said string) {
	self, err := os.Executable()
	check(err)
	r := exec.Command(self, "-receive", name, "-echo="+echo)
	r.Stderr = os.Stderr
	in, err := r.StdinPipe()
	check(err)
	out, err := r.StdoutPipe()
	check(err)
	check(r.Start())
	line := make([]byte, 64)
	n, err := out.Read(line)
	check(err)
	p := exec.Command(self, append(peer, "-to", strings.TrimSpace(string(line[:n])))...)
	p.Stderr = os.Stderr
	answer, err := p.Output()
	check(err)
	time.Sleep(20 * time.Millisecond)
	check(in.Close())
	rest, err := io.ReadAll(out)
	check(err)
	_ = r.Wait()
	return strings.TrimSpace(string(rest)), strings.TrimSpace(string(answer))
}

func main() {
	name := flag.String("receive", "", "run as this receiver")
	echo := flag.Bool("echo", false, "answer each datagram")
	to := flag.String("to", "", "run as a peer of this address")
	rate := flag.Int("rate", -1, "datagrams to send per second; 0: as many as possible")
	count := flag.Int("count", 3000, "round trips")
	pause := flag.Duration("pause", 200*time.Microsecond, "between round trips")
	only := flag.String("only", "", "receivers, by comma")
	rounds := flag.Int("rounds", 5, "interleaved rounds")
	flag.Parse()
	switch {
	case *name != "":
		receive(*name, *echo)
		return
	case *to != "" && *rate >= 0:
		send(*to, *rate, time.Second)
		return
	case *to != "":
		ping(*to, *count, *pause)
		return
	}
	if *only != "" {
		receivers = slices.DeleteFunc(
			receivers, func(r candidate) bool { return !slices.Contains(strings.Split(*only, ","), r.name) },
		)
	}
	results := map[string][]float64{}
	add := func(name, what, value string, per string) {
		v, err := strconv.ParseFloat(value, 64)
		check(err)
		if per != "" {
			p, err := strconv.ParseFloat(per, 64)
			check(err)
			v /= max(p, 1)
		}
		results[name+" "+what] = append(results[name+" "+what], v)
	}
	whats := []string{}
	for round := range *rounds {
		for _, r := range receivers {
			_, said := together(r.name, "true", "-count", strconv.Itoa(*count), "-pause", pause.String())
			f := strings.Fields(said)
			add(r.name, "ping-p50-us", f[0], "1000")
			add(r.name, "ping-p99-us", f[1], "1000")
			for _, rate := range []string{"0", "200000", "20000"} {
				received, said := together(r.name, "false", "-rate", rate)
				f := strings.Fields(received)
				add(r.name, "ns@"+rate, f[1], f[0])
				add(r.name, "got@"+rate, f[0], said)
				if round == 0 && r.name == "net" {
					whats = append(whats, "ns@"+rate, "got@"+rate)
				}
			}
		}
	}
	whats = append([]string{"ping-p50-us", "ping-p99-us"}, whats...)
	fmt.Printf("%-20s", "median of rounds")
	for _, what := range whats {
		fmt.Printf(" %12s", what)
	}
	fmt.Println()
	for _, r := range receivers {
		fmt.Printf("%-20s", r.name)
		for _, what := range whats {
			v := results[r.name+" "+what]
			slices.Sort(v)
			fmt.Printf(" %12.2f", v[len(v)/2])
		}
		fmt.Println()
	}
}
