# Recomputes the tables of docs/scaling.md from the measured costs in it. `make scaling` measures
# first, and hands over what it measured:
#
#   awk -f docs/scaling.awk [-v costs=FILE] [-v machine=TEXT] docs/scaling.md
#
#   frame     = payload + UDP 8 + IPv4 20 + Ethernet 14 + FCS 4 bytes, at least 64
#   on wire   = frame + preamble 8 + gap 12 bytes
#   a second  = line rate / (8 * on wire), in each direction
#   cores     = a second * ns / 1e9: of the thread, receive + answer; at most, + send
#   memory    = a second * payload * 7: four times on the way in, three times on the way out
#   limit     = what takes the largest share of the machine below; the rate at which it is used up
BEGIN {
    FS = " *\\| *"
    machine_cores = 16
    machine_memory = 4 * 25.6
}

/^<!-- end -->/ { in_costs = in_computed = in_machine = 0 }

# | traffic | payload, bytes | train | receive, ns | send, ns | answer, ns |
function cost_row() {
    if ($3 + 0 > 0) {
        name[++loads] = $2
        payload[loads] = $3
        receive[loads] = $5
        send[loads] = $6
        answer[loads] = $7
    }
}

in_costs && costs == "" { cost_row() }

!in_computed && !(in_costs && costs != "") && !(in_machine && machine != "")

/^<!-- costs -->/ {
    in_costs = 1
    if (costs != "")
        while ((getline < costs) > 0) {
            print
            cost_row()
        }
}

/^<!-- machine -->/ {
    in_machine = 1
    if (machine != "")
        print machine
}

/^<!-- computed -->/ {
    in_computed = 1
    print "| traffic | Gbit/s | datagrams/s each way | ns between two | cores, received only | cores, with answers | memory, GB/s | what limits first |"
    print "|---|--:|--:|--:|--:|--:|--:|---|"
    split("10 25 100", gigabits, " ")
    for (load = 1; load <= loads; load++)
        for (speed = 1; speed <= 3; speed++)
            row(load, gigabits[speed])
}

function row(load, gbit,   frame, rate, thread, most, memory, by_cores, by_memory) {
    frame = payload[load] + 8 + 20 + 14 + 4
    if (frame < 64)
        frame = 64
    rate = gbit * 1e9 / (8 * (frame + 8 + 12))
    thread = rate * (receive[load] + answer[load]) / 1e9
    most = thread + rate * send[load] / 1e9
    memory = rate * payload[load] * 7 / 1e9
    by_cores = most / machine_cores
    by_memory = memory / machine_memory
    printf "| %s | %d | %.2f M | %.0f | %s to %s | %s to %s | %.1f | %s |\n", name[load], gbit, rate / 1e6, 1e9 / rate,
        cores(rate * receive[load] / 1e9), cores(rate * (receive[load] + send[load]) / 1e9), cores(thread),
        cores(most), memory, limit(gbit, by_cores, by_memory)
}

function limit(gbit, by_cores, by_memory) {
    if (by_cores <= 1 && by_memory <= 1)
        return "the line"
    return (by_cores > by_memory ? "processors" : "memory") sprintf(", at %.2g Gbit/s", gbit / (by_cores > by_memory ? by_cores : by_memory))
}

function cores(n) { return sprintf(n < 10 ? "%.1f" : "%.0f", n) }
