// Server is a QUIC echo server on a ringmsg.Conn: quic-go needs no change for it.
package main

import (
	"context"
	"flag"
	"io"
	"log"

	"github.com/quic-go/quic-go"
	"github.com/ringmsg/ringmsg/bindings/go"
	"github.com/ringmsg/ringmsg/bindings/go/quictest"
)

func main() {
	address := flag.String("listen", "127.0.0.1:4433", "where to listen")
	flag.Parse()
	conn, err := ringmsg.Listen("udp", *address)
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := quictest.ServerTLS()
	if err != nil {
		log.Fatal(err)
	}
	transport := &quic.Transport{Conn: conn}
	listener, err := transport.Listen(certificate, nil)
	if err != nil {
		log.Fatal(err)
	}
	log.Print("listening on ", conn.LocalAddr())
	for {
		session, err := listener.Accept(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		go serve(session)
	}
}

func serve(session *quic.Conn) {
	for {
		stream, err := session.AcceptStream(context.Background())
		if err != nil {
			return
		}
		go func() {
			if _, err := io.Copy(stream, stream); err == nil {
				_ = stream.Close()
			}
		}()
	}
}
