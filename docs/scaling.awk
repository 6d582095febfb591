# Recomputes the tables of docs/scaling.md from the measured costs in it: `make scaling`.
#
#   frame     = payload + UDP 8 + IPv4 20 + Ethernet 14 + FCS 4 bytes, at least 64
#   on wire   = frame + preamble 8 + gap 12 bytes
#   a second  = line rate / (8 * on wire)
#   cores     = a second * ns per datagram / 1e9
BEGIN { FS = " *\\| *" }

/^<!-- costs -->/ { in_costs = 1 }
/^<!-- end -->/ { in_costs = in_computed = 0 }

# | traffic | payload, bytes | train | receive, ns | send, ns |
in_costs && $3 + 0 > 0 { name[++loads] = $2; payload[loads] = $3; receive[loads] = $5; send[loads] = $6 }

!in_computed

/^<!-- computed -->/ {
    in_computed = 1
    print "| traffic | Gbit/s | datagrams/s | ns between two | cores: the receiving threads alone | with IP and UDP, at most | payload, GB/s |"
    print "|---|--:|--:|--:|--:|--:|--:|"
    split("10 25 100", gigabits, " ")
    for (load = 1; load <= loads; load++)
        for (speed = 1; speed <= 3; speed++)
            row(load, gigabits[speed])
}

function row(load, gbit,   frame, rate) {
    frame = payload[load] + 8 + 20 + 14 + 4
    if (frame < 64)
        frame = 64
    rate = gbit * 1e9 / (8 * (frame + 8 + 12))
    printf "| %s | %d | %.2f M | %.0f | %s | %s | %.2f |\n", name[load], gbit, rate / 1e6, 1e9 / rate,
        cores(rate * receive[load] / 1e9), cores(rate * (receive[load] + send[load]) / 1e9), rate * payload[load] / 1e9
}

function cores(n) { return sprintf(n < 10 ? "%.1f" : "%.0f", n) }
