package ringmsg

import (
	"math"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// groState says what a Conn has done about UDP_GRO, with which the kernel joins the datagrams of
// one sender to a train. Reads split trains whatever the state is: other users of the socket, and
// the program, may have switched it on.
type groState uint8

const (
	groUntouched groState = iota // nobody has read yet
	groOn                        // the Conn switched it on
	groLeft                      // not the Conn's: it stays as it is
)

// prepare switches UDP_GRO on before the first read, unless it is on already.
//
// A connected socket has it from the second read on: many live for one query. The kernel rewrites
// its own code when the first socket of the machine gets UDP_GRO and when the last one goes, which
// takes it 45 µs each (measured); with another such socket open it takes 0.7 µs.
func (r *receiver) prepare(fd int, c *Conn) {
	if r.gro != groUntouched {
		return
	}
	if !r.hasRead && c.udp.RemoteAddr() != nil {
		r.hasRead = true
		return
	}
	r.gro = groLeft
	if !c.options.gro || r.closed {
		return
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO); err != nil || on != 0 {
		return
	}
	if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil {
		r.gro = groOn
	}
}

// giveUpGRO switches UDP_GRO off, if the Conn switched it on, and leaves it for good: somebody else
// is about to read the socket, and would take a train for one datagram.
func (r *receiver) giveUpGRO(fd int) {
	if r.gro == groOn {
		kept := 0
		r.switchGROOff(fd, noLimit, func(m *message) {
			if kept += m.length; kept <= pendingMost {
				r.keep(m.compact())
			} else {
				r.counts.discarded += uint64(m.datagrams())
			}
		})
	}
	r.gro = groLeft
}

// settleGRO is giveUpGRO at the end of the Conn, for those who have a duplicate of the socket. What
// is received is lost. On a socket that is flooded UDP_GRO stays on: to lose more would be worse.
func (r *receiver) settleGRO(fd int) {
	if r.gro == groOn {
		r.switchGROOff(fd, closeMost, func(m *message) { r.counts.discarded += uint64(m.datagrams()) })
	}
	r.gro = groLeft
}

const (
	// pendingMost bounds in bytes how much is kept of what giveUpGRO reads from a socket that is
	// flooded. What comes on top is discarded, as the kernel discards what its own buffer has no
	// room for.
	pendingMost = 16 << 20
	// closeMost bounds how many messages Close receives.
	closeMost = 1 << 14
	noLimit   = math.MaxInt
)

// switchGROOff switches UDP_GRO off without merging datagrams. A train that is queued when the
// option goes off is read as one datagram, and nothing tells: so the socket is read until it is
// empty, and if something was queued by the time the option is off, the option is on again and all
// is repeated. After so many messages it gives up, and the option stays on.
func (r *receiver) switchGROOff(fd, most int, use func(m *message)) {
	for {
		var emptied bool
		if most, emptied = r.readAll(fd, most, use); !emptied {
			return
		}
		if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 0) != nil || !isQueued(fd) {
			return
		}
		if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) != nil {
			return
		}
	}
}

// readAll receives until the socket is empty, or so many messages. It returns how many are left of
// the limit.
func (r *receiver) readAll(fd, most int, use func(m *message)) (left int, emptied bool) {
	if !isQueued(fd) {
		return most, true
	}
	v := vectors.Get().(*vector)
	defer v.release()
	var taken [1]*message
	for ; most > 0; most-- {
		_, errno := r.several(fd, v, taken[:], make([][]byte, 1))
		switch {
		case errno == 0:
			use(taken[0])
			taken[0].release()
		case errno == unix.EAGAIN:
			return most, true
		case !isSocketError(errno):
			return most, false
		}
	}
	return 0, false
}

// isSocketError reports whether recvmsg(2) returned the pending error of a datagram that was sent
// before, rather than an error of its own: there may be data behind it.
func isSocketError(errno syscall.Errno) bool {
	switch errno {
	case unix.EBADF, unix.EFAULT, unix.EINVAL, unix.ENOMEM, unix.ENOTSOCK, unix.EPERM:
		return false
	}
	return true
}

// isQueued reports whether the receive queue holds anything. SO_MEMINFO counts a datagram before
// the datagram is in the queue, but it counts unread error messages too; poll(2) sees only the
// queue. So what is counted has a moment to arrive there.
func isQueued(fd int) bool {
	for range 4 {
		if received, err := receiveMemory(fd); err == nil && received == 0 {
			return false
		}
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 && fds[0].Revents&unix.POLLIN != 0 {
			return true
		}
		runtime.Gosched()
	}
	return false
}

// receiveMemory returns how many bytes of memory the socket's received datagrams take.
func receiveMemory(fd int) (uint32, error) {
	info, err := memoryInfo(fd)
	return info[unix.SK_MEMINFO_RMEM_ALLOC], err
}

// memoryInfo returns SO_MEMINFO: what the socket's queues take, and what it has dropped.
func memoryInfo(fd int) (info [unix.SK_MEMINFO_VARS]uint32, err error) {
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return info, errno
	}
	return info, nil
}
