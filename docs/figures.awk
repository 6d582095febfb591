# Rewrites the table of figures in README.md from the measured cells of a machine's page:
#   awk -f docs/figures.awk docs/performance/MACHINE.md README.md
# `make figures` does that, and a test compares.
BEGIN {
    FS = " *[|] *"
    rows = split("recvmsg;recvmmsg(64);liburing, DEFER;ringmsg, AUTO", row, ";")
    columns = split("10 k/s;50 k/s;200 k/s;saturated;drained, 64 B;drained, GRO", column, ";")
}
FNR == NR && /^## / { inside = /^## CPU time in every regime/ }
FNR == NR && inside && /^[|] ns per datagram/ {
    for (i = 3; i < NF; i++) place[$i] = i
}
FNR == NR && inside { for (i = 1; i <= columns; i++) cell[$2, column[i]] = $(place[column[i]]) }
FNR == NR { next }
/^<!-- figures: make figures -->/ {
    print
    line = "| ns per datagram |"
    rule = "|---|"
    for (i = 1; i <= columns; i++) { line = line " " column[i] " |"; rule = rule "--:|" }
    print line
    print rule
    for (r = 1; r <= rows; r++) {
        line = "| " row[r] " |"
        for (i = 1; i <= columns; i++) line = line " " cell[row[r], column[i]] " |"
        print line
    }
    skipping = 1
    next
}
/^<!-- end figures -->/ { skipping = 0 }
!skipping { print }
