#!/usr/bin/env bash
# Builds the RPM packages from the tarball of `make dist`, and checks what they contain. The build
# dependencies are not checked (--nodeps), because Rust may come from rustup and the system may be
# Debian, whose package `rpm` has rpmbuild.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-rpm.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/SOURCES"
cp build/ringmsg-*.tar.xz "$work/SOURCES"
rpmbuild -bb --nodeps --define "_topdir $work" packaging/ringmsg.spec >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
mkdir -p build/rpm
cp "$work"/RPMS/*/*.rpm build/rpm/

has() { # PACKAGE FILE
    local files
    files=$(rpm -qlp "$work"/RPMS/*/"$1"-[0-9]*.rpm 2>/dev/null)
    grep -qE "^$2\$" <<<"$files" || { echo "FAILED: $1 lacks $2" >&2; exit 1; }
}
has libringmsg0 '.*/libringmsg\.so\.0'
has libringmsg0 '.*/LICENSE-MIT'
has libringmsg-devel '.*/libringmsg\.a'
has libringmsg-devel '.*/pkgconfig/ringmsg\.pc'
has libringmsg-devel '/usr/include/ringmsg\.hpp'
has libringmsg-devel '.*/man3/ringmsg_next\.3.*'
has ringmsg '/usr/bin/ringmsg'
has ringmsg '.*/man1/ringmsg\.1.*'
requires=$(rpm -qp --requires "$work"/RPMS/*/ringmsg-[0-9]*.rpm 2>/dev/null)
grep -q '^libringmsg\.so\.0' <<<"$requires" ||
    { echo "FAILED: the program's package does not require the library" >&2; exit 1; }
rpm -qp --scripts "$work"/RPMS/*/libringmsg0-[0-9]*.rpm 2>/dev/null | grep '^postinstall.*ldconfig' >/dev/null ||
    { echo "FAILED: installing the library does not run ldconfig" >&2; exit 1; }
echo "ok: rpmbuild; the packages are in build/rpm"
