//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// batchWriter is what x/net adds to a *net.UDPConn, and what a Conn has without it.
type batchWriter interface {
	WriteBatch([]ipv4.Message, int) (int, error)
	ReadBatch([]ipv4.Message, int) (int, error)
}

func batches(kind string, udp *net.UDPConn) batchWriter {
	if kind == "net" {
		return ipv4.NewPacketConn(udp)
	}
	return wrap(kind, udp).(*ringmsg.Conn)
}

// batchSize is what x/net's users take.
const batchSize = 64

// writes measures the CPU time of a datagram that WriteBatch sends, with its delivery over
// loopback.
func writes(rounds int) {
	for _, size := range []int{100, 1200} {
		written(fmt.Sprintf("WriteBatch(64) of %d B, 64 peers", size), rounds, size, 64, 1.05)
		written(fmt.Sprintf("WriteBatch(64) of %d B, 16 x 4", size), rounds, size, 16, 0.55)
		written(fmt.Sprintf("WriteBatch(64) of %d B, one peer", size), rounds, size, 1, 0.30)
	}
	echo(rounds)
}

// written measures batches whose messages go to `peers` receivers in turn.
func written(name string, rounds, size, peers int, goal float64) {
	var receivers []*net.UDPConn
	var to []net.Addr
	for range peers {
		receiver, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		check(err)
		defer receiver.Close()
		check(receiver.SetReadBuffer(4 << 20))
		receivers, to = append(receivers, receiver), append(to, receiver.LocalAddr())
	}
	var ends [2]batchWriter
	for i, kind := range kinds {
		udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		check(err)
		defer udp.Close()
		ends[i] = batches(kind, udp)
	}
	messages := make([]ipv4.Message, batchSize)
	for i := range messages {
		messages[i] = ipv4.Message{Buffers: [][]byte{make([]byte, size)}, Addr: to[i%peers]}
	}
	buffer := make([]byte, 2048)
	drain := func() {
		for _, receiver := range receivers {
			raw, err := receiver.SyscallConn()
			check(err)
			check(raw.Control(func(fd uintptr) {
				for {
					if _, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT); err != nil {
						return
					}
				}
			}))
		}
	}
	var figures [2][]float64
	for range rounds {
		var took [2]time.Duration
		const batches = 100
		for turn := range batches {
			for k := range kinds {
				i := (turn + k) % 2
				before := cpu()
				for sent := 0; sent < len(messages); {
					n, err := ends[i].WriteBatch(messages[sent:], 0)
					check(err)
					sent += n
				}
				took[i] += cpu() - before
				drain()
			}
		}
		for i := range kinds {
			figures[i] = append(figures[i], float64(took[i])/(batches*batchSize))
		}
	}
	report(name, "ns", figures, goal)
}

// echoServer is a process that echoes, by batches of x/net or by Batches and Reply. It prints its
// CPU time and how much it has echoed whenever a line comes in.
func echoServer(kind string) {
	var echoed atomic.Int64
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	check(udp.SetReadBuffer(8 << 20))
	check(udp.SetWriteBuffer(8 << 20))
	fmt.Println(udp.LocalAddr())
	if kind == "net" {
		go echoBatches(ipv4.NewPacketConn(udp), &echoed)
	} else {
		go echoReplies(wrap(kind, udp).(*ringmsg.Conn), &echoed)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(cpu().Nanoseconds(), echoed.Load())
	}
}

func echoBatches(conn batchWriter, echoed *atomic.Int64) {
	messages := make([]ipv4.Message, batchSize)
	buffers := make([][]byte, batchSize)
	for i := range messages {
		buffers[i] = make([]byte, 2048)
		messages[i].Buffers = [][]byte{buffers[i]}
	}
	for {
		n, err := conn.ReadBatch(messages, 0)
		check(err)
		for i := range messages[:n] {
			messages[i].Buffers[0] = buffers[i][:messages[i].N]
		}
		for sent := 0; sent < n; {
			k, err := conn.WriteBatch(messages[sent:n], 0)
			check(err)
			sent += k
		}
		for i := range messages[:n] {
			messages[i].Buffers[0] = buffers[i]
		}
		echoed.Add(int64(n))
	}
}

func echoReplies(conn *ringmsg.Conn, echoed *atomic.Int64) {
	var payloads [][]byte
	for batch, err := range conn.Batches(context.Background()) {
		check(err)
		payloads = payloads[:0]
		for _, datagram := range batch.All() {
			payloads = append(payloads, datagram.Payload())
		}
		_, err = batch.Reply(payloads)
		check(err)
		echoed.Add(int64(batch.Len()))
	}
}

// echo measures the CPU time of echoed datagrams of 1200 bytes, of interleaved flows. A server is
// stopped while its socket is filled: so both find the same queue, and nothing else runs.
func echo(rounds int) {
	const flows, perFlow = 16, 16
	var servers [2]*exec.Cmd
	var ask [2]func() (cpu, echoed int64)
	var at [2]string
	for i, kind := range kinds {
		command := exec.Command("/proc/self/exe", "-role", "echo", "-kind", kind)
		command.Stderr = os.Stderr
		in, err := command.StdinPipe()
		check(err)
		out, err := command.StdoutPipe()
		check(err)
		check(command.Start())
		defer func() { check(command.Process.Kill()); _ = command.Wait() }()
		lines := bufio.NewScanner(out)
		lines.Scan()
		servers[i], at[i] = command, lines.Text()
		ask[i] = func() (cpu, echoed int64) {
			_, err := in.Write([]byte("\n"))
			check(err)
			lines.Scan()
			_, err = fmt.Sscan(lines.Text(), &cpu, &echoed)
			check(err)
			return cpu, echoed
		}
	}
	var clients []*net.UDPConn
	for range flows {
		client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		check(err)
		defer client.Close()
		clients = append(clients, client)
	}
	payload, buffer := make([]byte, 1200), make([]byte, 2048)
	burst := func(i int) {
		to := netip.MustParseAddrPort(at[i])
		check(servers[i].Process.Signal(unix.SIGSTOP))
		var status unix.WaitStatus
		for !status.Stopped() {
			_, err := unix.Wait4(servers[i].Process.Pid, &status, unix.WUNTRACED, nil)
			check(err)
		}
		for range perFlow {
			for _, client := range clients {
				_, err := client.WriteToUDPAddrPort(payload, to)
				check(err)
			}
		}
		check(servers[i].Process.Signal(unix.SIGCONT))
		for _, client := range clients {
			check(client.SetReadDeadline(time.Now().Add(5 * time.Second)))
			for range perFlow {
				_, err := client.Read(buffer)
				check(err)
			}
		}
	}
	compare("echo of 16 flows x 16, Batches+Reply", "ns", rounds, 0.60, func(kind string) float64 {
		i := 0
		if kind == kinds[1] {
			i = 1
		}
		cpuBefore, before := ask[i]()
		for range 20 {
			burst(i)
		}
		cpuAfter, after := ask[i]()
		return float64(cpuAfter-cpuBefore) / float64(after-before)
	})
}
