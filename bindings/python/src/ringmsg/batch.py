"""Batches of records."""

from __future__ import annotations

import collections
import ctypes
import itertools
import operator
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from . import _abi, _addresses, _layout, _owned
from ._abi import lib
from ._arguments import NotCopied
from ._core import Core, Slab
from .datagram import Datagram
from .flags import Meta, RecordFlag

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Self

__all__ = ["Batch"]

_POOLED_SLICES = _layout.row(_abi.Record, "payload_offset", "payload_length", "pool")
_POOL, _FLAGS = _layout.record("pool"), _layout.record("flags")
_VALID = _layout.metadata("valid")
# Offset and length of the parts of a message.
_PAYLOAD = _layout.record("payload_offset"), _layout.record("payload_length")
_CONTROL = _layout.record("control_offset"), _layout.record("control_length")
_NAME = _layout.record("name_offset"), _layout.record("name_length")
_DESTINATIONS = Meta.DESTINATION | Meta.LOCAL_V4

# How often a discarded batch is handed out again. (Eight were too few where signals came every
# millisecond, on a machine with a load of 18.)
_MOST_LOSSES = 64
# A batch's life: its views are good; they are revoked; its buffers are back, or pinned.
_LIVE, _RETIRED, _RELEASED = range(3)
_ALL_POOLS = -1  # in place of a pool's number
_exhaust = collections.deque[Any](maxlen=0).extend


class Batch(NotCopied, Sequence[Datagram]):
    """What one reap brought: a sequence of ``Datagram``s.

    It holds pool buffers until it is released: when the next batch is taken, at the end of a
    ``with``, by ``release()``, or, after ``keep()``, when it is garbage. Views that it handed out
    raise ValueError from then on. Slices and arrays made from them cannot be revoked: the buffers
    they show stay out of circulation until they are gone, so they never show other data.

    ``messages()``, ``payloads()``, ``to_numpy()``, ``columns()`` and ``to_arrow()`` copy: what they
    return is yours, and keeps no buffer.
    """

    __slots__ = (
        "__weakref__",
        "_addresses",
        "_release_pending",
        "_reply_errors",
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
        self._kept = self._release_pending = self._pinned = False
        self._seen = True
        self._many_pools = len(core.pools) != 1
        self._exporters: dict[int, Any] = {}
        self._roots: dict[int, memoryview] = {}
        self._views: list[memoryview] = []
        self._reply_errors: dict[int, OSError] = {}

    # --- what is in it -----------------------------------------------------------------------

    def __len__(self) -> int:
        self._seen = True
        return self._count

    def __iter__(self) -> Iterator[Datagram]:
        """The datagrams. Fields are read by column, for all of them at once."""
        count, slab = self._count, self._slab
        if not count:
            self._check()
            return iter(())
        # Under the lock, so that no other thread unmaps the pool behind the check.
        with self._core.lock:
            self._check()
            views = self._payload_views(slab, count)
            self._views += views
            self._check_views()
        return map(Datagram, zip(views, self._sources(), itertools.repeat(self), range(count)))

    def _payload_views(self, slab: Slab, count: int) -> list[memoryview]:
        if self._many_pools:
            records = slab.records_view[: count * _abi.RECORD_SIZE]
            memory = {pool: self._memory(pool) for pool in self._pools()}
            return [memory[p][o : o + n] for o, n, p in _POOLED_SLICES.iter_unpack(records)]
        pool = self._memory(next(iter(self._core.pools)))
        spans = zip(slab.payload_offsets[:count].tolist(), slab.payload_lengths[:count].tolist())
        return [pool[start : start + length] for start, length in spans]

    @overload
    def __getitem__(self, index: int) -> Datagram: ...
    @overload
    def __getitem__(self, index: slice) -> list[Datagram]: ...
    def __getitem__(self, index: int | slice) -> Datagram | list[Datagram]:
        self._check()
        count = self._count
        if isinstance(index, slice):
            return [self._datagram(at) for at in range(count)[index]]
        at = operator.index(index)
        if not -count <= at < count:
            raise IndexError(f"datagram {at} of a batch of {count}")
        return self._datagram(at % count)

    def _datagram(self, at: int) -> Datagram:
        return Datagram((self._part(at, _PAYLOAD), self._source_of(at), self, at))

    # --- answers -------------------------------------------------------------------------------

    def reply(self, payloads: Iterable[Any], *, wait: bool = False) -> int:
        """Answers the datagrams, each from the address that was asked: ``payloads`` has one for each,
        in order, None for no answer. They leave as one batch, those to one peer as trains. Returns
        how many the socket took; ``reply_errors`` has the others. ``wait``: for room in the socket's
        buffer, instead of leaving answers with BlockingIOError.

        On a socket that is bound to the wildcard address the receiver needs ``Meta.DESTINATION`` for
        that: ValueError without. Any thread; answers of several threads leave one batch after the
        other. ``Sender.reply`` does the same with a sender of your own."""
        self._check()
        sent, self._reply_errors = self._core.reply(self, payloads, wait)
        return sent

    @property
    def reply_errors(self) -> dict[int, OSError]:
        """What the last ``reply()`` could not send, by the datagram's place in the batch."""
        return self._reply_errors

    # --- copies --------------------------------------------------------------------------------

    def messages(self) -> Iterator[tuple[bytes, Any]]:
        """``(payload, source)`` of each datagram, the payload as bytes: owned data at the least
        cost. Errors are left out."""
        return _owned.messages(self)

    def payloads(self) -> list[bytes]:
        """Copies of all payloads; of an error it is empty."""
        return _owned.payloads(self)

    def to_numpy(self, dtype: Any = None, *, strict: bool = True) -> Any:
        """The payloads as one contiguous array.

        With ``dtype``: an array with an element for each datagram, of payloads that have just its
        size. ValueError for any other payload; ``strict=False`` leaves those, and errors, out.
        Without: ``(array, lengths)``, a row of bytes for each datagram, zeros behind shorter ones.
        """
        return _owned.to_numpy(self, dtype, strict)

    def columns(self, dtype: Any = None, *, source: str = "text", strict: bool = True) -> dict[str, Any]:
        """A dict of one-dimensional numpy arrays, as ``pandas.DataFrame(...)`` takes it:
        ``length``, ``error``, what was asked for as ``metadata``, and the fields of ``dtype``, read
        as by ``to_numpy``.

        A field of ``dtype`` is one column, in this machine's byte order, which pandas requires. Of nested
        fields and arrays each element is one: ``position_x``, ``samples_0``, ``samples_1``. ValueError
        if two have one name.

        ``source="integer"`` gives addresses as numbers (an IPv6 address as ``source_high`` and
        ``source_low``). Where a datagram brought no value the column has 0, and ``valid`` lacks the
        ``Meta`` bit. A field of ``dtype`` takes the place of a column of its name: call it otherwise
        if you need both.
        """
        return _owned.columns(self, dtype, source, strict)

    def to_arrow(self, dtype: Any = None, *, source: str = "text", strict: bool = True) -> Any:
        """The same as a ``pyarrow.Table``. Without ``dtype`` it has a column ``payload``: of fixed
        size where all payloads have one. A field that is an array is a column of lists of fixed size."""
        return _owned.to_arrow(self, dtype, source, strict)

    @property
    def records(self) -> numpy.ndarray[Any, Any]:
        """The records as a numpy structured array, without a copy. Names and units as in
        ``struct ringmsg_record``; offsets count from ``buffer``. Stays readable after release;
        what it points to does not."""
        self._check()
        return _layout.array(self._slab.records, _abi.Record, self._count)

    @property
    def metadata(self) -> numpy.ndarray[Any, Any]:
        """The metadata as a numpy structured array, as ``struct ringmsg_metadata``. A field means
        something where its ``Meta`` bit is in ``valid``."""
        self._check()
        if self._slab.metadata is None:
            raise ValueError("this receiver was made without metadata")
        return _layout.array(self._slab.metadata, _abi.Metadata, self._count)

    @property
    def buffer(self) -> memoryview:
        """The memory that the records' offsets count from (read the slices of this batch's
        records; nothing else in there is stable). With several pools see ``buffers``."""
        self._check()
        pools = self._pools() or list(self._core.pools)
        if len(pools) != 1:
            raise ValueError(f"the batch has records of {len(pools)} pools: use buffers[pool]")
        return self._whole(pools[0])

    @property
    def buffers(self) -> dict[int, memoryview]:
        """The memory of each pool that occurs in the batch, by the records' ``pool``."""
        self._check()
        return {pool: self._whole(pool) for pool in self._pools()}

    def _whole(self, number: int) -> memoryview:
        with self._core.lock:
            self._check()
            return self._track(self._memory(number)[:])

    def _instead(self) -> str:
        return ": messages() and to_numpy() give data to keep"

    def __repr__(self) -> str:
        state = "" if self._state == _LIVE else ", released"
        return f"<ringmsg.Batch of {self._count}{state}>"

    # --- how long it lives -------------------------------------------------------------------

    @property
    def released(self) -> bool:
        """Whether its buffers were released."""
        return self._state != _LIVE

    def keep(self) -> Self:
        """Detaches the batch: it is no longer released when the next one is taken, but by
        ``release()``, ``with``, or when it is garbage, from any thread, and at the latest when its
        ring is closed. Returns itself."""
        self._check()
        # In this order: a batch that is no longer the ring's must be one that releases itself.
        self.__class__ = _KeptBatch  # type: ignore[assignment]
        self._core.kept.add(self)
        self._kept = True
        return self

    def release(self) -> None:
        """Gives the buffers back. Views of them raise ValueError from now on. Any thread; a
        second release does nothing."""
        self._seen = True
        core = self._core
        with core.lock:
            if self._release_pending or self._state == _RELEASED:
                return
            self._retire()
            if not self._pinned:
                core.release(self._slab, self._held)
            self._state = _RELEASED
            if not self._pinned:
                core.return_slab(self._slab)

    def _was_lost(self) -> bool:
        """The batch was never used and has no reference left: an exception such as Ctrl-C discarded
        it before the caller could store it. (A caller that discards batches on purpose gets each
        of them again _MOST_LOSSES times, and then the next.)"""
        if self._seen or self._release_pending or self._state != _LIVE or not self._count:
            return False
        self._losses += 1
        return self._losses <= _MOST_LOSSES

    def _begin_release(self) -> int:
        """The ring's next call will release the batch, unless it is kept or released already.
        Returns the number of records to release."""
        with self._core.lock:
            if self._kept or self._state == _RELEASED:
                return 0
            self._release_pending = True
            self._retire()
            return 0 if self._pinned else self._held

    def _release_confirmed(self, again: bool = False) -> None:
        """The call that releases the batch has returned. ``again``: it was interrupted, perhaps
        before it released anything."""
        with self._core.lock:
            if self._release_pending and self._state != _RELEASED and not self._pinned:
                if again:
                    self._core.release(self._slab, self._held)
                self._state = _RELEASED
                self._core.return_slab(self._slab)

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

    def _exporter(self, number: int) -> Any:
        """What exports a pool's memory for this batch. Its reference count shows whether anything
        derived from the batch is still alive. To be called under the ring's lock."""
        exporter = self._exporters.get(number)
        if exporter is None:
            exporter = self._exporters[number] = self._core.learn_pool(number).expose()
        # Not before: a signal handler may close the ring meanwhile, and the lock does not keep it
        # from that. From here on closing the ring finds the exporter, and leaves the memory to it.
        self._check()
        return exporter

    def _hold(self) -> Any:
        """While the caller refers to what this returns, neither the memory of the pools nor the batch's
        buffers go, even if a signal handler closes the ring or releases the batch. To be called under
        the ring's lock."""
        held = self._exporters.get(_ALL_POOLS)
        if held is None:
            held = self._exporters[_ALL_POOLS] = _Hold()
        self._check()  # as above
        return held

    def _memory(self, number: int) -> memoryview:
        """A view of a pool. To be called under the ring's lock."""
        root = self._roots.get(number)
        if root is None:
            root = self._roots[number] = memoryview(self._exporter(number)).cast("B").toreadonly()
            self._check_views()
        return root

    def _track(self, view: memoryview) -> memoryview:
        self._views.append(view)
        if self._state != _LIVE:  # a call less for each datagram
            self._check_views()
        return view

    def _check_views(self) -> None:
        """Revokes views that are new if a signal handler has released the batch meanwhile: it did not
        find them."""
        if self._state != _LIVE:
            self._retire()
            self._check()

    def _pools(self) -> list[int]:
        records = self._slab.records_view[: self._count * _abi.RECORD_SIZE]
        return sorted({pool for _, _, pool in _POOLED_SLICES.iter_unpack(records)} - {_abi.POOL_NONE})

    def _record(self, field: _layout.Field, position: int) -> Any:
        self._check()
        return field.read(self._slab.records_view, position)

    def _metadata(self, bits_and_field: tuple[int, _layout.Field], position: int) -> Any:
        """A field of the metadata; None unless one of its bits was asked for, and came."""
        self._check()
        if self._slab.metadata is None:
            return None
        bits, field = bits_and_field
        view = self._slab.metadata_view
        return field.read(view, position) if _VALID.read(view, position) & bits & self._wanted else None

    def _part(self, position: int, part: tuple[_layout.Field, _layout.Field]) -> memoryview:
        """A part of the message that a record describes."""
        with self._core.lock:
            if not self._record(_FLAGS, position) & RecordFlag.BUFFER:
                return self._track(memoryview(b""))
            offset, length = part
            start = self._record(offset, position)
            memory = self._memory(self._record(_POOL, position))
            return self._track(memory[start : start + self._record(length, position)])

    def _control_of(self, position: int) -> memoryview:
        return self._part(position, _CONTROL)

    def _sources(self) -> list[Any]:
        return _owned.sources(self)

    def _source_of(self, position: int) -> Any:
        if not self._wanted & Meta.SOURCE:
            return None
        if self._addresses is None:
            return self._name_of(position)
        return self._addresses.one_of(self._slab, position)

    def _name_of(self, position: int) -> Any:
        """The source, from the record's name."""
        return _addresses.from_sockaddr(bytes(self._part(position, _NAME)))

    def _drop_last(self) -> None:
        """Hides the last record, which only says that the request is over."""
        self._count -= 1

    def _lacks_destinations(self) -> bool:
        """Whether there is a datagram whose metadata do not have the address that was asked."""
        valid = _VALID.column(self._slab.metadata_view)[: self._count].tolist()
        return any(bits & Meta.SOURCE and not bits & _DESTINATIONS for bits in valid)

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


class _Hold:
    """Stands for all pools among a batch's exporters, but exports nothing."""

    __slots__ = ("__weakref__",)


def _references(exporters: dict[int, Any]) -> list[int]:
    return [sys.getrefcount(exporter) for exporter in exporters.values()]


# What the above says of an exporter that only the batch itself refers to.
_ALONE = _references({0: object()})[0]
