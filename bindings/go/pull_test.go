//go:build linux && cgo

package ringmsg

import (
	"context"
	"iter"
)

// iterPull steps through Batches.
func iterPull(conn *Conn) (next func() *Batch, stop func()) {
	pull, stop := iter.Pull2(conn.Batches(context.Background()))
	return func() *Batch {
		batch, err, _ := pull()
		if err != nil {
			panic(err)
		}
		return batch
	}, stop
}
