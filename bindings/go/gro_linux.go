package ringmsg

import (
	"math"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// groState says what a Conn has done about UDP_GRO, with which the kernel joins datagrams of one
// sender to a train. Reads split trains in every state: the program, or another user of the socket,
// may have switched the option on.
type groState uint8

const (
	groUntouched groState = iota // there was no read yet
	groOn                        // the Conn switched it on
	groLeft                      // it is not the Conn's, and stays as it is
)

// prepare switches UDP_GRO on before the first read, unless it is on already, or the socket has a
// filter: of a train the kernel shows a filter the first datagram, with the length of all.
//
// A connected socket gets it before the second read: many are made for one query. The kernel
// patches its own text when the first socket of the machine gets UDP_GRO and when the last one
// goes, which takes 45 µs each (measured); with another such socket open it takes 0.7 µs.
func (r *receiver) prepare(fd int, c *Conn) {
	if r.gro != groUntouched {
		return
	}
	if !r.hasRead && c.udp.RemoteAddr() != nil {
		r.hasRead = true
		return
	}
	r.gro = groLeft
	if !c.options.gro || r.closed || hasFilter(fd) {
		return
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO); err != nil || on != 0 {
		return
	}
	if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) == nil {
		r.gro = groOn
	}
}

// giveUpGRO switches UDP_GRO off, if the Conn switched it on, and never on again: somebody else is
// about to read the socket, and would take a train for one datagram.
func (r *receiver) giveUpGRO(fd int) {
	if r.gro == groOn {
		kept := 0
		r.switchGROOff(fd, noLimit, settleShared, func(m *message) {
			if kept += m.length; kept <= pendingMost {
				r.keep(m.compact())
			} else {
				r.counts.discarded += uint64(m.datagrams())
			}
		})
	}
	r.gro = groLeft
}

// settleGRO switches UDP_GRO off when the Conn is closed, for other users of the socket. What it
// receives on the way is lost. On a socket that is flooded the option stays on instead.
func (r *receiver) settleGRO(fd int) {
	if r.gro == groOn {
		r.switchGROOff(fd, closeMost, 0, func(m *message) { r.counts.discarded += uint64(m.datagrams()) })
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
	// settleShared is how long the queue has to stay empty before somebody else reads the socket.
	// Close does not wait: nearly always no other process reads the socket.
	settleShared = 500 * time.Microsecond
	// Where datagrams come fast the queue never stays empty that long. So each failure halves the
	// time, down to settleLeast, and under a flood the socket refuses datagrams for a moment.
	settleLeast    = 60 * time.Microsecond
	settleAttempts = 20
)

// switchGROOff switches UDP_GRO off without merging datagrams. The kernel hands a train that is
// queued when the option goes off to the next read as one datagram, without its segment size. So
// this reads the socket until it is empty, switches the option off, and looks whether something was
// queued in between; if so it switches the option on and begins again. It gives up after `most`
// messages, and leaves the option on.
//
// A train may be on its way into the queue, past the kernel's look at the option and not counted
// yet. So it looks for as long as `settle`, half as long after each failure, and if that never ends
// well it keeps datagrams away meanwhile.
func (r *receiver) switchGROOff(fd, most int, settle time.Duration, use func(m *message)) {
	for attempt := 0; ; attempt++ {
		var emptied bool
		if most, emptied = r.readAll(fd, most, use); !emptied {
			return
		}
		if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 0) != nil || staysEmpty(fd, settle) {
			return
		}
		if settle > 0 && attempt > settleAttempts && r.switchOffUndisturbed(fd, use) {
			return
		}
		settle = max(settle/2, min(settle, settleLeast))
		if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) != nil {
			return
		}
	}
}

const membarrierGlobal = 1 // MEMBARRIER_CMD_GLOBAL, which package unix does not have

// switchOffUndisturbed switches UDP_GRO off while the socket's filter drops what arrives, some
// milliseconds long. It returns false if the socket may have a filter already, or the kernel cannot
// tell when no datagram is on its way any more: membarrier(2) waits for all that are, since the
// kernel handles each of them in a critical section of RCU.
func (r *receiver) switchOffUndisturbed(fd int, use func(m *message)) bool {
	nobody := func() bool {
		_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
		return errno == 0
	}
	if mayHaveFilter(fd) || !nobody() {
		return false
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	program := unix.SockFprog{Len: 1, Filter: &drop}
	if unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program) != nil {
		return false
	}
	defer func() { _ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) }()
	if unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1) != nil || !nobody() {
		return false
	}
	if _, emptied := r.readAll(fd, noLimit, use); !emptied {
		return false
	}
	return unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 0) == nil && nobody()
}

// filterLength returns how many instructions the socket's filter has; 0: there is no filter. The
// kernel does not show the instructions of an eBPF program, and returns EACCES.
func filterLength(fd int) (length uint32, errno syscall.Errno) {
	_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&length)), 0)
	return length, errno
}

// hasFilter reports whether the program has attached a filter to the socket. An emulator of Linux
// that does not know SO_GET_FILTER returns another error than EACCES: it must not cost UDP_GRO.
func hasFilter(fd int) bool {
	length, errno := filterLength(fd)
	return errno == unix.EACCES || errno == 0 && length != 0
}

// mayHaveFilter is hasFilter for a caller that would replace a filter: it has to be sure.
func mayHaveFilter(fd int) bool {
	length, errno := filterLength(fd)
	return errno != 0 || length != 0
}

// respectFilter switches UDP_GRO off if the Conn switched it on and the socket has a filter by now.
// It reports whether it did.
func (r *receiver) respectFilter(fd int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gro != groOn || !hasFilter(fd) {
		return false
	}
	r.giveUpGRO(fd)
	return true
}

// staysEmpty reports whether the receive queue holds nothing, now and for a while.
func staysEmpty(fd int, settle time.Duration) bool {
	for start := time.Now(); ; runtime.Gosched() {
		if isQueued(fd) {
			return false
		}
		if settle == 0 || time.Since(start) >= settle {
			return true
		}
	}
}

// readAll receives until the socket is empty, or `most` messages. It returns how many messages are
// left of the limit.
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

// isQueued reports whether the receive queue holds a message. SO_MEMINFO counts a message before it
// is in the queue, but counts unread error messages too; poll(2) looks at the queue alone. So a
// message that is counted gets a moment to arrive in the queue.
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
