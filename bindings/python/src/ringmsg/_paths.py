"""Paths: where datagrams go, and how they leave."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import _abi, _layout
from ._abi import lib
from ._arguments import integer
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


class Paths(NamedTuple):
    """The paths that a batch's indices refer to."""

    array: Any
    """Keeps the memory."""
    address: int
    length: int


class Table:
    """The paths of one socket's messages. Messages to one peer share a path, and so have one index,
    by which the library finds at little cost what it can join to a train."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}
        """The index of each path, by what it was made from."""
        self.count = 0
        """How many paths there are."""
        self._replace((_abi.Path * 16)())

    def is_full(self) -> bool:
        """Whether it should be emptied before the next path is added."""
        return self.count >= MOST

    def clear(self) -> None:
        """Empties the table: indices that were returned before are void, but in what ``paths``
        returned before."""
        self.known.clear()
        self.count = 0
        self._replace((_abi.Path * 16)())

    def paths(self) -> Paths:
        """All paths, as the library reads them. They stay as they are when the table is emptied."""
        return Paths(self._array, self.address, self.count)

    def reserve(self, count: int) -> None:
        """Makes room for this many new paths. The table may be emptied for that: indices that were
        returned before are void."""
        if self.count + count > MOST:
            self.clear()
        needed = self.count + count
        if needed > len(self._array):
            self._grow(max(needed, 2 * len(self._array)))

    def _grow(self, capacity: int) -> None:
        array = (_abi.Path * capacity)()
        ctypes.memmove(array, self._array, self.count * _abi.PATH_SIZE)
        self._replace(array)

    def _replace(self, array: Any) -> None:
        self._array: Any = array
        self.address = ctypes.addressof(array)

    def add(self, key: Any, path: bytes) -> int:
        """Adds a path, to be found again by this key."""
        index = self.known[key] = self.append(path)
        return index

    def append(self, path: bytes) -> int:
        """Adds a path."""
        index = self.count
        if index == len(self._array):
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
    return _PATH.pack(
        *(valid, family, port, remote, scope, integer("interface_index", interface_index or 0, 32), local),
        integer("traffic_class", traffic_class or 0, 8),
        integer("hop_limit", hop_limit or 0, 8),
        *(0, integer("flow_label", flow_label or 0, 32), bytes(8)),
    )


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
    port = integer("a port", port, 16)
    if isinstance(host, (bytes, bytearray)):  # which socket takes, too
        host = host.decode("ascii", errors="replace")
    if not isinstance(host, str):
        raise TypeError(f"a host must be a str, not {host!r}")
    host, _, zone = host.partition("%")
    scope = address[3] if len(address) == 4 else 0
    if zone:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    scope = integer("a scope", scope, 32)
    try:
        return socket.inet_pton(family, _SPECIAL.get((is_v6, host), host)), port, scope
    except (OSError, ValueError):  # ValueError: a null character, or what UTF-8 cannot encode
        pass
    try:
        socket.inet_pton(socket.AF_INET if is_v6 else socket.AF_INET6, host)
    except (OSError, ValueError):
        raise ValueError(f"{host!r} is not numeric: resolve names first, with socket.getaddrinfo()") from None
    form = f"::ffff:{host}" if is_v6 else "an IPv4 address"
    raise ValueError(f"{host}: this socket's family takes {form}")


# As socket has them.
_SPECIAL = {(False, ""): "0.0.0.0", (True, ""): "::", (False, "<broadcast>"): "255.255.255.255"}
