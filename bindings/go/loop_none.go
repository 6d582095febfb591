//go:build !linux || !cgo

package ringmsg

import (
	"errors"
	"time"
)

// loop is a running loop over Batches. Without cgo, or off Linux, there is none: Conn.Ring says so
// before one is made.
type loop struct {
	conn  *Conn
	body  bool
	ended chan struct{}
}

func bindsThread() bool { return false }

func newLoop(*Conn, bool) (*loop, error) { return nil, errors.ErrUnsupported }

func (*loop) next(time.Time) (*Batch, error) { return nil, errors.ErrUnsupported }
func (*loop) wake()                          {}
func (*loop) close()                         {}
func (*loop) hold(*Batch)                    {}
func (*loop) release(*Batch)                 {}
func (*loop) stats() Stats                   { return Stats{} }
