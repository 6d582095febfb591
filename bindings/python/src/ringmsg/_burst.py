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

from . import _abi, _addresses, _layout
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
_RESULT = _layout.record("result")
_NAMES = _layout.row(_abi.Record, "name_offset", "name_length")


def _stride(payload: int, control: int) -> int:
    return 16 + _NAME + control + payload


_SIZE = MESSAGES * _stride(PAYLOAD, _CONTROL)


class Burst:
    """The slab of one event loop, and the arrays that describe what is in it."""

    def __init__(self) -> None:
        # Untouched pages use no memory.
        self.memory: Any = (ctypes.c_char * _SIZE)()
        self._address = ctypes.addressof(self.memory)
        self._slab = Slab(_RECORDS, True)
        families = (int(socket.AF_INET), int(socket.AF_INET6))
        self._caches = {family: _addresses.cache_for(family) for family in families}
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

    def receive(self, fd: int, family: int) -> tuple[list[Any], list[Any]]:
        """The datagrams that the socket holds, of at most MESSAGES messages, with their sources.
        GRO trains are split. An OSError takes a datagram's place where one came between them; it is
        raised if nothing else came: EAGAIN, or the socket's own error."""
        slab = self._slab
        cache = self._caches.get(family)
        count: int = self._receive(
            fd,
            self._address,
            _SIZE,
            self._other if cache is None else self._ip,
            slab.records_address,
            slab.metadata_address,
            _RECORDS,
            RecvFlag.SPLIT,
        )
        if count < 0:
            raise OSError(-count, os.strerror(-count))
        memory = self.memory
        lengths = slab.payload_lengths[:count].tolist()
        spans = zip(slab.payload_offsets[:count].tolist(), lengths)
        data: list[Any] = [memory[start : start + length] for start, length in spans]
        sources = self._names(count) if cache is None else cache.all_of(slab, count)
        if not all(lengths):
            self._mark_errors(data)
        return data, sources

    def _names(self, count: int) -> list[Any]:
        memory = self.memory
        records = self._slab.records_view[: count * _abi.RECORD_SIZE]
        spans = _NAMES.iter_unpack(records)
        return [_addresses.from_sockaddr(memory[start : start + length]) for start, length in spans]

    def _mark_errors(self, data: list[Any]) -> None:
        """Puts errors, which have no data, into the places of their records."""
        view = self._slab.records_view
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
