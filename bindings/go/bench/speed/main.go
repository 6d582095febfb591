//go:build linux

// Speed measures what a datagram costs the receiver when its socket's queue is drained: process CPU
// (CLOCK_PROCESS_CPUTIME_ID) from a full queue to an empty one, with no sender running. Every way
// to read has its turn in every round; the figures are medians over the rounds, the ratios medians
// of the ratios within a round.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func cpu() time.Duration {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)) // getrusage counts in ticks here
	return time.Duration(now.Nano())
}

func control(conn *net.UDPConn, f func(fd int) error) {
	raw, err := conn.SyscallConn()
	check(err)
	var failed error
	check(raw.Control(func(fd uintptr) { failed = f(int(fd)) }))
	check(failed)
}

func listen(gro bool) (conn, peer *net.UDPConn) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	control(conn, func(fd int) error {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 32<<20)
		}
		if gro {
			return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1)
		}
		return nil
	})
	peer, err = net.DialUDP("udp4", nil, conn.LocalAddr().(*net.UDPAddr))
	check(err)
	return conn, peer
}

// A load fills a queue and says with how many datagrams.
type load func(peer *net.UDPConn) int

func small(peer *net.UDPConn) int {
	payload := make([]byte, 64)
	for range 2000 {
		_, err := peer.Write(payload)
		check(err)
	}
	return 2000
}

func trains(peer *net.UDPConn) int {
	const segment, segments, count = 1200, 32, 100
	oob := make([]byte, unix.CmsgSpace(2))
	header := (*unix.Cmsghdr)(unsafe.Pointer(&oob[0]))
	header.Level, header.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	header.SetLen(unix.CmsgLen(2))
	*(*uint16)(unsafe.Pointer(&oob[unix.CmsgLen(0)])) = segment
	payload := make([]byte, segment*segments)
	for range count {
		_, _, err := peer.WriteMsgUDP(payload, oob, nil)
		check(err)
	}
	return segments * count
}

// sink keeps reads of payloads from being optimised away.
var sink byte

// A way fills its queue and drains it; the CPU that the draining took, per datagram.
type way struct {
	name string
	run  func(fill load) float64
}

func timed(count int, drain func()) float64 {
	before := cpu()
	drain()
	return float64((cpu() - before).Nanoseconds()) / float64(count)
}

func readFrom(fill load) float64 {
	conn, peer := listen(false)
	defer conn.Close()
	defer peer.Close()
	b := make([]byte, 2048)
	count := fill(peer)
	return timed(count, func() {
		for range count {
			_, _, err := conn.ReadFromUDPAddrPort(b)
			check(err)
			sink += b[0]
		}
	})
}

// connReadFrom is Conn.ReadFromUDPAddrPort.
func connReadFrom(fill load) float64 {
	socket, peer := listen(false)
	defer peer.Close()
	conn, err := ringmsg.NewConn(socket)
	check(err)
	defer conn.Close()
	b := make([]byte, 2048)
	read := func(count int) {
		for range count {
			_, _, err := conn.ReadFromUDPAddrPort(b)
			check(err)
			sink += b[0]
		}
	}
	read(fill(peer)) // with it UDP_GRO is on, and buffers are touched once
	count := fill(peer)
	return timed(count, func() { read(count) })
}

func readMsg(fill load) float64 {
	conn, peer := listen(false)
	defer conn.Close()
	defer peer.Close()
	b, oob := make([]byte, 2048), make([]byte, 128)
	count := fill(peer)
	return timed(count, func() {
		for range count {
			_, _, _, _, err := conn.ReadMsgUDPAddrPort(b, oob)
			check(err)
			sink += b[0]
		}
	})
}

// netBatch is x/net's ReadBatch; with gro, trains are split into buffers of their own.
func netBatch(size int, gro bool) func(load) float64 {
	return func(fill load) float64 {
		conn, peer := listen(gro)
		defer conn.Close()
		defer peer.Close()
		room := 2048
		if gro {
			room = 65536
		}
		messages := make([]ipv4.Message, size)
		for i := range messages {
			messages[i].Buffers, messages[i].OOB = [][]byte{make([]byte, room)}, make([]byte, 128)
		}
		packets := ipv4.NewPacketConn(conn)
		datagrams := make([][]byte, 128)
		for i := range datagrams {
			datagrams[i] = make([]byte, 2048)
		}
		drain := func(count int) {
			for seen := 0; seen < count; {
				n, err := packets.ReadBatch(messages, 0)
				check(err)
				for i := range messages[:n] {
					if gro {
						seen += split(&messages[i], datagrams)
					} else {
						sink += messages[i].Buffers[0][0]
						seen++
					}
				}
			}
		}
		for range warmFills {
			drain(fill(peer)) // buffers are touched once
		}
		count := fill(peer)
		return timed(count, func() { drain(count) })
	}
}

func split(message *ipv4.Message, into [][]byte) (count int) {
	payload, segment := message.Buffers[0][:message.N], message.N
	oob := message.OOB[:message.NN]
	for len(oob) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		check(err)
		if header.Level == unix.SOL_UDP && header.Type == unix.UDP_GRO {
			segment = int(*(*int32)(unsafe.Pointer(&data[0])))
		}
		oob = rest
	}
	for len(payload) > 0 {
		n := copy(into[count], payload[:min(segment, len(payload))])
		sink += into[count][0]
		payload = payload[n:]
		count++
	}
	return count
}

// batches is Conn.Batches: the queue is filled, and then drained, in the loop's body, as it is with
// the other ways.
func batches(options ...ringmsg.Option) func(load) float64 {
	return func(fill load) float64 {
		socket, peer := listen(false)
		conn, err := ringmsg.NewConn(socket, options...)
		check(err)
		check(conn.Ring())
		defer conn.Close()
		defer peer.Close()
		count := fill(peer)
		seen, warm := 0, warmFills // until buffers have been touched once, as above
		var before, took time.Duration
		for batch, err := range conn.Batches(context.Background()) {
			check(err)
			for i := range batch.Len() {
				sink += batch.At(i).Payload()[0]
			}
			seen += batch.Len()
			if seen < count {
				continue
			}
			if warm == 0 {
				took = cpu() - before
				break
			}
			seen, warm = 0, warm-1
			count = fill(peer)
			before = cpu()
		}
		return float64(took.Nanoseconds()) / float64(count)
	}
}

// connBatch is Conn.ReadBatch, into the program's own buffers.
func connBatch(size int) func(load) float64 {
	return func(fill load) float64 {
		socket, peer := listen(false)
		defer peer.Close()
		conn, err := ringmsg.NewConn(socket)
		check(err)
		defer conn.Close()
		messages := make([]ipv4.Message, size)
		for i := range messages {
			messages[i].Buffers, messages[i].OOB = [][]byte{make([]byte, 2048)}, make([]byte, 128)
		}
		drain := func(count int) {
			for seen := 0; seen < count; {
				n, err := conn.ReadBatch(messages, 0)
				check(err)
				for i := range messages[:n] {
					sink += messages[i].Buffers[0][0]
				}
				seen += n
			}
		}
		for range warmFills {
			drain(fill(peer))
		}
		count := fill(peer)
		return timed(count, func() { drain(count) })
	}
}

// figures are a way's, one a round.
type figures struct {
	CPU []float64 `json:"cpu_ns"`
}

// written is what -json writes: the figures by table and way.
var written = map[string]map[string]figures{}

// warmFills is how often a queue is filled and drained before the time counts.
const warmFills = 4

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

func compare(title string, rounds int, fill load, ways []way, against func(results map[string][]float64)) {
	results := map[string][]float64{}
	for range rounds {
		for _, w := range ways {
			results[w.name] = append(results[w.name], w.run(fill))
		}
	}
	fmt.Println(title)
	table, _, _ := strings.Cut(title, ",")
	written[table] = map[string]figures{}
	for _, w := range ways {
		v := results[w.name]
		written[table][w.name] = figures{v}
		fmt.Printf("  %-34s %7.0f ns  (best %5.0f)\n", w.name, median(v), slices.Min(v))
	}
	against(results)
}

func ratio(what string, target float64, mine, theirs []float64) {
	ratios := make([]float64, len(mine))
	for i := range mine {
		ratios[i] = mine[i] / theirs[i]
	}
	bests := slices.Min(mine) / slices.Min(theirs)
	fmt.Printf("  %-72s %.2f  (to reach: %.2f; of the bests: %.2f)\n", what, median(ratios), target, bests)
}

func main() {
	defer runtime.KeepAlive(&sink)
	rounds := flag.Int("rounds", 21, "interleaved rounds")
	profile := flag.Int("profile", 0, "drain trains by Batches this many times, and do nothing else")
	file := flag.String("json", "", "write every round's figures to this file")
	flag.Parse()
	if err := ringmsg.Available(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(77)
	}
	for range *profile {
		fmt.Println(batches()(trains))
	}
	if *profile > 0 {
		return
	}
	compare("64-byte datagrams, queue drained, CPU per datagram", *rounds, small, []way{
		{"net ReadMsgUDPAddrPort", readMsg},
		{"net ReadFromUDPAddrPort", readFrom},
		{"x/net ReadBatch(64)", netBatch(64, false)},
		{"ringmsg Batches", batches(ringmsg.WithGRO(false))},
		{"ringmsg Batches, unlocked", batches(ringmsg.WithGRO(false), ringmsg.WithUnlockedGoroutine())},
		{"ringmsg ReadBatch(64)", connBatch(64)},
		{"ringmsg ReadFromUDPAddrPort", connReadFrom},
	}, func(r map[string][]float64) {
		ratio("ReadFromUDPAddrPort / net's", 1.10, r["ringmsg ReadFromUDPAddrPort"], r["net ReadFromUDPAddrPort"])
		ratio("ReadBatch(64) / x/net's", 1.00, r["ringmsg ReadBatch(64)"], r["x/net ReadBatch(64)"])
		ratio("Batches / ReadMsgUDPAddrPort", 0.65, r["ringmsg Batches"], r["net ReadMsgUDPAddrPort"])
		ratio("Batches / x/net ReadBatch(64)", 0.85, r["ringmsg Batches"], r["x/net ReadBatch(64)"])
	})
	sizes := []int{1, 4, 16, 64}
	ways := []way{
		{"ringmsg Batches, GRO", batches()},
		{"ringmsg Batches, unlocked, GRO", batches(ringmsg.WithUnlockedGoroutine())},
		{"ringmsg ReadBatch(64), GRO", connBatch(64)},
		{"ringmsg ReadFromUDPAddrPort, GRO", connReadFrom},
	}
	ours := len(ways)
	for _, size := range sizes {
		ways = append(ways, way{fmt.Sprintf("x/net ReadBatch(%d), GRO, copying", size), netBatch(size, true)})
	}
	const title = "trains of 32 x 1200 bytes, queue drained, CPU per datagram"
	compare(title, *rounds, trains, ways, func(r map[string][]float64) {
		best := ways[ours].name
		for _, w := range ways[ours+1:] {
			if median(r[w.name]) < median(r[best]) {
				best = w.name
			}
		}
		for _, w := range ways[:ours] {
			ratio(w.name+" / "+best, 1.00, r[w.name], r[best])
		}
	})
	if *file != "" {
		text, err := json.Marshal(written)
		check(err)
		check(os.WriteFile(*file, text, 0o644))
	}
}
