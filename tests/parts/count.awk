# Counts the checks in the log of a part (run.sh). Prints `passed failed skipped`; with -v list=1 it
# prints the reasons of the skips instead, one a line. -v how= names the forms of the log, as in
# `pytest,golang`:
#
#   cargo      the summaries of cargo test
#   behaviours the lines of tests/c/test.h: every behaviour in every mode
#   pytest     pytest -rs
#   golang     go test -v
#   lines      lines that begin with `ok` or `FAILED`
#
# In every form a line `SKIPPED what: why` or `NOT CHECKED: what` is one skip.

how ~ /cargo/ && /^test result: / {
    passed += $4
    failed += $6
    if ($8 > 0) skip($8 " ignored by cargo test", $8)
}

how ~ /behaviours/ && /^ok +[a-z_0-9]+ +[a-z_]+ / { passed++ }
how ~ /behaviours/ && /^FAILED +[a-z_0-9]+ +[a-z_]+ / { failed++ }
# A program that does not compile has no lines of its own.
how ~ /behaviours/ && /^test result: / && $6 > failed { failed = $6 }
how ~ /behaviours/ && /^\(skipped / { skip(substr($0, 10, length($0) - 10), 1) }
how ~ /behaviours/ && /^\(no io_uring/ { skip(substr($0, 2, length($0) - 2), 1) }

# The summary, such as `3 failed, 120 passed, 2 skipped in 8.15s`.
how ~ /pytest/ && / in [0-9.]+s/ && /(passed|failed|skipped|error)/ {
    for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^passed/) passed += $i
        if ($(i + 1) ~ /^(failed|error)/) failed += $i
    }
}
how ~ /pytest/ && /^SKIPPED \[[0-9]+\]/ {
    times = substr($2, 2) + 0
    sub(/^SKIPPED \[[0-9]+\] /, "")
    skip($0, times)
    next
}

# go test prints the reason of a skip in the line before it.
how ~ /golang/ && /^ *--- PASS: / { passed++ }
how ~ /golang/ && /^ *--- FAIL: / { failed++ }
how ~ /golang/ && /^FAIL\t.*\[(build|setup) failed\]/ { failed++ }
how ~ /golang/ && /^ *--- SKIP: / { skip($3 ": " before, 1) }
{ before = $0; sub(/^ +/, "", before) }

how ~ /lines/ && /^ok/ { passed++ }
how ~ /lines/ && /^FAILED/ { failed++ }

/^SKIPPED / { skip(substr($0, 9), 1) }
/^NOT CHECKED: / { skip(substr($0, 14), 1) }

function skip(why, times) {
    skipped += times
    if (!(why in seen)) order[++reasons] = why
    seen[why] += times
}

END {
    if (!list) {
        print passed + 0, failed + 0, skipped + 0
        exit
    }
    for (i = 1; i <= reasons; i++)
        print order[i] (seen[order[i]] > 1 ? " (" seen[order[i]] " times)" : "")
}
