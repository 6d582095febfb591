// Echo sends every datagram back to where it came from, from the address that it was sent to.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"

	"github.com/ringmsg/ringmsg/bindings/go"
)

func main() {
	address := flag.String("listen", "127.0.0.1:7007", "where to listen")
	flag.Parse()
	conn, err := ringmsg.Listen("udp", *address, ringmsg.WithReplyFromDestination())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	log.Print("listening on ", conn.LocalAddr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	for batch, err := range conn.Batches(ctx) {
		if err != nil {
			log.Print(err)
			return
		}
		for _, datagram := range batch.All() {
			if datagram.Err() != nil {
				continue
			}
			if _, err := conn.WriteToUDPAddrPort(datagram.Payload(), datagram.Source()); err != nil {
				log.Print(err)
			}
		}
	}
}
