#!/bin/sh
# `make demo`: udp_receive against udp_send over IPv4 and IPv6 loopback, and once with a receive
# buffer that is too small, so that the kernel must drop datagrams. udp_receive accounts for every
# one.
set -u
programs=$1
failed=0

run() {
    title=$1
    shift
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
        printf '\n\033[1;34m%s\033[0m\n' "$title"
    else
        printf '\n%s\n' "$title"
    fi
    "$@"
    case $? in
        0) ;;
        77) echo "skipped: this machine has no such address" ;;
        *) failed=1 ;;
    esac
}

"$programs/ringmsg" support || exit 1
send=$programs/udp_send
run "Trains over IPv4" "$programs/udp_receive" 127.0.0.1 0 "$send" -p 20
run "Trains over IPv6" "$programs/udp_receive" ::1 0 "$send" -p 20
run "A flood into a small socket buffer" "$programs/udp_receive" -n 0 -b 262144 127.0.0.1 0 "$send"
exit $failed
