package uring

import (
	"net/netip"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
)

// ECN is a datagram's mark of explicit congestion notification.
type ECN uint8

// The four marks of RFC 3168.
const (
	ECNNotCapable ECN = 0
	ECNCapable1   ECN = 1 // ECT(1)
	ECNCapable0   ECN = 2 // ECT(0)
	ECNCongestion ECN = 3 // CE
	ecnMask           = 3
)

// Values of Metadata.Family: the kernel's numbers on Linux, whatever the system that compiles.
const (
	FamilyIPv4 uint16 = 2  // AF_INET
	FamilyIPv6 uint16 = 10 // AF_INET6
)

// ECN returns the congestion mark; it means something if Valid has [MetaTrafficClass].
func (m *Metadata) ECN() ECN { return ECN(m.TrafficClass & ecnMask) }

// Source returns the sender's address; the zero AddrPort if it is not known.
func (m *Metadata) Source() netip.AddrPort {
	if m.Valid&MetaSource == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(zone.WithScope(m.address(&m.SourceBytes), m.SourceScope), m.SourcePort)
}

// Destination returns the address the datagram was sent to; the zero Addr if it is not known.
func (m *Metadata) Destination() netip.Addr {
	if m.Valid&MetaDestination == 0 {
		return netip.Addr{}
	}
	return m.address(&m.DestinationBytes)
}

// LocalV4 returns the local IPv4 address to reply from; the zero Addr if it is not known.
func (m *Metadata) LocalV4() netip.Addr {
	if m.Valid&MetaLocalV4 == 0 {
		return netip.Addr{}
	}
	return netip.AddrFrom4(m.LocalV4Bytes)
}

// Offender returns the router or host that sent the ICMP error; the zero Addr if it is not known.
func (m *Metadata) Offender() netip.Addr {
	if m.Valid&MetaOffender == 0 {
		return netip.Addr{}
	}
	if m.ErrorOrigin == originICMP && [12]byte(m.OffenderBytes[4:]) == [12]byte{} {
		return netip.AddrFrom4([4]byte(m.OffenderBytes[:4]))
	}
	return netip.AddrFrom16(m.OffenderBytes)
}

// originICMP is SO_EE_ORIGIN_ICMP.
const originICMP = 2

// Timestamp returns when the kernel received the datagram; the zero Time if it is not known.
func (m *Metadata) Timestamp() time.Time {
	if m.Valid&MetaSoftwareTimestamp == 0 {
		return time.Time{}
	}
	return time.Unix(0, m.SoftwareTimestampNS)
}

func (m *Metadata) address(bytes *[16]byte) netip.Addr {
	switch m.Family {
	case FamilyIPv4:
		return netip.AddrFrom4([4]byte(bytes[:4]))
	case FamilyIPv6:
		return netip.AddrFrom16(*bytes)
	}
	return netip.Addr{}
}
