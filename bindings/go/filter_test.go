//go:build linux

package ringmsg

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where the kernel, or an emulator of it, does not know SO_GET_FILTER, the first read switches
// UDP_GRO on all the same. A filter of the Conn's, which could replace the program's, is not tried.
func TestGROWhereFiltersCannotBeAskedFor(t *testing.T) {
	conn, peer := listen(t)
	write(t, peer, "x")
	_, err := conn.Read(make([]byte, 10))
	ok(t, err)
	if !conn.Stats().GRO {
		t.Skip("UDP_GRO is not available")
	}
	t.Run("the option is unknown", func(t *testing.T) {
		runtime.LockOSThread() // for good: the thread ends with the subtest, and its filter with it
		if err := refuseGetFilter(); err != nil {
			t.Skip("no seccomp filter: ", err)
		}
		conn, peer := listen(t)
		fd := descriptorOf(t, conn.udp)
		_, errno := filterLength(fd)
		equal(t, "SO_GET_FILTER", errno, unix.ENOPROTOOPT)
		write(t, peer, "x")
		_, err := conn.Read(make([]byte, 10))
		ok(t, err)
		equal(t, "GRO in Stats", conn.Stats().GRO, true)
		equal(t, "GRO of the socket", groOf(t, conn), true)
		unexpected := func(*message) { t.Error("a message") }
		equal(t, "switched off beside what may be a filter", conn.in.switchOffUndisturbed(fd, unexpected), false)
	})
}

// A filter that is an eBPF program, whose instructions the kernel does not show, counts as well. It
// is attached before the first read, or after one.
func TestAnEBPFFilterEndsGRO(t *testing.T) {
	program, err := acceptingProgram()
	if err != nil {
		t.Skip("eBPF is not permitted: ", err)
	}
	defer func() { _ = unix.Close(program) }()
	for name, reads := range map[string]int{"before the first read": 0, "after a read": 1} {
		t.Run(name, func(t *testing.T) {
			conn, peer := listen(t)
			read := func() {
				write(t, peer, "x")
				_, err := conn.Read(make([]byte, 10))
				ok(t, err)
			}
			for range reads {
				read()
			}
			raw, err := conn.SyscallConn()
			ok(t, err)
			ok(t, raw.Control(func(fd uintptr) {
				ok(t, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_BPF, program))
			}))
			read()
			equal(t, "GRO", groOf(t, conn), false)
		})
	}
}

// acceptingProgram returns the descriptor of an eBPF program that accepts every datagram.
func acceptingProgram() (int, error) {
	type instruction struct {
		code      uint8
		_         [3]byte // registers and offset
		immediate int32
	}
	const move, exit = 0xb7, 0x95 // r0 = immediate; return r0
	code := [2]instruction{{code: move, immediate: 1 << 16}, {code: exit}}
	licence := [...]byte{'M', 'I', 'T', 0}
	attributes := struct {
		kind, count   uint32
		code, licence uint64
		_             [3]uint64
	}{
		unix.BPF_PROG_TYPE_SOCKET_FILTER, uint32(len(code)),
		uint64(uintptr(unsafe.Pointer(&code))), uint64(uintptr(unsafe.Pointer(&licence))), [3]uint64{},
	}
	var pinner runtime.Pinner // the kernel gets addresses within attributes
	defer pinner.Unpin()
	pinner.Pin(&code)
	pinner.Pin(&licence)
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attributes)),
		unsafe.Sizeof(attributes))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// refuseGetFilter has getsockopt(2) of SO_GET_FILTER fail with ENOPROTOOPT in the calling thread.
func refuseGetFilter() error {
	const retErrno, retAllow = 0x0005_0000, 0x7fff_0000 // SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW
	const number, level, name = 0, 16 + 8*1, 16 + 8*2   // in struct seccomp_data: nr, args[1], args[2]
	low := uint32(0)                                    // where an argument's lower half is
	if isBigEndian := binary.NativeEndian.Uint16([]byte{0, 1}) == 1; isBigEndian {
		low = 4
	}
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	unless := func(value uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skip}
	}
	filter := []unix.SockFilter{
		load(number), unless(unix.SYS_GETSOCKOPT, 5),
		load(level + low), unless(unix.SOL_SOCKET, 3),
		load(name + low), unless(unix.SO_GET_FILTER, 1),
		{Code: unix.BPF_RET | unix.BPF_K, K: retErrno | uint32(unix.ENOPROTOOPT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: retAllow},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// Not through package syscall's wrappers for all threads: this thread alone.
	_, _, errno := syscall.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}
