"""Addresses in the form in which ``socket`` gives them."""

from __future__ import annotations

import itertools
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

from . import _abi
from .flags import Meta

if TYPE_CHECKING:
    from ._core import Slab

CACHE_LIMIT = 65536
_KEY6 = struct.Struct("=IHH16sI")  # valid, family, source_port, source, source_scope
_KEYS6 = struct.Struct(f"={_KEY6.size}s{_abi.METADATA_SIZE - _KEY6.size}x")
_KEY4 = struct.Struct("=HH4s")  # family, source_port, source
_SOURCE = int(Meta.SOURCE)
_ntoa = socket.inet_ntoa
_unpack4 = _KEY4.unpack


def text(family: int, address: bytes, port: int, scope: int = 0) -> tuple[Any, ...]:
    """``(host, port)`` for IPv4, ``(host, port, flowinfo, scope)`` for IPv6."""
    if family == socket.AF_INET:
        return (_ntoa(address[:4]), port)
    return (socket.inet_ntop(socket.AF_INET6, address), port, 0, scope)


class AddressCache4(dict[int, Any]):
    """Source addresses of an IPv4 socket by family, port and address as one number. Peers send
    more than once, and making the text of an address costs half as much as receiving."""

    @staticmethod
    def keys_of(slab: Slab, count: int) -> list[int]:
        """The keys of the first records."""
        return slab.sources[:count].tolist()

    def __missing__(self, key: int) -> Any:
        family, port, address = _unpack4(key.to_bytes(8, sys.byteorder))
        # An error has no source; nobody sends from 0.0.0.0:0.
        source = (_ntoa(address), port) if family == 2 and key >> 16 else None
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[key] = source
        return source


class AddressCache6(dict[bytes, Any]):
    """The same for an IPv6 socket, by the first 28 bytes of the metadata."""

    @staticmethod
    def keys_of(slab: Slab, count: int) -> list[bytes]:
        """The keys of the first records."""
        metadata = slab.metadata_view[: count * _abi.METADATA_SIZE]
        return list(itertools.chain.from_iterable(_KEYS6.iter_unpack(metadata)))

    def __missing__(self, key: bytes) -> Any:
        valid, family, port, address, scope = _KEY6.unpack(key)
        source = text(family, address, port, scope) if valid & _SOURCE else None
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[key] = source
        return source


def cache_for(family: int) -> Any:
    """The cache for sockets of that family; None: their addresses are read from the names."""
    if family == socket.AF_INET:
        return AddressCache4()
    return AddressCache6() if family == socket.AF_INET6 else None


def from_sockaddr(name: bytes) -> Any:
    """A ``sockaddr`` as ``socket.recvmsg`` would give it; None for an empty one."""
    if len(name) < 2:
        return None
    (family,) = struct.unpack_from("=H", name)
    if family == socket.AF_INET and len(name) >= 8:
        return text(family, name[4:8], struct.unpack_from("!H", name, 2)[0])
    if family == socket.AF_INET6 and len(name) >= 28:
        port, flow = struct.unpack_from("!HI", name, 2)
        return (socket.inet_ntop(family, name[8:24]), port, flow, struct.unpack_from("=I", name, 24)[0])
    if family == socket.AF_UNIX:
        path = name[2:]
        return path if path[:1] == b"\0" else path.split(b"\0", 1)[0].decode(errors="surrogateescape")
    return (family, name[2:])
