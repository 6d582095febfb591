//go:build linux && cgo

package ringmsg

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/ringmsg/ringmsg/bindings/go/internal/testkit"
)

// The same through a loop over Batches.
func TestAnswersToBatchesLeaveFromTheAddressThatWasAsked(t *testing.T) {
	if !testkit.Namespace(t, replyNetwork...) {
		return
	}
	needRing(t)
	conn, err := Listen("udp", ":0", WithReplyFromDestination())
	ok(t, err)
	defer conn.Close()
	go func() {
		for batch, err := range conn.Batches(context.Background()) {
			if err != nil {
				return
			}
			for _, d := range batch.All() {
				_, _ = conn.WriteToUDPAddrPort(d.Payload(), d.Source())
			}
		}
	}()
	port := conn.LocalAddr().(*net.UDPAddr).Port
	for _, address := range []string{"127.0.0.2", "10.1.0.2", "169.254.9.9", "fd00::2", "fe80::9%d0"} {
		client := sender(t, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port))))
		ok(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
		for range 3 {
			write(t, client, "question")
			if _, err := client.Read(make([]byte, 10)); err != nil {
				t.Fatal(address, err)
			}
		}
	}
}
