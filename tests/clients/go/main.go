//go:build linux

// Clients runs packages from the module proxy, as they are, on a *net.UDPConn and on a
// ringmsg.Conn, and prints what each of them did. The results are equal, or it fails.
package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go"
)

// A client uses a package on the packet conns that listen makes, and says in a word or two what
// came of it: the same on every kind.
type client struct {
	name string
	run  func(listen listener) (string, error)
}

// A listener makes a packet conn of one kind.
type listener func(network, address string) net.PacketConn

var clients = []client{
	{"kcp-go: 8 MB through a session", kcpSession},
	{"miekg/dns: answers from the address asked", dnsAnswers},
	{"pion/ice: two agents on one UDP mux each", iceMux},
	{"pion/turn: relayed datagrams", turnRelay},
	{"wireguard-go: a tunnel on an x/net batch bind", wireguardTunnel},
}

var kinds = []struct {
	name   string
	listen listener
}{
	{"net", func(network, address string) net.PacketConn {
		conn, err := net.ListenPacket(network, address)
		check(err)
		return conn
	}},
	{"ringmsg", func(network, address string) net.PacketConn {
		conn, err := ringmsg.Listen(network, address, ringmsg.WithReplyFromDestination())
		check(err)
		return conn
	}},
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// attempt runs a client within a minute.
func attempt(run func(listener) (string, error), listen listener) (said string) {
	done := make(chan string, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				done <- fmt.Sprint("panic: ", r)
			}
		}()
		said, err := run(listen)
		if err != nil {
			said = "error: " + err.Error()
		}
		done <- said
	}()
	select {
	case said := <-done:
		return said
	case <-time.After(time.Minute):
		return "error: not within a minute"
	}
}

func main() {
	failed := false
	fmt.Printf("%-46s %-24s %-24s\n", "client", kinds[0].name, kinds[1].name)
	for _, c := range clients {
		if len(os.Args) > 1 && !strings.Contains(c.name, os.Args[1]) {
			continue
		}
		theirs, ours := attempt(c.run, kinds[0].listen), attempt(c.run, kinds[1].listen)
		fmt.Printf("%-46s %-24s %-24s\n", c.name, theirs, ours)
		unwell := strings.HasPrefix(theirs, "error") || strings.HasPrefix(theirs, "panic")
		failed = failed || unwell || theirs != ours
	}
	if failed {
		fmt.Println("not equal, or not well")
		os.Exit(1)
	}
}
