//go:build linux

package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/xtaci/kcp-go/v5"
)

// kcpSession echoes through a kcp session whose both ends are packet conns of ours. kcp-go takes
// them for UDP sockets, and reads batches through x/net.
func kcpSession(listen listener) (string, error) {
	server := listen("udp4", "127.0.0.1:0")
	defer server.Close()
	l, err := kcp.ServeConn(nil, 10, 3, server)
	if err != nil {
		return "", err
	}
	go func() {
		session, err := l.AcceptKCP()
		if err != nil {
			return
		}
		session.SetNoDelay(1, 10, 2, 1)
		session.SetWindowSize(1024, 1024)
		_, _ = io.Copy(session, session)
	}()
	local := listen("udp4", "127.0.0.1:0")
	defer local.Close()
	session, err := kcp.NewConn2(server.LocalAddr(), nil, 10, 3, local)
	if err != nil {
		return "", err
	}
	session.SetNoDelay(1, 10, 2, 1)
	session.SetWindowSize(1024, 1024)
	check(session.SetDeadline(time.Now().Add(50 * time.Second)))
	sent := make([]byte, 4<<20)
	_, _ = rand.Read(sent)
	go func() { _, _ = session.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(session, got); err != nil {
		return "", err
	}
	return fmt.Sprint("echoed, equal: ", bytes.Equal(sent, got)), nil
}
