package ringmsg

import (
	"encoding/binary"
	"errors"
	"net"
	"syscall"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// refusalsMost is how many pending errors the socket may report before one is the message's own.
const refusalsMost = 8

// sendPlainly is sendBatch without the library: ungrouped, and with control messages made here.
func (c *Conn) sendPlainly(messages []Message) (sent int, first error) {
	toV4 := c.isIPv4() // a connected peer
	if peer, isUDP := c.udp.RemoteAddr().(*net.UDPAddr); isUDP {
		toV4 = peer.IP.To4() != nil
	}
	plain := make([]ipv4.Message, len(messages))
	for i := range messages {
		m := &messages[i]
		m.N, m.Err = 0, nil
		plain[i] = ipv4.Message{Buffers: [][]byte{m.Payload}, OOB: m.control(toV4)}
		if m.Path.Valid&uring.PathRemote != 0 {
			plain[i].Addr = net.UDPAddrFromAddrPort(m.Path.Remote())
		}
	}
	for from, refusals := 0, 0; from < len(plain); {
		n, err := c.writePlain(plain[from:], 0)
		for i := from; i < from+n; i++ {
			if messages[i].N = plain[i].N; messages[i].N < len(messages[i].Payload) {
				messages[i].Err = c.writeError(syscallError("sendmmsg", syscall.EMSGSIZE), plain[i].Addr)
			}
		}
		if from += n; err == nil {
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) && refusals < refusalsMost {
			refusals++ // an earlier datagram's error
			continue
		}
		var family *net.AddrError
		if errors.As(err, &family) {
			err = c.writeError(syscallError("sendmmsg", syscall.EAFNOSUPPORT), plain[from].Addr)
		}
		messages[from].Err, refusals = err, 0
		from++
	}
	for i := range messages {
		if messages[i].Err == nil {
			sent++
		} else if first == nil {
			first = messages[i].Err
		}
	}
	return sent, first
}

// control returns the control messages that make the kernel send a message as it says. toV4 is for
// messages to the connected peer.
func (m *Message) control(toV4 bool) (control []byte) {
	path := &m.Path
	if path.Valid&uring.PathRemote != 0 {
		toV4 = isToV4(path)
	}
	if path.Valid&(uring.PathLocal|uring.PathInterface) != 0 {
		from := local{address: path.LocalBytes}
		if path.Family == uring.FamilyIPv4 {
			from.address = mapped([4]byte(path.LocalBytes[:4]))
		} else if toV4 && path.Valid&uring.PathLocal == 0 {
			from.address = mapped([4]byte{})
		}
		if path.Valid&uring.PathInterface != 0 {
			from.index = path.InterfaceIndex
		}
		control = append(control, from.control(new([replyControl]byte))...)
	}
	class, hasClass := m.trafficClass()
	if !hasClass && path.Valid&uring.PathTrafficClass != 0 {
		class, hasClass = path.TrafficClass, true
	}
	level, classType, limitType := unix.SOL_IPV6, unix.IPV6_TCLASS, unix.IPV6_HOPLIMIT
	if toV4 {
		level, classType, limitType = unix.SOL_IP, unix.IP_TOS, unix.IP_TTL
	}
	if hasClass {
		control = appendControl(control, level, classType, 4, uint32(class))
	}
	if path.Valid&uring.PathHopLimit != 0 {
		control = appendControl(control, level, limitType, 4, uint32(path.HopLimit))
	}
	if m.SegmentSize > 0 {
		control = appendControl(control, unix.SOL_UDP, unix.UDP_SEGMENT, 2, uint32(m.SegmentSize))
	}
	return control
}

// appendControl appends a control message of two or four bytes.
func appendControl(to []byte, level, kind, length int, value uint32) []byte {
	var data [4]byte
	binary.NativeEndian.PutUint32(data[:], value)
	if length == 2 {
		binary.NativeEndian.PutUint16(data[:], uint16(value))
	}
	var header unix.Cmsghdr
	header.Level, header.Type = int32(level), int32(kind)
	header.SetLen(unix.CmsgLen(length))
	at := len(to)
	to = append(to, make([]byte, unix.CmsgSpace(length))...)
	putHeader(to[at:], &header)
	copy(to[at+unix.SizeofCmsghdr:], data[:length])
	return to
}
