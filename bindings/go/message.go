package ringmsg

import (
	"net/netip"

	"github.com/ringmsg/ringmsg/bindings/go/uring"
)

// Path is where a datagram goes, and from which address, through which interface and with which
// traffic class and hop limit it leaves. It is comparable. The zero Path is the connected peer's.
type Path = uring.Path

// PathTo returns the path to an address. IPv4 may be mapped into IPv6, as [net.UDPAddr.AddrPort]
// has it.
func PathTo(remote netip.AddrPort) Path { return uring.PathTo(remote) }

// Message is a datagram to send with [Conn.SendBatch], or a train of datagrams. N and Err are its
// results.
type Message struct {
	Payload []byte
	Path    Path

	// SegmentSize cuts the payload into datagrams of this size, of which the last may be shorter.
	// 0: the payload is one datagram.
	SegmentSize int

	// ECN is the congestion mark. [ECNNotCapable] leaves the traffic class to the Path or, if that
	// has none, to the socket; any other mark takes the place of the Path's.
	ECN ECN

	N   int   // payload bytes that the socket took
	Err error // why it took none, or only a part of a train; nil: it took all
}

// SenderStats counts what was sent in batches.
type SenderStats = uring.SenderStats

// SendBatch sends messages, each on its path, and waits for room in the socket's buffer until every
// one has its result, the write deadline passes, or the Conn is closed. It returns how many were
// sent; if not all, the error is that of the first which was not.
//
// Messages with equal path, length and mark leave as one train (UDP_SEGMENT), which costs a
// fraction of single datagrams. Messages to one peer leave in order; among peers the order is free.
// An error belongs to its message, and the others are sent all the same. An ICMP error that an
// earlier datagram has caused is no message's error: [ConnStats].Sent counts it.
func (c *Conn) SendBatch(messages []Message) (int, error) {
	if len(messages) == 0 {
		return 0, nil
	}
	return c.sendBatch(messages)
}

// ReplyPath returns the path of an answer to the datagram: back to its source, from the address
// that it was sent to. It returns false for what came in a datagram's place, such as an error. The
// address is known with [MetaDestination], which loops over [Conn.Batches] enable unasked on
// a socket that is bound to no address of its own.
func (d Datagram) ReplyPath() (Path, bool) { return uring.PathReply(d.metadata) }

// Reply answers the batch's datagrams: payloads[i] goes back to the source of datagram i, from the
// address that was asked; nil sends nothing. There may be fewer payloads than datagrams. It sends
// and waits as [Conn.SendBatch] does: answers to one peer leave in order, as trains where they have
// the same length. It returns how many were sent; if not all, the error is that of the first which
// was not, and [Batch.ReplyError] returns each one's.
//
// A payload may be a received one, changed in place or not: then it is not even copied.
func (b *Batch) Reply(payloads [][]byte) (int, error) {
	b.replies = b.replies[:0]
	if len(payloads) > b.count {
		return 0, errTooManyReplies
	}
	if len(payloads) == 0 || b.conn == nil {
		return 0, nil
	}
	return b.conn.reply(b, payloads)
}

// ReplyError returns the error of answer i of the last [Batch.Reply]; nil if it was sent, or if
// there was nothing to send.
func (b *Batch) ReplyError(i int) error {
	for _, failed := range b.replies {
		if failed.index == i {
			return failed.err
		}
	}
	return nil
}

// failedReply is an answer that was not sent.
type failedReply struct {
	index int
	err   error
}
