"""Addresses in the form in which ``socket`` gives them."""

from __future__ import annotations

import socket
import struct
from typing import Any

from .flags import Meta

# struct ringmsg_metadata up to source_scope: valid, family, source_port, source, source_scope.
_KEY = struct.Struct("=IHH16sI")
KEY_SIZE = _KEY.size
CACHE_LIMIT = 65536

_SOURCE = int(Meta.SOURCE)
_ntoa = socket.inet_ntoa
_unpack = _KEY.unpack


def text(family: int, address: bytes, port: int, scope: int = 0) -> tuple[Any, ...]:
    """``(host, port)`` for IPv4, ``(host, port, flowinfo, scope)`` for IPv6."""
    if family == socket.AF_INET:
        return (socket.inet_ntop(family, address[:4]), port)
    return (socket.inet_ntop(socket.AF_INET6, address), port, 0, scope)


class AddressCache(dict[bytes, Any]):
    """Source addresses by the first 28 bytes of their metadata. Peers send more than once, and
    making the text of an address costs as much as receiving half a datagram."""

    def __missing__(self, key: bytes) -> Any:
        valid, family, port, address, scope = _unpack(key)
        if not valid & _SOURCE:
            source: Any = None
        elif family == 2:
            source = (_ntoa(address[:4]), port)
        else:
            source = text(family, address, port, scope)
        if len(self) >= CACHE_LIMIT:
            self.clear()
        self[key] = source
        return source


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
        if path[:1] == b"\0":
            return path
        return path.split(b"\0", 1)[0].decode(errors="surrogateescape")
    return (family, name[2:])
