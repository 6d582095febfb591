//go:build linux && cgo

package uring

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// PathReply makes the same path as the library's ringmsg_path_reply, whatever is known of a
// datagram and whatever its addresses are.
func TestPathReplyIsTheLibrarys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	four := [][4]byte{{127, 0, 0, 1}, {169, 254, 1, 2}, {224, 0, 0, 1}, {239, 255, 1, 1}, {10, 0, 0, 255}, {0, 0, 0, 0}}
	six := []string{"::1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "2001:db8::1", "::", "::ffff:0:0:1"}
	address := func(family uint16) (bytes [16]byte) {
		v4 := four[random.IntN(len(four))]
		switch {
		case family == FamilyIPv4:
			copy(bytes[:], v4[:])
			return bytes
		case random.IntN(2) == 0:
			return netip.AddrFrom16(netip.AddrFrom4(v4).As16()).As16()
		}
		return netip.MustParseAddr(six[random.IntN(len(six))]).As16()
	}
	for range 100_000 {
		m := Metadata{
			Valid:          MetaSource,
			Family:         []uint16{FamilyIPv4, FamilyIPv6}[random.IntN(2)],
			SourcePort:     uint16(random.Uint32()),
			SourceScope:    random.Uint32N(3),
			InterfaceIndex: random.Uint32N(3),
			TrafficClass:   uint8(random.Uint32()),
			LocalV4Bytes:   four[random.IntN(len(four))],
		}
		m.SourceBytes, m.DestinationBytes = address(m.Family), address(m.Family)
		for _, flag := range []Meta{MetaDestination, MetaInterface, MetaLocalV4, MetaTrafficClass} {
			if random.IntN(3) > 0 {
				m.Valid |= flag
			}
		}
		if random.IntN(50) == 0 {
			m.Valid &^= MetaSource
		}
		ours, known := PathReply(&m)
		theirs, theyKnow := libraryPathReply(&m)
		if known != theyKnow || known && ours != theirs {
			t.Fatalf("of %+v:\n%+v\nthe library: %+v", m, ours, theirs)
		}
	}
}

// A path says what was put into it, and unset fields are zero, so that equal paths are equal.
func TestPathsSayWhatWasSet(t *testing.T) {
	for _, text := range []string{"10.0.0.1:53", "[2001:db8::1]:53", "[::ffff:10.0.0.1]:53"} {
		at := netip.MustParseAddrPort(text)
		p := PathTo(at)
		if p.Remote() != at {
			t.Errorf("%v, not %v", p.Remote(), at)
		}
		q := p
		local := "10.0.0.2"
		if at.Addr().Is6() && !at.Addr().Is4In6() {
			local = "2001:db8::2"
		}
		q.SetLocal(netip.MustParseAddr(local))
		q.SetInterface(3)
		if got := netip.AddrFrom16(q.LocalBytes).Unmap(); at.Addr().Is6() && got.String() != local || q == p {
			t.Errorf("%v, not %s", got, local)
		}
		if q.Valid != PathRemote|PathLocal|PathInterface {
			t.Errorf("%b", q.Valid)
		}
		q.SetLocal(netip.Addr{})
		q.SetInterface(0)
		if q != p {
			t.Errorf("%+v, not %+v", q, p)
		}
	}
	if (&Path{}).Remote().IsValid() {
		t.Error("the connected peer has an address")
	}
}
