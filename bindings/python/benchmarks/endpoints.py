"""CPU time per datagram of datagram endpoints: ours, the loop's own, and asyncio's with the smaller
buffer (``transport.max_size = 65536``) that makes it an honest baseline.

    python benchmarks/endpoints.py [--rounds N] [--json FILE]

*lone*: another process sends one datagram every 200 us. *burst of N*: N datagrams lie in the queue
when the loop looks. *trains*: 8 UDP_SEGMENT trains of 32 x 1200 bytes do. *set-up*: making an
endpoint. Rows are measured in turn; a ratio is the median of the ratios within a round, with
quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import uvloop
from table import show

import ringmsg
import ringmsg.aio

SIZE = 64
SO_RCVBUFFORCE = 33
PAUSE = 200e-6
OURS = "ringmsg"


class Counter(asyncio.DatagramProtocol):
    """Counts, and sets the result when the last has come."""

    left = 0
    done: asyncio.Future[None]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set_result(None)

    async def receive(self, count: int, send: Callable[[], Any]) -> int:
        """CPU time of receiving what ``send`` sends; sending is not counted."""
        self.left, self.done = count, asyncio.get_running_loop().create_future()
        send()
        start = time.thread_time_ns()
        await asyncio.wait_for(self.done, 30)
        return time.thread_time_ns() - start


def send_alone(address: Any, count: int) -> None:
    """Sends from a child process, one datagram at a time."""
    if os.fork() == 0:
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender.connect(address)
        for _ in range(count):
            time.sleep(PAUSE)
            sender.send(bytes(SIZE))
        os._exit(0)


def send_burst(sender: socket.socket, count: int) -> None:
    for _ in range(count):
        sender.send(bytes(SIZE))


def send_trains(sender: socket.socket, count: int) -> None:
    for _ in range(count // 32):
        sender.sendmsg([bytes(32 * 1200)], [(17, 103, struct.pack("=H", 1200))])


async def open_endpoint(kind: str) -> tuple[Any, Counter, socket.socket]:
    """An endpoint of that kind, and a socket that sends to it."""
    loop = asyncio.get_running_loop()
    create = ringmsg.aio.create_datagram_endpoint if kind == OURS else loop.create_datagram_endpoint
    transport, protocol = await create(Counter, local_addr=("127.0.0.1", 0))
    if kind == "max_size = 65536":
        transport.max_size = 65536  # type: ignore[attr-defined]
    sock = transport.get_extra_info("socket")
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(transport.get_extra_info("sockname"))
    return transport, protocol, sender


CASES = [("lone", 1), *((f"burst of {count}", count) for count in (1, 4, 16, 64, 256)), ("trains", 256)]


async def measure(case: str, count: int, kinds: list[str], rounds: int) -> dict[str, list[float]]:
    """ns per datagram of each kind, round by round."""
    made = {kind: await open_endpoint(kind) for kind in kinds}
    rows: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind, (transport, protocol, sender) in made.items():
            if case == "lone":
                address, total = transport.get_extra_info("sockname"), 500
                spent = await protocol.receive(total, lambda: send_alone(address, total))
                os.wait()
            else:
                send = send_trains if case == "trains" else send_burst
                times = max(1, 1024 // count)
                total, spent = count * times, 0
                for _ in range(times):
                    spent += await protocol.receive(count, lambda: send(sender, count))
            if number:
                rows[kind].append(spent / total)
    for transport, _, sender in made.values():
        transport.close()
        sender.close()
    await asyncio.sleep(0.01)
    return rows


async def measure_setup(kinds: list[str], rounds: int) -> dict[str, list[float]]:
    """ns of making an endpoint, of 200 that exist at once."""
    loop = asyncio.get_running_loop()
    rows: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number in range(rounds + 1):
        for kind in kinds:
            create = ringmsg.aio.create_datagram_endpoint if kind == OURS else loop.create_datagram_endpoint
            start = time.thread_time_ns()
            made = [await create(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9)) for _ in range(200)]
            spent = time.thread_time_ns() - start
            for transport, _ in made:
                transport.close()
            await asyncio.sleep(0.01)
            if number:
                rows[kind].append(spent / len(made))
    return rows


def main() -> None:
    """Prints the tables of both loops."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--case", help="only the cases that begin with this", default="")
    given = parser.parse_args()
    print(f"ringmsg {ringmsg.version()}, Python {platform.python_version()}, Linux {platform.release()}")
    results: dict[str, Any] = {}
    loops: dict[str, tuple[Callable[[], asyncio.AbstractEventLoop], list[str]]] = {
        "asyncio": (asyncio.new_event_loop, ["as it ships", "max_size = 65536", OURS]),
        "uvloop": (uvloop.new_event_loop, ["uvloop's own", OURS]),
    }
    for name, (new_loop, kinds) in loops.items():
        print(f"\nunder {name}")
        loop = new_loop()
        for case, count in CASES:
            if case.startswith(given.case):
                rows = loop.run_until_complete(measure(case, count, kinds, given.rounds))
                show(case, rows, OURS, results.setdefault(name, {}))
        if "set-up".startswith(given.case):
            rows = loop.run_until_complete(measure_setup([kinds[0], OURS], given.rounds))
            show("set-up", rows, OURS, results.setdefault(name, {}))
        loop.close()
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
