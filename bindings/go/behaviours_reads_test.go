//go:build linux

package ringmsg

import (
	"net"
	"sync"
	"testing"
	"time"
)

var readBehaviours = []behaviour{
	{"each read in turn", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b, oob := make([]byte, 100), make([]byte, 100)
		for range 2 {
			write(t, peer, "ReadFrom")
			n, address, err := conn.ReadFrom(b)
			seen.add(string(b[:n]), from(peer, address), err)
			write(t, peer, "Read")
			n, err = conn.Read(b)
			seen.add(string(b[:n]), err)
			write(t, peer, "ReadFromUDP")
			n, udp, err := conn.ReadFromUDP(b)
			seen.add(string(b[:n]), from(peer, udp), err)
			write(t, peer, "ReadFromUDPAddrPort")
			n, port, err := conn.ReadFromUDPAddrPort(b)
			seen.add(string(b[:n]), port.Addr(), port.Port() == peer.LocalAddr().(*net.UDPAddr).AddrPort().Port(), err)
			write(t, peer, "ReadMsgUDP")
			n, oobn, flags, udp, err := conn.ReadMsgUDP(b, oob)
			seen.add(string(b[:n]), oobn, flags&(msgTrunc|msgCtrunc), from(peer, udp), err)
			write(t, peer, "ReadMsgUDPAddrPort")
			n, oobn, flags, port, err = conn.ReadMsgUDPAddrPort(b, nil)
			seen.add(string(b[:n]), oobn, flags&(msgTrunc|msgCtrunc), port.Addr(), err)
		}
	}},
	{"short buffers cut", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "first datagram")
		write(t, peer, "second datagram")
		write(t, peer, "third")
		b := make([]byte, 5)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
		n, _, flags, _, err := conn.ReadMsgUDP(b, nil)
		seen.add(string(b[:n]), flags&msgTrunc != 0, err)
		n, _, err = conn.ReadFrom(b)
		seen.add(string(b[:n]), err)
	}},
	{"an empty buffer", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "lost")
		write(t, peer, "kept")
		n, err := conn.Read(nil)
		seen.add(n, err)
		n, _, err = conn.ReadFrom(nil)
		seen.add(n, err)
		b := make([]byte, 10)
		n, err = conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"datagrams without payload", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 10)
		for range 3 {
			write(t, peer, "")
			write(t, peer, "x")
			n, address, err := conn.ReadFrom(b)
			seen.add(n, from(peer, address), err)
			n, err = conn.Read(b)
			seen.add(n, err)
		}
	}},
	{"the longest datagram", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		big := make([]byte, 65507)
		big[65506] = 7
		write(t, peer, string(big))
		b := make([]byte, 70000)
		n, err := conn.Read(b)
		seen.add(n, b[65506], err)
	}},
	{"a deadline that has passed", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "waiting")
		seen.add(conn.SetReadDeadline(time.Now().Add(-time.Second)))
		b := make([]byte, 10)
		for range 2 {
			n, address, err := conn.ReadFrom(b)
			seen.add(n, address == nil)
			seen.fail(err)
		}
		seen.add(conn.SetReadDeadline(time.Time{}))
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"a deadline passes during a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		start := time.Now()
		seen.add(conn.SetDeadline(start.Add(40 * time.Millisecond)))
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
		took := time.Since(start)
		seen.add(took >= 39*time.Millisecond, took < 5*time.Second)
	}},
	{"a deadline set during a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		time.AfterFunc(30*time.Millisecond, func() { _ = conn.SetReadDeadline(time.Now()) })
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
	}},
	{"a deadline removed in a read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		seen.add(conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)))
		time.AfterFunc(20*time.Millisecond, func() { _ = conn.SetReadDeadline(time.Time{}) })
		time.AfterFunc(200*time.Millisecond, func() { _, _ = peer.Write([]byte("late")) })
		b := make([]byte, 10)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
	}},
	{"close ends every read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		errs := make(chan error)
		for range 4 {
			go func() {
				_, _, err := conn.ReadFrom(make([]byte, 10))
				errs <- err
			}()
		}
		time.Sleep(30 * time.Millisecond)
		seen.add(conn.Close())
		for range 4 {
			seen.fail(<-errs)
		}
	}},
	{"a closed conn", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "unread")
		seen.add(conn.Close())
		_, err := conn.Read(make([]byte, 10))
		seen.fail(err)
		_, _, _, _, err = conn.ReadMsgUDP(make([]byte, 10), nil)
		seen.fail(err)
		_, err = conn.WriteTo([]byte("x"), peer.LocalAddr())
		seen.fail(err)
		seen.fail(conn.SetReadDeadline(time.Now()))
		seen.fail(conn.SetDeadline(time.Now()))
		seen.fail(conn.Close())
		seen.add(isFree(conn.LocalAddr()))
	}},
	{"close of a conn that was read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		seen.add(err, conn.Close(), isFree(conn.LocalAddr()))
	}},
	{"many goroutines read", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		const readers, datagrams = 8, 200
		got := make(chan byte, datagrams)
		var group sync.WaitGroup
		for range readers {
			group.Add(1)
			go func() {
				defer group.Done()
				b := make([]byte, 10)
				for {
					n, _, err := conn.ReadFromUDPAddrPort(b)
					if err != nil {
						return
					}
					if n == 1 {
						got <- b[0]
					}
				}
			}()
		}
		count := map[byte]int{}
		for i := range datagrams {
			write(t, peer, string([]byte{byte(i)}))
			count[<-got]++
		}
		seen.add(len(count))
		seen.add(conn.Close())
		group.Wait()
	}},
	{"answers find their way", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "ping")
		b := make([]byte, 10)
		_, address, err := conn.ReadFrom(b)
		seen.add(err)
		n, err := conn.WriteTo([]byte("pong"), address)
		seen.add(n, err)
		n, err = peer.Read(b)
		seen.add(string(b[:n]), err)
	}},
}
