//go:build linux

package ringmsg

import "testing"

// A read that hands out one datagram allocates nothing, alone or from a train.
func TestReadFromUDPAddrPortDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("with the race detector sync.Pool drops what it is given")
	}
	conn, peer := listen(t)
	b, train := make([]byte, 100), make([]byte, 450)
	read := func() {
		if _, _, err := conn.ReadFromUDPAddrPort(b); err != nil {
			t.Fatal(err)
		}
	}
	one := testing.AllocsPerRun(200, func() {
		if _, err := peer.Write(b[:50]); err != nil {
			t.Fatal(err)
		}
		read()
	})
	sending := testing.AllocsPerRun(200, func() { sendTrain(t, peer, train, 100) })
	many := testing.AllocsPerRun(200, func() {
		sendTrain(t, peer, train, 100)
		for range 5 {
			read()
		}
	})
	if one > 0.5 || many-sending > 0.5 {
		t.Fatalf("%.2f allocations for one datagram, %.2f for a train of five", one, many-sending)
	}
}
