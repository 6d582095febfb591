package ringmsg

import (
	"iter"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Batch is datagrams that were received together. The ones that [Conn.Batches] yields are valid
// until the next one is asked for; [Batch.Hold] keeps one longer.
type Batch struct {
	records  []Record // as long as the batch can be
	metadata []Metadata
	count    int
	bytes    []byte // what the records' offsets count from
	loop     *loop  // gets the buffers back; nil: there are none to give back
	held     atomic.Bool
	conn     *Conn
	replies  []failedReply // of the last Reply
}

func newBatch(capacity int) *Batch {
	return &Batch{records: make([]Record, capacity), metadata: make([]Metadata, capacity)}
}

// Len returns the number of datagrams; errors that belong to one datagram count as one.
func (b *Batch) Len() int { return b.count }

// At returns datagram i.
func (b *Batch) At(i int) Datagram {
	return Datagram{record: &b.records[:b.count][i], metadata: &b.metadata[i], bytes: &b.bytes}
}

// All iterates over the datagrams.
func (b *Batch) All() iter.Seq2[int, Datagram] {
	return func(yield func(int, Datagram) bool) {
		for i := 0; i < b.count; i++ {
			if !yield(i, b.At(i)) {
				return
			}
		}
	}
}

// Hold detaches the batch from the loop that yielded it, and returns it as one that stays valid
// until its Release, which any goroutine may call: also when the loop has ended, the Conn is
// closed, and neither of them is referenced. Until then its buffers are not used again: when all
// are held, nothing is received ([ConnStats].Starved counts that). A batch that is held already is
// returned as it is.
func (b *Batch) Hold() *Batch {
	if b.held.Load() {
		return b
	}
	held := &Batch{
		records: b.records, metadata: b.metadata, count: b.count, bytes: b.bytes, loop: b.loop, conn: b.conn,
	}
	held.held.Store(true)
	if held.loop != nil {
		held.loop.hold(held)
	}
	fresh := newBatch(len(b.records))
	b.records, b.metadata, b.count = fresh.records, fresh.metadata, 0
	return held
}

// Release gives the buffers of a held batch back. The slices it handed out are void. Further calls,
// and calls on a batch that was not held, do nothing.
func (b *Batch) Release() {
	if !b.held.Swap(false) {
		return
	}
	if b.loop != nil {
		b.loop.release(b)
	}
	b.count = 0
}

// Datagram is one datagram of a [Batch], valid as long as that.
//
// It is three words long. The compiler keeps structs of up to four in registers; with a slice in
// it, a look at a payload took half as many instructions again.
type Datagram struct {
	record   *Record
	metadata *Metadata
	bytes    *[]byte // of the batch
}

// Payload returns the payload, in place.
func (d Datagram) Payload() []byte {
	return part(*d.bytes, d.record.PayloadOffset, d.record.PayloadLength)
}

// Control returns the control messages as the kernel wrote them, in place.
func (d Datagram) Control() []byte {
	return part(*d.bytes, d.record.ControlOffset, d.record.ControlLength)
}

// Source returns the sender's address.
func (d Datagram) Source() netip.AddrPort { return d.metadata.Source() }

// Destination returns the address the datagram was sent to, with [MetaDestination].
func (d Datagram) Destination() netip.Addr { return d.metadata.Destination() }

// ECN returns the congestion mark, with [MetaTrafficClass].
func (d Datagram) ECN() ECN { return d.metadata.ECN() }

// Timestamp returns when the kernel received the datagram, with [MetaSoftwareTimestamp].
func (d Datagram) Timestamp() time.Time { return d.metadata.Timestamp() }

// Metadata returns everything that is known about the datagram, in place.
func (d Datagram) Metadata() *Metadata { return d.metadata }

// Record returns the datagram's record.
func (d Datagram) Record() *Record { return d.record }

// WireLength returns the payload's length before truncation.
func (d Datagram) WireLength() int { return int(d.record.WireLength) }

// Truncated reports whether the payload was cut.
func (d Datagram) Truncated() bool { return d.record.Flags&RecordTruncated != 0 }

// Err returns the error that came in a datagram's place, such as ECONNREFUSED on a connected
// socket.
func (d Datagram) Err() error {
	if d.record.Result >= 0 {
		return nil
	}
	return os.NewSyscallError("recvmsg", syscall.Errno(-d.record.Result))
}

func part(bytes []byte, offset, length uint32) []byte {
	end := uint64(offset) + uint64(length)
	return bytes[offset:end:end]
}

// add appends a datagram that needs no buffer: its payload and control messages are copied.
func (b *Batch) add(record Record, metadata Metadata, payload, control []byte) {
	keep := func(bytes []byte) uint32 {
		b.bytes = append(b.bytes, make([]byte, (8-len(b.bytes)%8)%8)...)
		b.bytes = append(b.bytes, bytes...)
		return uint32(len(b.bytes) - len(bytes))
	}
	record.PayloadOffset, record.PayloadLength = keep(payload), uint32(len(payload))
	record.ControlOffset, record.ControlLength = keep(control), uint32(len(control))
	b.records = append(b.records[:b.count], record)
	b.metadata = append(b.metadata[:b.count], metadata)
	b.count++
}

// heldCounts are what [Conn.Stats] says of a Conn's held batches, also of loops that are over.
type heldCounts struct {
	batches, datagrams atomic.Int64
}
