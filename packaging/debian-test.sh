#!/usr/bin/env bash
# Runs dpkg-buildpackage on the committed files, and checks what the packages contain. The build
# dependencies are not checked (-d), because Rust may come from rustup.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-debian.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/ringmsg"
git archive HEAD | tar -x -C "$work/ringmsg"
(cd "$work/ringmsg" && env -u MAKEFLAGS -u MAKEOVERRIDES dpkg-buildpackage -b -us -uc -d) >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
mkdir -p build/debian
cp "$work"/*.deb build/debian/
architecture=$(dpkg --print-architecture)
libdir=usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)

has() { # PACKAGE FILE
    local files # read to the end: dpkg-deb fails if grep -q closes the pipe before that
    files=$(dpkg-deb -c "$work/$1"_*.deb | awk '{print $6}')
    grep -qx "./$2" <<<"$files" || { echo "FAILED: $1 lacks $2" >&2; exit 1; }
}
has libringmsg0 "$libdir/libringmsg.so.0"
has libringmsg-dev "$libdir/libringmsg.a"
has libringmsg-dev "$libdir/pkgconfig/ringmsg.pc"
has libringmsg-dev usr/include/ringmsg.hpp
has libringmsg-dev usr/share/man/man3/ringmsg_next.3.gz
has libringmsg-dev usr/share/doc/libringmsg-dev/examples/udp_echo.c
has ringmsg usr/bin/ringmsg
has ringmsg usr/share/man/man1/ringmsg.1.gz
has python3-ringmsg usr/lib/python3/dist-packages/ringmsg/__init__.py
dpkg-deb -f "$work"/ringmsg_*_"$architecture".deb Depends | grep -q 'libringmsg0 (>= 0.1.0' ||
    { echo "FAILED: the program's package does not depend on libringmsg0" >&2; exit 1; }
dpkg-deb -x "$work"/libringmsg0_*.deb "$work/root"
dpkg-deb -x "$work"/ringmsg_*_"$architecture".deb "$work/root"
LD_LIBRARY_PATH=$work/root/$libdir "$work/root/usr/bin/ringmsg" --version
echo "ok: dpkg-buildpackage; the packages are in build/debian"
