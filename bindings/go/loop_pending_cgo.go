//go:build linux && cgo

package ringmsg

import (
	"bytes"
	"syscall"
	"unsafe"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
	"golang.org/x/sys/unix"
)

// keepBatch keeps copies of a batch's datagrams for the reads that follow. (Their buffers go back
// when the batch is filled again.)
func (r *receiver) keepBatch(b *Batch, pool *uring.Pool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range b.count {
		d, record := b.At(i), &b.records[i]
		m := &message{payload: bytes.Clone(d.Payload()), control: bytes.Clone(d.Control())}
		m.length, m.segment, m.controlLength = len(m.payload), len(m.payload), len(m.control)
		m.flags = int(record.MsgFlags)
		if record.Result < 0 {
			m.errno = syscall.Errno(-record.Result)
		}
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&m.name)), unix.SizeofSockaddrInet6), pool.Name(record))
		r.keep(m)
	}
}

// takeBatch returns up to `most` pending datagrams as a batch that needs no buffers; nil if
// nothing is pending.
func (r *receiver) takeBatch(most int) *Batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.oldest() == nil {
		return nil
	}
	b := &Batch{}
	for m := r.oldest(); m != nil && b.count < most; m = r.oldest() {
		payload := m.next()
		r.learn(m, &m.name)
		record := Record{
			Result:     int32(len(payload)),
			WireLength: uint32(len(payload)),
			MsgFlags:   uint32(m.flags),
			Pool:       uring.PoolNone,
			Segments:   1,
		}
		if m.errno != 0 {
			record.Result = -int32(m.errno)
		}
		b.add(record, m.metadata(), payload, m.control[:m.controlLength])
		if m.done() {
			r.dropOldest()
		}
	}
	return b
}

// metadata returns what a ring would say of the message.
func (m *message) metadata() Metadata {
	metadata, _ := uring.DecodeControl(m.control[:m.controlLength])
	switch m.name.Family {
	case unix.AF_INET:
		ip := ip4(&m.name)
		metadata.Family = uring.FamilyIPv4
		metadata.SourceBytes = [16]byte{ip[0], ip[1], ip[2], ip[3]}
	case unix.AF_INET6:
		metadata.Family = uring.FamilyIPv6
		metadata.SourceBytes, metadata.SourceScope = m.name.Addr, m.name.Scope_id
	default:
		return metadata
	}
	metadata.Valid |= MetaSource
	metadata.SourcePort = port(&m.name)
	return metadata
}

// learnFrom remembers the address that a datagram of a ring was sent to.
func (t *replyTable) learnFrom(m *Metadata) {
	p := peer{scope: m.SourceScope, port: uint32(m.SourcePort), address: m.SourceBytes}
	if m.Valid&MetaSource == 0 {
		return
	}
	if m.Family == uring.FamilyIPv4 {
		p.address = mapped([4]byte(m.SourceBytes[:4]))
	}
	from := local{address: m.DestinationBytes}
	switch {
	case m.Valid&MetaLocalV4 != 0:
		from.address = mapped(m.LocalV4Bytes)
	case m.Valid&MetaDestination == 0 || m.Family == uring.FamilyIPv4 || m.DestinationBytes[0] == 0xff:
		t.remove(&p)
		return
	}
	if from.needsInterface() {
		from.index = m.InterfaceIndex
	}
	t.put(&p, from)
}
