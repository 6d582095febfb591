"""What the tests share: sockets on loopback, receivers in every mode, checks."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import endpoints
import pytest
from room import make_room
from sending import bound

import ringmsg

MODES = ["plain", "coop", "defer"]
SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104


def needs_an_owner(ring: ringmsg.Ring) -> None:
    """For tests of what only a bound ring does: the recvmmsg engine binds none."""
    if ring.info.engine is ringmsg.Engine.RECVMMSG:
        ring.close()
        pytest.skip("io_uring is unavailable here, and only its DEFER mode binds a ring to a thread")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Every task-work mode."""
    return str(request.param)


class Pair:
    """A bound socket, and one that sends to it."""

    def __init__(self, family: int = socket.AF_INET, host: str = "127.0.0.1") -> None:
        self.receiver = socket.socket(family, socket.SOCK_DGRAM)
        make_room(self.receiver, 32 << 20)
        self.receiver.bind((host, 0))
        self.sender = socket.socket(family, socket.SOCK_DGRAM)
        self.sender.connect(self.receiver.getsockname())

    def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.sender.send(payload)

    def send_train(self, payload: bytes, segment: int) -> None:
        self.sender.sendmsg([payload], [(SOL_UDP, UDP_SEGMENT, struct.pack("=H", segment))])

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


@pytest.fixture
def pair6() -> Iterator[Pair]:
    made = Pair(socket.AF_INET6, "::1")
    yield made
    made.close()


def take(rx: ringmsg.Receiver, count: int, timeout: float = 5.0) -> list[bytes]:
    """The payloads of exactly that many datagrams."""
    got: list[bytes] = []
    end = time.monotonic() + timeout
    while len(got) < count and time.monotonic() < end:
        got += rx.reap(max(0.0, end - time.monotonic())).payloads()
    assert len(got) == count
    return got


def eventually(condition: Callable[[], Any], timeout: float = 5.0) -> None:
    """The condition holds within that time."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def close_senders() -> Iterator[None]:
    """Those that endpoints.in_bursts() opened."""
    yield
    while endpoints.SENDERS:
        endpoints.SENDERS.pop().close()


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with bound() as made:
        yield made


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made = [bound() for _ in range(4)]
    yield made
    for peer in made:
        peer.close()


@pytest.fixture
def narrow() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair that is full after a few messages."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with left, right:
        right.settimeout(5)
        yield left, right


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy may let the limits of an endpoint pass between two sendto of one turn."""
    monkeypatch.setattr("ringmsg._flow._SOON_NS", 10**12)
    monkeypatch.setattr("ringmsg._endpoint._GATHER_NS", 10**12)
