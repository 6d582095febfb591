"""A statsd-like sink: counters ("name:1|c") and gauges ("name:3.5|g"), printed every few seconds.

python examples/statsd_sink.py 127.0.0.1:8125
echo -n "visits:1|c" | nc -u -w0 127.0.0.1 8125
"""

from __future__ import annotations

import argparse
import collections
import socket
import time

import ringmsg


class Sink:
    """What the metrics add up to."""

    def __init__(self) -> None:
        self.counters: collections.Counter[str] = collections.Counter()
        self.gauges: dict[str, float] = {}
        self.malformed = 0

    def take(self, payload: bytes) -> None:
        """One datagram: a metric per line."""
        for line in payload.decode("ascii", "replace").splitlines():
            try:
                name, rest = line.split(":", 1)
                fields = rest.split("|")
                value, kind = float(fields[0]), fields[1]
                rate = float(fields[2][1:]) if len(fields) > 2 else 1.0
                if kind == "c":
                    self.counters[name] += round(value / rate)
                elif kind == "g":
                    self.gauges[name] = value
                else:
                    self.malformed += 1
            except (ValueError, IndexError, ZeroDivisionError):
                self.malformed += 1

    def report(self, drops: int) -> str:
        """One line for each metric."""
        lines = [f"{name} {count}" for name, count in sorted(self.counters.items())]
        lines += [f"{name} {value:g}" for name, value in sorted(self.gauges.items())]
        return "\n".join([*lines, f"malformed {self.malformed}", f"dropped_by_the_kernel {drops}"])


def main() -> None:
    """Receives until --seconds are over or Ctrl-C."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--every", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    host, port = given.address.rsplit(":", 1)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, int(port)))
    sink = Sink()
    with sock, ringmsg.Receiver(sock) as rx:
        print("listening on port", sock.getsockname()[1], flush=True)
        end = time.monotonic() + given.seconds
        report_at = time.monotonic() + given.every
        while (now := time.monotonic()) < end:
            for payload, *_ in rx.reap(min(report_at, end) - now if min(report_at, end) > now else 0):
                sink.take(bytes(payload))
            if time.monotonic() >= report_at:
                print(sink.report(rx.stats.socket_drops), flush=True)
                report_at += given.every
        print(sink.report(rx.stats.socket_drops), flush=True)


if __name__ == "__main__":
    main()
