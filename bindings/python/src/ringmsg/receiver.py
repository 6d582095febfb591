"""``Receiver``: a socket, received from in batches."""

from __future__ import annotations

import errno
import functools
import socket
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _abi, _addresses, _layout, _options, errors
from ._arguments import descriptor, duplicate, integer, seconds
from .batch import Batch
from .datagram import Datagram
from .flags import Meta, RecordFlag, RecvFlag
from .ring import Ring
from .sender import Sender

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEFAULT_METADATA", "Receiver"]

# What asyncio's endpoint reads of an AF_UNIX datagram, which has no limit of its own.
_PAYLOAD_UNIX = 256 * 1024
# A pool is smaller than this.
_POOL_LIMIT = 1 << 32
DEFAULT_METADATA = Meta.SOURCE | Meta.DROPPED | Meta.SEGMENT_SIZE
_RESULT, _FLAGS = _layout.record("result"), _layout.record("flags")


class Receiver(Ring):
    """Receives from ``sock`` in batches.

    >>> with ringmsg.Receiver(sock, metadata=ringmsg.Meta.SOURCE) as rx:
    ...     for batch in rx:
    ...         for datagram in batch:
    ...             print(datagram.source, bytes(datagram.payload))

    ``sock``: a bound or connected socket (or a descriptor), which stays yours. ``metadata``: what
    to report for each datagram; the socket options that this needs are switched on. They stay on,
    since others may share the socket, but for UDP_GRO (``Meta.SEGMENT_SIZE``), which ``close()``
    switches off unless data is queued. ``split``: the trains that the kernel's GRO makes are taken
    apart again, one ``Datagram`` each; False: a train is one, with its ``segment_size``.
    ``buffers``: how many datagrams (or trains) can be held at once, a power of two up to 32768.
    ``batch_size``: the most that one batch holds. ``payload_capacity``: bytes a buffer holds; the
    default has room for any datagram and train of IP, and for 256 KiB from an AF_UNIX socket (for 64 KiB
    with more than 8192 buffers: a pool has at most 4 GiB).

    The first thread that reaps becomes the owner (see ``Ring``), so a receiver can be made in
    one thread and used in another. ``close()``, ``wake()`` and ``stats`` are for any thread.
    Errors are OSError with errno and a sentence.
    """

    def __init__(
        self,
        sock: Any,
        *,
        metadata: Meta | None = None,
        split: bool = True,
        buffers: int | None = None,
        mode: str = "auto",
        engine: str = "auto",
        batch_size: int = 256,
        payload_capacity: int | None = None,
    ) -> None:
        # Our own reference: UDP_GRO is switched off again even if `sock` is closed first.
        self._socket = duplicate(descriptor(sock))
        self._options = _options.Options(self._socket)
        self._started = False
        self._end: BaseException | None = None
        self._rest: Iterator[Datagram] = iter(())  # datagrams that recvmsg() has not returned yet
        try:
            self._hidden = self._enable(metadata, split)
            super().__init__(mode, engine, disabled=True, batch_size=batch_size)
            if payload_capacity is None and self._socket.family == socket.AF_UNIX:
                count = 0 if buffers is None else integer("buffers", buffers)
                if count * _PAYLOAD_UNIX < _POOL_LIMIT:
                    payload_capacity = _PAYLOAD_UNIX
            self._pool = self.pool(self._socket, buffers=buffers, payload_capacity=payload_capacity)
        except BaseException:
            if hasattr(self, "_current"):
                self.close()
            self._restore_socket()
            raise
        self._core.new_sender = functools.partial(Sender, self._socket)
        if self._with_metadata:
            self._addresses = _addresses.cache_for(self._socket.family)

    def _enable(self, metadata: Meta | None, split: bool) -> set[tuple[int, int]]:
        """Switches the options on. Returns the control messages that the caller did not request."""
        sock = self._socket
        self._is_ip = sock.family in (socket.AF_INET, socket.AF_INET6)
        udp = self._is_ip and sock.type == socket.SOCK_DGRAM and sock.proto in (0, socket.IPPROTO_UDP)
        wanted = DEFAULT_METADATA if metadata is None else Meta(_options.check_metadata(metadata))
        if metadata is None and not udp:
            wanted &= ~Meta.SEGMENT_SIZE
        try:
            switched_on = self._options.enable(wanted)
        except OSError as error:
            if metadata is not None or error.errno != errno.ENOPROTOOPT:
                raise
            # An emulator (qemu-user) knows few options. What nobody asked for is left out.
            wanted = Meta.SOURCE
            switched_on = self._options.enable(wanted)
        self._wanted = int(wanted)
        self._with_metadata = bool(wanted)
        # SPLIT only where there can be trains: it needs room for their control message.
        self._flags = RecvFlag.SPLIT if split and udp else RecvFlag(0)
        return switched_on if metadata is None else set()

    # --- reaping -----------------------------------------------------------------------------

    def _start(self) -> None:
        """The calling thread becomes the owner, and the request is armed. May be interrupted and
        repeated."""
        if self._owner == 0:
            try:
                self.enable()
            except OSError as error:
                if error.errno != errno.EBADFD:  # enabled already
                    raise
                self._own()
        try:
            self.request_stats()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            self.recvmsg_multishot(self._pool, self._socket, flags=self._flags)
        self._started = True

    def _next(self, capacity: int) -> Batch:
        if self._end is not None and self._begun == self._current._number:
            raise self._end
        if not self._started and not self._closing:
            self._start()
        return super()._next(capacity)

    def _inspect(self, batch: Batch) -> None:
        last = batch._count - 1
        if batch._record(_FLAGS, last) & RecordFlag.FINAL:
            self._note_end(batch, batch._record(_RESULT, last))

    def _note_end(self, batch: Batch, result: int) -> None:
        """The request is over. What ended it comes after the data, from the next reap."""
        if result < 0 and result != -errno.ECANCELED:
            self._end = OSError(-result, errors.strerror(result))
        else:
            self._end = EOFError("the stream is at its end" if result == 0 else "the request was cancelled")
        if result <= 0:
            batch._drop_last()

    def reap(self, timeout: float | None = None, linger: float | None = None, *, spin: float = 0) -> Batch:
        """Releases the last batch, unless ``keep()`` was called on it, and returns the next as
        soon as there are datagrams.

        ``timeout``: seconds to wait for the first; None: no limit; 0: do not block. After it, or
        a ``wake()``, the batch is empty. ``linger``: seconds to wait for more once there is one,
        at most 0.01; None: what saves CPU time (AUTO). ``spin``: seconds to poll before
        sleeping, which saves the time a wake-up takes. Signal handlers run, and the wait
        continues; if one raises (Ctrl-C), what had arrived comes with the next reap.

        EOFError: a stream is at its end. OSError: EBADF after ``close()``; PermissionError in
        another thread than the owner; what ended the request.
        """
        return super().reap(timeout, linger, spin=spin)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next batch that is not empty. The iteration ends on ``close()``, and at the end of
        a stream."""
        wait = self._wait
        wait.timeout_ns, wait.linger_us, wait.spin_us = -1, _abi.LINGER_AUTO, 0
        try:
            while not (batch := self._next(self._batch_size))._count:
                if self._closing:
                    raise StopIteration
            batch._seen = False  # the builtin next() can lose it to a Ctrl-C
            return batch
        except EOFError:
            raise StopIteration from None
        except OSError as error:
            if self._closing and error.errno in (errno.EBADF, errno.ECANCELED):
                raise StopIteration from None
            raise

    def recvmsg(self, timeout: float | None = None) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """The next datagram as ``socket.recvmsg`` would return it: data, control messages, flags,
        address. TimeoutError after ``timeout`` seconds. At the end of a stream the data is empty.
        An error of the socket is raised. Descriptors (SCM_RIGHTS) are yours to close.

        The control messages are those of the options you switched on, or asked for with
        ``metadata``; the trains that GRO makes are taken apart without trace."""
        deadline = None if timeout is None else time.monotonic() + seconds("timeout", timeout)
        while (datagram := next(self._rest, None)) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                batch = self.reap(left)
            except EOFError:
                return b"", [], 0, None
            if not batch._count and left == 0:
                raise TimeoutError(errno.ETIMEDOUT, "no datagram in time")
            self._rest = iter(batch)
        if datagram.error:
            raise errors.of_socket(datagram.error)
        hidden = self._hidden
        if datagram.flags & RecordFlag.SEGMENT:
            hidden = hidden | {(_options.SOL_UDP, _options.UDP_GRO)}
        control = [message for message in datagram.control if message[:2] not in hidden]
        for at, (level, kind, data) in enumerate(control):
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds = datagram.take_fds()
                control[at] = (level, kind, struct.pack(f"{len(fds)}i", *fds))
        source = datagram.source
        if source is None and not self._wanted & Meta.SOURCE:
            source = datagram.batch._name_of(datagram.position)
        return bytes(datagram.payload), control, datagram.msg_flags, source

    # --- readiness, the end ------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor for selectors: readable when a reap would return something. Not to be
        read, written or closed."""
        number = super().fileno()
        if not self._started:
            self.wake()  # so that a selector's first look leads to the reap that starts it
        return number

    def _finish(self) -> None:
        try:
            super()._finish()
        finally:
            self._restore_socket()

    def _restore_socket(self) -> None:
        """Switches UDP_GRO off if we switched it on, and closes our reference. A forked child
        shares the option with its parent, and leaves it."""
        if self._socket.fileno() >= 0:
            if not (hasattr(self, "_current") and self._core.in_child()):
                self._options.restore()
            self._socket.close()

    def __del__(self) -> None:
        super().__del__()
        if hasattr(self, "_options"):
            self._restore_socket()  # where close() was interrupted

    def __repr__(self) -> str:
        return f"<ringmsg.Receiver {'closed' if self._closing else repr(self._socket)}>"
