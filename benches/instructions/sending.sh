#!/bin/sh
# The library's own instructions for each message that is sent, headers and source address included,
# by callgrind:
#   sending.sh LIBRARY_DIRECTORY BUILD_DIRECTORY check|update
# Each figure is the difference of two runs over the difference in messages. `check` fails above the
# limits below, and beyond 5 % of sending.txt; `update` rewrites that.
set -eu
library=$1 build=$2 verb=$3
here=$(dirname "$0")
figures=$here/sending.txt
few=4 many=12 # batches

# Cases of send.c, and how many instructions a message may cost at most; -: no limit.
cases="row 60
one 60
pointer 100
index 100
content 150
columns 150
singles 150
few -
v6 -"

command -v valgrind >/dev/null || {
    echo "SKIPPED check-instructions, sending: no valgrind; apt-get install valgrind provides it"
    exit 0
}
mkdir -p "$build"
${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -I"$here/../../include" "$here/send.c" -o "$build/send" -L"$library" -lringmsg

count() { # case batches
    out=$build/send.$1.$2
    LD_LIBRARY_PATH=$library valgrind --tool=callgrind --callgrind-out-file="$out.callgrind" --log-file="$out.log" \
        --toggle-collect=measured_send "$build/send" "$1" "$2" >"$out.messages" ||
        { cat "$out.log" >&2; echo "instructions: send $1 failed under callgrind" >&2; exit 1; }
    echo "$(sed -n 's/^totals: //p' "$out.callgrind") $(cat "$out.messages")"
}

compilers="$(${RUSTC:-rustc} --version); $(uname -m)"
{
    echo "# The library's instructions for each message, by callgrind: make instructions rewrites this."
    echo "# Batches of 1024 messages with a source address; see send.c for the cases."
    echo "# $compilers"
    echo "# case     instructions  at most"
    echo "$cases" | while read -r case limit; do
        echo "$(count "$case" $few) $(count "$case" $many)" |
            awk -v name="$case" -v limit="$limit" '{ printf "%-10s %12.1f %8s\n", name, ($3 - $1) / ($4 - $2), limit }'
    done
} >"$build/sending.txt"
cat "$build/sending.txt"

if [ "$verb" = update ]; then
    cp "$build/sending.txt" "$figures"
    exit 0
fi
grep -qF "# $compilers" "$figures" ||
    echo "note: the committed figures were counted with: $(sed -n 3p "$figures" | cut -c3-)"
awk '
    /^#/ { next }
    FNR == NR { then[$1] = $2; next }
    $3 != "-" && $2 > $3 { printf "instructions: %s costs %.1f a message, and may cost %d\n", $1, $2, $3; failed = 1 }
    $2 > then[$1] * 1.05 + 0.5 {
        printf "instructions: %s costs %.1f a message, not %.1f; if that is meant: make instructions\n", $1, $2, then[$1]
        failed = 1
    }
    $2 < then[$1] * 0.95 - 0.5 {
        printf "instructions: %s costs only %.1f a message, not %.1f: make instructions keeps that\n", $1, $2, then[$1]
    }
    $2 <= then[$1] * 1.05 + 0.5 && ($3 == "-" || $2 <= $3) { print "ok: sending, " $1 }
    END { exit failed }' "$figures" "$build/sending.txt"
