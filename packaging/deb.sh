#!/usr/bin/env bash
# Makes Debian packages in build/deb from what `make` has built, without debhelper: libringmsg0,
# libringmsg-dev, ringmsg (the program) and, if the Python package exists, python3-ringmsg, which
# uses libringmsg0 and bundles no library. dpkg-buildpackage makes the same ones: make check-debian.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
debian_version=$version-1
architecture=$(dpkg --print-architecture)
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
maintainer=${DEBEMAIL:-ringmsg maintainers <ringmsg@localhost>}
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
out=$PWD/build/deb
rm -rf "$out"
mkdir -p "$out"
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}

into() { # into PACKAGE TARGET...: runs make install into a package
    make -s PREFIX=/usr LIBDIR="$libdir" DOCDIR="/usr/share/doc/$1" DESTDIR="$work/$1" "${@:2}"
}

# The files of debian/ that dpkg's tools expect.
mkdir -p "$work/debian"
cat >"$work/debian/control" <<END
Source: ringmsg
Section: libs
Priority: optional
Maintainer: $maintainer

Package: libringmsg0
Architecture: any
END
cp packaging/libringmsg0.symbols "$work/debian/"

# finish PACKAGE ARCHITECTURE SECTION DEPENDS SHORT LONG [MORE FIELDS]
finish() {
    local root=$work/$1 doc=$work/$1/usr/share/doc/$1
    mkdir -p "$root/DEBIAN" "$doc"
    {
        printf 'ringmsg may be used under the MIT licence or the Apache License, version 2.0, at your choice.\n\n'
        cat LICENSE-MIT
        printf '\nThe Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0.\n'
    } >"$doc/copyright"
    rm -f "$doc"/LICENSE-*
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    printf 'ringmsg (%s) unstable; urgency=medium\n\n  * Version %s: changelog.gz says what is new.\n\n -- %s  %s\n' \
        "$debian_version" "$version" "$maintainer" "$(date -Rud "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
    if [ -d "$root/usr/share/man" ]; then find "$root/usr/share/man" -type f -exec gzip -9n {} +; fi
    if [ -d "$root/usr/share/man" ]; then # renames links to files that are now compressed
        find "$root/usr/share/man" -type l | while read -r link; do
            ln -s "$(readlink "$link").gz" "$link.gz"
            rm "$link"
        done
    fi
    {
        printf 'Package: %s\nSource: ringmsg\nVersion: %s\nArchitecture: %s\nSection: %s\n' "$1" "$debian_version" "$2" "$3"
        printf 'Priority: optional\nMaintainer: %s\nDepends: %s\n%s' "$maintainer" "$4" "${7:-}"
        printf 'Installed-Size: %s\nDescription: %s\n %s\n' "$(du -sk --exclude=DEBIAN "$root" | cut -f1)" "$5" "$6"
    } >"$root/DEBIAN/control"
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    chmod -R u+w,go=rX "$root"
    dpkg-deb --root-owner-group -Zxz -b "$root" "$out" >/dev/null
}

# --- libringmsg0 -----------------------------------------------------------------------------
into libringmsg0 install-runtime
mkdir "$work/libringmsg0/DEBIAN"
library=$work/libringmsg0$libdir/libringmsg.so.$version
chmod 644 "$library"
(
    cd "$work"
    # Fails if a symbol was added or removed that packaging/libringmsg0.symbols does not show.
    dpkg-gensymbols -plibringmsg0 -v"$debian_version" -P"$work/libringmsg0" -O"$work/libringmsg0/DEBIAN/symbols" -c4 >&2
    dpkg-shlibdeps -O "$library" -l"$work/libringmsg0$libdir" >"$work/depends" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }
)
sed -i 's/ *$//' "$work/libringmsg0/DEBIAN/symbols"
printf 'libringmsg 0 libringmsg0 (>= %s)\n' "$version" >"$work/libringmsg0/DEBIAN/shlibs"
printf 'activate-noawait ldconfig\n' >"$work/libringmsg0/DEBIAN/triggers"
finish libringmsg0 "$architecture" libs "$(sed -n 's/^shlibs:Depends=//p' "$work/depends")" \
    "receive messages with io_uring, as batches of flat records" \
    "A request is armed once for a socket; from then on each call returns a batch
 of datagrams, with their control messages decoded. This is the shared library." $'Multi-Arch: same\n'

# --- libringmsg-dev --------------------------------------------------------------------------
into libringmsg-dev install-development install-documents
mkdir -p "$work/libringmsg-dev/usr/share/doc/libringmsg-dev"
cp -r examples-c "$work/libringmsg-dev/usr/share/doc/libringmsg-dev/examples"
mkdir -p "$work/ringmsg/usr/share/man"
mv "$work/libringmsg-dev/usr/share/man/man1" "$work/ringmsg/usr/share/man/"
finish libringmsg-dev "$architecture" libdevel "libringmsg0 (= $debian_version), libc6-dev" \
    "receive messages with io_uring: headers, static library, manual" \
    "Files for building programs with libringmsg0: headers for C and C++20,
 pkg-config and CMake files, the static library, manual pages and examples." \
    $'Multi-Arch: same\n'

# --- ringmsg ---------------------------------------------------------------------------------
into ringmsg install-program
finish ringmsg "$architecture" net "libringmsg0 (>= $version), libc6" \
    "show what a UDP port receives and what is wrong with its socket" \
    "ringmsg prints the datagrams that arrive at a port with their metadata, writes
 capture files, says what a machine offers to libringmsg0, and finds out why a
 socket loses datagrams."

# --- python3-ringmsg -------------------------------------------------------------------------
if [ -d bindings/python/src/ringmsg ]; then
    packages=$work/python3-ringmsg/usr/lib/python3/dist-packages
    mkdir -p "$packages/ringmsg-$version.dist-info"
    cp -r bindings/python/src/ringmsg "$packages/"
    find "$packages" \( -name '*.so*' -o -name __pycache__ \) -prune -exec rm -rf {} +
    printf 'Metadata-Version: 2.1\nName: ringmsg\nVersion: %s\n' "$version" >"$packages/ringmsg-$version.dist-info/METADATA"
    finish python3-ringmsg all python "python3 (>= 3.10), libringmsg0 (>= $version)" \
        "receive datagrams in batches with io_uring, from Python" \
        "Receivers for threads and for asyncio, with GRO, ECN, timestamps, source and
 destination of each datagram, and drop counters, on top of libringmsg0." $'Suggests: python3-numpy\n'
else
    echo "NOT BUILT: python3-ringmsg (bindings/python does not exist)"
fi
ls -l "$out"
