//go:build ringmsg_gc

package ringmsg

import "runtime"

func collect() { runtime.GC() }
