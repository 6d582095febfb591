#!/usr/bin/env bash
# Makes build/ringmsg-VERSION.tar.xz from the committed files, with every crate it needs, and builds
# it once without a network and without a cache of crates. The same commit gives the same tarball.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
name=ringmsg-$version
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-dist.XXXXXX")
trap 'rm -rf "$work"' EXIT

git diff --quiet HEAD || echo "note: the tarball contains only committed changes" >&2
git archive --prefix="$name/" HEAD | tar -x -C "$work"
(
    cd "$work/$name"
    mkdir .cargo
    cargo vendor --locked --quiet vendor
    cat >.cargo/config.toml <<-CONFIG
	[source.crates-io]
	replace-with = "vendored"
	[source.vendored]
	directory = "vendor"
	CONFIG
)
mkdir -p build
tar -C "$work" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$(git log -1 --format=%ct)" -cJf "build/$name.tar.xz" "$name"

# Unpacks the tarball and builds it with an empty cache, and without a network where unshare works.
rm -rf "${work:?}/$name"
tar -C "$work" -xJf "build/$name.tar.xz"
alone=()
if unshare -rn true 2>/dev/null; then alone=(unshare -rn); else echo "NOT CHECKED: building without a network (unshare)"; fi
log=$work/log
env -u CARGO_TARGET_DIR CARGO_HOME="$work/home" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" "${alone[@]}" \
    make -C "$work/$name" build >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
make -C "$work/$name" install PREFIX=/usr DESTDIR="$work/root" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
[ -e "$work/root/usr/lib/libringmsg.so.$version" ]
ls -l "build/$name.tar.xz"
