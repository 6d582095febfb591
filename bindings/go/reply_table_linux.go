package ringmsg

import (
	"math/bits"
	"math/rand/v2"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A replyTable remembers which local address each peer asked last, so that answers leave from
// there. Its memory is fixed: 2,048 sets of 4 entries of 48 bytes. A peer has its set by a hash
// with a random seed. In a full set the entry that was used least recently makes room, so that a
// flood of forged sources costs other peers their entries at worst, and an answer to a peer without
// an entry leaves from the address that the kernel chooses.
type replyTable struct {
	mu   sync.Mutex
	seed uint64
	sets [replySets][replyWays]replyEntry
}

const (
	replySets = 2048
	replyWays = 4
	// An entry that was neither asked nor answered for this long is void.
	replyLifetime = 5 * time.Minute
)

// peer is the address of a peer: IPv4 as ::ffff:a.b.c.d.
type peer struct {
	address [16]byte
	scope   uint32
	port    uint32
}

// replyEntry says from which address to answer a peer.
type replyEntry struct {
	peer  peer
	used  uint32 // seconds since start, plus one; 0: the entry is empty
	index uint32 // of the interface, where the address means nothing without it; else 0
	local [16]byte
}

// local is a source address for answers. The zero value leaves the choice to the kernel.
type local struct {
	address [16]byte // IPv4 as ::ffff:a.b.c.d
	index   uint32
}

var start = time.Now()

// seconds is a clock that is cheap to store and is never 0.
func seconds() uint32 { return uint32(time.Since(start)/time.Second) + 1 }

func newReplyTable() *replyTable {
	return &replyTable{seed: rand.Uint64()}
}

func (t *replyTable) set(p *peer) *[replyWays]replyEntry {
	words := (*[3]uint64)(unsafe.Pointer(p))
	hash := t.seed
	for _, word := range words {
		high, low := bits.Mul64(hash^word, 0x9e3779b97f4a7c15)
		hash = high ^ low ^ t.seed
	}
	return &t.sets[hash%replySets]
}

// put remembers that a peer asked a local address.
func (t *replyTable) put(p *peer, from local) {
	now := seconds()
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.set(p)
	oldest := &set[0]
	for i := range set {
		if entry := &set[i]; entry.used != 0 && entry.peer == *p {
			entry.used, entry.index, entry.local = now, from.index, from.address
			return
		} else if entry.used < oldest.used {
			oldest = entry
		}
	}
	*oldest = replyEntry{peer: *p, used: now, index: from.index, local: from.address}
}

// get returns the address that a peer asked last; false if it is not known.
func (t *replyTable) get(p *peer) (local, bool) {
	now := seconds()
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.set(p)
	for i := range set {
		entry := &set[i]
		if entry.used == 0 || entry.peer != *p {
			continue
		}
		if now-entry.used > uint32(replyLifetime/time.Second) {
			entry.used = 0
			break
		}
		entry.used = now
		return local{entry.local, entry.index}, true
	}
	return local{}, false
}

// remove forgets a peer: it asked no single address, or the address is gone.
func (t *replyTable) remove(p *peer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	set := t.set(p)
	for i := range set {
		if set[i].used != 0 && set[i].peer == *p {
			set[i].used = 0
		}
	}
}

// removeAt is remove for a socket address.
func (t *replyTable) removeAt(name *unix.RawSockaddrInet6) {
	if p, ok := peerOf(name); ok {
		t.remove(&p)
	}
}

// learn remembers the address that a message was sent to.
func (t *replyTable) learn(name *unix.RawSockaddrInet6, control []byte) {
	p, ok := peerOf(name)
	if !ok {
		return
	}
	if from, ok := destination(control); ok {
		t.put(&p, from)
	} else {
		t.remove(&p)
	}
}

func peerOf(name *unix.RawSockaddrInet6) (p peer, ok bool) {
	p.port = uint32(port(name))
	switch name.Family {
	case unix.AF_INET:
		p.address = mapped(ip4(name))
	case unix.AF_INET6:
		p.address, p.scope = name.Addr, name.Scope_id
	default:
		return p, false
	}
	return p, true
}

// mapped returns ::ffff:a.b.c.d.
func mapped(ip [4]byte) [16]byte {
	return [16]byte{10: 0xff, 11: 0xff, 12: ip[0], 13: ip[1], 14: ip[2], 15: ip[3]}
}

func isMapped(ip *[16]byte) bool { return [12]byte(ip[:12]) == [12]byte{10: 0xff, 11: 0xff} }

// destination returns the address to answer from: for IPv4, mapped or not, the one that the kernel
// says (right for broadcast and multicast, too); for IPv6 the one that was asked, unless it is a
// multicast address, from which nothing can be sent. The interface is given where the address means
// nothing without it.
func destination(control []byte) (from local, found bool) {
	for {
		kind, data, space, more := nextControl(control)
		if !more {
			return from, found
		}
		switch {
		case kind == controlType{unix.SOL_IP, unix.IP_PKTINFO} && len(data) >= unix.SizeofInet4Pktinfo:
			info := (*unix.Inet4Pktinfo)(unsafe.Pointer(unsafe.SliceData(data)))
			from = local{address: mapped(info.Spec_dst)}
			if from.needsInterface() {
				from.index = uint32(info.Ifindex)
			}
			return from, info.Spec_dst != [4]byte{} // also where IPV6_PKTINFO came before
		case kind == controlType{unix.SOL_IPV6, unix.IPV6_PKTINFO} && len(data) >= unix.SizeofInet6Pktinfo:
			info := (*unix.Inet6Pktinfo)(unsafe.Pointer(unsafe.SliceData(data)))
			if info.Addr[0] != 0xff && !isMapped(&info.Addr) {
				from, found = local{address: info.Addr}, true
				if from.needsInterface() {
					from.index = info.Ifindex
				}
			}
		}
		control = control[space:]
	}
}

// needsInterface reports whether the address means nothing without an interface: fe80::/10 and
// 169.254/16.
func (l *local) needsInterface() bool {
	if isMapped(&l.address) {
		return l.address[12] == 169 && l.address[13] == 254
	}
	return l.address[0] == 0xfe && l.address[1]&0xc0 == 0x80
}

// control writes the control message that has a datagram leave from this address.
func (l *local) control(to *[replyControl]byte) []byte {
	header := (*unix.Cmsghdr)(unsafe.Pointer(to))
	if isMapped(&l.address) {
		header.Level, header.Type = unix.SOL_IP, unix.IP_PKTINFO
		header.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&to[unix.SizeofCmsghdr])) = unix.Inet4Pktinfo{
			Ifindex: int32(l.index), Spec_dst: [4]byte(l.address[12:]),
		}
		return to[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	}
	header.Level, header.Type = unix.SOL_IPV6, unix.IPV6_PKTINFO
	header.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	info := (*unix.Inet6Pktinfo)(unsafe.Pointer(&to[unix.SizeofCmsghdr]))
	*info = unix.Inet6Pktinfo{Addr: l.address, Ifindex: l.index}
	return to[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
}

// replyControl is room for one control message with a source address.
const replyControl = unix.SizeofCmsghdr + (unix.SizeofInet6Pktinfo+7)/8*8
