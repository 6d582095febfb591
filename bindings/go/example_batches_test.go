//go:build linux && cgo

package ringmsg_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"net"

	"github.com/ringmsg/ringmsg/bindings/go"
)

func ExampleConn_Batches() {
	conn, err := ringmsg.Listen("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	send(conn.LocalAddr(), "one", "two", "three")
	seen := 0
	for batch, err := range conn.Batches(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		for _, datagram := range batch.All() {
			fmt.Println(string(datagram.Payload()))
			seen++
		}
		if seen == 3 {
			break
		}
	}
	// Output:
	// one
	// two
	// three
}

// A server that echoes: one call of the library receives a batch, and one answers it.
func ExampleBatch_Reply() {
	conn, err := ringmsg.Listen("udp4", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		var answers [][]byte
		for batch, err := range conn.Batches(context.Background()) {
			if err != nil {
				return // the Conn was closed
			}
			answers = answers[:0]
			for _, datagram := range batch.All() {
				answers = append(answers, bytes.ToUpper(datagram.Payload()))
			}
			if _, err := batch.Reply(answers); err != nil {
				log.Print(err)
			}
		}
	}()
	client, err := net.Dial("udp4", conn.LocalAddr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("hello")); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, 100)
	n, err := client.Read(answer)
	fmt.Println(string(answer[:n]), err)
	_ = conn.Close()
	// Output: HELLO <nil>
}
