"""Counts congestion marks (ECN) per sender: what a congestion controller needs, and neither
socket.recv nor asyncio reports.

    python examples/ecn_reader.py 127.0.0.1:9999
"""

from __future__ import annotations

import argparse
import collections
import socket
import time

import ringmsg

NAMES = ("not-ECT", "ECT(1)", "ECT(0)", "CE")


def main() -> None:
    """Receives until --seconds are over, then prints a line for each sender."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    host, port = given.address.rsplit(":", 1)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, int(port)))
    marks: collections.defaultdict[tuple[str, int], list[int]] = collections.defaultdict(lambda: [0, 0, 0, 0])
    wanted = ringmsg.Meta.SOURCE | ringmsg.Meta.TRAFFIC_CLASS
    with sock, ringmsg.Receiver(sock, metadata=wanted) as rx:
        print("listening on port", sock.getsockname()[1], flush=True)
        end = time.monotonic() + given.seconds
        while (left := end - time.monotonic()) > 0:
            for datagram in rx.reap(left):
                if datagram.ecn is not None:
                    marks[datagram.source][datagram.ecn] += 1
    for (host, port), counts in sorted(marks.items()):
        print(f"{host} port {port}:", ", ".join(f"{n} {name}" for n, name in zip(counts, NAMES) if n))


if __name__ == "__main__":
    main()
