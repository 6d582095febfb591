# Rewrites the tables of figures in README.md from the measured cells of a machine's page:
#   awk -f docs/figures.awk docs/performance/MACHINE.md README.md
# `make figures` does that, and a test compares.
BEGIN {
    FS = " *[|] *"
    rows["receive"] = "recvmsg;recvmmsg(64);liburing, DEFER;ringmsg, AUTO"
    columns["receive"] = "10 k/s;50 k/s;200 k/s;saturated;drained, 64 B;drained, GRO"
    rows["answer"] = "recvfrom + sendto;recvmmsg(64) + sendmmsg;recvmmsg(512), grouped;ringmsg, AUTO"
    columns["answer"] = "echo, peers in turn;echo, in a row;echo, every peer once;relay;echo, 200 k/s"
}
FNR == NR && /^## / { inside = /^## CPU time in every regime/ }
FNR == NR && inside && /^[|] ns per datagram/ {
    split("", title)
    for (i = 3; i < NF; i++) title[i] = $i
}
FNR == NR && inside { for (i in title) cell[$2, title[i]] = $i }
FNR == NR { next }
/^<!-- figures of (receive|answer): make figures -->/ {
    print
    kind = /answer/ ? "answer" : "receive"
    row_count = split(rows[kind], row, ";")
    column_count = split(columns[kind], column, ";")
    line = "| ns per datagram |"
    rule = "|---|"
    for (i = 1; i <= column_count; i++) { line = line " " column[i] " |"; rule = rule "--:|" }
    print line
    print rule
    for (r = 1; r <= row_count; r++) {
        line = "| " row[r] " |"
        for (i = 1; i <= column_count; i++) line = line " " cell[row[r], column[i]] " |"
        print line
    }
    skipping = 1
    next
}
/^<!-- end figures -->/ { skipping = 0 }
!skipping { print }
