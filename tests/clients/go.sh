#!/bin/sh
# Runs Go packages from the module proxy on a *net.UDPConn and on a ringmsg.Conn, with equal
# results: programs of our own around kcp-go, miekg/dns, pion/ice, pion/turn and wireguard-go,
# with and without cgo, and the test suites of quic-go and libp2p's QUIC transport. The Makefile
# sets PKG_CONFIG_PATH and LD_LIBRARY_PATH. Downloads some 200 MB into Go's module cache. With an
# argument it runs the clients whose name contains it. Takes about three minutes.
set -eu
cd "$(dirname "$0")/go"
root=$(cd ../../.. && pwd)
go=${GO:-go}
"$go" version | grep -Eq 'go1\.(2[6-9]|[3-9][0-9])' || {
	echo "these packages need Go 1.26 or later; this is $("$go" version)" >&2
	exit 1
}
export GOTOOLCHAIN=local GOFLAGS="${GOFLAGS:-} -buildvcs=false"
status=0
echo "With cgo:"
"$go" run . "$@" || status=1
echo "Without cgo:"
CGO_ENABLED=0 "$go" run . "$@" || status=1
echo "Test suites:"
"$go" run ./suites "$root/build/clients-go" "$root" "$@" || status=1
exit $status
