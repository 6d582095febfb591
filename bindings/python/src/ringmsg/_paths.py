"""Paths: where datagrams go, and how they leave."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from typing import Any

from . import _abi, _layout
from ._abi import lib
from .flags import PathFlag

# The indices that mean "no path", and the path of a datagram that cannot be answered: no table is
# that long.
NONE = 0xFFFFFFFF
NOWHERE = 0xFFFFFFFE
# A table is emptied before it would have more paths than this.
MOST = 4096
_PATH, _ = _layout.until(_abi.Path, "reserved")
_METADATA = _abi.Metadata
# What the path of an answer depends on, as two parts: valid to destination, and local_v4.
_UNTIL = _METADATA.destination.offset + _METADATA.destination.size
_LOCAL = _METADATA.local_v4.offset
_LOCAL_SIZE = _METADATA.local_v4.size
_ROWS = struct.Struct(
    f"={_UNTIL}s{_LOCAL - _UNTIL}x{_LOCAL_SIZE}s{_abi.METADATA_SIZE - _LOCAL - _LOCAL_SIZE}x"
)


class Table:
    """The paths of one socket's messages. Messages to one peer share a path, and so have one index,
    by which the library finds at little cost what it can join to a train."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}
        """The index of each path, by what it was made from."""
        self.count = 0
        """How many paths there are."""
        self._paths: Any = (_abi.Path * 16)()
        self.address = ctypes.addressof(self._paths)

    def is_full(self) -> bool:
        """Whether it should be emptied before the next path is added."""
        return self.count >= MOST

    def clear(self) -> None:
        """Empties the table: indices that were returned before are void."""
        self.known.clear()
        self.count = 0

    def reserve(self, count: int) -> None:
        """Makes room for this many new paths. The table may be emptied for that: indices that were
        returned before are void."""
        if self.count + count > MOST:
            self.clear()
        needed = self.count + count
        if needed > len(self._paths):
            self._grow(max(needed, 2 * len(self._paths)))

    def _grow(self, capacity: int) -> None:
        paths = (_abi.Path * capacity)()
        ctypes.memmove(paths, self._paths, self.count * _abi.PATH_SIZE)
        self._paths = paths
        self.address = ctypes.addressof(paths)

    def add(self, key: Any, path: bytes) -> int:
        """Adds a path, to be found again by this key."""
        index = self.known[key] = self.append(path)
        return index

    def append(self, path: bytes) -> int:
        """Adds a path."""
        index = self.count
        if index == len(self._paths):
            self._grow(2 * index)
        ctypes.memmove(self.address + index * _abi.PATH_SIZE, path, _abi.PATH_SIZE)
        self.count += 1
        return index

    def of_metadata(self, metadata: memoryview, address: int, count: int) -> list[int]:
        """The paths of answers to the first datagrams that these metadata describe."""
        known = self.known
        indices = []
        for position, row in enumerate(rows(metadata, count)):
            index = known.get(row)
            if index is None:
                path = reply(address + position * _abi.METADATA_SIZE)
                index = NOWHERE if path is None else self.add(row, path)
            indices.append(index)
        return indices


def rows(metadata: memoryview, count: int) -> Iterator[tuple[Any, ...]]:
    """Of each datagram's metadata, what the path of its answer depends on."""
    return _ROWS.iter_unpack(metadata[: count * _abi.METADATA_SIZE])


def reply(metadata: int) -> bytes | None:
    """The path of an answer to the datagram whose metadata are at this address; None if they have
    no source."""
    path = ctypes.create_string_buffer(_abi.PATH_SIZE)
    return path.raw if lib.path_reply(path, metadata) == 0 else None


def to(
    family: int,
    address: Any,
    *,
    source: Any = None,
    interface_index: int | None = None,
    traffic_class: int | None = None,
    hop_limit: int | None = None,
    flow_label: int | None = None,
) -> bytes:
    """The path to an address as ``socket`` takes it; None: the connected peer. TypeError and
    ValueError say what is wrong with it."""
    valid, remote, port, scope, local = PathFlag(0), b"", 0, 0, b""
    if address is not None:
        valid |= PathFlag.REMOTE
        remote, port, scope = _parse(family, address)
    if source is not None:
        valid |= PathFlag.LOCAL
        local, _, zone = _parse(family, (source, 0) if isinstance(source, str) else source)
        interface_index = interface_index or zone or None
    for bit, value in (
        (PathFlag.INTERFACE, interface_index),
        (PathFlag.TRAFFIC_CLASS, traffic_class),
        (PathFlag.HOP_LIMIT, hop_limit),
        (PathFlag.FLOW_LABEL, flow_label),
    ):
        valid |= bit if value is not None else PathFlag(0)
    try:
        return _PATH.pack(
            *(valid, family, port, remote, scope, interface_index or 0, local),
            *(traffic_class or 0, hop_limit or 0, 0, flow_label or 0, bytes(8)),
        )
    except struct.error as error:
        raise ValueError(
            "interface_index and flow_label have 32 bits; traffic_class and hop_limit have 8"
        ) from error


def _parse(family: int, address: Any) -> tuple[bytes, int, int]:
    """Address, port and scope."""
    is_v6 = family == socket.AF_INET6
    if not is_v6 and family != socket.AF_INET:
        raise ValueError("a path is for AF_INET and AF_INET6 sockets; others send to their connected peer")
    if not isinstance(address, tuple) or not 2 <= len(address) <= (4 if is_v6 else 2):
        raise TypeError(
            f"an address must be (host, port{', flowinfo, scope' if is_v6 else ''}) or None, not {address!r}"
        )
    host, port = address[:2]
    if not isinstance(port, int) or not 0 <= port <= 0xFFFF:
        raise ValueError(f"a port must be 0 to 65535, not {port!r}")
    if not isinstance(host, str):
        raise TypeError(f"a host must be a str, not {host!r}")
    host, _, zone = host.partition("%")
    scope = address[3] if len(address) == 4 else 0
    if zone:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    if not isinstance(scope, int) or not 0 <= scope <= 0xFFFFFFFF:
        raise ValueError(f"a scope is an interface's index, not {scope!r}")
    try:
        return socket.inet_pton(family, _SPECIAL.get((is_v6, host), host)), port, scope
    except OSError:
        pass
    try:
        socket.inet_pton(socket.AF_INET if is_v6 else socket.AF_INET6, host)
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is not numeric: resolve names first, with socket.getaddrinfo()") from None
    form = f"::ffff:{host}" if is_v6 else "an IPv4 address"
    raise ValueError(f"{host}: this socket's family takes {form}")


# As socket has them.
_SPECIAL = {(False, ""): "0.0.0.0", (True, ""): "::", (False, "<broadcast>"): "255.255.255.255"}
