"""``Sender``: a socket, sent to in batches."""

from __future__ import annotations

import array
import ctypes
import errno
import functools
import os
import socket
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from . import _abi, _paths, errors
from ._arguments import NotCopied, descriptor, duplicate, integer
from ._messages import NOTHING, Message, column, count_of, joined, of_message, pair, path_key, with_text
from ._outgoing import UNSENT, Columns, Handle, SenderStats, Structs, struct_of, unsent, words
from .flags import MessageFlag, SenderFlag

if TYPE_CHECKING:
    import types

    from typing_extensions import Self

    from .batch import Batch

__all__ = ["Message", "Sender", "SenderStats"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_senders: weakref.WeakSet[Sender] = weakref.WeakSet()
_NO_PATH = 0xFFFFFFFFFFFFFFFF
_IP = socket.AF_INET, socket.AF_INET6


_Self = TypeVar("_Self", bound="Sender")


def _exclusive(
    method: Callable[Concatenate[_Self, _Arguments], _Result],
) -> Callable[Concatenate[_Self, _Arguments], _Result]:
    """A method that one thread at a time may be in. (A ``with`` on the lock itself cannot be
    interrupted between taking it and being ready to give it back.)"""

    @functools.wraps(method)
    def call(self: _Self, /, *arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        if self._lock.locked():
            raise OSError(
                errno.EBUSY, "another call is in progress on this sender: each thread needs its own"
            )
        try:
            with self._lock:
                if self._closing:
                    raise errors.closed("the sender")
                return method(self, *arguments, **named)
        finally:
            if self._closing:
                self.close()

    return call


class Sender(NotCopied):
    """Sends batches of messages on ``sock``, with one call of the library for each batch. Messages of
    one size to one peer leave as UDP_SEGMENT trains; those to one peer keep their order.

    >>> with ringmsg.Sender(sock) as sender:
    ...     sent = sender.send([(b"one", peer), (b"two", other)])
    ...     for index, error in sender.errors.items():
    ...         print(index, error)

    ``sock``: a datagram or seqpacket socket, or its descriptor. It stays yours; the sender has a
    reference of its own until ``close()``. ``grouping=False``: every message leaves as it is.
    ``timestamps``: switches transmit timestamps on, for ``Message.timestamp_id``.
    ``transmit_clock``: the clock of ``Message.transmit_time_ns``, as ``time.CLOCK_MONOTONIC``.

    A sender is for one thread at a time: OSError (EBUSY) in another. One socket may have any number
    of senders. ``close()`` and ``stats`` are for any thread.
    """

    _closing = False

    def __init__(
        self,
        sock: Any,
        *,
        grouping: bool = True,
        timestamps: bool = False,
        transmit_clock: int | None = None,
    ) -> None:
        fd = descriptor(sock)
        flags = SenderFlag.TIMESTAMPS if timestamps else SenderFlag(0)
        if not grouping:
            flags |= SenderFlag.NO_GROUPING
        clock = -1 if transmit_clock is None else integer("transmit_clock", transmit_clock)
        self._handle = Handle(fd, flags, clock)
        self._family, self._is_wildcard = _look_at(fd)
        self._paths = _paths.Table()
        self._lock = threading.Lock()
        # The last batch, and the position that each of its messages had in what was given.
        self._batch: Columns | Structs | None = None
        self._batch_paths = self._paths.paths()
        self._positions: list[int] | None = None
        self._unsendable: dict[int, int] = {}
        _senders.add(self)

    # --- sending -----------------------------------------------------------------------------

    @_exclusive
    def send(self, messages: Iterable[Any], *, wait: bool = False) -> int:
        """Sends messages: ``(payload, address)`` pairs, ``Message`` objects, or, on a connected
        socket, payloads. Returns how many the socket took; ``errors`` has those that it did not.

        When the socket's buffer is full the rest has BlockingIOError in ``errors``: ``resume()``
        gives it again. ``wait=True`` waits for room instead, however long that takes; SO_SNDTIMEO
        limits it.

        All is checked before anything is sent: TypeError and ValueError say what is wrong with
        which message. OSError: the call was refused, and nothing was sent.
        """
        return self._send(*self._packed(list(messages)), wait)

    @_exclusive
    def resume(self, *, wait: bool = False) -> int:
        """Gives the messages of the last batch again for which the buffer had no room. Returns how
        many of these the socket took."""
        if self._batch is None:
            return 0
        before = self._batch.outcomes()
        self._call(self._batch, wait, resume=True)
        now = self._batch.outcomes()
        return sum(was == UNSENT and is_now >= 0 for was, is_now in zip(before, now))

    @property
    def pending(self) -> int:
        """How many messages of the last batch found no room: what ``resume()`` gives again."""
        return 0 if self._batch is None else self._batch.outcomes().count(UNSENT)

    @property
    def errors(self) -> dict[int, OSError]:
        """The messages of the last batch that the socket did not take, by their place in it."""
        outcomes = [] if self._batch is None else self._batch.outcomes()
        failed = dict(self._unsendable)
        for at, outcome in enumerate(outcomes):
            position = at if self._positions is None else self._positions[at]
            if outcome < 0 and position not in failed:
                failed[position] = -outcome
        return {at: errors.of_socket(number) for at, number in sorted(failed.items())}

    @_exclusive
    def send_columns(
        self,
        data: Any,
        lengths: int | Sequence[int],
        addresses: Any = None,
        *,
        offsets: Any = None,
        wait: bool = False,
    ) -> int:
        """Sends messages that lie in one buffer, without an object for each: ``data`` is anything
        that has a contiguous buffer, such as a numpy array. ``lengths``: the bytes of each message,
        or one number for all. ``addresses``: one for each message, one for all, or None for the
        connected peer. ``offsets``: where each message begins; None: they lie back to back. Returns
        what ``send`` does."""
        memory = memoryview(data)
        if not memory.c_contiguous:
            raise ValueError("data is not contiguous")
        places = None if offsets is None else column("offsets", "Q", offsets)
        try:
            length = integer("a length", lengths, 32)
        except TypeError:  # one for each message
            sizes = column("lengths", "I", lengths)
            count = len(sizes)
        else:
            count = count_of(memory.nbytes, length) if places is None else len(places)
            sizes = array.array("I", [length]) * count
        if places is not None and len(places) != count:
            raise ValueError(f"{len(places)} offsets for {count} lengths")
        path_index = self._indices(addresses, count)
        # Without a copy where the buffer can be borrowed: ctypes wants a writable one.
        characters = ctypes.c_char * memory.nbytes
        base: Any = memory.tobytes() if memory.readonly else characters.from_buffer(data)
        batch = Columns(
            *(base, memory.nbytes, None if places is None else places.tobytes()),
            *(sizes.tobytes(), path_index, unsent(count)),
        )
        return self._send(batch, None, wait)

    @_exclusive
    def reply(self, batch: Batch, payloads: Iterable[Any], *, wait: bool = False) -> int:
        """Answers the datagrams of a batch, each from the address that was asked: ``payloads`` has
        one for each, None for no answer. Returns how many the socket took; ``errors`` counts as
        ``batch`` does.

        On a socket that is bound to the wildcard address the receiver needs ``Meta.DESTINATION`` for
        that: ValueError without."""
        given = list(payloads)
        batch._check()
        if len(given) != batch._count:
            raise ValueError(f"{len(given)} payloads for {batch._count} datagrams; None skips one")
        return self._send(*self._answers(batch, given), wait)

    # --- packing -----------------------------------------------------------------------------

    def _packed(self, messages: list[Any]) -> tuple[Columns | Structs, None]:
        """A batch of what send() takes."""
        self._paths.reserve(len(messages))
        if any(issubclass(kind, Message) for kind in set(map(type, messages))):
            return self._structs(messages), None
        try:
            payloads, addresses = zip(*messages, strict=True)
            data, sizes = joined(payloads)
        except (TypeError, ValueError):
            pairs = [pair(at, message) for at, message in enumerate(messages)]
            payloads, addresses = zip(*pairs) if pairs else ((), ())
            data, sizes = joined(payloads)
        path_index = None
        if addresses.count(None) != len(addresses):
            try:
                indices = [self._paths.known[address] for address in addresses]
            except (KeyError, TypeError, BytesWarning):  # a host of bytes, with python -bb
                indices = [self._index(at, address) for at, address in enumerate(addresses)]
            path_index = words(indices)
        return Columns(data, len(data), None, words(sizes), path_index, unsent(len(sizes))), None

    def _index(self, at: int, address: Any) -> int:
        if address is None:
            return _paths.NONE
        try:
            index = self._paths.known.get(address)
        except (TypeError, BytesWarning):  # not hashable; a host of bytes, with python -bb
            index = None
        if index is not None:
            return index
        try:
            address = with_text(address)
            index = self._paths.known.get(address) if isinstance(address, tuple) else None
            return self._paths.add(address, _paths.to(self._family, address)) if index is None else index
        except (OSError, TypeError, ValueError) as error:
            raise of_message(at, error) from None

    def _indices(self, addresses: Any, count: int) -> bytes | None:
        """A column of paths: of one address, or of one for each message."""
        if addresses is None:
            return None
        if isinstance(addresses, (str, bytes)):
            raise TypeError(f"addresses must be an address, or one for each message, not {addresses!r}")
        if isinstance(addresses, tuple) and addresses and isinstance(addresses[0], (str, bytes, bytearray)):
            self._paths.reserve(1)
            return words([self._index(0, addresses)] * count)
        each = list(addresses)
        if len(each) != count:
            raise ValueError(f"{len(each)} addresses for {count} messages")
        self._paths.reserve(count)
        return words([self._index(at, address) for at, address in enumerate(each)])

    def _structs(self, messages: list[Any]) -> Structs:
        """A batch of Message objects, perhaps among others."""
        whole = [m if isinstance(m, Message) else Message(*pair(at, m)) for at, m in enumerate(messages)]
        data, sizes = joined([message.payload for message in whole])
        packed, offset = [], 0
        for at, (message, size) in enumerate(zip(whole, sizes)):
            try:
                flags = 0 if message.timestamp_id is None else MessageFlag.TIMESTAMP
                packed.append(
                    struct_of(
                        *(offset, size, self._path_of(message)),
                        segment_size=message.segment_size,
                        flags=flags,
                        transmit_time_ns=message.transmit_time_ns,
                        timestamp_id=message.timestamp_id or 0,
                    )
                )
            except (OSError, TypeError, ValueError) as error:
                raise of_message(at, error) from None
            offset += size
        return Structs(data, (_abi.Message * len(whole)).from_buffer_copy(b"".join(packed)))

    def _path_of(self, message: Message) -> int:
        key = path_key(message)
        if key == NOTHING:
            return _NO_PATH
        index = self._paths.known.get(key)
        if index is None:
            address, source, interface_index, traffic_class, hop_limit, flow_label = key
            path = _paths.to(
                self._family,
                address,
                source=source,
                interface_index=interface_index,
                traffic_class=traffic_class,
                hop_limit=hop_limit,
                flow_label=flow_label,
            )
            index = self._paths.add(key, path)
        return index

    def _answers(self, batch: Batch, given: list[Any]) -> tuple[Columns, list[int] | None]:
        """A batch of answers, and their positions."""
        positions = None
        chosen = given
        if type(None) in map(type, given):  # an array of numpy does not compare to None
            positions = [at for at, payload in enumerate(given) if payload is not None]
            chosen = [given[at] for at in positions]
        try:
            data, sizes = joined(chosen)
        except TypeError:
            for at, payload in enumerate(given):
                if payload is not None:
                    pair(at, (payload, None))
            raise
        path_index = None
        if self._family in _IP:
            indices = self._reply_paths(batch)
            if positions is not None:
                indices = [indices[at] for at in positions]
            path_index = words(indices)
        return Columns(data, len(data), None, words(sizes), path_index, unsent(len(sizes))), positions

    def _reply_paths(self, batch: Batch) -> list[int]:
        slab = batch._slab
        if slab.metadata is None or slab.metadata_address is None:
            raise ValueError("this receiver was made without metadata: the sources are not known")
        if self._is_wildcard and batch._lacks_destinations():
            raise ValueError(
                "the socket is bound to the wildcard address: the receiver needs metadata=... | "
                "Meta.DESTINATION to know which address was asked; peers drop answers from another"
            )
        self._paths.reserve(batch._count)
        return self._paths.of_metadata(slab.metadata_view, slab.metadata_address, batch._count)

    # --- the call ----------------------------------------------------------------------------

    def _send(self, batch: Columns | Structs, positions: list[int] | None, wait: bool) -> int:
        # An exception (Ctrl-C) leaves the results in `errors`, and `resume()` what it needs: no
        # call that it could interrupt comes between these four.
        paths, unsendable = self._paths.paths(), dict[int, int]()
        self._batch, self._batch_paths, self._positions, self._unsendable = (
            batch,
            paths,
            positions,
            unsendable,
        )
        outcomes = batch.outcomes()
        if not outcomes:
            return 0
        self._call(batch, wait, resume=False)
        outcomes = batch.outcomes()
        failed = [at for at, outcome in enumerate(outcomes) if outcome < 0]
        if failed:
            self._mark_unanswerable(batch, failed)
        if UNSENT not in outcomes:
            self._batch = batch.without_payloads()
        return len(outcomes) - len(failed)

    def _call(self, batch: Columns | Structs, wait: bool, resume: bool) -> None:
        try:
            _, paths, count = self._batch_paths
            self._handle.send(batch, paths, count, wait=wait, resume=resume)
        except OSError:
            self._batch = None
            raise

    def _mark_unanswerable(self, batch: Columns | Structs, failed: list[int]) -> None:
        """The library calls a missing path EFAULT."""
        if isinstance(batch, Columns) and batch.path_index is not None:
            indices = memoryview(batch.path_index).cast("I")
            for at in failed:
                if indices[at] == _paths.NOWHERE:
                    position = at if self._positions is None else self._positions[at]
                    self._unsendable[position] = errno.EADDRNOTAVAIL

    @property
    def stats(self) -> SenderStats:
        """The sender's counters."""
        return self._handle.stats()

    # --- the end -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closing

    def close(self) -> None:
        """Gives the reference to the socket back. Any thread. A call that another thread is in goes
        on: the last one out closes."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            try:
                self._handle.free()
            finally:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock") and self._handle.is_open:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                self._handle.free()

    def __repr__(self) -> str:
        return f"<ringmsg.Sender{' closed' if self._closing else ''}>"


def _look_at(fd: int) -> tuple[int, bool]:
    """The socket's family, and whether it is bound to the wildcard address."""
    with duplicate(fd) as sock:
        if sock.family not in _IP:
            return sock.family, False
        return sock.family, sock.getsockname()[0] in ("0.0.0.0", "::")


def _after_fork() -> None:
    """In a child, where no other thread is inside."""
    for sender in list(_senders):
        sender._lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
