"""The handle of a ring, and what outlives a batch: record arrays and pinned buffers."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _abi, _layout, errors
from ._abi import lib

if TYPE_CHECKING:
    from .batch import Batch
    from .sender import Sender


class Stats(NamedTuple):
    """What a ring, or one request, has done so far: ``struct ringmsg_stats``."""

    records: int
    datagrams: int
    payload_bytes: int
    reaps: int
    enters: int
    wakes: int
    rearms: int
    starvations: int
    window_misses: int
    cq_overflows: int
    truncated: int
    control_truncated: int
    zero_length: int
    errors: int
    socket_drops: int
    buffers_held: int
    buffers_published: int
    linger_us: int
    linger_trials: int
    linger_trial_ns: int


_PAYLOAD_OFFSET, _PAYLOAD_LENGTH = _layout.record("payload_offset"), _layout.record("payload_length")
_FAMILY = _layout.metadata("family")


class Slab:
    """The arrays that one call fills: records and, if requested, metadata; and views of the
    columns that are read for every datagram."""

    __slots__ = (
        "metadata",
        "metadata_address",
        "metadata_view",
        "payload_lengths",
        "payload_offsets",
        "records",
        "records_address",
        "records_view",
        "sources",
        "spans",
    )

    def __init__(self, capacity: int, with_metadata: bool) -> None:
        self.records: Any = (ctypes.c_uint8 * (capacity * _abi.RECORD_SIZE))()
        self.records_address: int = ctypes.addressof(self.records)
        self.records_view: memoryview = memoryview(self.records).cast("B")
        self.payload_offsets: memoryview = _PAYLOAD_OFFSET.column(self.records_view)
        self.payload_lengths: memoryview = _PAYLOAD_LENGTH.column(self.records_view)
        # Offset and length of a payload as one number: the two fields follow each other.
        step = _abi.RECORD_SIZE // 8
        self.spans: memoryview = self.records_view.cast("Q")[_PAYLOAD_OFFSET.offset // 8 :: step]
        self.metadata: Any = None
        self.metadata_address: int | None = None
        if with_metadata:
            # family, source_port, and an IPv4 source are eight bytes, but not on a multiple of
            # eight: a view that begins with the first of them reads all three as one number.
            size, shift = capacity * _abi.METADATA_SIZE, _FAMILY.offset
            self.metadata = (ctypes.c_uint8 * (size + 8))()
            self.metadata_address = ctypes.addressof(self.metadata)
            view = memoryview(self.metadata).cast("B")
            self.metadata_view: memoryview = view[:size]
            self.sources: Any = view[shift : size + shift].cast("Q")[:: _abi.METADATA_SIZE // 8]

    def is_free(self) -> bool:
        """No array refers to this memory: it can be filled again."""
        return self.holders() <= _NO_HOLDERS

    def holders(self) -> int:
        return sys.getrefcount(self.records) + sys.getrefcount(self.metadata) * (self.metadata is not None)


_NO_HOLDERS = Slab(1, True).holders()
_PACKAGE = os.path.dirname(__file__)


def _caller_level() -> int:
    """The ``stacklevel`` with which the caller's caller blames code outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == _PACKAGE:
        level, frame = level + 1, frame.f_back
    return level


class Memory(NamedTuple):
    """Where a pool lies."""

    base: int
    size: int
    array: Any
    characters: Any
    """The same memory; slices of it are copies. To be read under the ring's lock."""

    def expose(self) -> Any:
        """A new object that exports it."""
        return self.array.from_address(self.base)


_BUFFERS = _layout.row(_abi.Record, "pool", "buffer")


class Pin:
    """Records of a released batch whose buffers something derived still shows (a slice of a
    payload, a numpy array). When that is gone, they are released."""

    def __init__(self, core: Core, slab: Slab, count: int, exporters: Iterable[Any]) -> None:
        self.core: Core = core
        self.slab: Slab = slab
        self.count: int = count
        spans = slab.records_view[: count * _abi.RECORD_SIZE]
        self.buffers: int = len(set(_BUFFERS.iter_unpack(spans)))
        self.references: list[weakref.ref[Any]] = [
            weakref.ref(exporter, self._gone) for exporter in exporters
        ]

    def _gone(self, _: Any) -> None:
        if all(reference() is None for reference in self.references):
            self.core.unpin(self)


# All pins. Nothing else refers to a ring that is closed and garbage while its memory is shown.
_pins: set[Pin] = set()


class Core:
    """A ring's handle. Calls are safe from any thread, and against ``free``; those that may
    sleep are made by the Ring."""

    handle: int | None = None
    _made: ctypes.c_void_p | None = None

    def __init__(self, config: _abi.RingConfig) -> None:
        self.pins: set[Pin] = set()
        # The library writes the handle here. Ctrl-C may come before it is stored.
        self._made = ctypes.c_void_p()
        errors.check(lib.ring_new(ctypes.byref(config), ctypes.byref(self._made)))
        self.handle = self._made.value
        self.lock: threading.RLock = threading.RLock()
        self.process: int = os.getpid()
        self.kept: weakref.WeakSet[Any] = weakref.WeakSet()  # batches that were detached
        self.slabs: list[Slab] = []
        self.pools: dict[int, Memory] = {}
        self.closing: bool = False
        self.starvations: int = 0
        self.buffers: int = 0
        self.warned: bool = False
        # Batches are answered by this sender, made when it is first needed; None: see reply().
        self.new_sender: Callable[[], Sender] | None = None
        self.sender: Sender | None = None
        self.replying: threading.Lock = threading.Lock()

    def call(self, function: Any, *arguments: Any) -> int:
        """A call that does not sleep. Raises OSError."""
        with self.lock:
            if self.handle is None or self.closing:
                raise errors.closed("the ring")
            value: int = function(self.handle, *arguments)
            return errors.check(value)

    def stats(self) -> Stats:
        stats = _abi.Stats()
        self.call(lib.ring_stats, ctypes.byref(stats))
        return Stats._make(getattr(stats, name) for name in Stats._fields)

    def records_total(self) -> int:
        """How many records the library has handed out."""
        stats = _abi.Stats()
        self.call(lib.ring_stats, ctypes.byref(stats))
        return int(stats.records)

    # --- pools -------------------------------------------------------------------------------

    def learn_pool(self, number: int) -> Memory:
        """Where a pool's memory lies."""
        memory = self.pools.get(number)
        if memory is None:
            with self.lock:
                pool = lib.ring_pool(self.handle, number)
                base, size = lib.pool_base(pool), lib.pool_size(pool)
                memory = self.pools[number] = Memory(
                    base, size, ctypes.c_uint8 * size, (ctypes.c_char * size).from_address(base)
                )
        return memory

    # --- record arrays -----------------------------------------------------------------------

    def take_slab(self, capacity: int, with_metadata: bool) -> Slab:
        """Arrays to which no numpy array refers."""
        for index, slab in enumerate(self.slabs):
            if slab.is_free():
                del self.slabs[index]
                return slab
        return Slab(capacity, with_metadata)

    def return_slab(self, slab: Slab) -> None:
        """Takes arrays back. They are reused once no numpy array refers to them."""
        if slab not in self.slabs:
            self.slabs.insert(0, slab)
            del self.slabs[4:]

    # --- releasing ---------------------------------------------------------------------------

    def release(self, slab: Slab, count: int) -> None:
        """Gives the buffers of a batch back; does nothing if they are back already. (The library
        refuses a second release as a whole, so an interrupted one can simply be repeated.)"""
        with self.lock:
            if count and self.handle is not None and not self.in_child():
                value = lib.release(self.handle, slab.records_address, count)
                if value < 0 and value not in (-errno.EINVAL, -errno.ECANCELED):
                    raise errors.error(value)

    def pin(self, slab: Slab, count: int, exporters: Iterable[Any]) -> None:
        pin = Pin(self, slab, count, exporters)
        self.pins.add(pin)
        _pins.add(pin)

    def unpin(self, pin: Pin) -> None:
        self.release(pin.slab, pin.count)
        with self.lock:
            self.pins.discard(pin)
            _pins.discard(pin)
            last = self.closing and not self.pins
        if last:
            self.free()

    def warn_if_starved(self) -> None:
        """Says so when what was derived from released batches keeps the buffers."""
        pinned = sum(pin.buffers for pin in list(self.pins))
        starvations = self.stats().starvations
        grown, self.starvations = starvations > self.starvations, starvations
        if pinned < self.buffers and not (grown and pinned * 2 >= self.buffers):
            self.warned = self.warned and pinned * 2 >= self.buffers
        elif not self.warned:
            self.warned = True
            warnings.warn(
                f"ringmsg: slices of payloads, or arrays over them, keep {pinned} of the ring's "
                f"{self.buffers} buffers: it runs out of them, and receives nothing until they are gone. "
                "Keep copies: batch.messages(), batch.to_numpy(), or bytes(datagram.payload)",
                RuntimeWarning,
                stacklevel=_caller_level(),
            )

    # --- answers -----------------------------------------------------------------------------

    def reply(self, batch: Batch, payloads: Iterable[Any], wait: bool) -> tuple[int, dict[int, OSError]]:
        """How many answers the socket took, and the errors of the others."""
        if self.new_sender is None:
            raise ValueError(
                "a Ring's batch may come from several sockets: "
                "use ringmsg.Sender(sock).reply(batch, payloads)"
            )
        given = list(payloads)  # a generator may take its time, or answer other batches
        with self.replying:
            if self.closing:
                raise errors.closed("the ring")
            if self.sender is None:
                self.sender = self.new_sender()
            return self.sender.reply(batch, given, wait=wait), self.sender.errors

    # --- the end -----------------------------------------------------------------------------

    def in_child(self) -> bool:
        return self.process != os.getpid()

    def free(self) -> None:
        """Frees the ring, or leaves that to the last pin. The caller ensures that no thread is in a
        reap."""
        with self.lock:
            self.closing = True
            if self.sender is not None:
                self.sender.close()
            if self.pins and not self.in_child():
                return
            made, self._made, self.handle = self._made, None, None
        if made is not None:
            errors.check(lib.ring_free(made))

    def __del__(self, ring_free: Any = lib.ring_free) -> None:
        if self._made is not None and not self.pins:  # the ring's constructor was interrupted
            ring_free(self._made)

    def forked(self) -> None:
        """In a child: another thread may have held the locks."""
        self.lock = threading.RLock()
        self.replying = threading.Lock()
