// Package ringmsg receives datagrams with io_uring, many at a time.
//
// A [Conn] is a [net.UDPConn] whose reads go through a ring. It has the same methods with the same
// behaviour, so that programs change one line:
//
//	conn, err := ringmsg.Listen("udp", ":4433")
//
// The fast way to read is [Conn.Batches]: one call into the library brings a batch of datagrams,
// and none of them costs an allocation or a copy. Trains that the kernel joined (GRO) are split in
// place.
//
//	for batch, err := range conn.Batches(ctx) {
//		if err != nil {
//			return err
//		}
//		for _, datagram := range batch.All() {
//			handle(datagram.Source(), datagram.Payload())
//		}
//	}
//
// [Conn.ReadBatch] is the method that quic-go looks for: give a Conn to quic.Transport, and it
// runs on the ring as it is. [WithMetadata] asks for more about each datagram: congestion marks,
// the address it was sent to, hop limits, timestamps.
//
// [Ring] and [Pool] are the library's C interface in Go's clothes.
//
// The package needs cgo, Linux 6.0 or later, and the ringmsg library, which pkg-config finds. With
// the build tag ringmsg_static the library is linked into the program. Without cgo, off Linux, and
// where io_uring is forbidden, a Conn reads as package net does ([Conn.Ring] says why), and the
// rest returns [errors.ErrUnsupported].
package ringmsg
