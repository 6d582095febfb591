package uring

import (
	"syscall"
)

// Error is a failure of the library: what was attempted, the errno, and the library's sentence
// about it. errors.Is finds the errno.
type Error struct {
	Op     string
	Errno  syscall.Errno
	Reason string // may be empty
}

func (e *Error) Error() string {
	if e.Reason == "" {
		return "ringmsg: " + e.Op + ": " + e.Errno.Error()
	}
	return "ringmsg: " + e.Reason
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }
