"""Addresses in the form in which ``socket`` gives them."""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING, Any

from . import _abi, _layout
from .flags import Meta

if TYPE_CHECKING:
    from ._core import Slab

CACHE_LIMIT = 16384
# While no IPv4 source repeats, every eighth is looked up, and stored.
_SAMPLE = 8
# The fields that identify a source: valid, family, source_port, source, source_scope.
_KEY6, _KEYS6 = _layout.until(_abi.Metadata, "source_scope")
_KEY4 = struct.Struct("=HH4B")  # family, source_port, source
_PORT4 = struct.Struct("=2xH4B")
_OCTETS = [str(octet) for octet in range(256)]
_DOTTED = [f"{octet}." for octet in _OCTETS]
_NO_SOURCE = struct.pack("=HHB", socket.AF_INET, 0, 0)  # how family, port 0 and 0.0.0.0 begin
_SOURCE = int(Meta.SOURCE)
_ntoa = socket.inet_ntoa


def text(family: int, address: bytes, port: int, scope: int = 0) -> tuple[Any, ...]:
    """``(host, port)`` for IPv4, ``(host, port, flowinfo, scope)`` for IPv6."""
    if family == socket.AF_INET:
        return (_ntoa(address[:4]), port)
    return (socket.inet_ntop(socket.AF_INET6, address), port, 0, scope)


def _bytes_of(keys: list[int]) -> bytes:
    return struct.pack(f"={len(keys)}Q", *keys)


class AddressCache4:
    """Source addresses of an IPv4 socket, by family, port and address as one number. Formatting an
    address costs a third of receiving a datagram, and most peers send more than once."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}
        self._any_known = True

    def all_of(self, slab: Slab, count: int) -> list[Any]:
        """The sources of the first records."""
        return self.of_column(slab.sources[:count])

    def of_column(self, column: memoryview) -> list[Any]:
        """The sources that these numbers are."""
        if not self._any_known and len(column) > _SAMPLE:
            sample = column[::_SAMPLE].tolist()
            if sample[0] != sample[-1] and self._known.keys().isdisjoint(sample):
                # The sources of the last batch were new, and so are these, as far as a sample can
                # show: to look each of them up costs a quarter of what decoding it does.
                sources = self._decode(column.tobytes())
                self._store(sample, sources[::_SAMPLE])
                return sources
        return self._of_keys(column.tolist())

    def _of_keys(self, keys: list[int]) -> list[Any]:
        if keys and keys[0] == keys[-1] and keys.count(keys[0]) == len(keys):
            return self._one_for_all(keys)
        try:
            return list(map(self._known.__getitem__, keys))
        except KeyError:
            sources: list[Any] = []
            if self._any_known or not self._known.keys().isdisjoint(keys):
                sources = list(map(self._known.get, keys))
            self._fill(keys, sources)
            return sources

    def _one_for_all(self, keys: list[int]) -> list[Any]:
        """All are the same, as in a burst that one peer sends."""
        key = keys[0]
        try:
            source = self._known[key]
        except KeyError:
            (source,) = self._decode(_bytes_of(keys[:1]))
            self._store([key], [source])
        return [source] * len(keys)

    def one_of(self, slab: Slab, position: int) -> Any:
        """The source of one record."""
        return self._decode(_bytes_of([slab.sources[position]]))[0]

    def _fill(self, keys: list[int], sources: list[Any]) -> None:
        if not any(sources):
            missing = keys
            sources[:] = decoded = self._decode(_bytes_of(keys))
        else:
            gaps = [position for position, source in enumerate(sources) if source is None]
            missing = [keys[position] for position in gaps]
            decoded = self._decode(_bytes_of(missing))
            for position, source in zip(gaps, decoded):
                sources[position] = source
        # Storing costs as well: while no address repeats, only a sample is stored.
        sample = 1 if self._any_known else _SAMPLE
        self._any_known = missing is not keys
        self._store(missing[::sample], decoded[::sample])

    def _store(self, keys: list[int], sources: list[Any]) -> None:
        if len(self._known) >= CACHE_LIMIT:
            self._known.clear()
        self._known.update(zip(keys, sources))

    @staticmethod
    def _decode(keys: bytes) -> list[Any]:
        octets, dotted = _OCTETS, _DOTTED
        # An error has no source; its family and port are 0. Asked once for all, this is cheap.
        if keys[::8].count(socket.AF_INET) == len(keys) // 8 and _NO_SOURCE not in keys:
            return [
                (f"{dotted[a]}{dotted[b]}{dotted[c]}{octets[d]}", port)
                for port, a, b, c, d in _PORT4.iter_unpack(keys)
            ]
        return [
            (f"{dotted[a]}{dotted[b]}{dotted[c]}{octets[d]}", port)
            if family == socket.AF_INET and (a or port)
            else None
            for family, port, a, b, c, d in _KEY4.iter_unpack(keys)
        ]


class NameCache4(AddressCache4):
    """The same for the first eight bytes of a ``sockaddr_in``, whose port is in network order."""

    @staticmethod
    def _decode(keys: bytes) -> list[Any]:
        octets, dotted, ntohs = _OCTETS, _DOTTED, socket.ntohs
        return [
            (f"{dotted[a]}{dotted[b]}{dotted[c]}{octets[d]}", ntohs(port))
            for port, a, b, c, d in _PORT4.iter_unpack(keys)
        ]


class AddressCache6:
    """The same for an IPv6 socket, by the first 28 bytes of the metadata."""

    def __init__(self) -> None:
        self._known: dict[bytes, Any] = {}

    def all_of(self, slab: Slab, count: int) -> list[Any]:
        """The sources of the first records."""
        metadata = slab.metadata_view[: count * _abi.METADATA_SIZE]
        keys = list(itertools.chain.from_iterable(_KEYS6.iter_unpack(metadata)))
        try:
            return list(map(self._known.__getitem__, keys))
        except KeyError:
            sources = list(map(self._known.get, keys))
            for position, source in enumerate(sources):
                if source is None:
                    sources[position] = self._decode(keys[position])
        return sources

    def one_of(self, slab: Slab, position: int) -> Any:
        """The source of one record."""
        at = position * _abi.METADATA_SIZE
        return self._decode(bytes(slab.metadata_view[at : at + _KEY6.size]))

    def _decode(self, key: bytes) -> Any:
        valid, family, port, address, scope = _KEY6.unpack(key)
        source = text(family, address, port, scope) if valid & _SOURCE else None
        if len(self._known) >= CACHE_LIMIT:
            self._known.clear()
        self._known[key] = source
        return source


def cache_for(family: int) -> Any:
    """The cache for sockets of that family; None: their addresses are read from the names."""
    if family == socket.AF_INET:
        return AddressCache4()
    return AddressCache6() if family == socket.AF_INET6 else None


# The families whose addresses from_sockaddr makes as socket does.
FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET}
# struct sockaddr_nl: family, padding, nl_pid, nl_groups. struct sockaddr_ll: family, protocol,
# ifindex, hatype, pkttype, halen, addr.
_NETLINK = struct.Struct("=HHII")
_PACKET = struct.Struct("=H2siHBB")


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
    if family == socket.AF_NETLINK and len(name) >= _NETLINK.size:
        return _NETLINK.unpack_from(name)[2:]
    if family == socket.AF_PACKET and len(name) >= _PACKET.size:
        return _from_packet(name)
    return (family, name[2:])


def _from_packet(name: bytes) -> Any:
    """(interface, protocol, packet type, hardware type, hardware address)"""
    _, protocol, index, hardware, kind, length = _PACKET.unpack_from(name)
    try:
        interface = socket.if_indextoname(index)
    except OSError:
        interface = ""  # it is gone, or there is none: socket.recvmsg says the same
    return (interface, int.from_bytes(protocol, "big"), kind, hardware, name[12 : 12 + length])
