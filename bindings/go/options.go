package ringmsg

import "time"

// Option changes how a [Conn] receives.
type Option func(*options)

type options struct {
	metadata  Meta
	gro       bool
	buffers   int
	batchSize int
	linger    time.Duration
	owner     bool
	net       bool
}

// What a Conn reserves for control messages: room for every option the library decodes, since
// a program may switch options on after it got the Conn.
const (
	controlSpace   = 512
	nameSpace      = 32
	payloadSpace   = 65536
	defaultBuffers = 1024
	defaultBatch   = 256
	readsBatch     = 64 // of the reads that hand out one datagram at a time
)

func newOptions(given []Option) options {
	o := options{
		metadata:  MetaSource | MetaDropped,
		gro:       true,
		buffers:   defaultBuffers,
		batchSize: defaultBatch,
		linger:    LingerAuto,
	}
	for _, option := range given {
		option(&o)
	}
	if o.gro {
		o.metadata |= MetaSegmentSize
	} else {
		o.metadata &^= MetaSegmentSize
	}
	return o
}

// WithMetadata has the kernel send this metadata with every datagram, besides the source address
// and the drop counter. What the Conn switches on at the socket it switches off again at Close.
func WithMetadata(metadata Meta) Option { return func(o *options) { o.metadata |= metadata } }

// WithGRO says whether the kernel may join datagrams of one sender to trains (UDP_GRO), which
// costs far less per datagram. Trains are split again, without a copy; programs never see them.
// On by default.
func WithGRO(on bool) Option { return func(o *options) { o.gro = on } }

// WithBuffers sets how many receive buffers there are: a power of two, 1024 by default. Each
// holds a datagram or a train.
func WithBuffers(count int) Option { return func(o *options) { o.buffers = count } }

// WithBatchSize sets how many datagrams a [Batch] holds at most; 256 by default.
func WithBatchSize(count int) Option { return func(o *options) { o.batchSize = max(count, 1) } }

// WithLinger sets how long [Conn.Batches] may wait for a second datagram before it hands out
// the first: at most 10 ms. By default it follows the arrival rate, and is zero when traffic is
// slow.
func WithLinger(linger time.Duration) Option { return func(o *options) { o.linger = linger } }

// WithoutRing has the Conn receive as package net does, as it would off Linux: for comparisons,
// and for places where io_uring is forbidden. See [Conn.Ring].
func WithoutRing() Option { return func(o *options) { o.net = true } }

// WithOwnerGoroutine has [Conn.Batches] receive in a goroutine of the Conn's own, instead of
// locking the program's to its thread. Batches then cost more, but the next one is received while
// the program works on this one.
func WithOwnerGoroutine() Option { return func(o *options) { o.owner = true } }
