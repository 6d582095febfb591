"""What Python makes of a batch: CPU time per datagram from the reap to payload and source in hand,
the release of views included, the reap itself not.

    python benchmarks/objects.py [--rounds N]

``Datagram``s against ``messages()``, sources that repeat and new ones; ``to_numpy`` against taking
``messages()`` apart. Rows are measured in turn; a ratio is the median of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy
from receive import Queue

import ringmsg

BATCH = 256
BATCHES = 16


def datagrams(batch: ringmsg.Batch) -> None:
    for datagram in batch:
        _payload, _source = datagram.payload, datagram.source
    batch.release()


def copied_datagrams(batch: ringmsg.Batch) -> None:
    for datagram in batch:
        _payload, _source = bytes(datagram.payload), datagram.source
    batch.release()


def messages(batch: ringmsg.Batch) -> None:
    for _payload, _source in batch.messages():
        pass
    batch.release()


def joined(batch: ringmsg.Batch) -> None:
    numpy.frombuffer(b"".join(batch.payloads()), "V64")
    batch.release()


def gathered(batch: ringmsg.Batch) -> None:
    batch.to_numpy("V64")
    batch.release()


ROWS: list[Callable[[ringmsg.Batch], None]] = [datagrams, copied_datagrams, messages, joined, gathered]


def measure(new_sources: bool, rounds: int) -> None:
    """Prints one table."""
    queue = Queue()
    spent: dict[str, list[float]] = {row.__name__: [] for row in ROWS}
    with ringmsg.Receiver(queue.socket, batch_size=BATCH) as rx:
        for _ in range(rounds):
            for row in ROWS:
                total, done = 0, 0
                queue.fill(BATCH * BATCHES, new_sources)
                while done < BATCH * BATCHES:
                    batch = rx.reap(0)
                    start = time.thread_time_ns()
                    row(batch)
                    total += time.thread_time_ns() - start
                    done += len(batch)
                spent[row.__name__].append(total / done)
    print("each source is new" if new_sources else "sources repeat")
    first = spent["datagrams"]
    for name, values in spent.items():
        ratios = statistics.quantiles([value / base for value, base in zip(values, first)], n=4)
        print(
            f"  {name:18}{statistics.median(values):6.0f} ns"
            f"  {ratios[1]:.2f} ({ratios[0]:.2f}-{ratios[2]:.2f})"
        )


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    given = parser.parse_args()
    for new_sources in (False, True):
        measure(new_sources, given.rounds)


if __name__ == "__main__":
    main()
