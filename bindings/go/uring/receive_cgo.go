//go:build linux && cgo

package uring

// #include "shim.h"
import "C"

import "syscall"

// RecvmsgOnce receives one message into a buffer of the pool. The next Reap or Submit pushes it
// to the kernel.
func (r *Ring) RecvmsgOnce(pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64) error {
	return r.receive("recvmsg_once", pool, fd, msgFlags, flags, userData, 1)
}

// RecvmsgMultishot receives into buffers of the pool until it is cancelled. Closing fd does not
// end it.
func (r *Ring) RecvmsgMultishot(pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64) error {
	return r.receive("recvmsg_multishot", pool, fd, msgFlags, flags, userData, 0)
}

func (r *Ring) receive(
	op string, pool *Pool, fd int, msgFlags int, flags RecvFlags, userData uint64, once C.int,
) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	if pool == nil || pool.ring != r {
		return &Error{Op: op, Errno: syscall.EINVAL, Reason: op + ": a pool of another ring"}
	}
	return failure(op, C.rm_recv(
		r.handle, pool.handle, C.int(fd), C.int(msgFlags), C.uint32_t(flags), C.uint64_t(userData), once,
	))
}

// Cancel ends every request with this user data; each answers with one final record.
func (r *Ring) Cancel(userData uint64) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("cancel", C.rm_cancel(r.handle, C.uint64_t(userData)))
}

// Submit pushes queued single-shots to the kernel now. Reap does it too.
func (r *Ring) Submit() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("submit", C.rm_submit(r.handle))
}

// Wake makes the current or, if there is none, the next Reap return.
func (r *Ring) Wake() error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return failure("wake", C.rm_wake(r.handle))
}
