// Package uring is the ringmsg library's own interface: rings, pools, requests and records.
//
// A [Ring] (an io_uring, or the library's recvmmsg engine) holds pools of buffers and requests. A
// multishot request is armed once for a socket; from then on each [Ring.Next] returns what has
// arrived as [Record]s, which hold a buffer of a [Pool] until they are released.
//
// Package ringmsg, one folder up, has connections with the methods of package net, and hides rings
// behind them. Take this package for sockets of other kinds, for many sockets on one ring, and for
// requests of your own.
//
// It needs Linux, cgo, and the ringmsg library, which pkg-config finds. With the build tag
// ringmsg_static the library is linked into the program. Elsewhere every call returns
// [errors.ErrUnsupported].
package uring
