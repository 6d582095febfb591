#!/usr/bin/env bash
# Prints the table of run.sh as Markdown, from the console logs.
#   tests/kernels/table.sh DIR COLUMN...             reads DIR/COLUMN.log, writes to standard output
#   tests/kernels/table.sh --into DOCUMENT TABLE     writes TABLE between the document's markers
set -euo pipefail

if [ "$1" = --into ]; then
    grep -q '^<!-- test-kernels: begin' "$2" || { echo "test-kernels: $2 has no markers" >&2; exit 1; }
    awk -v table="$3" '
        /^<!-- test-kernels: end/ { inside = 0 }
        !inside { print }
        /^<!-- test-kernels: begin/ { inside = 1; while ((getline line < table) > 0) print line }' "$2" > "$2.new"
    mv "$2.new" "$2"
    exit
fi

directory=$1
shift
for column in "$@"; do
    sed "s|^|$column |" "$directory/$column.log"
done | awk -v columns="$*" '
    $2 == "@" && $3 == "kernel" { version[$1] = $4 }
    $2 == "@" && $3 == "found" { key = $4; value = $5; for (i = 6; i <= NF; i++) value = value " " $i; found[key, $1] = value }
    $2 == "@" && $3 == "start" { program = $4; ran[program, $1] = 1; if (!(program in seen)) { seen[program]; order[++programs] = program } }
    $2 == "@" && $3 == "end" { ended[$4, $1] = 1 }
    $2 == "@" && $3 == "alarm" { alarms[$1]++ }
    $2 == "ok" { ok[program, $1]++; ok_all[$1]++ }
    $2 == "skip" { skipped[program, $1]++; skipped_all[$1]++ }
    $2 == "FAILED" { failed[program, $1]++; failed_all[$1]++; list = list "\n* " $1 ", `" program "`: " $3 " [" $4 "]" }

    function row(title, what,   n, line) {
        line = "| " title " |"
        for (n = 1; n <= count; n++) line = line " " cell(what, title, column[n]) " |"
        print line
    }
    function cell(what, title, c) {
        if (what == "version") return version[c] == "" ? "did not boot" : version[c]
        if (what == "found") return found[key_of[title], c]
        if (what == "alarms") return alarms[c] + 0
        if (what == "all") return ok_all[c] + 0
        if (what == "failed") return failed_all[c] + 0
        if (what == "skipped") return skipped_all[c] + 0
        if (!((title, c) in ran)) return "not there"
        if (!((title, c) in ended)) return "did not end"
        if (failed[title, c]) return "fail " failed[title, c] "/" ok[title, c] + failed[title, c]
        return "ok " ok[title, c] + 0 (skipped[title, c] ? ", " skipped[title, c] " not there" : "")
    }
    END {
        count = split(columns, column, " ")
        head = "| |"; line = "|---|"
        for (n = 1; n <= count; n++) {
            title = column[n]; sub(/-off$/, ", io_uring off", title)
            head = head " " title " |"; line = line "---|"
        }
        print head; print line
        row("kernel", "version")
        split("engine,mode,io_uring_setup,multishot,min_wait", keys, ",")
        split("AUTO takes,in mode,io_uring_setup,multishot recvmsg,minimum wait", titles, ",")
        for (n = 1; n <= 5; n++) { key_of[titles[n]] = keys[n] }
        for (k = 1; k <= 5; k++) row(titles[k], "found")
        for (p = 1; p <= programs; p++) row(order[p], "program")
        row("behaviours that passed", "all")
        row("that failed", "failed")
        row("that are not there", "skipped")
        row("kernel alarms (BUG, WARNING)", "alarms")
        print ""
        print list == "" ? "Nothing failed." : "Failed:\n" list
    }'
