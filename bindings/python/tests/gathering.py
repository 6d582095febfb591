"""What the tests of the endpoint's ``sendto`` share: protocols that record, what has arrived."""

from __future__ import annotations

import errno
import socket
from typing import Any

from endpoints import Numbers

import ringmsg.aio


class Recording(Numbers):
    """Also records errors, and pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[int | None] = []
        self.pauses: list[str] = []

    def error_received(self, exc: Exception) -> None:
        self.errors.append(getattr(exc, "errno", None))

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")


async def endpoint(protocol: Any = Recording, **arguments: Any) -> tuple[Any, Any]:
    arguments = arguments or {"local_addr": ("127.0.0.1", 0)}
    return await ringmsg.aio.create_datagram_endpoint(protocol, **arguments)


def arrived(sock: socket.socket) -> list[bytes]:
    """What is in the socket's queue now: sending over loopback is delivery."""
    got = []
    sock.setblocking(False)
    try:
        while True:
            got.append(sock.recv(65536))
    except BlockingIOError:
        sock.settimeout(2)
        return got


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def send_turn(transport: Any, address: Any, count: int) -> None:
    """This many sendto, one after the other; the clock of the transport sees one turn of the loop."""
    for data in numbers(0, count):
        transport.sendto(data, address)


class Narrow:
    """A socket, and the sender of its transport, that take this many datagrams and are then full. (Over
    loopback a UDP socket never is.)"""

    def __init__(self, transport: Any, room: int) -> None:
        self._sock, self.room = transport._sock, room
        transport._sock = self
        self._gatherer, self._send = transport._gatherer, transport._gatherer.send
        self._gatherer.send = self.send_batch
        self.fileno, self.close = self._sock.fileno, self._sock.close
        self.largest = 0

    def sendto(self, data: bytes, address: Any) -> None:
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        self._sock.sendto(data, address)

    def send_batch(self, data: list[bytes], indices: list[int]) -> list[int]:
        room = min(self.room, len(data))
        self.room -= room
        self.largest = max(self.largest, room)
        sent = self._send(data[:room], indices[:room]) if room else []
        return [*sent, *[-errno.EAGAIN] * (len(data) - room)]
