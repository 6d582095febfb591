"""Socket buffers, which an ordinary user gets up to net.core.rmem_max only."""

from __future__ import annotations

import socket

import pytest

SO_RCVBUFFORCE = 33


def make_room(sock: socket.socket, size: int) -> bool:
    """Makes room for `size` bytes, as the kernel counts them, or as much as can be had. Whether that is
    enough."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size // 2)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= size


def needs_room(size: int) -> None:
    """Skips a test that a smaller buffer would fail."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        if not make_room(sock, size):
            limit = f"sysctl net.core.rmem_max={size // 2}"
            pytest.skip(f"an ordinary user gets too small a socket buffer; {limit} allows it")
