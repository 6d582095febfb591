"""Receiving what a socket holds in one call: ``ringmsg_receive`` into a slab of memory.

One slab serves all endpoints of an event loop. What is received is copied out of it before any
other code runs.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import weakref
from typing import Any

from . import _abi, _addresses, _layout, _pieces
from ._abi import lib
from ._core import Slab
from .flags import RecvFlag

# Messages in one call, and the longest UDP datagram or GRO train.
MESSAGES = 64
PAYLOAD = 65536
# AF_UNIX datagrams can be longer; asyncio's own endpoint reads so much of them.
PAYLOAD_UNIX = 256 * 1024
# A train has up to 128 datagrams.
_RECORDS = MESSAGES * 128
# Room for every option that the library decodes, should one be on; a datagram of AF_UNIX may bring
# 253 descriptors, credentials and a label.
_CONTROL, _CONTROL_UNIX = 512, 1536
_NAME = 128
_SPLIT = int(RecvFlag.SPLIT)
_HEADER = 16
_RESULT, _BUFFER = _layout.record("result"), _layout.record("buffer")
_NAMES = _layout.row(_abi.Record, "name_offset", "name_length")
_SOCKADDR_IN6 = 28


def _stride(payload: int, control: int) -> int:
    return _HEADER + _NAME + control + payload


_STRIDE = _stride(PAYLOAD, _CONTROL)
_PAYLOAD_AT = _HEADER + _NAME + _CONTROL
_SIZE = MESSAGES * _STRIDE


class Burst:
    """The slab of one event loop, and the arrays that describe what is in it."""

    def __init__(self) -> None:
        # Untouched pages use no memory.
        self.memory: Any = (ctypes.c_char * _SIZE)()
        self._view = memoryview(self.memory).cast("B")
        self._address = ctypes.addressof(self.memory)
        # No metadata: the source is all that is needed, and the names have it.
        self._slab = Slab(_RECORDS, False)
        self._metadata_slab: Slab | None = None
        # Family, port and address of each sockaddr_in as one number.
        self._names4: Any = self._view.cast("Q")[_HEADER // 8 :: _STRIDE // 8]
        self._cache4 = _addresses.NameCache4()
        self._known: dict[bytes, Any] = {}
        ip = _abi.PoolConfig(
            buffers=MESSAGES, payload_capacity=PAYLOAD, control_capacity=_CONTROL, name_capacity=_NAME
        )
        other = _abi.PoolConfig(
            buffers=_SIZE // _stride(PAYLOAD_UNIX, _CONTROL_UNIX),
            payload_capacity=PAYLOAD_UNIX,
            control_capacity=_CONTROL_UNIX,
            name_capacity=_NAME,
        )
        self._layouts = ip, other
        self._ip, self._other = ctypes.addressof(ip), ctypes.addressof(other)
        self._receive = lib.receive

    def with_metadata(self) -> Slab:
        """The slab that ``receive`` fills on demand."""
        if self._metadata_slab is None:
            self._metadata_slab = Slab(_RECORDS, True)
        return self._metadata_slab

    def receive(self, fd: int, family: int, slab: Slab | None = None) -> tuple[list[Any], list[Any]]:
        """The datagrams that the socket holds, of at most MESSAGES messages, with their sources.
        GRO trains are split. An OSError takes a datagram's place where one came between them; it is
        raised if nothing else came: EAGAIN, or the socket's own error."""
        slab = self._slab if slab is None else slab
        is_ip = family in (socket.AF_INET, socket.AF_INET6)
        count: int = self._receive(
            fd,
            self._address,
            _SIZE,
            self._ip if is_ip else self._other,
            slab.records_address,
            slab.metadata_address,
            _RECORDS,
            _SPLIT,
        )
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        lengths = slab.payload_lengths[:count].tolist()
        # The last record names the last buffer unless there are trains, or an error.
        one_each = _BUFFER.read(slab.records_view, count - 1) == count - 1
        if one_each and is_ip and lengths[0] and lengths.count(lengths[0]) == count:
            data: list[Any] = _pieces.copy(self.memory, _PAYLOAD_AT, _STRIDE, lengths[0], count)
        else:
            memory = self.memory
            spans = zip(slab.payload_offsets[:count].tolist(), lengths)
            data = [memory[start : start + length] for start, length in spans]
        if not is_ip:
            sources = self._names_of_records(slab, count)
        elif one_each:
            sources = self._names(family, count)
        else:
            buffers = _BUFFER.column(slab.records_view)[:count].tolist()
            sources = list(map(self._names(family, max(buffers) + 1).__getitem__, buffers))
        if not all(lengths):
            self._mark_errors(slab, data)
        return data, sources

    def _names(self, family: int, count: int) -> list[Any]:
        """The sources of the first messages."""
        if family == socket.AF_INET:
            return self._cache4.of_column(self._names4[:count])
        memory = self.memory
        starts = range(_HEADER, count * _STRIDE, _STRIDE)
        return [self._source(memory[start : start + _SOCKADDR_IN6]) for start in starts]

    def _names_of_records(self, slab: Slab, count: int) -> list[Any]:
        memory = self.memory
        spans = _NAMES.iter_unpack(slab.records_view[: count * _abi.RECORD_SIZE])
        return [self._source(memory[start : start + length]) for start, length in spans]

    def _source(self, name: bytes) -> Any:
        source = self._known.get(name)
        if source is None:
            if len(self._known) >= _addresses.CACHE_LIMIT:
                self._known.clear()
            source = self._known[name] = _addresses.from_sockaddr(name)
        return source

    def _mark_errors(self, slab: Slab, data: list[Any]) -> None:
        """Puts errors, which have no data, into the places of their records."""
        view = slab.records_view
        for position, payload in enumerate(data):
            if not payload and (result := _RESULT.read(view, position)) < 0:
                data[position] = OSError(-result, os.strerror(-result))


def split(train: bytes, size: int, source: Any) -> tuple[list[Any], list[Any]]:
    """The datagrams of a GRO train, and their sources."""
    data: list[Any] = [train[start : start + size] for start in range(0, len(train), size)]
    return data, [source] * len(data)


_bursts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Burst] = weakref.WeakKeyDictionary()


def burst_of(loop: asyncio.AbstractEventLoop) -> Burst:
    """The slab of that loop."""
    burst = _bursts.get(loop)
    if burst is None:
        burst = _bursts[loop] = Burst()
    return burst
