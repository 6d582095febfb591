//go:build linux

// Conn measures what a ringmsg.Conn costs beside a *net.UDPConn, where both are used alike: reads
// of datagrams that come alone or queue up, reads of trains, batch writes, an echo server, round
// trips, sockets that live for one query, and a thousand sockets. Both take turns within every
// round, in the same process where that is possible; a line shows the median of the rounds' ratios
// and their quartiles, beside the goal.
//
//	go run ./bench/conn [-rounds 21] [-only reads,writes,latency,churn,scale,memlock]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go"
	"golang.org/x/sys/unix"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// conn is what *net.UDPConn and *ringmsg.Conn have in common here.
type conn interface {
	net.Conn
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	SetReadBuffer(int) error
}

// kinds are the two that are compared; the second one's figures are divided by the first one's.
var kinds = []string{"net", "ringmsg"}

var readAhead = flag.Int("readahead", 0, "give the Conns WithReadAhead")

func wrap(kind string, udp *net.UDPConn) conn {
	if kind == "net" {
		return udp
	}
	var options []ringmsg.Option
	if *readAhead > 0 {
		options = append(options, ringmsg.WithReadAhead(*readAhead))
	}
	wrapped, err := ringmsg.NewConn(udp, options...)
	check(err)
	return wrapped
}

func listen(kind string) conn {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	return wrap(kind, udp)
}

func dial(to conn) *net.UDPConn {
	peer, err := net.DialUDP("udp4", nil, to.LocalAddr().(*net.UDPAddr))
	check(err)
	return peer
}

// cpu is the CPU time of this process.
func cpu() time.Duration {
	var now unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &now)) // getrusage counts in ticks here
	return time.Duration(now.Nano())
}

// quartiles returns the median and the quartiles.
func quartiles(values []float64) (low, median, high float64) {
	v := slices.Clone(values)
	slices.Sort(v)
	n := len(v)
	return v[n/4], v[n/2], v[n-1-n/4]
}

// results are the ratios of every round by line, for -json.
var results = map[string][]float64{}

// report prints one line: the figure of both kinds, and the ratio.
func report(name, unit string, figures [2][]float64, goal float64) {
	ratios := make([]float64, len(figures[0]))
	for i := range ratios {
		ratios[i] = figures[1][i] / figures[0][i]
	}
	results[name] = ratios
	low, median, high := quartiles(ratios)
	_, theirs, _ := quartiles(figures[0])
	_, ours, _ := quartiles(figures[1])
	verdict := ""
	if median > goal {
		verdict = "  above the goal"
	}
	fmt.Printf("%-34s net %9.1f %-3s ringmsg %9.1f   ratio %.2f (%.2f to %.2f)  goal %.2f%s\n",
		name, theirs, unit, ours, median, low, high, goal, verdict)
}

// compare runs one measurement of each kind in every round, in changing order.
func compare(name, unit string, rounds int, goal float64, measure func(kind string) float64) {
	var figures [2][]float64
	for round := range rounds {
		for turn := range kinds {
			i := (turn + round) % len(kinds)
			figures[i] = append(figures[i], measure(kinds[i]))
		}
	}
	report(name, unit, figures, goal)
}

func main() {
	rounds := flag.Int("rounds", 21, "rounds of each measurement")
	only := flag.String("only", "reads,writes,latency,churn,scale,memlock", "which measurements")
	file := flag.String("json", "", "write the ratios of every round to this file")
	role := flag.String("role", "", "used by the program itself")
	kind := flag.String("kind", "net", "used by the program itself")
	to := flag.String("to", "", "used by the program itself")
	flag.Parse()
	switch *role {
	case "serve":
		serve()
		return
	case "echo":
		echoServer(*kind)
		return
	case "ping":
		pingAll(strings.Split(*to, ","))
		return
	case "scale":
		scaled(*kind)
		return
	case "memlock":
		underMemlock(*kind)
		return
	}
	for _, each := range strings.Split(*only, ",") {
		switch each {
		case "reads":
			reads(*rounds)
		case "writes":
			writes(*rounds)
		case "latency":
			latency(*rounds)
		case "churn":
			churn(*rounds)
		case "scale":
			scale(max(*rounds/4, 3))
		case "memlock":
			memlock()
		default:
			fmt.Fprintln(os.Stderr, "no such measurement:", each)
			os.Exit(2)
		}
	}
	if *file != "" {
		text, err := json.Marshal(results)
		check(err)
		check(os.WriteFile(*file, text, 0o644))
	}
}
