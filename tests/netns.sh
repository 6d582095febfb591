#!/usr/bin/env bash
# Joins two network namespaces by a veth link with MTU 1500 and GRO on the receiving device, checks
# that it has GRO, and runs the soak and the flood of empty datagrams across it.
#   tests/netns.sh BINARY_DIR LIBRARY_DIR SECONDS SEED
# Fails where that is impossible, or, with RINGMSG_TEST_ALLOW_SKIP set, prints that it was skipped.
set -euo pipefail
binaries=$1 library=$2 seconds=$3 seed=$4
near=ringmsg-near far=ringmsg-far

skip() {
    echo "SKIPPED netns: $1"
    [ -n "${RINGMSG_TEST_ALLOW_SKIP:-}" ] && exit 0
    echo "(RINGMSG_TEST_ALLOW_SKIP=1 turns this failure into a counted skip)" >&2
    exit 1
}
clean_up() {
    ip netns del $near 2>/dev/null || true
    ip netns del $far 2>/dev/null || true
}

command -v ip >/dev/null || skip "no ip(8); apt-get install iproute2 provides it"
clean_up
ip netns add $near 2>/dev/null && ip netns add $far 2>/dev/null || skip "network namespaces need root"
trap clean_up EXIT
ip link add veth-near netns $near type veth peer name veth-far netns $far || skip "no veth devices"
set_up() { # namespace, device, number
    ip -n "$1" addr add "10.213.0.$3/24" dev "$2"
    ip -n "$1" addr add "fd13::$3/64" dev "$2" nodad
    ip -n "$1" link set "$2" mtu 1500 up
    ip -n "$1" link set lo up
}
set_up $near veth-near 1
set_up $far veth-far 2
# The kernel makes an IPv6 address local in the background.
local_address() { # namespace, number
    for _ in $(seq 100); do
        ip -n "$1" -6 route show table local | grep -q "^local fd13::$2 " && return
        sleep 0.1
    done
    echo "fd13::$2 does not become a local address" >&2
    exit 1
}
local_address $near 1
local_address $far 2
command -v ethtool >/dev/null || skip "no ethtool(8), which turns GRO on; apt-get install ethtool provides it"
at_near() { ip netns exec $near "$@"; }
# The sender's device cuts trains, so that the receiver's device gets datagrams and makes trains of
# its own. (veth does not join packets if the sender's offloads say they may have come as a train.)
ip netns exec $far ethtool -K veth-far tso off tx-udp-segmentation off gso off >/dev/null
at_near ethtool -K veth-near gro on rx-udp-gro-forwarding on >/dev/null
export LD_LIBRARY_PATH=$library
trains() { # single or cut; without GRO there must be no trains, with GRO there must be some
    for gro in off on; do
        at_near ethtool -K veth-near gro $gro
        echo -n "GRO $gro, $1: "
        "$binaries/trains" $gro "$1"
    done
}
# Datagrams that are sent one by one are joined only if the device waits before it flushes.
set_flush_timeout() { # nanoseconds, number of deferred interrupts
    at_near sh -c "cd /sys/class/net/veth-near && echo $1 >gro_flush_timeout && echo $2 >napi_defer_hard_irqs"
}
set_flush_timeout 200000 50
trains single
set_flush_timeout 0 0
trains cut

export RINGMSG_SOAK_LINK=1
"$binaries/soak" "$seconds" "$seed" all
echo "dropped by the sender's device: $(ip netns exec $far cat /sys/class/net/veth-far/statistics/tx_dropped)"
"$binaries/flood" 3
