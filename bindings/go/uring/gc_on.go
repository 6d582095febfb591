//go:build ringmsg_gc

package uring

import "runtime"

func collect() { runtime.GC() }
