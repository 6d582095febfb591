//go:build linux

package ringmsg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
)

// packetConn is what *net.UDPConn and *Conn are expected to do alike.
type packetConn interface {
	net.PacketConn
	net.Conn
	ReadFromUDP([]byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	ReadMsgUDP(b, oob []byte) (int, int, int, *net.UDPAddr, error)
	ReadMsgUDPAddrPort(b, oob []byte) (int, int, int, netip.AddrPort, error)
	WriteToUDP([]byte, *net.UDPAddr) (int, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (int, int, error)
	WriteMsgUDPAddrPort(b, oob []byte, to netip.AddrPort) (int, int, error)
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
	SyscallConn() (syscall.RawConn, error)
	File() (*os.File, error)
}

// batchConn is what x/net adds, and what a *Conn has without it.
type batchConn interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
}

func batchOf(conn packetConn) batchConn {
	if own, has := conn.(batchConn); has {
		return own
	}
	return ipv4.NewPacketConn(conn)
}

// makers are the implementations that the table below compares.
var makers = []struct {
	name string
	make func(*net.UDPConn) (packetConn, error)
}{
	{"net", func(udp *net.UDPConn) (packetConn, error) { return udp, nil }},
	{"ringmsg", func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp) }},
	{"ringmsg, one message a read", with(WithReadAhead(1))},
	{"ringmsg without GRO", with(WithGRO(false))},
	{"ringmsg with replies", with(WithReplyFromDestination())},
}

func with(option Option) func(*net.UDPConn) (packetConn, error) {
	return func(udp *net.UDPConn) (packetConn, error) { return NewConn(udp, option) }
}

// outcome is what a behaviour looked like, in words that do not depend on ports and times.
type outcome []any

func (o *outcome) add(what ...any) { *o = append(*o, what...) }

// failure describes an error the way programs look at it.
func (o *outcome) fail(err error) {
	var op *net.OpError
	var call *os.SyscallError
	described := "no OpError"
	if errors.As(err, &op) {
		described = op.Op + " " + op.Net
		if op.Source != nil {
			described += " with source"
		}
		if op.Addr != nil {
			described += " with address"
		}
	}
	if errors.As(err, &call) {
		described += " " + call.Syscall
	}
	o.add(described, words(err))
	o.kind(err)
}

// ports are port numbers that the kernel chose: those of one run are not those of another.
var ports = regexp.MustCompile(`:[0-9]{4,5}\b`)

// words returns an error's text without the port numbers.
func words(err error) string { return ports.ReplaceAllString(fmt.Sprint(err), ":port") }

// kind is what errors.Is and errors.As find: x/net words its errors in its own way.
func (o *outcome) kind(err error) {
	var timeout net.Error
	o.add(err != nil, errors.As(err, &timeout) && timeout.Timeout())
	for _, is := range []error{net.ErrClosed, os.ErrDeadlineExceeded, syscall.ECONNREFUSED, syscall.EINVAL} {
		o.add(errors.Is(err, is))
	}
}

type behaviour struct {
	name string
	run  func(t *testing.T, conn packetConn, peer *net.UDPConn, seen *outcome)
}

func from(peer *net.UDPConn, address net.Addr) string {
	if address == nil || reflect.ValueOf(address).IsNil() {
		return "nobody"
	}
	at := address.(*net.UDPAddr)
	if at.Port != peer.LocalAddr().(*net.UDPAddr).Port {
		return "a stranger"
	}
	return at.IP.String() + string(rune('0'+len(at.IP)%10)) + at.Zone
}

// behaviours is the whole table.
var behaviours = slices.Concat(
	readBehaviours, trainBehaviours, batchBehaviours, writeBehaviours, socketBehaviours,
)

// Every behaviour looks the same whatever the conn is made of.
func TestConnBehavesLikeUDPConn(t *testing.T) {
	for _, network := range []struct{ name, at string }{
		{"udp4", "127.0.0.1:0"}, {"udp6", "[::1]:0"}, {"udp", ":0"},
	} {
		for _, b := range behaviours {
			t.Run(network.name+"/"+b.name, func(t *testing.T) {
				var wanted outcome
				for _, maker := range makers {
					receiver := udp(t, network.name, network.at)
					to := *receiver.LocalAddr().(*net.UDPAddr)
					if to.IP.IsUnspecified() {
						to.IP = net.IPv4(127, 0, 0, 1)
					}
					conn, err := maker.make(receiver)
					ok(t, err)
					var seen outcome
					done := make(chan struct{})
					go func() {
						defer close(done)
						b.run(t, conn, sender(t, &to), &seen)
					}()
					within(t, 20*time.Second, maker.name, done)
					_ = conn.Close()
					if wanted == nil {
						wanted = seen
					} else if !reflect.DeepEqual(seen, wanted) {
						t.Errorf("%s: %v\nnet: %v", maker.name, seen, wanted)
					}
				}
			})
		}
	}
}

// Writes to nobody, and reads the error that comes back. The kernel limits its ICMP messages to
// 1,000 a second, for all programs: one that does not come is asked for again.
func refused(t *testing.T, conn packetConn, seen *outcome, read func() error) {
	t.Helper()
	for range 40 {
		_, err := conn.Write([]byte("anybody?"))
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // it has come since the read
		}
		ok(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
		if readErr := read(); !errors.Is(readErr, os.ErrDeadlineExceeded) {
			seen.add(err)
			seen.fail(readErr)
			return
		}
	}
	t.Error("no ICMP message came")
}

// A connected socket gets the error that nobody listens, and goes on.
func TestConnectedSocketsReportRefusals(t *testing.T) {
	nobody := udp(t, "udp4", "127.0.0.1:0")
	to := nobody.LocalAddr()
	var wanted outcome
	for _, maker := range makers {
		connect(t, nobody, to)
		conn, err := maker.make(sender(t, to))
		ok(t, err)
		var seen outcome
		for range 3 {
			refused(t, conn, &seen, func() error {
				_, err := conn.Read(make([]byte, 10))
				return err
			})
			refused(t, conn, &seen, func() error {
				_, _, _, _, err := conn.ReadMsgUDPAddrPort(make([]byte, 10), nil)
				return err
			})
		}
		ok(t, conn.SetReadDeadline(time.Time{}))
		connect(t, nobody, conn.LocalAddr())
		_, err = nobody.WriteTo([]byte("me"), conn.LocalAddr())
		ok(t, err)
		b := make([]byte, 10)
		n, err := conn.Read(b)
		seen.add(string(b[:n]), err, conn.RemoteAddr().String() == to.String())
		ok(t, conn.Close())
		if wanted == nil {
			wanted = seen
		} else if !reflect.DeepEqual(seen, wanted) {
			t.Errorf("%s: %v\nnet: %v", maker.name, seen, wanted)
		}
	}
}
