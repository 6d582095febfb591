"""CPU time per ``sendto`` of datagram endpoints: ours beside the loop's own.

    python benchmarks/sending.py [--rounds N] [--json FILE] [--case NAME]

*64 peers, 16 x 4, one peer*: 64 ``sendto`` in one turn of the loop, to as many peers. *answers*: the
same from ``datagram_received``, to a burst of 64. *lone*: one ``sendto`` in a turn. Datagrams have 64
bytes; the kernel's delivery over loopback is in all figures. Endpoints are measured in turn; a ratio is
the median of the ratios within a round, with quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import time
from collections.abc import Callable
from typing import Any

import uvloop
from table import show

import ringmsg
import ringmsg.aio

SIZE = 64
TURNS = 64
OURS = "ringmsg"
CASES = {"64 peers": 64, "16 x 4": 16, "one peer": 1, "answers": 64, "lone": 1}


class Echo(asyncio.DatagramProtocol):
    """Answers, and sets the result when the last has come."""

    left = 0
    done: asyncio.Future[None]
    transport: Any

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)
        self.left -= 1
        if self.left == 0:
            self.done.set_result(None)


class Peers:
    """Sockets that are sent to."""

    def __init__(self, count: int) -> None:
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
        for sock in self.sockets:
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        self.names = [sock.getsockname() for sock in self.sockets]

    def drain(self) -> int:
        """Empties their queues."""
        count = 0
        for sock in self.sockets:
            try:
                while sock.recv(SIZE) is not None:
                    count += 1
            except BlockingIOError:
                pass
        return count

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


async def turn(transport: Any, peers: Peers, count: int) -> int:
    """CPU time of a turn with this many sendto, and of the work that it schedules."""
    payload, names = bytes(SIZE), peers.names
    start = time.thread_time_ns()
    for number in range(count):
        transport.sendto(payload, names[number % len(names)])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return time.thread_time_ns() - start


async def answers(protocol: Echo, peers: Peers, name: Any) -> int:
    """CPU time of answering a burst of 64."""
    for number in range(64):
        peers.sockets[number % len(peers.sockets)].sendto(bytes(SIZE), name)
    protocol.left, protocol.done = 64, asyncio.get_running_loop().create_future()
    start = time.thread_time_ns()
    await asyncio.wait_for(protocol.done, 30)
    await asyncio.sleep(0)
    return time.thread_time_ns() - start


async def measure(case: str, kinds: list[str], rounds: int) -> dict[str, list[float]]:
    """ns per datagram of each kind, round by round."""
    loop = asyncio.get_running_loop()
    peers, rows, made = Peers(CASES[case]), {kind: [] for kind in kinds}, {}  # type: ignore[var-annotated]
    for kind in kinds:
        create = ringmsg.aio.create_datagram_endpoint if kind == OURS else loop.create_datagram_endpoint
        made[kind] = await create(Echo, local_addr=("127.0.0.1", 0))
        if hasattr(made[kind][0], "max_size"):
            made[kind][0].max_size = 65536  # type: ignore[attr-defined]
    count = 1 if case == "lone" else 64
    for number in range(rounds + 1):
        for kind, (transport, protocol) in made.items():
            spent = arrived = 0
            for _ in range(TURNS * 64 // count if case == "lone" else TURNS):
                if case == "answers":
                    spent += await answers(protocol, peers, transport.get_extra_info("sockname"))
                else:
                    spent += await turn(transport, peers, count)
                arrived += peers.drain()
            assert arrived == TURNS * 64, arrived
            if number:
                rows[kind].append(spent / arrived)
    for transport, _ in made.values():
        transport.close()
    peers.close()
    await asyncio.sleep(0.01)
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
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }
    for name, new_loop in loops.items():
        print(f"\nunder {name}")
        loop = new_loop()
        for case in CASES:
            if case.startswith(given.case):
                rows = loop.run_until_complete(measure(case, [f"{name}'s own", OURS], given.rounds))
                show(case, rows, OURS, results.setdefault(name, {}))
        loop.close()
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
