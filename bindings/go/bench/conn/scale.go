//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const sockets = 1000

// scaled is a process with a thousand sockets of one kind, each with a reader. It prints its memory
// in KiB, threads and descriptors when every socket has received ten datagrams.
func scaled(kind string) {
	var got atomic.Int64
	var ready sync.WaitGroup
	ends := make([]conn, sockets)
	for i := range ends {
		ends[i] = listen(kind)
		ready.Add(1)
		go func() {
			buffer := make([]byte, 2000)
			ready.Done()
			for {
				_, _, err := ends[i].ReadFromUDPAddrPort(buffer)
				check(err)
				got.Add(1)
			}
		}()
	}
	ready.Wait()
	peer, err := net.ListenUDP("udp4", nil)
	check(err)
	for round := range 10 {
		for i := range ends {
			_, err := peer.WriteTo(make([]byte, 1000), ends[i].LocalAddr())
			check(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for got.Load() < int64(sockets*(round+1)) {
			time.Sleep(time.Millisecond)
			if time.Now().After(deadline) {
				panic(fmt.Sprint("lost: ", got.Load()))
			}
		}
	}
	runtime.GC()
	debug.FreeOSMemory()
	descriptors, err := os.ReadDir("/proc/self/fd")
	check(err)
	fmt.Println(status("VmRSS"), status("Threads"), len(descriptors), status("VmLck"))
}

// status returns a number of /proc/self/status.
func status(key string) string {
	text, err := os.ReadFile("/proc/self/status")
	check(err)
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, found := strings.CutPrefix(line, key+":"); found {
			return strings.Fields(rest)[0]
		}
	}
	panic(key)
}

func scale(rounds int) {
	var most [2][3]int
	compare(fmt.Sprint(sockets, " sockets, resident memory"), "KiB", rounds, 1.20, func(kind string) float64 {
		out, err := exec.Command("/proc/self/exe", "-role", "scale", "-kind", kind).Output()
		check(err)
		var memory float64
		var counts [3]int
		_, err = fmt.Sscan(string(out), &memory, &counts[0], &counts[1], &counts[2])
		check(err)
		for i := range kinds {
			if kinds[i] == kind {
				for j := range counts {
					most[i][j] = max(most[i][j], counts[j])
				}
			}
		}
		return memory
	})
	fmt.Printf("  threads, descriptors, locked KiB at most: net %v, ringmsg %v\n", most[0], most[1])
}

// underMemlock is an unprivileged process with 8 MiB of lockable memory that reads from 400
// sockets.
func underMemlock(kind string) {
	limit := unix.Rlimit{Cur: 8 << 20, Max: 8 << 20}
	check(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit))
	if os.Getuid() == 0 {
		check(syscall.Setgroups(nil))
		check(syscall.Setgid(65000))
		check(syscall.Setuid(65000))
	}
	buffer := make([]byte, 100)
	for i := range 400 {
		end := listen(kind)
		defer end.Close()
		peer := dial(end)
		_, err := peer.Write([]byte("hi"))
		check(err)
		check(end.SetReadDeadline(time.Now().Add(time.Second)))
		if _, _, err := end.ReadFromUDPAddrPort(buffer); err != nil {
			fmt.Println(i, err)
			return
		}
		check(peer.Close())
	}
	fmt.Println(400)
}

func memlock() {
	for _, kind := range kinds {
		out, err := exec.Command("/proc/self/exe", "-role", "memlock", "-kind", kind).Output()
		check(err)
		fmt.Printf(
			"8 MiB of locked memory: %s reads from %s of 400 sockets\n", kind, strings.TrimSpace(string(out)),
		)
	}
}
