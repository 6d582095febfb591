//go:build !ringmsg_gc

package uring

// collect does nothing; under the build tag ringmsg_gc it collects garbage wherever a handle is
// used, so that a missing KeepAlive shows.
func collect() {}
