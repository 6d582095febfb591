"""What the tests of ``Sender`` and ``batch.reply`` share: sockets that send and receive."""

from __future__ import annotations

import socket

import pytest

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def bound(family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    """A bound socket whose recv has a timeout."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(5)
    return made


def received(peer: socket.socket, count: int) -> list[bytes]:
    """That many datagrams, and none behind them."""
    got = [peer.recv(65536) for _ in range(count)]
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    peer.settimeout(5)
    return got
