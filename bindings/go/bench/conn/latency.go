//go:build linux

package main

import (
	"fmt"
	"net"
	"slices"
	"time"
)

// pings is how many round trips to each server a median is taken over.
const pings = 400

// pingBoth pings both servers in turn and returns their median round trips in microseconds.
func pingBoth(to []string) (p50 [2]float64) {
	var ends [2]net.Conn
	for i := range ends {
		end, err := net.Dial("udp4", to[i])
		check(err)
		defer end.Close()
		ends[i] = end
	}
	var times [2][]float64
	buffer := make([]byte, 64)
	for turn := range pings {
		for k := range ends {
			i := (turn + k) % 2
			time.Sleep(200 * time.Microsecond) // the server is idle by then
			start := time.Now()
			_, err := ends[i].Write([]byte("ping"))
			check(err)
			_, err = ends[i].Read(buffer)
			check(err)
			times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/1000)
		}
	}
	for i := range times {
		slices.Sort(times[i])
		p50[i] = times[i][len(times[i])/2]
	}
	return p50
}

// pingAll is a process that pings.
func pingAll(to []string) {
	p50 := pingBoth(to)
	fmt.Println(p50[0], p50[1])
}

// together measures round trips with both ends in this process, of the same kind.
func together(rounds int) {
	type pair struct{ client, server conn }
	var pairs [2]pair
	for i, kind := range kinds {
		server := listen(kind)
		defer server.Close()
		client := wrap(kind, dial(server))
		defer client.Close()
		pairs[i] = pair{client, server}
		go func() {
			buffer := make([]byte, 64)
			for {
				n, from, err := server.ReadFromUDPAddrPort(buffer)
				if err != nil {
					return
				}
				_, err = server.WriteToUDPAddrPort(buffer[:n], from)
				check(err)
			}
		}()
	}
	buffer := make([]byte, 64)
	var figures [2][]float64
	for range rounds {
		var times [2][]float64
		for turn := range 2 * pings {
			for k := range pairs {
				i := (turn + k) % 2
				time.Sleep(100 * time.Microsecond)
				start := time.Now()
				_, err := pairs[i].client.Write([]byte("ping"))
				check(err)
				_, err = pairs[i].client.Read(buffer)
				check(err)
				times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/1000)
			}
		}
		for i := range times {
			slices.Sort(times[i])
			figures[i] = append(figures[i], times[i][len(times[i])/2])
		}
	}
	report("ping-pong p50, one process", "us", figures, 1.05)
}

// churn measures sockets that live for one query: open, ask, read the answer, close.
func churn(rounds int) {
	server := listen("net")
	defer server.Close()
	go func() {
		buffer := make([]byte, 100)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, err = server.WriteToUDPAddrPort(buffer[:n], from)
			check(err)
		}
	}()
	buffer := make([]byte, 100)
	query := func(kind string) time.Duration {
		start := time.Now()
		c := wrap(kind, dial(server))
		check(c.SetDeadline(time.Now().Add(5 * time.Second)))
		_, err := c.Write([]byte("x"))
		check(err)
		_, err = c.Read(buffer)
		check(err)
		check(c.Close())
		return time.Since(start)
	}
	var figures [2][]float64
	for range rounds {
		var took [2]time.Duration
		const queries = 400
		for turn := range queries {
			for k := range kinds {
				i := (turn + k) % 2
				took[i] += query(kinds[i])
			}
		}
		for i := range took {
			figures[i] = append(figures[i], float64(took[i].Nanoseconds())/queries/1000)
		}
	}
	report("a socket for each query", "us", figures, 1.10)
}
