package ringmsg_test

import (
	"errors"
	"fmt"
	"log"
	"net"
	"syscall"

	"github.com/ringmsg/ringmsg/bindings/go"
	"golang.org/x/net/ipv4"
)

func ExampleListen() {
	conn, err := ringmsg.Listen("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	send(conn.LocalAddr(), "hello")
	buffer := make([]byte, 1500)
	n, _, err := conn.ReadFromUDPAddrPort(buffer)
	fmt.Println(string(buffer[:n]), err)
	// Output: hello <nil>
}

func ExampleConn_ReadBatch() {
	conn, err := ringmsg.Listen("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	send(conn.LocalAddr(), "one", "two")
	messages := make([]ipv4.Message, 8)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 1500)}
	}
	for seen := 0; seen < 2; {
		n, err := conn.ReadBatch(messages, 0)
		if err != nil {
			log.Fatal(err)
		}
		for _, message := range messages[:n] {
			fmt.Println(string(message.Buffers[0][:message.N]))
		}
		seen += n
	}
	// Output:
	// one
	// two
}

func send(to net.Addr, payloads ...string) {
	conn, err := net.Dial("udp4", to.String())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	for _, payload := range payloads {
		if _, err := conn.Write([]byte(payload)); err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleConn_SendBatch() {
	conn, err := ringmsg.Listen("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	path := ringmsg.PathTo(client.LocalAddr().(*net.UDPAddr).AddrPort())
	messages := []ringmsg.Message{
		{Payload: []byte("one"), Path: path, ECN: ringmsg.ECNCapable0},
		{Payload: []byte("two"), Path: path, ECN: ringmsg.ECNCapable0},
		{Payload: []byte("nowhere")}, // the socket is not connected
	}
	sent, _ := conn.SendBatch(messages)
	fmt.Println(sent, "sent;", errors.Is(messages[2].Err, syscall.EDESTADDRREQ))
	buffer := make([]byte, 100)
	for range sent {
		n, err := client.Read(buffer)
		fmt.Println(string(buffer[:n]), err)
	}
	// Output:
	// 2 sent; true
	// one <nil>
	// two <nil>
}
