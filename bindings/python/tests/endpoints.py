"""What the tests of the endpoint share: loops, protocols, an endpoint that is receiving bursts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvloop
from scenarios import name, peer

import ringmsg.aio

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
UDP_GRO = (17, 104)
SENDERS: list[socket.socket] = []


def run(work: Any, loop_kind: str = "asyncio", debug: bool = False) -> Any:
    """Runs a coroutine in a fresh loop, twenty seconds at most."""
    loop = LOOPS[loop_kind]()
    loop.set_debug(debug)
    try:
        return loop.run_until_complete(asyncio.wait_for(work, 20))
    finally:
        loop.close()


def send_many(sender: socket.socket, address: Any, count: int) -> None:
    for number in range(count):
        sender.sendto(b"%d" % number, address)


class Numbers(asyncio.DatagramProtocol):
    """Collects numbers."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(int(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came about")


async def in_bursts(protocol: Any = Numbers, **arguments: Any) -> tuple[Any, Any, socket.socket]:
    """An endpoint that has just received a burst in bursts, and a sender."""
    arguments = arguments or {"local_addr": ("127.0.0.1", 0)}
    transport, made = await ringmsg.aio.create_datagram_endpoint(protocol, **arguments)
    sender = peer()
    SENDERS.append(sender)
    while not is_bursting(transport):
        before = len(made.got)
        for _ in range(64):
            sender.sendto(b"777", name(transport))
        await until(lambda: len(made.got) >= before + 64)
    made.got.clear()
    return transport, made, sender


def is_bursting(transport: Any) -> bool:
    return transport._read_other is ringmsg.aio.DatagramTransport._read_burst  # type: ignore[no-any-return]
