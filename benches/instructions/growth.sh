#!/bin/sh
# Checks that calls cost the same beside 10 and beside 8,000 other sockets and 500 pools, in
# instructions per call, by callgrind, on both engines. Fails if a call costs more than 1.2 times as
# much:
#   growth.sh LIBRARY_DIRECTORY BUILD_DIRECTORY
set -eu
library=$1 build=$2
here=$(dirname "$0")
few=10 many=8000

command -v valgrind >/dev/null ||
    { echo "SKIPPED growth: no valgrind; apt-get install valgrind provides it"; exit 0; }
limit=$(ulimit -Hn)
if [ "$limit" != unlimited ] && [ "$limit" -lt $((many + 300)) ]; then
    many=$((limit - 300))
    echo "note: this process may open $limit descriptors, so it uses $many sockets"
fi
mkdir -p "$build"
${CC:-cc} -std=gnu11 -O2 -g -Wall -Wextra -I"$here/../../include" "$here/growth.c" -o "$build/growth" -L"$library" -lringmsg

# Prints the inclusive instructions of each measured function, for CALLS calls.
count() { # engine sockets
    out=$build/growth.$1.$2
    LD_LIBRARY_PATH=$library valgrind --tool=callgrind --callgrind-out-file="$out.callgrind" --log-file="$out.log" \
        "$build/growth" "$1" "$2" >"$out.calls" ||
        { cat "$out.log" >&2; echo "growth: $1 with $2 sockets failed under callgrind" >&2; exit 1; }
    callgrind_annotate --inclusive=yes --threshold=100 "$out.callgrind" 2>/dev/null |
        sed -n 's/^ *\([0-9,]*\) .*:\(measured_[a-z_]*\).*/\2 \1/p' | tr -d , | sort -u
}

echo "# Instructions per call beside $few and beside $many sockets without traffic."
echo "# call                                engine      $few      $many   ratio"
for engine in io_uring recvmmsg; do
    count $engine $few >"$build/few"
    count $engine $many >"$build/many"
    join "$build/few" "$build/many" | awk -v engine=$engine -v calls="$(cat "$build/growth.$engine.$few.calls")" '
        {
            few = $2 / calls; many = $3 / calls
            printf "%-36s %-9s %7.0f %9.0f %7.2f\n", substr($1, 10), engine, few, many, many / few
            if (many > few * 1.2 + 20) { print "growth: " substr($1, 10) " grows with the number of sockets"; failed = 1 }
            else print "ok: " substr($1, 10) " on " engine
            rows++
        }
        END { if (rows != 10) { print "growth: " rows " calls were counted, not 10"; failed = 1 } exit failed }'
done
