package ringmsg_test

import (
	"fmt"
	"log"
	"net"

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
