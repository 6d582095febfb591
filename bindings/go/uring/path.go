package uring

import (
	"encoding/binary"
	"net/netip"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
)

// PathNone, as [SendMessage].PathIndex, is the path of the connected peer.
const PathNone = ^uint64(0)

// PathTo returns the path to an address. IPv4 mapped into IPv6 stays mapped; on an IPv6 socket both
// forms work, and a [Sender] on an IPv4 socket refuses the mapped one (EAFNOSUPPORT).
func PathTo(remote netip.AddrPort) Path {
	p := Path{Valid: PathRemote, RemotePort: remote.Port(), RemoteScope: zone.Index(remote.Addr().Zone())}
	p.Family = bytesOf(remote.Addr(), &p.RemoteBytes)
	return p
}

// PathReply returns the path of an answer to a received datagram, as ringmsg_path_reply() does:
// back to its source, from the address that was asked. Over IPv4, mapped or not, that is
// [Metadata.LocalV4], over IPv6 the destination, unless it is a multicast address; without them the
// kernel chooses. The interface is set where an address means nothing without it: fe80::/10,
// 169.254/16, multicast. The traffic class is not copied. It returns false if the metadata have no
// source.
func PathReply(received *Metadata) (Path, bool) {
	if received.Valid&MetaSource == 0 {
		return Path{}, false
	}
	p := Path{
		Valid:       PathRemote,
		Family:      received.Family,
		RemotePort:  received.SourcePort,
		RemoteBytes: received.SourceBytes,
		RemoteScope: received.SourceScope,
	}
	var needsInterface bool
	switch {
	case received.Family == FamilyIPv4:
		needsInterface = p.leaveFromV4(received, p.LocalBytes[:4], 0)
	case isMapped(&received.SourceBytes):
		needsInterface = p.leaveFromV4(received, p.LocalBytes[12:], 12)
		if p.Valid&PathLocal != 0 {
			p.LocalBytes[10], p.LocalBytes[11] = 0xff, 0xff
		}
	default:
		needsInterface = p.leaveFromV6(received)
	}
	if needsInterface && received.Valid&MetaInterface != 0 {
		p.Valid |= PathInterface
		p.InterfaceIndex = received.InterfaceIndex
	}
	return p, true
}

// leaveFromV4 sets the source address, where it is known, and reports whether an address needs its
// interface. Addresses are at this place of their sixteen bytes.
func (p *Path) leaveFromV4(received *Metadata, local []byte, at int) (needsInterface bool) {
	if received.Valid&MetaLocalV4 != 0 {
		p.Valid |= PathLocal
		copy(local, received.LocalV4Bytes[:])
		needsInterface = isLinkLocalV4(local)
	}
	if received.Valid&MetaDestination != 0 && received.DestinationBytes[at]&0xf0 == 0xe0 {
		needsInterface = true
	}
	return needsInterface || isLinkLocalV4(received.SourceBytes[at:])
}

func (p *Path) leaveFromV6(received *Metadata) (needsInterface bool) {
	needsInterface = isLinkLocalV6(&received.SourceBytes)
	asked := &received.DestinationBytes
	switch {
	case received.Valid&MetaDestination == 0:
	case asked[0] == 0xff:
		return true
	default:
		p.Valid |= PathLocal
		p.LocalBytes = *asked
		needsInterface = needsInterface || isLinkLocalV6(asked)
	}
	return needsInterface
}

// Remote returns where datagrams go; the zero AddrPort is the connected peer.
func (p *Path) Remote() netip.AddrPort {
	if p.Valid&PathRemote == 0 {
		return netip.AddrPort{}
	}
	at := netip.AddrFrom16(p.RemoteBytes)
	if p.Family == FamilyIPv4 {
		at = netip.AddrFrom4([4]byte(p.RemoteBytes[:4]))
	}
	return netip.AddrPortFrom(zone.WithScope(at, p.RemoteScope), p.RemotePort)
}

// SetLocal sets the source address, which is of the remote address's kind: mapped if that is. The
// zero Addr leaves it to the kernel.
func (p *Path) SetLocal(local netip.Addr) {
	p.Valid &^= PathLocal
	p.LocalBytes = [16]byte{}
	if !local.IsValid() {
		return
	}
	p.Valid |= PathLocal
	if p.Family == FamilyIPv4 || p.Valid&PathRemote == 0 {
		local = local.Unmap()
	}
	family := bytesOf(local, &p.LocalBytes)
	if p.Valid&PathRemote == 0 {
		p.Family = family
	} else if p.Family == FamilyIPv6 && family == FamilyIPv4 {
		p.LocalBytes = local.As16()
	}
}

// SetInterface sets the index of the interface to leave through; 0 leaves it to the routes.
func (p *Path) SetInterface(index uint32) {
	p.InterfaceIndex = index
	p.set(PathInterface, index != 0)
}

// SetTrafficClass sets the traffic class, in IPv4 the TOS byte: six bits of DSCP and two of ECN.
func (p *Path) SetTrafficClass(class uint8) {
	p.TrafficClass = class
	p.set(PathTrafficClass, true)
}

// SetHopLimit sets the hop limit, in IPv4 the TTL.
func (p *Path) SetHopLimit(limit uint8) {
	p.HopLimit = limit
	p.set(PathHopLimit, true)
}

func (p *Path) set(flag PathFlags, on bool) {
	p.Valid &^= flag
	if on {
		p.Valid |= flag
	}
}

// bytesOf writes an address, IPv4 into the first four bytes, and returns its family.
func bytesOf(address netip.Addr, to *[16]byte) (family uint16) {
	if address.Is4() {
		four := address.As4()
		copy(to[:], four[:])
		return FamilyIPv4
	}
	*to = address.As16()
	return FamilyIPv6
}

func isMapped(address *[16]byte) bool {
	return binary.LittleEndian.Uint64(address[:8]) == 0 && binary.LittleEndian.Uint32(address[8:12]) == 0xffff0000
}

func isLinkLocalV4(address []byte) bool { return address[0] == 169 && address[1] == 254 }

func isLinkLocalV6(address *[16]byte) bool { return address[0] == 0xfe && address[1]&0xc0 == 0x80 }
