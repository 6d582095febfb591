#!/usr/bin/env bash
# Two network namespaces joined by a veth link with MTU 1500, GRO on the device; the soak and the
# flood of empty datagrams across it.   tests/netns.sh BINARY_DIR LIBRARY_DIR SECONDS SEED
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
if command -v ethtool >/dev/null; then
    # Trains are cut by the sender's device, and made again by GRO at the receiver's.
    ip netns exec $far ethtool -K veth-far tx-udp-segmentation off gso off >/dev/null 2>&1 || true
    ip netns exec $near ethtool -K veth-near gro on rx-udp-gro-forwarding on >/dev/null 2>&1 || true
else
    echo "note: without ethtool trains cross the link whole"
fi
export RINGMSG_SOAK_LINK=1 LD_LIBRARY_PATH=$library
"$binaries/soak" "$seconds" "$seed" all
"$binaries/flood" 3
