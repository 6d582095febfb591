"""Calls of the library's senders, and the arrays that they read and write."""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import struct
from typing import Any, NamedTuple

from . import _abi, _layout, errors
from ._abi import lib
from ._arguments import integer
from .flags import SendFlag

UNSENT = -errno.EAGAIN
_WAIT, _RESUME = int(SendFlag.WAIT), int(SendFlag.RESUME)
_MESSAGE, _ = _layout.until(_abi.Message, "reserved")
_PADDING = bytes(3)
_RESULT = _layout.Field(_abi.Message, "result")


class SenderStats(NamedTuple):
    """What a sender has done so far: ``struct ringmsg_sender_stats``."""

    last_socket_error: int
    """The errno of the latest error of an earlier datagram that was taken off the socket; 0: none."""
    messages: int
    """Messages that the socket took."""
    datagrams: int
    payload_bytes: int
    calls: int
    """System calls that sent."""
    trains: int
    """UDP_SEGMENT trains of two datagrams or more."""
    grouped: int
    """Messages that left in a train together with others."""
    fallbacks: int
    """Trains that were refused, and whose datagrams were then sent one by one."""
    would_block: int
    """How often the socket was full."""
    errors: int
    """Messages whose result is an error, other than EAGAIN."""
    socket_errors: int
    """Errors of earlier datagrams that were taken off the socket."""


@functools.lru_cache(256)
def _words(count: int) -> struct.Struct:
    return struct.Struct(f"={count}I")


def words(values: list[int]) -> bytes:
    """An array of uint32_t."""
    return _words(len(values)).pack(*values)


class Columns(NamedTuple):
    """Messages as an array for each field: ``ringmsg_send_columns``."""

    base: Any
    """What the payloads are read from: bytes, or an address."""
    size: int
    offsets: Any
    """None: the payloads lie back to back."""
    lengths: Any
    path_index: bytes | None
    """None: no message has a path."""
    results: array.array[int]

    def call(self, handle: int, paths: int, path_count: int, flags: int) -> int:
        count: int = lib.send_columns(
            handle,
            self.base,
            self.size,
            self.offsets,
            self.lengths,
            self.path_index,
            None if self.path_index is None else paths,
            path_count,
            self.results.buffer_info()[0],
            len(self.results),
            flags,
        )
        return count

    def outcomes(self) -> list[int]:
        """The results of all messages: bytes, or a negative errno."""
        return self.results.tolist()

    def without_payloads(self) -> Columns:
        """The results alone: the payloads are the caller's again."""
        return self._replace(base=None, size=0)


class Structs(NamedTuple):
    """Messages as structs: ``ringmsg_send_from``. For what columns have no place for."""

    base: bytes
    messages: Any

    def call(self, handle: int, paths: int, path_count: int, flags: int) -> int:
        size = ctypes.sizeof(self.messages)
        count: int = lib.send_from(
            handle,
            self.base,
            len(self.base),
            paths,
            path_count,
            ctypes.addressof(self.messages),
            size // _abi.MESSAGE_SIZE,
            flags,
        )
        return count

    def outcomes(self) -> list[int]:
        """The results of all messages: bytes, or a negative errno."""
        results: list[int] = _RESULT.column(memoryview(self.messages).cast("B")).tolist()
        return results

    def without_payloads(self) -> Structs:
        """The results alone."""
        return self._replace(base=b"")


def unsent(count: int) -> array.array[int]:
    """Results of messages that were not tried."""
    return array.array("i", [UNSENT]) * count


def struct_of(
    offset: int,
    length: int,
    path: int,
    *,
    segment_size: int = 0,
    flags: int = 0,
    transmit_time_ns: int = 0,
    timestamp_id: int = 0,
) -> bytes:
    """``struct ringmsg_message``."""
    try:
        return _MESSAGE.pack(
            *(offset, path, length, segment_size, flags, UNSENT),
            *(transmit_time_ns, 0, timestamp_id, 0, _PADDING, 0),
        )
    except struct.error:
        integer("segment_size", segment_size, 32)  # what is wrong, as a sentence
        integer("transmit_time_ns", transmit_time_ns, 64)
        integer("timestamp_id", timestamp_id, 32)
        raise


class Handle:
    """A sender of the library's, for one thread at a time."""

    _handle: int | None = None
    _made: ctypes.c_void_p | None = None

    def __init__(self, fd: int, flags: int = 0, transmit_clock: int = -1) -> None:
        config = _abi.SenderConfig(flags=flags, transmit_clock=transmit_clock)
        # Where the library writes the handle: an exception (Ctrl-C) may come before it is stored.
        self._made = ctypes.c_void_p()
        errors.check(lib.sender_new(fd, ctypes.byref(config), ctypes.byref(self._made)))
        self._handle = self._made.value
        self._stats = _abi.SenderStats()
        self._stats_address = ctypes.addressof(self._stats)

    def send(self, batch: Columns | Structs, paths: int, count: int, *, wait: bool, resume: bool) -> None:
        """One call; further ones only where a signal has interrupted a wait. Every message has its
        result then."""
        flags = _WAIT * wait | _RESUME * resume
        while True:
            if self._handle is None:
                raise errors.closed("the sender")
            settled = batch.call(self._handle, paths, count, flags)
            if settled >= 0 or settled == UNSENT:
                return
            if settled != -errno.EINTR:
                raise errors.error(settled)
            flags |= _RESUME  # the signal's handlers have run

    def socket_errors(self) -> int:
        """How many errors of earlier datagrams were taken off the socket."""
        lib.sender_stats(self._handle, self._stats_address)
        count: int = self._stats.socket_errors
        return count

    def last_socket_error(self) -> int:
        """The errno of the latest one, as of the last call of ``socket_errors``."""
        number: int = self._stats.last_socket_error
        return number

    def stats(self) -> SenderStats:
        """The counters."""
        if self._handle is None:
            raise errors.closed("the sender")
        stats = _abi.SenderStats()
        errors.check(lib.sender_stats(self._handle, ctypes.byref(stats)))
        return SenderStats._make(getattr(stats, name) for name in SenderStats._fields)

    @property
    def is_open(self) -> bool:
        return self._handle is not None

    def free(self) -> None:
        """Frees it, and its reference to the socket."""
        made, self._made, self._handle = self._made, None, None
        if made is not None:
            errors.check(lib.sender_free(made))  # NULL is fine

    def __del__(self) -> None:
        self.free()
