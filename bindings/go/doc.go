// Package ringmsg reads and answers datagrams in batches.
//
// A [Conn] has the methods of [net.UDPConn] with the same behaviour, so that programs change one
// line:
//
//	conn, err := ringmsg.Listen("udp", ":4433")
//
// It costs what a net.UDPConn costs: its reads sleep on the runtime's poller, without a thread, a
// second descriptor or locked memory. What it does better is trains: the kernel joins datagrams of
// one sender (UDP_GRO), and a Conn takes a whole train by one system call and hands out its
// datagrams one by one. [Conn.ReadBatch] and [Conn.WriteBatch] are the methods of x/net's packet
// conns; quic-go looks for the first. With [WithReplyFromDestination] answers leave from the
// address that was asked.
//
// The fast way to read is [Conn.Batches]. For as long as the loop runs it has a ring (io_uring, or
// the library's recvmmsg engine where io_uring is forbidden): one call into the library brings a
// batch of datagrams, and none of them costs an allocation or a copy.
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
// [Batch.Reply] answers a batch from the addresses that were asked, [Conn.SendBatch] sends messages
// with paths, congestion marks and segment sizes of their own. Both, and WriteBatch, send what goes
// to one peer as trains (UDP_SEGMENT), by one call into the library.
//
// [WithMetadata] asks for more about each datagram of a batch: congestion marks, the address it was
// sent to, hop limits, timestamps.
//
// A Conn works where programs use the methods of a net.UDPConn, net.PacketConn or syscall.Conn. It
// does not where they assert the type *net.UDPConn: see the README for some that do.
//
// Package uring, one folder down, is the ringmsg library's own interface: rings, pools, records.
//
// Conns need Linux. Batches need cgo too, and the ringmsg library, which pkg-config finds; with the
// build tag ringmsg_static it is linked into the program. Without cgo Batches end with
// [errors.ErrUnsupported], and batch writes send datagram by datagram. Off Linux a Conn is a plain
// *net.UDPConn.
package ringmsg
