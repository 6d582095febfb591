#!/bin/sh
# Runs the aarch64 wheel on this machine: Debian's Python for arm64 under qemu-user, which has no
# io_uring, so that AUTO takes the recvmmsg engine. Called by `make test-wheel-arm64`.
#
#   emulated.sh WHEEL FOLDER     FOLDER keeps the packages that are downloaded, 10 MB
set -eu
wheel=$1
folder=$2
here=$(cd "$(dirname "$0")" && pwd)
qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
    echo "missing: qemu-aarch64-static; install it with: apt-get install qemu-user-static" >&2
    exit 1
}
dpkg --print-foreign-architectures | grep -qx arm64 || {
    echo "no packages for arm64: as root, dpkg --add-architecture arm64 && apt-get update" >&2
    exit 1
}
mkdir -p "$folder"
if ! test -e "$folder/.ready"; then
    python=$(apt-cache depends python3-minimal:arm64 |
        sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal.*/\1/p' | head -1)
    echo "will download: $python for arm64 and the libraries it needs, from Debian into $folder"
    rm -rf "$folder/root" "$folder/deb"
    mkdir -p "$folder/root" "$folder/deb"
    (cd "$folder/deb" && apt-get download -qq "$python-minimal:arm64" "lib$python-minimal:arm64" \
        "lib$python-stdlib:arm64" libc6:arm64 libgcc-s1:arm64 libexpat1:arm64 zlib1g:arm64 \
        libffi8:arm64 libssl3:arm64 libuuid1:arm64 libbz2-1.0:arm64 liblzma5:arm64)
    for package in "$folder"/deb/*.deb; do
        dpkg-deb -x "$package" "$folder/root"
    done
    echo "$python" > "$folder/.ready"
fi
rm -rf "$folder/site"
python3 -m zipfile -e "$wheel" "$folder/site"
PYTHONPATH=$folder/site "$qemu" -L "$folder/root" "$folder/root/usr/bin/$(cat "$folder/.ready")" \
    -W error "$here/emulated.py" aarch64
