//go:build linux

package ringmsg

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var trainBehaviours = []behaviour{
	{"trains are datagrams", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		write(t, peer, "first") // after it UDP_GRO is on
		b, oob := make([]byte, 300), make([]byte, 100)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err)
		train := make([]byte, 5*100+1)
		for i := range train {
			train[i] = byte(i / 100)
		}
		for range 4 {
			sendTrain(t, peer, train, 100)
			for range 2 {
				n, err = conn.Read(b)
				seen.add(n, b[0], err)
				n, address, err := conn.ReadFrom(b[:60])
				seen.add(n, b[0], from(peer, address), err)
				n, oobn, flags, _, err := conn.ReadMsgUDP(b[:60], oob)
				seen.add(n, oobn, flags, b[0], err)
			}
		}
	}},
	{"a deadline within a train", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 200)
		write(t, peer, "first")
		_, err := conn.Read(b)
		seen.add(err)
		sendTrain(t, peer, make([]byte, 300), 100)
		n, err := conn.Read(b)
		seen.add(n, err, conn.SetReadDeadline(time.Now().Add(-time.Second)))
		_, err = conn.Read(b)
		seen.fail(err)
		seen.add(conn.SetReadDeadline(time.Time{}))
		for range 2 {
			n, err = conn.Read(b)
			seen.add(n, err)
		}
	}},
	{"close within a train", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		b := make([]byte, 200)
		for range 2 {
			sendTrain(t, peer, make([]byte, 300), 100)
			n, err := conn.Read(b)
			seen.add(n, err)
		}
		seen.add(conn.Close())
		_, err := conn.Read(b)
		seen.fail(err)
		seen.add(isFree(conn.LocalAddr()))
	}},
	{"control messages", func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome) {
		raw, err := conn.SyscallConn()
		seen.add(err, raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_RECVTTL, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		}))
		b := make([]byte, 200)
		for i := range 3 {
			sendTrain(t, peer, make([]byte, 300), 100)
			for j := range 3 {
				oob := make([]byte, 20*j+60)
				n, oobn, flags, _, err := conn.ReadMsgUDP(b, oob)
				seen.add(i, n, oobn, flags, string(oob[:oobn]), err)
			}
		}
		write(t, peer, "no room")
		_, oobn, flags, _, err := conn.ReadMsgUDP(b, nil)
		seen.add(oobn, flags, err)
	}},
}
