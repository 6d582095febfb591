#!/usr/bin/env bash
# Runs the C tests under valgrind, or under AddressSanitizer and UndefinedBehaviorSanitizer.
#   tests/memory.sh valgrind|sanitizers [PROGRAM ...]
# PROGRAM: names of tests/c without .c; all of them unless given. One mode is enough for valgrind,
# which is slow: DEFER, where every line of the reap runs.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$1
shift
programs=${*:-$(basename -s .c -a tests/c/*.c)}
library=${LIBRARY_DIR:-target/release}
out=target/proof/$tool
mkdir -p "$out"
failed=

# The tests of a program, without those of tests/valgrind.skip.
tests_for_valgrind() {
    grep -o 'TEST([a-z0-9_]*)' "tests/c/$1.c" | sed 's/TEST(\(.*\))/\1/' |
        grep -vxF "$(sed '/^#/d; s/ .*//' tests/valgrind.skip)" || echo none_left
}

run() {
    local name=$1 flags="-std=c11 -g -O1 -Wall -Wextra -Iinclude"
    case $tool in
    valgrind)
        [ "$(tests_for_valgrind "$name")" != none_left ] || return 0
        cc $flags "tests/c/$name.c" -o "$out/$name" -L"$library" -lringmsg -lpthread
        LD_LIBRARY_PATH=$library valgrind --quiet --error-exitcode=1 --leak-check=full \
            --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
            "$out/$name" "${MODE:-defer}" $(tests_for_valgrind "$name")
        ;;
    sanitizers)
        cc $flags -fsanitize=address,undefined -fno-sanitize-recover=undefined \
            "tests/c/$name.c" -o "$out/$name" -L"$library" -lringmsg -lpthread
        # Freed memory goes back at once: some tests watch what is resident.
        ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0 \
            LD_LIBRARY_PATH=$library "$out/$name" ${MODE:-}
        ;;
    esac
}

for name in $programs; do
    run "$name" >"$out/$name.log" 2>&1 && echo "ok     $tool $name" || { echo "FAILED $tool $name: $out/$name.log"; failed=yes; }
done
[ -z "$failed" ]
