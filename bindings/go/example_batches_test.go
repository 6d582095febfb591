//go:build linux && cgo

package ringmsg_test

import (
	"context"
	"fmt"
	"log"

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
