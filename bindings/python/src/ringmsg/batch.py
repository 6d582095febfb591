"""Batches of records."""

from __future__ import annotations

import collections
import ctypes
import itertools
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _abi, _addresses, _dtypes
from ._abi import lib
from ._core import Core, Slab
from .datagram import Datagram
from .flags import Meta, RecordFlag

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Self

__all__ = ["Batch"]

_POOLED_SLICES = struct.Struct("=16xII28xH10x")  # payload_offset, payload_length, pool
_RECORD = struct.Struct("=QiI6I3IHHIHH")
_METADATA = struct.Struct("=IHH16sII16sHBBIIiqqII4sIIIBBBx16s4x")
assert _POOLED_SLICES.size == _RECORD.size == _abi.RECORD_SIZE
assert _METADATA.size == _abi.METADATA_SIZE

_NO_METADATA = _METADATA.unpack(bytes(_METADATA.size))
# How often a batch that was lost is handed out again.
_MOST_LOSSES = 8
# A batch's life: its views are good; they are revoked; its buffers are back, or pinned.
_LIVE, _RETIRED, _RELEASED = range(3)
_exhaust = collections.deque[Any](maxlen=0).extend


class Batch:
    """What one reap brought: a sequence of ``Datagram``s.

    It holds pool buffers until it is released: when the next batch is taken, at the end of a
    ``with``, by ``release()``, or, after ``keep()``, when it is garbage. Views that it handed out raise ValueError
    from then on. Slices and arrays made from them cannot be revoked: the buffers they show stay
    out of circulation until they are gone, so they never show other data.
    """

    __slots__ = (
        "__weakref__",
        "_addresses",
        "_claimed",
        "_core",
        "_count",
        "_exporters",
        "_held",
        "_kept",
        "_losses",
        "_many_pools",
        "_number",
        "_pinned",
        "_roots",
        "_seen",
        "_slab",
        "_state",
        "_total",
        "_views",
        "_wanted",
    )

    def __init__(
        self, core: Core, slab: Slab, number: int, count: int, total: int, wanted: int, addresses: Any
    ) -> None:
        self._core, self._slab, self._number, self._count, self._total = core, slab, number, count, total
        self._held = count  # records to release
        self._wanted, self._addresses = wanted, addresses
        self._state = _LIVE
        self._losses = 0
        self._kept = self._claimed = self._pinned = False
        self._seen = True
        self._many_pools = len(core.pools) != 1
        self._exporters: dict[int, Any] = {}
        self._roots: dict[int, memoryview] = {}
        self._views: list[memoryview] = []

    # --- what is in it -----------------------------------------------------------------------

    def __len__(self) -> int:
        self._seen = True
        return self._count

    def __iter__(self) -> Iterator[Datagram]:
        """The datagrams. Fields are read by column, for all of them at once."""
        self._check()
        count, slab = self._count, self._slab
        if not count:
            return iter(())
        if self._many_pools:
            records = slab.records_view[: count * _abi.RECORD_SIZE]
            memory = {pool: self._memory(pool) for pool in self._pools()}
            views = [memory[p][o : o + n] for o, n, p in _POOLED_SLICES.iter_unpack(records)]
        else:
            pool = self._memory(next(iter(self._core.pools)))
            spans = zip(slab.payload_offsets[:count].tolist(), slab.payload_lengths[:count].tolist())
            views = [pool[start : start + length] for start, length in spans]
        self._views += views
        return map(Datagram, zip(views, self._sources(), itertools.repeat(self), range(count)))

    def __getitem__(self, index: int) -> Datagram:
        self._check()
        count = self._count
        at = index + count if index < 0 else index
        if not 0 <= at < count:
            raise IndexError(f"datagram {index} of a batch of {count}")
        view = self._slice_of(at, 3, 4)
        return Datagram((view, self._source_of(at), self, at))

    def payloads(self) -> list[bytes]:
        """Copies of all payloads, yours to keep."""
        return [payload.tobytes() for payload, *_ in self]

    @property
    def records(self) -> numpy.ndarray[Any, Any]:
        """The records as a numpy structured array, without a copy. Names and units as in
        ``struct ringmsg_record``; offsets count from ``buffer``. Stays readable after release;
        what it points to does not."""
        self._check()
        return _dtypes.array(self._slab.records, "record", self._count)

    @property
    def metadata(self) -> numpy.ndarray[Any, Any]:
        """The metadata as a numpy structured array, as ``struct ringmsg_metadata``. A field means
        something where its ``Meta`` bit is in ``valid``."""
        self._check()
        if self._slab.metadata is None:
            raise ValueError("this receiver was made without metadata")
        return _dtypes.array(self._slab.metadata, "metadata", self._count)

    @property
    def buffer(self) -> memoryview:
        """The memory that the records' offsets count from (read the slices of this batch's
        records; nothing else in there is stable). With several pools see ``buffers``."""
        self._check()
        pools = self._pools() or list(self._core.pools)
        if len(pools) != 1:
            raise ValueError(f"the batch has records of {len(pools)} pools: use buffers[pool]")
        return self._hand_out(self._memory(pools[0])[:])

    @property
    def buffers(self) -> dict[int, memoryview]:
        """The memory of each pool that occurs in the batch, by the records' ``pool``."""
        self._check()
        return {pool: self._hand_out(self._memory(pool)[:]) for pool in self._pools()}

    def __repr__(self) -> str:
        state = "" if self._state == _LIVE else ", released"
        return f"<ringmsg.Batch of {self._count}{state}>"

    # --- how long it lives -------------------------------------------------------------------

    @property
    def released(self) -> bool:
        """Whether its buffers were given back."""
        return self._state != _LIVE

    def keep(self) -> Self:
        """Detaches the batch: it is no longer released when the next one is taken, but by
        ``release()``, ``with``, or when it is garbage, from any thread. Returns itself."""
        self._check()
        self._kept = True
        self._core.kept.add(self)
        self.__class__ = _KeptBatch  # type: ignore[assignment]
        return self

    def release(self) -> None:
        """Gives the buffers back. Views of them raise ValueError from now on. Any thread; a
        second release does nothing."""
        self._seen = True
        core = self._core
        with core.lock:
            if self._claimed or self._state == _RELEASED:
                return
            self._retire()
            if not self._pinned:
                core.release(self._slab, self._held)
            self._state = _RELEASED
            if not self._pinned:
                core.give_slab(self._slab)

    def _was_lost(self) -> bool:
        """Nobody ever looked at it, and the ring finds that nobody has it: it was lost on its way
        to the caller. (Who throws batches away unseen stops getting them again after a while.)"""
        if self._seen or self._claimed or self._state != _LIVE or not self._count:
            return False
        self._losses += 1
        return self._losses <= _MOST_LOSSES

    def _claim(self) -> int:
        """The ring's next call is going to release it, unless somebody else has or will: how many
        records that are."""
        with self._core.lock:
            if self._kept or self._state == _RELEASED:
                return 0
            self._claimed = True
            self._retire()
            return 0 if self._pinned else self._held

    def _claim_is_met(self, again: bool = False) -> None:
        """That call has returned. ``again``: or was interrupted, perhaps before it began."""
        with self._core.lock:
            if self._claimed and self._state != _RELEASED and not self._pinned:
                if again:
                    self._core.release(self._slab, self._held)
                self._state = _RELEASED
                self._core.give_slab(self._slab)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _retire(self) -> None:
        """Revokes the views, and pins the buffers if something derived from them lives on. It may
        be interrupted (Ctrl-C) and repeated."""
        self._state = max(self._state, _RETIRED)
        for views in (self._views, self._roots.values()):
            revocations = map(memoryview.release, views)
            while True:
                try:
                    _exhaust(revocations)
                    break
                except BufferError:  # an array lies on that view, and pins the buffers
                    continue
        self._views.clear()
        self._roots.clear()
        held = [count > _ALONE for count in _references(self._exporters)]
        if any(held):
            self._pinned = True
            self._core.pin(self._slab, self._held, itertools.compress(self._exporters.values(), held))
        self._exporters.clear()

    # --- inside ------------------------------------------------------------------------------

    def _check(self) -> None:
        self._seen = True
        if self._state != _LIVE:
            raise ValueError("the batch was released")

    def _memory(self, number: int) -> memoryview:
        """A view of a pool. Each batch has its own exporter: how many refer to that one tells
        whether anything derived from this batch is still alive."""
        root = self._roots.get(number)
        if root is None:
            exporter = self._core.learn_pool(number).expose()
            self._exporters[number] = exporter
            root = self._roots[number] = memoryview(exporter).cast("B").toreadonly()
        return root

    def _hand_out(self, view: memoryview) -> memoryview:
        self._views.append(view)
        return view

    def _pools(self) -> list[int]:
        records = self._slab.records_view[: self._count * _abi.RECORD_SIZE]
        return sorted({pool for _, _, pool in _POOLED_SLICES.iter_unpack(records)} - {_abi.POOL_NONE})

    def _record_of(self, position: int) -> tuple[Any, ...]:
        self._check()
        return _RECORD.unpack_from(self._slab.records_view, position * _abi.RECORD_SIZE)

    def _metadata_of(self, position: int) -> tuple[Any, ...]:
        self._check()
        if self._slab.metadata is None:
            return _NO_METADATA
        return _METADATA.unpack_from(self._slab.metadata_view, position * _abi.METADATA_SIZE)

    def _slice_of(self, position: int, offset: int, length: int) -> memoryview:
        """The slice that two fields of a record describe."""
        record = self._record_of(position)
        if not record[2] & RecordFlag.BUFFER:
            return self._hand_out(memoryview(b""))
        start = record[offset]
        return self._hand_out(self._memory(record[12])[start : start + record[length]])

    def _sources(self) -> list[Any]:
        if not self._wanted & Meta.SOURCE:
            return [None] * self._count
        if self._addresses is None:
            return [self._source_of(position) for position in range(self._count)]
        sources: list[Any] = self._addresses.all_of(self._slab, self._count)
        return sources

    def _source_of(self, position: int) -> Any:
        if not self._wanted & Meta.SOURCE:
            return None
        if self._addresses is None:
            return self._name_of(position)
        return self._addresses.one_of(self._slab, position)

    def _name_of(self, position: int) -> Any:
        """The source, from the record's name."""
        return _addresses.from_sockaddr(bytes(self._slice_of(position, 7, 8)))

    def _drop_last(self) -> None:
        """Hides the last record, which only says that the request is over."""
        self._count -= 1

    def _take_fds(self, position: int) -> list[int]:
        self._check()
        fds = (ctypes.c_int * 253)()  # SCM_MAX_FD
        address = self._slab.records_address + position * _abi.RECORD_SIZE
        return list(fds[: self._core.call(lib.take_fds, address, fds, len(fds))])


class _KeptBatch(Batch):
    """A batch that its ring no longer releases."""

    __slots__ = ()

    def __del__(self) -> None:
        try:
            self.release()
        except KeyboardInterrupt:
            self.release()
            raise


def _references(exporters: dict[int, Any]) -> list[int]:
    return [sys.getrefcount(exporter) for exporter in exporters.values()]


# What the above says of an exporter that only the batch itself refers to.
_ALONE = _references({0: object()})[0]
