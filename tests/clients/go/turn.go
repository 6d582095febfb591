//go:build linux

package main

import (
	"fmt"
	"net"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v4"
)

// turnRelay has a client send datagrams to a peer and back through a TURN server. Server, client
// and peer are on packet conns of the same kind.
func turnRelay(listen listener) (string, error) {
	const user, password, realm = "user", "password", "ringmsg"
	conn := listen("udp4", "127.0.0.1:0")
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: realm,
		AuthHandler: func(name, realm string, _ net.Addr) ([]byte, bool) {
			return turn.GenerateAuthKey(name, realm, password), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            conn,
			RelayAddressGenerator: &relays{listen},
		}},
	})
	if err != nil {
		return "", err
	}
	defer server.Close()
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: conn.LocalAddr().String(), TURNServerAddr: conn.LocalAddr().String(),
		Conn: listen("udp4", "127.0.0.1:0"), Username: user, Password: password, Realm: realm,
		LoggerFactory: logging.NewDefaultLoggerFactory(),
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return "", err
	}
	relayed, err := client.Allocate()
	if err != nil {
		return "", err
	}
	defer relayed.Close()
	peer := listen("udp4", "127.0.0.1:0")
	defer peer.Close()
	go func() {
		b := make([]byte, 2000)
		for {
			n, from, err := peer.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = peer.WriteTo(b[:n], from)
		}
	}()
	b, echoed := make([]byte, 2000), 0
	for i := range 200 {
		if _, err := relayed.WriteTo(fmt.Appendf(nil, "datagram %d", i), peer.LocalAddr()); err != nil {
			return "", err
		}
		check(relayed.SetReadDeadline(time.Now().Add(5 * time.Second)))
		n, from, err := relayed.ReadFrom(b)
		if err == nil && string(b[:n]) == fmt.Sprint("datagram ", i) && from.String() == peer.LocalAddr().String() {
			echoed++
		}
	}
	return fmt.Sprint(echoed, " of 200 relayed"), nil
}

// relays makes the relayed packet conns.
type relays struct{ listen listener }

func (*relays) Validate() error { return nil }

func (r *relays) AllocatePacketConn(network string, _ int) (net.PacketConn, net.Addr, error) {
	conn := r.listen(network, "127.0.0.1:0")
	return conn, conn.LocalAddr(), nil
}

func (*relays) AllocateConn(string, int) (net.Conn, net.Addr, error) { return nil, nil, net.ErrClosed }
