//go:build linux

package ringmsg

import (
	"io"
	"net"
	"os"
	"reflect"
	"testing"
)

// Conn has every method of *net.UDPConn, with its signature.
func TestConnHasEveryMethodOfUDPConn(t *testing.T) {
	theirs, ours := reflect.TypeOf(&net.UDPConn{}), reflect.TypeOf(&Conn{})
	for i := range theirs.NumMethod() {
		method := theirs.Method(i)
		mine, found := ours.MethodByName(method.Name)
		if !found {
			t.Errorf("no %s", method.Name)
			continue
		}
		for j := 1; j < method.Type.NumIn(); j++ {
			if mine.Type.NumIn() != method.Type.NumIn() || mine.Type.In(j) != method.Type.In(j) {
				t.Errorf("%s: %v, not %v", method.Name, mine.Type, method.Type)
				break
			}
		}
		for j := range method.Type.NumOut() {
			if mine.Type.NumOut() != method.Type.NumOut() || mine.Type.Out(j) != method.Type.Out(j) {
				t.Errorf("%s: %v, not %v", method.Name, mine.Type, method.Type)
				break
			}
		}
	}
	var _ io.ReadWriteCloser = (*Conn)(nil)
}

// listen returns a conn that goes through a ring, and a peer.
func listen(t testing.TB, options ...Option) (*Conn, *net.UDPConn) {
	t.Helper()
	conn, err := Listen("udp4", "127.0.0.1:0", options...)
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, sender(t, conn.LocalAddr())
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	return len(entries)
}
