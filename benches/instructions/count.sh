#!/bin/sh
# Counts instructions per record in user space with callgrind, for the library and for a loop
# written by hand:
#   count.sh LIBRARY_DIRECTORY BUILD_DIRECTORY check|update
# Each figure is the difference of two runs divided by the difference in records, so that set-up
# cancels out. `check` compares with figures.txt and fails if a figure is more than 5 % higher;
# `update` rewrites it.
set -eu
library=$1 build=$2 verb=$3
here=$(dirname "$0")
figures=$here/figures.txt
few=2112 many=6336 # records: multiples of 33 messages of 32 datagrams

skip() { echo "SKIPPED check-instructions: $1"; exit 0; }
command -v valgrind >/dev/null || skip "no valgrind; apt-get install valgrind provides it"
echo '#include <liburing.h>' | ${CC:-cc} -E - >/dev/null 2>&1 || skip "no liburing; apt-get install liburing-dev provides it"

mkdir -p "$build"
compile() { ${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -I"$here/../../include" "$here/main.c" "$@" -L"$library" -lringmsg; }
compile "$here/library.c" -o "$build/library"
compile "$here/handwritten.c" -o "$build/handwritten" -luring

# Runs a receiver under callgrind. Prints the instructions inside measured_HALF, including callees,
# and the number of records.
count() { # receiver case half records
    out=$build/$1.$2.$3.$4
    LD_LIBRARY_PATH=$library valgrind --tool=callgrind --callgrind-out-file="$out.callgrind" --log-file="$out.log" \
        --toggle-collect="measured_$3" "$build/$1" "$2" "$4" >"$out.records" ||
        { cat "$out.log" >&2; echo "instructions: $1 $2 failed under callgrind" >&2; exit 1; }
    echo "$(sed -n 's/^totals: //p' "$out.callgrind") $(cat "$out.records")"
}

# Counts both halves of both receivers, in instructions per record.
measure() { # case
    for receiver in library handwritten; do
        for half in reap release; do
            count $receiver "$1" $half $few
            count $receiver "$1" $half $many
        done
    done >"$build/$1"
    awk -v name="$1" '
        NR % 2 { cost = $1; records = $2; next }
        { each[NR / 2] = ($1 - cost) / ($2 - records) }
        END {
            ours = each[1] + each[2]; theirs = each[3] + each[4]
            printf "%-10s %6.1f %8.1f %6.1f | %14.1f %8.1f %6.1f | %6.2f\n",
                name, each[1], each[2], ours, each[3], each[4], theirs, ours / theirs
        }' "$build/$1"
}

compilers="$(${RUSTC:-rustc} --version); $(${CC:-cc} --version | head -n 1); $(uname -m)"
{
    echo "# Instructions per record in user space, by callgrind: make instructions rewrites this."
    echo "# split: per datagram of a train of 32. By hand: see handwritten.c for what it leaves out."
    echo "# $compilers"
    echo "# case       reap  release    sum |  by hand: reap  release    sum |  ratio of the sums"
    for case in metadata plain split; do
        measure $case
    done
} >"$build/figures.txt"
cat "$build/figures.txt"

if [ "$verb" = update ]; then
    cp "$build/figures.txt" "$figures"
    exit 0
fi
grep -qF "# $compilers" "$figures" ||
    echo "note: the committed figures were counted with: $(sed -n 3p "$figures" | cut -c3-)"
awk '
    /^#/ { next }
    FNR == NR { reap[$1] = $2; release[$1] = $3; next }
    {
        compare($1 " reap", $2, reap[$1]); compare($1 " release", $3, release[$1])
    }
    function compare(what, now, then) {
        if (now > then * 1.05 + 0.5) {
            printf "instructions: %s costs %.1f a record, not %.1f; if that is meant: make instructions\n", what, now, then
            failed = 1
        } else if (now < then * 0.95 - 0.5)
            printf "instructions: %s costs only %.1f a record, not %.1f: make instructions keeps that\n", what, now, then
        if (now <= then * 1.05 + 0.5) print "ok: " what
    }
    END { exit failed }' "$figures" "$build/figures.txt"
