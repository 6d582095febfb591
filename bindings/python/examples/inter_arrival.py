"""Times between arrivals, from the kernel's timestamps, with numpy; a histogram saved as PNG.

    python examples/inter_arrival.py 127.0.0.1:9999 --datagrams 10000 --plot gaps.png

No datagram becomes a Python object: the timestamps are a column of each batch.
"""

from __future__ import annotations

import argparse
import socket
from typing import Any

import numpy

import ringmsg


def receive(sock: socket.socket, wanted: int) -> numpy.ndarray[Any, numpy.dtype[numpy.int64]]:
    """The kernel's receive timestamps of that many datagrams, in ns."""
    columns = []
    have = 0
    with ringmsg.Receiver(sock, metadata=ringmsg.Meta.SOFTWARE_TIMESTAMP) as rx:
        for batch in rx:
            metadata = batch.metadata
            stamped = (metadata["valid"] & ringmsg.Meta.SOFTWARE_TIMESTAMP) != 0
            columns.append(metadata["software_timestamp_ns"][stamped])  # indexing by a mask copies
            have += len(
                columns[-1]
            )  # the first datagrams may lack one: the kernel begins to stamp a little later
            if have >= wanted:
                break
    return numpy.concatenate(columns)


def plot(gaps_us: numpy.ndarray[Any, Any], path: str) -> None:
    """A histogram on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    shown = numpy.maximum(gaps_us, 0.1)
    axes.hist(shown, bins=numpy.geomspace(shown.min(), shown.max() * 1.01, 80).tolist(), color="#33658a")
    axes.set_xscale("log")
    axes.set_xlabel("time since the previous datagram (µs)")
    axes.set_ylabel("datagrams")
    axes.axvline(float(numpy.median(shown)), color="#f26419", label=f"median {numpy.median(shown):.1f} µs")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Receives, prints percentiles, draws."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--datagrams", type=int, default=10000)
    parser.add_argument("--plot", metavar="FILE.png")
    given = parser.parse_args()
    host, port = given.address.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, int(port)))
        print("listening on port", sock.getsockname()[1], flush=True)
        stamps = receive(sock, given.datagrams)
    gaps_us = numpy.diff(numpy.sort(stamps)) / 1000
    for percent in (1, 50, 99, 99.9):
        print(f"{percent:5g} %  {numpy.percentile(gaps_us, percent):10.1f} µs")
    if given.plot:
        plot(gaps_us, given.plot)
        print("saved", given.plot)


if __name__ == "__main__":
    main()
