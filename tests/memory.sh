#!/usr/bin/env bash
# Runs the C tests under valgrind, or under AddressSanitizer and UndefinedBehaviorSanitizer.
#   tests/memory.sh valgrind|sanitizers|instrumented [PROGRAM ...]
# instrumented: with sanitizers, and LIBRARY_DIR holds a library that is compiled for
# AddressSanitizer. PROGRAM: a name in tests/c without .c; default: all. MODE selects one mode.
# Valgrind is slow, so its default is DEFER, the mode in which every line of the reap runs.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$1
shift
programs=${*:-$(basename -s .c -a tests/c/*.c)}
library=${LIBRARY_DIR:-target/release}
out=target/proof/$tool
flags="-std=c11 -g -O1 -Wall -Wextra -Iinclude"
mkdir -p "$out"
failed=
behaviours=0

# Arguments that exclude the tests of tests/valgrind/skip.
excluded=$(sed '/^#/d; s/^/-/; s/ .*//' tests/valgrind/skip)

run() {
    local name=$1
    case $tool in
    valgrind)
        cc $flags -DTEST_UNDER_VALGRIND "tests/c/$name.c" -o "$out/$name" -L"$library" -lringmsg -lpthread
        LD_LIBRARY_PATH=$library LD_PRELOAD=$out/patient.so valgrind --quiet --fair-sched=yes \
            --error-exitcode=1 --leak-check=full \
            --show-leak-kinds=definite,indirect --errors-for-leak-kinds=definite,indirect \
            "$out/$name" "${MODE:-defer}" $excluded
        ;;
    sanitizers | instrumented)
        cc $flags -fsanitize=address,undefined -fno-sanitize-recover=undefined \
            "tests/c/$name.c" -o "$out/$name" -L"$library" -lringmsg -lpthread
        # The quarantine is off, so that freed memory is returned at once: some tests check what is
        # resident. No alternate signal stack: gcc 12's runtime reports itself where it takes the
        # one of a thread that was cancelled.
        ASAN_OPTIONS=use_sigaltstack=0:quarantine_size_mb=0:thread_local_quarantine_size_kb=0 \
            LD_LIBRARY_PATH=$library "$out/$name" ${MODE:-}
        ;;
    esac
}

[ "$tool" != valgrind ] || cc $flags -fPIC -shared tests/valgrind/patient.c -o "$out/patient.so" -ldl
for name in $programs; do
    SECONDS=0
    run "$name" >"$out/$name.log" 2>&1 && said=ok || { said=FAILED; failed="$failed $name"; }
    passed=$(grep -c '^ok ' "$out/$name.log" || true)
    behaviours=$((behaviours + passed))
    printf '%-6s %s %-16s %3d behaviours %4d s\n' "$said" "$tool" "$name" "$passed" "$SECONDS"
done
echo "$tool: $(echo $programs | wc -w) programs, $behaviours behaviours${failed:+; FAILED:$failed (see $out/*.log)}"
[ -z "$failed" ]
