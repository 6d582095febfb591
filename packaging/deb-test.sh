#!/usr/bin/env bash
# Installs build/deb/*.deb with apt in a fresh root that debootstrap makes. Compiles and runs the
# examples of libringmsg-dev there. Needs root.
#
#   deb-test.sh [SUITE [MIRROR]]     default: this system's suite, and debootstrap's mirror
#
# ROOT=directory uses an existing root made by debootstrap, and changes it.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
mirror=${2:-}
command -v debootstrap >/dev/null || { echo "missing: debootstrap; install it with: apt-get install debootstrap" >&2; exit 1; }

root=${ROOT:-}
if [ -z "$root" ]; then
    root=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-root.XXXXXX")
    trap 'rm -rf --one-file-system "$root"' EXIT
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || { tail "$root.log" >&2; exit 1; }
    rm -f "$root.log"
fi
mkdir -p "$root/packages"
cp build/deb/*.deb "$root/packages/"
cp tests/installed/smoke.c "$root/packages/"

# shellcheck disable=SC2016
unshare --mount --pid --fork chroot "$root" /bin/sh -euc '
    export DEBIAN_FRONTEND=noninteractive
    mount -t proc proc /proc
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends gcc g++ libc6-dev pkg-config /packages/*.deb >/packages/log 2>&1 ||
        { cat /packages/log >&2; exit 1; }
    ldconfig -p | grep -q "libringmsg.so.0 " || { echo "ldconfig does not list libringmsg.so.0" >&2; exit 1; }
    cd /usr/share/doc/libringmsg-dev/examples
    for source in *.c; do gcc -Wall -Werror "$source" -o "/tmp/${source%.c}" $(pkg-config --cflags --libs ringmsg) -lpthread; done
    for source in *.cpp; do g++ -std=c++20 -Wall -Werror "$source" -o "/tmp/${source%.cpp}_cpp" $(pkg-config --cflags --libs ringmsg); done
    gcc -static /packages/smoke.c -o /tmp/smoke_static -l:libringmsg.a $(pkg-config --static --libs-only-l ringmsg | sed s/-lringmsg//)
    cd /tmp
    ringmsg support
    ./smoke_static
    ./single_shot >/dev/null
    ./udp_receive -n 0 127.0.0.1 0 ./udp_send -t 20
    if [ -e /packages/python3-ringmsg_*.deb ]; then
        python3 -c "import ringmsg; print(\"python3:\", ringmsg.__name__, ringmsg.__file__)"
        python3 -m ringmsg
        ! find /usr/lib/python3/dist-packages/ringmsg -name "*.so*" | grep .
    fi
    # Removing the library leaves no file.
    apt-get purge -qq -y libringmsg0 >/packages/log 2>&1
    ! find /usr /etc -name "*ringmsg*" | grep .
    umount /proc
'
echo "ok: the packages can be installed, used and removed in a fresh $suite"
