#!/usr/bin/env bash
# Runs the parts of `make test` or of `make proof`, one after another. Prints one line for each:
# what it checks, how many checks passed, failed and were skipped, and how long it took. Prints the
# whole log of a part that fails. Ends with the sums over all parts and the reason of every skip.
# The exit status is 0 if every part passed or was skipped.
#
#   run.sh TITLE LIST        LIST is a file of this folder: test.list, proof.list
#
# A line of a list is `name | what it checks | how its log is counted | command`; count.awk says how
# a log is counted. A part fails if its command fails, if its log shows a failure, or if nothing was
# counted in its log: a part that lost its tests must not pass.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
title=$1 list=$2
logs=${RINGMSG_LOGS:-target/proof/logs}
mkdir -p "$logs"

sum_passed=0 sum_failed=0 sum_skipped=0 parts=0 started=$SECONDS
failed_parts=() reasons=()

# run_part NAME WHAT HOW COMMAND
run_part() {
    local name=$1 what=$2 how=$3 command=$4 log=$logs/$1.log begun=$SECONDS status=0 word=ok
    local passed failed skipped
    printf '%-14s %-54s ' "$name" "$what"
    bash -c "$command" >"$log" 2>&1 </dev/null || status=$?
    read -r passed failed skipped < <(awk -v how="$how" -f "$here/count.awk" "$log")
    if [ $status -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
    if [ $((passed + failed + skipped)) -eq 0 ]; then
        echo "FAILED: the command succeeded, but its log shows no check" >>"$log"
        failed=1
    fi
    [ "$passed" -gt 0 ] || word=skipped
    [ "$failed" -eq 0 ] || word=FAILED
    printf '%5d passed %3d failed %3d skipped %5d s  %s\n' \
        "$passed" "$failed" "$skipped" $((SECONDS - begun)) "$word"
    while IFS= read -r reason; do
        reasons+=("$name: $reason")
    done < <(awk -v how="$how" -v list=1 -f "$here/count.awk" "$log")
    if [ "$failed" -gt 0 ]; then
        failed_parts+=("$name")
        printf -- '--- log of %s (%s), exit status %d\n' "$name" "$command" "$status"
        cat "$log"
        printf -- '--- end of the log of %s\n' "$name"
    fi
    parts=$((parts + 1))
    sum_passed=$((sum_passed + passed)) sum_failed=$((sum_failed + failed))
    sum_skipped=$((sum_skipped + skipped))
    [ "$failed" -eq 0 ]
}

"$here/announce.sh" "$list"
echo "$title: the logs are in $logs"
while IFS='|' read -r name what how command <&3; do
    case $name in '#'* | '') continue ;; esac
    name=$(echo $name) what=$(echo $what) how=$(echo $how)
    # The other parts need the libraries.
    run_part "$name" "$what" "$how" "$command" || [ "$name" != library ] || break
done 3<"$list"

echo
printf '%s: %d parts, %d passed, %d failed, %d skipped, %d s\n' \
    "$title" $parts $sum_passed $sum_failed $sum_skipped $((SECONDS - started))
for reason in "${reasons[@]}"; do echo "  skipped: $reason"; done
for name in "${failed_parts[@]}"; do echo "  FAILED: $name (its log: $logs/$name.log)"; done
[ ${#failed_parts[@]} -eq 0 ]
