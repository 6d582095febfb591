"""CPU time per datagram: ringmsg beside what Python has.

    python benchmarks/receive.py [--rounds 15] [--datagrams 4000] [--json FILE]

The queue is filled first and then drained by the measuring thread, whose CPU time (kernel and
user) is divided by the datagrams. The rows take turns within each round, so that what else the
machine does hits all of them; shown is the median of the rounds, and of the ratios within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import statistics
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy
import uvloop

import ringmsg
import ringmsg.aio

SIZE = 64
SO_RCVBUFFORCE = 33
OURS = "ringmsg endpoint"


class Queue:
    """A socket that is filled before each measurement."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.bind(("0.0.0.0", 0))
        self.address = self.socket.getsockname()
        self.next_source = 0

    def fill(self, count: int, new_sources: bool) -> None:
        """From one source, or each from another address of loopback."""
        payload = bytes(SIZE)
        if not new_sources:
            for _ in range(count):
                self.sender.sendto(payload, self.address)
            return
        for _ in range(count):
            self.next_source += 1
            source = 0x7F010000 + self.next_source % 0xF00000 + 1
            info = struct.pack("=i", 0) + struct.pack("!II", source, 0)  # in_pktinfo: ipi_spec_dst
            self.sender.sendmsg([payload], [(socket.IPPROTO_IP, 8, info)], 0, self.address)


def cpu_ns(drain: Callable[[], int], count: int) -> float:
    """CPU time per datagram of draining that many."""
    start = time.thread_time_ns()
    done = drain()
    spent = time.thread_time_ns() - start
    if done != count:
        raise RuntimeError(f"{done} of {count} datagrams: net.core.rmem_max is too small for this")
    return spent / count


def drain_recvmsg_into(queue: Queue) -> int:
    """socket.recvmsg_into, one datagram a call."""
    buffer = bytearray(2048)
    buffers, receive, count = [buffer], queue.socket.recvmsg_into, 0
    try:
        while True:
            _, _, _, source = receive(buffers)
            count += 1
    except BlockingIOError:
        return count


def drain_recvfrom_into(queue: Queue) -> int:
    """socket.recvfrom_into, which shows no control messages."""
    buffer = bytearray(2048)
    receive, count = queue.socket.recvfrom_into, 0
    try:
        while True:
            _, source = receive(buffer)
            count += 1
    except BlockingIOError:
        return count


def drain_datagrams(rx: ringmsg.Receiver) -> int:
    """Datagrams: payload and source of each."""
    count = 0
    while len(batch := rx.reap(0)):
        for datagram in batch:
            payload, source = datagram.payload, datagram.source
            count += 1
    return count


def drain_messages(rx: ringmsg.Receiver) -> int:
    """messages(): payload as bytes and source of each."""
    count = 0
    while len(batch := rx.reap(0)):
        for payload, source in batch.messages():
            count += 1
    return count


def drain_columns(rx: ringmsg.Receiver) -> int:
    """numpy columns: the sum of the sizes, the highest port."""
    count, total, port = 0, 0, 0
    while len(batch := rx.reap(0)):
        total += int(batch.records["payload_length"].sum())
        port = max(port, int(batch.metadata["source_port"].max()))
        count += len(batch)
    return count


def measure_socket(count: int, rounds: int, new_sources: bool) -> dict[str, list[float]]:
    """Rows of one table, interleaved."""
    names = (
        "recvmsg_into",
        "recvfrom_into",
        "ringmsg Datagrams",
        "ringmsg messages()",
        "ringmsg numpy columns",
    )
    rows: dict[str, list[float]] = {name: [] for name in names}
    plain, ours, owned, columns = Queue(), Queue(), Queue(), Queue()
    with (
        ringmsg.Receiver(ours.socket) as rx,
        ringmsg.Receiver(owned.socket) as rx_owned,
        ringmsg.Receiver(columns.socket) as rx_columns,
    ):
        for _ in range(rounds + 1):
            plain.fill(count, new_sources)
            rows["recvmsg_into"].append(cpu_ns(lambda: drain_recvmsg_into(plain), count))
            plain.fill(count, new_sources)
            rows["recvfrom_into"].append(cpu_ns(lambda: drain_recvfrom_into(plain), count))
            ours.fill(count, new_sources)
            rows["ringmsg Datagrams"].append(cpu_ns(lambda: drain_datagrams(rx), count))
            owned.fill(count, new_sources)
            rows["ringmsg messages()"].append(cpu_ns(lambda: drain_messages(rx_owned), count))
            columns.fill(count, new_sources)
            rows["ringmsg numpy columns"].append(cpu_ns(lambda: drain_columns(rx_columns), count))
    return {name: values[1:] for name, values in rows.items()}


class Counter(asyncio.DatagramProtocol):
    """Counts, and says when it has them all."""

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left == 0 and self.done is not None:
            self.done.set_result(None)


async def measure_endpoints(count: int, rounds: int, own: str) -> dict[str, list[float]]:
    """The loop's own endpoint and ours, interleaved. (endpoints.py measures more of them.)"""
    loop = asyncio.get_running_loop()
    kinds = [own, OURS] if own == "uvloop's own" else [own, "asyncio's own, max_size = 65536", OURS]
    queues: dict[str, tuple[Queue, Any, Counter]] = {}
    for kind in kinds:
        queue = Queue()
        create: Any = ringmsg.aio.create_datagram_endpoint if kind == OURS else loop.create_datagram_endpoint
        transport, protocol = await create(Counter, sock=queue.socket)
        if "max_size" in kind:
            transport.max_size = 65536
        queues[kind] = queue, transport, protocol
    rows: dict[str, list[float]] = {name: [] for name in queues}
    for _ in range(rounds + 1):
        for name, (queue, _, protocol) in queues.items():
            protocol.left, protocol.done = count, loop.create_future()
            queue.fill(count, new_sources=False)
            start = time.thread_time_ns()
            await asyncio.wait_for(protocol.done, 30)
            rows[name].append((time.thread_time_ns() - start) / count)
    for _, transport, _ in queues.values():
        transport.close()
    await asyncio.sleep(0.1)
    return {name: values[1:] for name, values in rows.items()}


def show(title: str, rows: dict[str, list[float]], results: dict[str, Any]) -> None:
    """A table: median, best, and the ratio to the first row."""
    first = next(iter(rows.values()))
    print(f"\n{title}\n{'':32}{'median ns':>10}{'best ns':>10}{'ratio':>8}")
    for name, values in rows.items():
        ratio = statistics.median(value / base for value, base in zip(values, first))
        print(f"{name:32}{statistics.median(values):10.0f}{min(values):10.0f}{ratio:8.2f}")
        results.setdefault(title, {})[name] = {
            "median_ns": statistics.median(values),
            "best_ns": min(values),
            "ratio": ratio,
            "cpu_ns": values,
        }


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--datagrams", type=int, default=4000)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    print(
        f"ringmsg {ringmsg.version()}, Python {platform.python_version()}, Linux {platform.release()}, "
        f"numpy {numpy.__version__}; {SIZE}-byte datagrams over loopback, CPU time of the receiving thread"
    )
    for title, new in (("sources repeat", False), ("each source is new", True)):
        show(title, measure_socket(given.datagrams, given.rounds, new), results)
    show(
        "under asyncio",
        asyncio.run(measure_endpoints(given.datagrams, given.rounds, "asyncio's own")),
        results,
    )
    loop = uvloop.new_event_loop()
    rows = loop.run_until_complete(measure_endpoints(given.datagrams, given.rounds, "uvloop's own"))
    loop.close()
    show("under uvloop", rows, results)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
