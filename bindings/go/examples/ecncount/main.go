// Ecncount counts datagrams by their mark of explicit congestion notification, once a second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go"
)

func main() {
	address := flag.String("listen", "127.0.0.1:7007", "where to listen")
	flag.Parse()
	conn, err := ringmsg.Listen("udp", *address, ringmsg.WithMetadata(ringmsg.MetaTrafficClass))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Ring(); err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", conn.LocalAddr())
	var counts [4]int
	for {
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			log.Fatal(err)
		}
		for batch, err := range conn.Batches(context.Background()) {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				log.Fatal(err)
			}
			for _, datagram := range batch.All() {
				counts[datagram.ECN()]++
			}
		}
		fmt.Printf("not capable %d, ECT(1) %d, ECT(0) %d, congestion %d\n", counts[ringmsg.ECNNotCapable],
			counts[ringmsg.ECNCapable1], counts[ringmsg.ECNCapable0], counts[ringmsg.ECNCongestion])
	}
}
