#!/usr/bin/env bash
# Two network namespaces joined by a veth link with MTU 1500, GRO on the device, which is shown; the
# soak and the flood of empty datagrams across it.   tests/netns.sh BINARY_DIR LIBRARY_DIR SECONDS SEED
# Exit status 0 when it cannot be had here: a skip, which is said.
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
command -v ethtool >/dev/null || skip "no ethtool(8), so no GRO on the device; apt-get install ethtool provides it"
at_near() { ip netns exec $near "$@"; }
# The sender's device cuts trains, so that the receiver's gets datagrams, and makes its own trains of
# them. (veth joins nothing that may have come as a train: it looks at the sender's offloads.)
ip netns exec $far ethtool -K veth-far tso off tx-udp-segmentation off gso off >/dev/null
at_near ethtool -K veth-near gro on rx-udp-gro-forwarding on >/dev/null
export LD_LIBRARY_PATH=$library
trains() { # what is sent; first with GRO off: no trains
    for gro in off on; do
        at_near ethtool -K veth-near gro $gro
        echo -n "GRO $gro, $1: "
        "$binaries/trains" $gro "$1"
    done
}
# Datagrams sent one by one meet only where the device waits a little for company.
wait_for_company() { at_near sh -c "cd /sys/class/net/veth-near && echo $1 >gro_flush_timeout && echo $2 >napi_defer_hard_irqs"; }
wait_for_company 200000 50
trains single
wait_for_company 0 0
trains cut

export RINGMSG_SOAK_LINK=1
"$binaries/soak" "$seconds" "$seed" all
echo "dropped by the sender's device: $(ip netns exec $far cat /sys/class/net/veth-far/statistics/tx_dropped)"
"$binaries/flood" 3
