//go:build linux

package quictest

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/qlog"
	"github.com/quic-go/quic-go/qlogwriter"
	"github.com/ringmsg/ringmsg/bindings/go"
	"golang.org/x/net/ipv4"
)

var _ quic.OOBCapablePacketConn = (*ringmsg.Conn)(nil)

// counted tells through which method quic-go reads: where one is missing it silently takes
// another.
type counted struct {
	*ringmsg.Conn
	batches, messages, others atomic.Int64
}

func (c *counted) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	c.batches.Add(1)
	n, err := c.Conn.ReadBatch(ms, flags)
	c.messages.Add(int64(n))
	return n, err
}

func (c *counted) ReadFrom(b []byte) (int, net.Addr, error) {
	c.others.Add(1)
	return c.Conn.ReadFrom(b)
}

func (c *counted) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	c.others.Add(1)
	return c.Conn.ReadMsgUDP(b, oob)
}

// journal is a qlog that keeps what it says about ECN.
type journal struct {
	mu     sync.Mutex
	states []qlog.ECNState
}

func (j *journal) AddProducer() qlogwriter.Recorder { return j }
func (j *journal) SupportsSchemas(string) bool      { return true }
func (j *journal) Close() error                     { return nil }

func (j *journal) RecordEvent(event qlogwriter.Event) {
	if ecn, is := event.(qlog.ECNStateUpdated); is {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.states = append(j.states, ecn.State)
	}
}

func (j *journal) capable() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, state := range j.states {
		if state == qlog.ECNStateCapable {
			return true
		}
	}
	return false
}

func transport(t *testing.T, network, address string) (*quic.Transport, *counted) {
	t.Helper()
	conn, err := ringmsg.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if conn.Ring() != nil {
		if os.Getenv("RINGMSG_TEST_ALLOW_SKIP") != "" {
			t.Skip(conn.Ring())
		}
		t.Fatal(conn.Ring())
	}
	_ = conn.SetReadBuffer(1 << 20)
	wrapped := &counted{Conn: conn}
	tr := &quic.Transport{Conn: wrapped}
	t.Cleanup(func() {
		_ = tr.Close()
		_ = conn.Close()
	})
	return tr, wrapped
}

// exchange sends size bytes of this seed and reads the peer's, at once.
func exchange(stream *quic.Stream, mine, theirs int64, size int64) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(stream, io.LimitReader(rand.New(rand.NewSource(mine)), size))
		if err == nil {
			err = stream.Close()
		}
		sent <- err
	}()
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, stream)
	if err != nil {
		return err
	}
	if _, err := io.Copy(want, io.LimitReader(rand.New(rand.NewSource(theirs)), size)); err != nil {
		return err
	}
	if n != size || string(got.Sum(nil)) != string(want.Sum(nil)) {
		return io.ErrUnexpectedEOF
	}
	return <-sent
}

// 100 MB each way over two Conns: the content is right, quic-go reads through ReadBatch alone,
// and finds the path capable of ECN.
func TestQUICGoRunsOnConns(t *testing.T) {
	for _, family := range []struct {
		network, address string
		size             int64
	}{{"udp4", "127.0.0.1:0", 100 << 20}, {"udp", "[::]:0", 10 << 20}} {
		t.Run(family.network, func(t *testing.T) {
			if testing.Short() || raceEnabled {
				family.size /= 10
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			server, serverConn := transport(t, family.network, family.address)
			client, clientConn := transport(t, family.network, family.address)
			certificate, err := ServerTLS()
			if err != nil {
				t.Fatal(err)
			}
			var journals [2]journal
			config := func(j *journal) *quic.Config {
				return &quic.Config{Tracer: func(context.Context, bool, quic.ConnectionID) qlogwriter.Trace { return j }}
			}
			listener, err := server.Listen(certificate, config(&journals[0]))
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan error, 1)
			go func() {
				conn, err := listener.Accept(ctx)
				if err != nil {
					served <- err
					return
				}
				stream, err := conn.AcceptStream(ctx)
				if err == nil {
					err = exchange(stream, 1, 2, family.size)
				}
				served <- err
			}()
			to := *server.Conn.LocalAddr().(*net.UDPAddr)
			if to.IP.IsUnspecified() {
				to.IP = net.IPv6loopback
			}
			conn, err := client.Dial(ctx, &to, ClientTLS(), config(&journals[1]))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := conn.OpenStreamSync(ctx)
			if err == nil {
				err = exchange(stream, 2, 1, family.size)
			}
			if err != nil {
				t.Fatal("client: ", err)
			}
			if err := <-served; err != nil {
				t.Fatal("server: ", err)
			}
			_ = conn.CloseWithError(0, "done")
			for i, c := range []*counted{serverConn, clientConn} {
				t.Logf("%d ReadBatch calls, %d messages", c.batches.Load(), c.messages.Load())
				if c.batches.Load() == 0 || c.messages.Load() < family.size/1500 || c.others.Load() != 0 {
					t.Errorf("conn %d: %d ReadBatch calls, %d messages, %d other reads",
						i, c.batches.Load(), c.messages.Load(), c.others.Load())
				}
				if !journals[i].capable() {
					t.Errorf("conn %d: ECN went %v", i, journals[i].states)
				}
			}
		})
	}
}
