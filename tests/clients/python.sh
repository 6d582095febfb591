#!/bin/sh
# Real programs on the asyncio endpoint, unmodified, at pinned versions from PyPI: their own test
# suites and two transfers, once on the loop's own endpoint and once with ringmsg.aio.install() on
# every loop. Their results must be equal. Not part of `make test`: it takes some ten minutes, and
# needs PyPI.
#
#   tests/clients/python.sh [NAME...]   aioquic zeroconf asyncio-dgram aioice uvloop http3 dns
#                                      aiocoap
#   tests/clients/python.sh bench [...]    benchmarks/quic.py in the same environment
set -eu
cd "$(dirname "$0")/../.."
root=$(pwd)
work=$root/build/clients
python=$work/env/bin/python
if ! test -e "$work/.ready" || test tests/clients/python/requirements.txt -nt "$work/.ready"; then
    rm -rf "$work"
    mkdir -p "$work/sources"
    "${PYTHON:-python3}" -m venv "$work/env"
    "$python" -m pip install -q -r tests/clients/python/requirements.txt
    # The tests are in the source archives only.
    for package in $(sed -n 's/ *# tests$//p' tests/clients/python/requirements.txt); do
        "$python" -m pip download -q --no-deps --no-binary :all: -d "$work/sources" "$package"
    done
    for archive in "$work"/sources/*.tar.gz; do
        tar -xzf "$archive" -C "$work/sources"
    done
    touch "$work/.ready"
fi
export PYTHONPATH="$root/bindings/python/src:$root/tests/clients/python"
export RINGMSG_LIBRARY="${RINGMSG_LIBRARY:-$root/target/release/libringmsg.so}"
if test "${1:-}" = bench; then
    shift
    export PYTHONPATH="$PYTHONPATH:$root/bindings/python/benchmarks"
    exec "$python" bindings/python/benchmarks/quic.py "$@"
fi
exec "$python" tests/clients/python/compare.py "$work/sources" "$@"
