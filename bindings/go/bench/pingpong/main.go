// Pingpong measures the round trip to an idle echo server, on a net.UDPConn and on a ringmsg.Conn in
// turn. The pinger is a process of its own, and rests 200 us between two round trips.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"sort"
	"time"

	ringmsg "github.com/ringmsg/ringmsg/bindings/go"
)

type conn interface {
	ReadFrom([]byte) (int, net.Addr, error)
	WriteTo([]byte, net.Addr) (int, error)
	LocalAddr() net.Addr
}

func echo(c conn) {
	b := make([]byte, 2048)
	for {
		n, a, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], a)
	}
}

// p50 is the pinger: the median round trip to addr.
func p50(addr string) time.Duration {
	d, _ := net.Dial("udp", addr)
	b := make([]byte, 64)
	var t []time.Duration
	for i := 0; i < 2000; i++ {
		time.Sleep(200 * time.Microsecond)
		s := time.Now()
		d.Write(b)
		d.Read(b)
		t = append(t, time.Since(s))
	}
	sort.Slice(t, func(i, j int) bool { return t[i] < t[j] })
	return t[len(t)/2]
}
func main() {
	if len(os.Args) > 1 {
		fmt.Print(int64(p50(os.Args[1])))
		return
	}
	a, _ := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	r, err := ringmsg.Listen("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go echo(a)
	go echo(r)
	ping := func(c conn) float64 {
		out, err := exec.Command(os.Args[0], c.LocalAddr().String()).Output()
		if err != nil {
			panic(err)
		}
		var ns float64
		fmt.Sscan(string(out), &ns)
		return ns / 1000
	}
	var rs []float64
	for i := 0; i < 9; i++ {
		x, y := ping(a), ping(r)
		fmt.Printf("net %.1f us ringmsg %.1f us\n", x, y)
		rs = append(rs, y/x)
	}
	sort.Float64s(rs)
	fmt.Printf("ratio median %.2f min %.2f max %.2f; ring: %v\n", rs[4], rs[0], rs[8], r.Ring())
}
