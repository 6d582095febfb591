module github.com/ringmsg/ringmsg/bindings/go/quictest

go 1.24.0

require (
	github.com/quic-go/quic-go v0.59.0
	github.com/ringmsg/ringmsg/bindings/go v0.0.0
	golang.org/x/net v0.50.0
)

require (
	golang.org/x/crypto v0.48.0 // indirect
	golang.org/x/sys v0.41.0 // indirect
)

replace github.com/ringmsg/ringmsg/bindings/go => ../
