package ringmsg

import (
	"net"
	"net/netip"
)

// metadataOf says of a datagram what package net does: where it came from.
func metadataOf(from netip.AddrPort) (m Metadata) {
	address := from.Addr()
	switch {
	case address.Is4():
		m.Family = addressFamilyV4
		bytes := address.As4()
		copy(m.SourceBytes[:], bytes[:])
	case address.Is6():
		m.Family, m.SourceBytes, m.SourceScope = addressFamilyV6, address.As16(), zoneIndex(address.Zone())
	default:
		return m
	}
	m.Valid, m.SourcePort = MetaSource, from.Port()
	return m
}

// udpAddr makes the *net.UDPAddr that package net would: four bytes for an IPv4 socket's
// addresses, sixteen for an IPv6 socket's.
func (m *Metadata) udpAddr() *net.UDPAddr {
	if m.Valid&MetaSource == 0 {
		return nil
	}
	made := &struct {
		address net.UDPAddr
		bytes   [16]byte
	}{bytes: m.SourceBytes} // one allocation instead of two
	length := 16
	if m.Family == addressFamilyV4 {
		length = 4
	}
	made.address = net.UDPAddr{IP: made.bytes[:length:length], Port: int(m.SourcePort), Zone: zoneName(m.SourceScope)}
	return &made.address
}
