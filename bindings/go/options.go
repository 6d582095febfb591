package ringmsg

import "time"

// Option changes how a [Conn] works.
type Option func(*options)

type options struct {
	metadata    Meta
	gro         bool
	readAhead   int
	replies     bool
	buffers     int
	batchSize   int
	linger      time.Duration
	unlocked    bool
	withoutRing bool
}

const (
	// Room for every control message that a datagram can bring: a program may switch options on
	// after it made the Conn.
	controlSpace = 512
	// What a ring's buffers have room for.
	nameSpace    = 32
	payloadSpace = 65536

	defaultBuffers = 1024
	defaultBatch   = 256
)

// defaults are shared by the Conns that are made without options.
var defaults = options{
	metadata:  MetaSource | MetaDropped,
	gro:       true,
	readAhead: 16,
	buffers:   defaultBuffers,
	batchSize: defaultBatch,
	linger:    LingerAuto,
}

func newOptions(given []Option) *options {
	if len(given) == 0 {
		return &defaults
	}
	o := defaults
	for _, option := range given {
		option(&o)
	}
	return &o
}

// WithMetadata has [Conn.Batches] bring this metadata with every datagram, besides the source
// address and the drop counter. The socket options that it needs are switched on when the loop
// begins. They stay on, but readers of control messages do not see what they bring.
func WithMetadata(metadata Meta) Option { return func(o *options) { o.metadata |= metadata } }

// WithGRO says whether the kernel may join datagrams of one sender to trains (UDP_GRO), which costs
// far less per datagram. Trains are split again: programs never see them. On by default, but not on
// a socket that has a filter (SO_ATTACH_FILTER, SO_ATTACH_BPF), which would decide about a whole
// train at once.
func WithGRO(on bool) Option { return func(o *options) { o.gro = on } }

// WithReadAhead bounds how many messages one system call may receive when datagrams come faster
// than reads return them one by one: 16 by default and at most, 1 for none. What was read ahead is
// lost with Close. Once [Conn.File] or a raw Read has shared the socket with others, nothing is
// read ahead.
func WithReadAhead(messages int) Option { return func(o *options) { o.readAhead = messages } }

// WithBuffers sets how many receive buffers a loop over [Conn.Batches] has: a power of two, 1024 by
// default. Each holds a datagram or a train.
func WithBuffers(count int) Option {
	return func(o *options) {
		if o.buffers = count; count == 0 { // the library's word for its default
			o.buffers = defaultBuffers
		}
	}
}

// WithBatchSize sets how many datagrams a [Batch] holds at most; 256 by default.
func WithBatchSize(count int) Option { return func(o *options) { o.batchSize = max(count, 1) } }

// WithLinger sets how long [Conn.Batches] may wait for a second datagram before it hands out the
// first: at most 10 ms. By default the library chooses ([LingerAuto]), and does not wait while
// datagrams come alone.
func WithLinger(linger time.Duration) Option { return func(o *options) { o.linger = linger } }

// WithoutRing has [Conn.Batches] fail, as it does where no ring can be made. The other reads never
// take a ring.
func WithoutRing() Option { return func(o *options) { o.withoutRing = true } }

// WithReplyFromDestination has answers leave from the address that was asked, as connected clients
// require. On a socket that is bound to no address of its own, the Conn remembers which local
// address each peer asked last, and WriteTo, WriteToUDP, WriteToUDPAddrPort and WriteBatch send
// from there. For servers that do not handle control messages themselves.
//
//   - A peer (address and port) that asks two of the host's addresses is answered from the one that
//     it asked last, of the questions that the program has read.
//   - 8,192 peers are remembered, each for five minutes after it asked or was answered. A flood of
//     forged sources can push out entries; an answer without an entry leaves from the address that
//     the kernel chooses, as without this option.
//   - An answer from an address that has been removed meanwhile is sent again without it.
//   - What was sent to a broadcast or IPv4 multicast address is answered from the interface's own
//     address, what was sent to an IPv6 multicast address from the one that the kernel chooses.
//   - Control messages that a write brings along have the last word.
func WithReplyFromDestination() Option { return func(o *options) { o.replies = true } }

// WithUnlockedGoroutine leaves the goroutine of a loop over [Conn.Batches] free to change threads,
// by taking the library's recvmmsg engine, which belongs to no thread, instead of an io_uring that
// does. For loops whose body advances an [iter.Pull] iterator that was made before, or often waits
// for other goroutines. A datagram costs about a tenth more.
func WithUnlockedGoroutine() Option { return func(o *options) { o.unlocked = true } }

// WithOwnerGoroutine is the old name of [WithUnlockedGoroutine]: the ring used to belong to a
// goroutine of the Conn's own.
func WithOwnerGoroutine() Option { return WithUnlockedGoroutine() }
