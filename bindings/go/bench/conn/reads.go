//go:build linux

package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reads measures the CPU time of a read.
func reads(rounds int) {
	queued("lone, read as it arrives", rounds, 1, 1.10, single(64))
	queued("lone, 32 queued", rounds, 32, 1.10, single(64))
	queued("lone 1200 bytes, 32 queued", rounds, 32, 1.10, single(1200))
	queued("trains of 32 x 1200 bytes", rounds, 320, 0.20, train(1200, 32))
	for _, rate := range []int{1000, 50_000, 0} {
		paced(rounds, rate)
	}
}

// A sender sends datagrams and returns how many.
type sender func(peer *net.UDPConn) int

func single(size int) sender {
	payload := make([]byte, size)
	return func(peer *net.UDPConn) int {
		_, err := peer.Write(payload)
		check(err)
		return 1
	}
}

func train(size, segments int) sender {
	oob := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = uint16(size)
	payload := make([]byte, size*segments)
	return func(peer *net.UDPConn) int {
		_, _, err := peer.WriteMsgUDP(payload, oob, nil)
		check(err)
		return segments
	}
}

// queued measures reads of what is queued already: both kinds drain a queue of `depth` datagrams in
// turn, many times in a round.
func queued(name string, rounds, depth int, goal float64, send sender) {
	var ends [2]conn
	var peers [2]*net.UDPConn
	for i, kind := range kinds {
		ends[i] = listen(kind)
		defer ends[i].Close()
		check(ends[i].SetReadBuffer(4 << 20))
		peers[i] = dial(ends[i])
		defer peers[i].Close()
	}
	buffer := make([]byte, 2048)
	drain := func(i int) (time.Duration, int) {
		sent := 0
		for sent < depth {
			sent += send(peers[i])
		}
		before := cpu()
		for range sent {
			_, _, err := ends[i].ReadFromUDPAddrPort(buffer)
			check(err)
		}
		return cpu() - before, sent
	}
	var clock time.Duration // what two looks at the clock cost
	for range 1000 {
		before := cpu()
		clock += cpu() - before
	}
	clock /= 1000
	var figures [2][]float64
	for range rounds {
		var took [2]time.Duration
		var count [2]int
		for turn := range max(6400/depth, 20) {
			for k := range kinds {
				i := (turn + k) % 2
				t, n := drain(i)
				took[i] += t - clock
				count[i] += n
			}
		}
		for i := range kinds {
			figures[i] = append(figures[i], float64(took[i])/float64(count[i]))
		}
	}
	report(name, "ns", figures, goal)
}

// serve is a process with a reader of each kind. It prints its CPU time and what has arrived
// whenever a line comes in.
func serve() {
	var counts [2]atomic.Int64
	for i, kind := range kinds {
		c := listen(kind)
		check(c.SetReadBuffer(4 << 20))
		fmt.Println(c.LocalAddr())
		go func() {
			buffer := make([]byte, 2048)
			for {
				n, from, err := c.ReadFromUDPAddrPort(buffer)
				check(err)
				counts[i].Add(1)
				if n > 0 && buffer[0] == 'p' { // a ping
					_, err = c.WriteToUDPAddrPort(buffer[:n], from)
					check(err)
				}
			}
		}()
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(cpu().Nanoseconds(), counts[0].Load(), counts[1].Load())
	}
}

// server is a running serve.
type server struct {
	command *exec.Cmd
	lines   *bufio.Scanner
	ask     func()
	at      [2]string
}

func startServer() *server {
	s := &server{command: exec.Command("/proc/self/exe", "-role", "serve", "-readahead", fmt.Sprint(*readAhead))}
	s.command.Stderr = os.Stderr
	in, err := s.command.StdinPipe()
	check(err)
	out, err := s.command.StdoutPipe()
	check(err)
	check(s.command.Start())
	s.lines = bufio.NewScanner(out)
	s.ask = func() { _, err := in.Write([]byte("\n")); check(err) }
	for i := range s.at {
		s.lines.Scan()
		s.at[i] = s.lines.Text()
	}
	return s
}

func (s *server) stop() {
	check(s.command.Process.Kill())
	_ = s.command.Wait()
}

// mark returns the server's CPU time and what its sockets have received.
func (s *server) mark() (cpu int64, counts [2]int64) {
	s.ask()
	s.lines.Scan()
	_, err := fmt.Sscan(s.lines.Text(), &cpu, &counts[0], &counts[1])
	check(err)
	return cpu, counts
}

// paced measures a reader in a process of its own while datagrams arrive at this rate; 0: as fast
// as they can be sent.
func paced(rounds, rate int) {
	s := startServer()
	defer s.stop()
	name := fmt.Sprintf("lone, %d k/s", rate/1000)
	if rate == 0 {
		name = "lone, flat out"
	}
	payload := make([]byte, 64)
	index := map[string]int{kinds[0]: 0, kinds[1]: 1}
	compare(name, "ns", rounds, 1.10, func(kind string) float64 {
		i := index[kind]
		peer, err := net.Dial("udp4", s.at[i])
		check(err)
		defer peer.Close()
		cpuBefore, before := s.mark()
		sent := 0
		for start := time.Now(); time.Since(start) < 200*time.Millisecond; {
			due := sent + 16
			if rate > 0 {
				due = int(time.Since(start).Seconds() * float64(rate))
			}
			for ; sent < due; sent++ {
				_, _ = peer.Write(payload)
			}
			if rate > 0 {
				time.Sleep(20 * time.Microsecond)
			}
		}
		time.Sleep(20 * time.Millisecond)
		cpuAfter, after := s.mark()
		return float64(cpuAfter-cpuBefore) / float64(max(after[i]-before[i], 1))
	})
}

// latency measures the median round trip to an idle echo server.
func latency(rounds int) {
	s := startServer()
	defer s.stop()
	var figures [2][]float64
	for range rounds {
		out, err := exec.Command("/proc/self/exe", "-role", "ping", "-to", strings.Join(s.at[:], ",")).Output()
		check(err)
		var p50 [2]float64
		_, err = fmt.Sscan(string(out), &p50[0], &p50[1])
		check(err)
		for i := range p50 {
			figures[i] = append(figures[i], p50[i])
		}
	}
	report("ping-pong p50", "us", figures, 1.05)
	together(rounds)
}
