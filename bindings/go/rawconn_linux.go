package ringmsg

import (
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// rawConn is what SyscallConn returns.
type rawConn struct{ conn *Conn }

func (r *rawConn) Control(f func(fd uintptr)) error {
	defer r.conn.out.recheck()
	in := &r.conn.in
	isPending := false
	err := r.conn.raw.Control(func(fd uintptr) {
		in.withoutOwnOptions(int(fd), func() { f(fd) })
		// Only now: it may read datagrams, for which the own options have to be on.
		isPending = in.respectFilter(int(fd))
	})
	if isPending {
		r.conn.wakeLoop()
	}
	return err
}

// withoutOwnOptions calls f while the socket is as the program set it.
func (r *receiver) withoutOwnOptions(fd int, f func()) {
	if r.hasOwnOptions() {
		r.hideOwnOptions(fd)
		defer r.showOwnOptions(fd)
	}
	f()
}

func (r *rawConn) Read(f func(fd uintptr) bool) error {
	c := r.conn
	if !c.enter() {
		return ErrAnotherReader
	}
	defer c.leave()
	defer c.out.recheck()
	if c.in.isShared() {
		return c.raw.Read(f)
	}
	return c.raw.Read(func(fd uintptr) bool {
		c.in.share(int(fd))
		return f(fd)
	})
}

func (r *rawConn) Write(f func(fd uintptr) bool) error {
	defer r.conn.out.recheck()
	return r.conn.raw.Write(f)
}

// share leaves UDP_GRO alone from now on, and switches it off if the Conn switched it on.
func (r *receiver) share(fd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shared = true
	r.giveUpGRO(fd)
}

func (r *receiver) isShared() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shared
}

// shareReads is share for a duplicate of the socket. It does nothing on a closed Conn, of which
// package net makes no duplicate.
func (c *Conn) shareReads() {
	if c.raw.Control(func(fd uintptr) { c.in.share(int(fd)) }) != nil {
		return
	}
	c.wakeLoop()
}

// wakeLoop has a loop over Batches look at what is pending.
func (c *Conn) wakeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loop != nil {
		c.loop.wake()
	}
}

// isWildcard reports whether the kernel has a choice of addresses to send from.
func (c *Conn) isWildcard() bool {
	at, isUDP := c.udp.LocalAddr().(*net.UDPAddr)
	return isUDP && at.IP.IsUnspecified() && c.udp.RemoteAddr() == nil
}

// prepare does what a new Conn's options ask for.
func (c *Conn) prepare() (err error) {
	if !c.options.replies || !c.isWildcard() {
		return nil
	}
	outer := c.raw.Control(func(fd uintptr) { err = c.in.prepareReplies(int(fd)) })
	if outer != nil {
		return outer
	}
	return err
}

// prepareReplies has the kernel report the destination of each datagram.
func (r *receiver) prepareReplies(fd int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.replies = newReplyTable()
	return r.switchOn(fd, func() error {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && domain == unix.AF_INET6 {
			err = unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
		if err == nil { // on IPv6 sockets for mapped IPv4
			err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
		}
		return os.NewSyscallError("setsockopt", err)
	})
}

// settle leaves the socket, which others may have duplicates of, without UDP_GRO if the Conn
// switched it on, and discards what is pending: also if the program has closed the socket itself.
func (c *Conn) settle() {
	_ = c.raw.Control(func(fd uintptr) {
		c.in.mu.Lock()
		defer c.in.mu.Unlock()
		c.in.closed = true
		c.in.settleGRO(int(fd))
	})
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	c.in.closed = true
	c.in.discardPending()
}
