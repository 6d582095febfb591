//go:build linux

package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/curve25519"
	"golang.org/x/net/ipv4"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun/tuntest"
)

// batchBind is a bind as wireguard-go's own, over a packet conn: x/net's ReadBatch and WriteBatch.
type batchBind struct {
	listen listener
	conn   net.PacketConn
	batch  *ipv4.PacketConn
}

func (b *batchBind) Open(uint16) ([]conn.ReceiveFunc, uint16, error) {
	b.conn = b.listen("udp4", "127.0.0.1:0")
	b.batch = ipv4.NewPacketConn(b.conn)
	messages := make([]ipv4.Message, b.BatchSize())
	receive := func(packets [][]byte, sizes []int, endpoints []conn.Endpoint) (int, error) {
		for i := range packets {
			messages[i] = ipv4.Message{Buffers: packets[i : i+1]}
		}
		n, err := b.batch.ReadBatch(messages[:len(packets)], 0)
		for i := range max(n, 0) {
			sizes[i] = messages[i].N
			endpoints[i] = &conn.StdNetEndpoint{AddrPort: messages[i].Addr.(*net.UDPAddr).AddrPort()}
		}
		return n, err
	}
	return []conn.ReceiveFunc{receive}, uint16(b.conn.LocalAddr().(*net.UDPAddr).Port), nil
}

func (b *batchBind) Send(buffers [][]byte, to conn.Endpoint) error {
	messages := make([]ipv4.Message, len(buffers))
	for i := range buffers {
		messages[i] = ipv4.Message{
			Buffers: buffers[i : i+1], Addr: net.UDPAddrFromAddrPort(to.(*conn.StdNetEndpoint).AddrPort),
		}
	}
	for len(messages) > 0 {
		n, err := b.batch.WriteBatch(messages, 0)
		if err != nil {
			return err
		}
		messages = messages[n:]
	}
	return nil
}

func (b *batchBind) Close() error {
	if b.conn == nil {
		return nil
	}
	return b.conn.Close()
}

func (*batchBind) SetMark(uint32) error { return nil }
func (*batchBind) BatchSize() int       { return conn.IdealBatchSize }
func (*batchBind) ParseEndpoint(s string) (conn.Endpoint, error) {
	at, err := netip.ParseAddrPort(s)
	return &conn.StdNetEndpoint{AddrPort: at}, err
}

// wireguardTunnel pings through a tunnel between two devices.
func wireguardTunnel(listen listener) (string, error) {
	var devices [2]*device.Device
	var tuns [2]*tuntest.ChannelTUN
	var binds [2]*batchBind
	var keys [2]device.NoisePrivateKey
	addresses := [2]netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}
	for i := range devices {
		tuns[i], binds[i] = tuntest.NewChannelTUN(), &batchBind{listen: listen}
		devices[i] = device.NewDevice(tuns[i].TUN(), binds[i], device.NewLogger(device.LogLevelSilent, ""))
		defer devices[i].Close()
		keys[i] = device.NoisePrivateKey{31: 0x40, 5: byte(i + 1)}
		check(devices[i].IpcSet("private_key=" + hex.EncodeToString(keys[i][:]) + "\n"))
		check(devices[i].Up())
	}
	for i := range devices {
		public, err := publicKey(keys[1-i])
		check(err)
		check(devices[i].IpcSet(fmt.Sprintf("public_key=%s\nallowed_ip=%s/32\nendpoint=%s\n",
			public, addresses[1-i], binds[1-i].conn.LocalAddr())))
	}
	arrived := 0
	for range 200 {
		packet := tuntest.Ping(addresses[1], addresses[0])
		tuns[0].Outbound <- packet
		select {
		case got := <-tuns[1].Inbound:
			if string(got) == string(packet) {
				arrived++
			}
		case <-time.After(10 * time.Second):
			return "", errors.New("no packet came through")
		}
	}
	return fmt.Sprint(arrived, " of 200 arrived"), nil
}

func publicKey(private device.NoisePrivateKey) (string, error) {
	key, err := curve25519.X25519(private[:], curve25519.Basepoint)
	return hex.EncodeToString(key), err
}
