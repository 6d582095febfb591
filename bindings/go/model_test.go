//go:build linux

package ringmsg

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// Datagrams alone and in trains, of random lengths, are read by random calls with random buffers:
// each call gets the next datagram, all of it or its front, and never a byte of another.
func TestReadsInAnyOrderGiveEveryDatagram(t *testing.T) {
	runs := 60
	if testing.Short() || raceEnabled {
		runs = 10
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(seed), 17))
			conn, peer := listen(t, WithReadAhead(random.IntN(17)))
			ok(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
			m := model{t: t, conn: conn, random: random}
			for range 100 {
				for range random.IntN(6) {
					m.send(peer.Write, func(payload []byte, segment uint16) { sendTrain(t, peer, payload, segment) })
				}
				for len(m.expected) > random.IntN(20) {
					m.read()
				}
			}
			for len(m.expected) > 0 {
				m.read()
			}
		})
	}
}

type model struct {
	t        *testing.T
	conn     *Conn
	random   *rand.Rand
	expected [][]byte // sent and not read yet
	serial   byte
}

// payload makes a payload that no other has.
func (m *model) payload(length int) []byte {
	m.serial++
	p := make([]byte, length)
	for i := range p {
		p[i] = m.serial ^ byte(i*7)
	}
	return p
}

func (m *model) send(alone func([]byte) (int, error), train func([]byte, uint16)) {
	if m.random.IntN(2) == 0 {
		p := m.payload([]int{0, 1, 100, 1200, 9000}[m.random.IntN(5)])
		_, err := alone(p)
		ok(m.t, err)
		m.expected = append(m.expected, p)
		return
	}
	segment := []int{1, 50, 1200}[m.random.IntN(3)]
	p := m.payload(segment*(1+m.random.IntN(20)) - m.random.IntN(segment))
	train(p, uint16(segment))
	for len(p) > 0 {
		n := min(segment, len(p))
		m.expected = append(m.expected, p[:n])
		p = p[n:]
	}
}

func (m *model) check(got []byte, room int, cut bool) {
	m.t.Helper()
	wanted := m.expected[0]
	m.expected = m.expected[1:]
	if !bytes.Equal(got, wanted[:min(room, len(wanted))]) {
		m.t.Fatalf("%d bytes of room: got %d bytes, not the first of %d", room, len(got), len(wanted))
	}
	equal(m.t, "cut", cut, room < len(wanted))
}

func (m *model) read() {
	m.t.Helper()
	room := []int{0, 1, 60, 1200, 1500, 70000}[m.random.IntN(6)]
	b := bytes.Repeat([]byte{0xee}, room)
	switch m.random.IntN(4) {
	case 0:
		n, _, err := m.conn.ReadFromUDPAddrPort(b)
		ok(m.t, err)
		m.check(b[:n], room, room < len(m.expected[0]))
	case 1:
		n, oobn, flags, _, err := m.conn.ReadMsgUDP(b, make([]byte, 40))
		ok(m.t, err)
		equal(m.t, "control", oobn, 0)
		m.check(b[:n], room, flags&msgTrunc != 0)
	default:
		m.readBatch(room)
	}
}

func (m *model) readBatch(room int) {
	m.t.Helper()
	in := make([]ipv4.Message, 1+m.random.IntN(min(20, len(m.expected))))
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, room)}
		if m.random.IntN(4) == 0 {
			in[i].Buffers = [][]byte{make([]byte, room/2), nil, make([]byte, room-room/2)}
		}
	}
	n, err := m.conn.ReadBatch(in, 0)
	ok(m.t, err)
	if n < 1 || n > len(in) {
		m.t.Fatal(n)
	}
	for i := range in[:n] {
		whole := bytes.Join(in[i].Buffers, nil)
		m.check(whole[:in[i].N], room, in[i].Flags&msgTrunc != 0)
	}
}
