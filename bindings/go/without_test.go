//go:build linux && !cgo

package ringmsg

import (
	"context"
	"errors"
	"testing"
)

// Without cgo everything that needs the library says so; reads and writes are those of the other
// tests.
func TestWithoutCgo(t *testing.T) {
	conn, peer := listen(t)
	if err := conn.Ring(); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	write(t, peer, "x")
	yields := 0
	for batch, err := range conn.Batches(context.Background()) {
		yields++
		if batch != nil || !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(batch, err)
		}
	}
	equal(t, "yields", yields, 1)
	_, err := conn.Read(make([]byte, 1)) // the Conn goes on
	ok(t, err)
	if _, err := NewRing(nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
}
