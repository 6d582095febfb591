package ringmsg

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/internal/zone"
	"golang.org/x/sys/unix"
)

// port returns the port of a socket address of either family, which has it in the same place, in
// the network's byte order.
func port(name *unix.RawSockaddrInet6) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
}

// ip4 returns the address of an AF_INET socket address.
func ip4(name *unix.RawSockaddrInet6) [4]byte {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr
}

// addrPort returns the address that package net would: mapped IPv4 stays mapped.
func addrPort(name *unix.RawSockaddrInet6) netip.AddrPort {
	switch name.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4(ip4(name)), port(name))
	case unix.AF_INET6:
		return netip.AddrPortFrom(zone.WithScope(netip.AddrFrom16(name.Addr), name.Scope_id), port(name))
	}
	return netip.AddrPort{}
}

// udpName is a *net.UDPAddr and its IP, in one allocation.
type udpName struct {
	address net.UDPAddr
	bytes   [16]byte
}

// udpAddr returns the *net.UDPAddr that package net would.
func udpAddr(name *unix.RawSockaddrInet6) *net.UDPAddr { return new(udpName).set(name) }

// set makes it the address that package net would: four bytes for an IPv4 socket's addresses,
// sixteen for an IPv6 socket's; nil if there is none.
func (made *udpName) set(name *unix.RawSockaddrInet6) *net.UDPAddr {
	length := 16
	switch name.Family {
	case unix.AF_INET:
		length = 4
		*(*[4]byte)(made.bytes[:4]) = ip4(name)
	case unix.AF_INET6:
		made.bytes = name.Addr
		made.address.Zone = zone.Name(name.Scope_id)
	default:
		return nil
	}
	made.address.IP = made.bytes[:length:length]
	made.address.Port = int(port(name))
	return &made.address
}

func syscallError(call string, errno syscall.Errno) error { return os.NewSyscallError(call, errno) }

// setPort sets the port of a socket address of either family.
func setPort(name *unix.RawSockaddrInet6, port int) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&name.Port))[:], uint16(port))
}

// isIPv4 reports whether the socket is an IPv4 socket; a dual-stack one is not.
func (c *Conn) isIPv4() bool {
	at, isUDP := c.udp.LocalAddr().(*net.UDPAddr)
	return isUDP && len(at.IP) == net.IPv4len
}
