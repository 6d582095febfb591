//go:build linux

package main

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// dnsAnswers asks a server on a wildcard socket at several addresses. The clients are connected:
// they hear only answers from the address that they asked. On a *net.UDPConn the package handles
// control messages itself; for any other conn it leaves that to the conn.
func dnsAnswers(listen listener) (string, error) {
	conn := listen("udp", ":0")
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }()
	time.Sleep(50 * time.Millisecond)
	port := conn.LocalAddr().(*net.UDPAddr).Port
	var answered atomic.Int64
	var group sync.WaitGroup
	for i, address := range []string{"127.0.0.1", "127.0.0.2", "127.3.4.5", "[::1]"} {
		group.Add(1)
		go func() {
			defer group.Done()
			c := &dns.Client{Timeout: 5 * time.Second}
			for j := range 100 {
				m := new(dns.Msg)
				m.SetQuestion(fmt.Sprintf("q%d-%d.example.org.", i, j), dns.TypeA)
				if _, _, err := c.Exchange(m, fmt.Sprint(address, ":", port)); err == nil {
					answered.Add(1)
				}
			}
		}()
	}
	group.Wait()
	return fmt.Sprint(answered.Load(), " of 400 answered"), server.Shutdown()
}
