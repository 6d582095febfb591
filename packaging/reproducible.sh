#!/usr/bin/env bash
# Builds the committed files twice, in folders of different names and with different caches of
# cargo's registry, and fails if a file that is installed differs.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/ringmsg-reproducible.XXXXXX")
trap 'rm -rf "$work"' EXIT
files="libringmsg.so libringmsg.a libringmsg.so.debug ringmsg"
registry=${CARGO_HOME:-$HOME/.cargo}/registry

for folder in one another/folder; do
    mkdir -p "$work/$folder" "$work/$folder-home"
    git archive HEAD | tar -x -C "$work/$folder"
    # A cache of its own, at another path, filled from the one that exists.
    [ ! -d "$registry" ] || cp -r "$registry" "$work/$folder-home/registry"
    env -u CARGO_TARGET_DIR -u MAKEFLAGS -u MAKEOVERRIDES CARGO_HOME="$work/$folder-home" \
        RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" make -s -C "$work/$folder" finish >"$work/log" 2>&1 ||
        { cat "$work/log" >&2; exit 1; }
done
status=0
for file in $files; do
    if cmp "$work/one/target/release/finished/$file" "$work/another/folder/target/release/finished/$file"; then
        echo "ok: $file is equal: $(sha256sum <"$work/one/target/release/finished/$file" | cut -c1-16)..."
    else
        echo "FAILED: $file differs" >&2
        status=1
    fi
done
exit $status
