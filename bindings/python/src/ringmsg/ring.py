"""Rings and pools: the interface below ``Receiver``."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _abi, errors
from ._abi import lib
from ._arguments import ENGINES, MODES, NotCopied, choice, descriptor, integer, nanoseconds, seconds
from ._core import Core, Slab, Stats
from .batch import Batch
from .flags import Engine, Feature, RecvFlag, Setup

if TYPE_CHECKING:
    import types

    from typing_extensions import Self

__all__ = ["Pool", "Ring", "RingInfo"]

_rings: weakref.WeakSet[Ring] = weakref.WeakSet()


class RingInfo(NamedTuple):
    """What a ring was granted."""

    engine: Engine
    flags: Setup
    """What was granted. With DEFER_TASKRUN or SINGLE_ISSUER the ring is bound to its thread."""
    features: Feature
    sq_entries: int
    cq_entries: int
    owner_thread: int
    """``threading.get_native_id()`` of the owner; 0: not bound, or not enabled yet."""


class Pool(NotCopied):
    """Buffers that a ring receives into. Made by ``Ring.pool``; belongs to it."""

    def __init__(self, ring: Ring, handle: int, number: int, config: _abi.PoolConfig) -> None:
        self._ring, self._handle = ring, handle
        self.id = number
        """The number that records have in ``pool``."""
        self.buffers: int = config.buffers
        self.payload_capacity: int = config.payload_capacity
        self.control_capacity: int = config.control_capacity

    def free(self) -> None:
        """Gives the memory back. OSError: EBUSY while armed, or under records. [owner]"""
        core = self._ring._core
        core.call(lambda _: lib.pool_free(self._handle))
        core.pools.pop(self.id, None)
        core.buffers -= self.buffers


class Ring(NotCopied):
    """A ring: an io_uring, or an epoll instance.

    ``mode`` is "auto" (the best there is), "defer", "coop", "plain" or "sqpoll"; ``disabled``
    leaves the choice of the owner to ``enable()``. A ring in defer mode (auto takes it where it
    can) is bound to the thread that made or enabled it: methods marked [owner] raise
    PermissionError elsewhere. Any thread may call the methods of other rings, one at a time in reap.

    Every method raises OSError with the library's sentence; EBADF after ``close()``.
    """

    _wanted = -1
    _addresses: Any = None
    _with_metadata = True
    _on_closed: Callable[[], None] | None = None  # called by the thread that closed it

    def __init__(
        self,
        mode: str = "auto",
        engine: str = "auto",
        *,
        flags: Setup | None = None,
        disabled: bool = False,
        sq_entries: int = 0,
        cq_entries: int = 0,
        batch_size: int = 256,
    ) -> None:
        config = _abi.RingConfig()
        lib.ring_config_init(ctypes.byref(config))
        granted = choice("mode", mode, MODES) if flags is None else integer("flags", flags, 32)
        config.flags = granted | (Setup.R_DISABLED if disabled else 0)
        config.engine = choice("engine", engine, ENGINES)
        batch_size = integer("batch_size", batch_size)
        if not 1 <= batch_size <= 65536:
            raise ValueError(f"batch_size must be 1 to 65536, not {batch_size}")
        config.sq_entries, config.cq_entries = (
            integer("sq_entries", sq_entries),
            integer("cq_entries", cq_entries),
        )
        self._closing = self._closed = False
        self._finished = threading.Event()
        self._armed: set[int] = set()
        self._inside = 0  # the thread that is in a reap
        # The thread that a bound ring belongs to; 0: none, or not enabled yet.
        self._owner = 0
        self._core = Core(config)
        # The last batch; the number of the last call, and the arrays that it was to fill. The
        # batch has the call's number unless that was interrupted (see _recover).
        self._begun = 0
        self._open = Slab(batch_size, self._with_metadata)
        self._current = Batch(self._core, self._open, 0, 0, 0, 0, None)
        self._batch_size = batch_size
        self._wait = _abi.Wait()
        self._wait_address = ctypes.addressof(self._wait)
        if not disabled:
            self._own()
        _rings.add(self)

    # --- set-up ------------------------------------------------------------------------------

    def enable(self) -> None:
        """Starts a ring made with ``disabled=True``; the calling thread owns it."""
        self._core.call(lib.ring_enable)
        self._own()

    def _own(self) -> None:
        bound = self.info.flags & (Setup.SINGLE_ISSUER | Setup.DEFER_TASKRUN)
        self._owner = threading.get_ident() if bound else 0

    @property
    def info(self) -> RingInfo:
        """What was granted."""
        info = _abi.RingInfo()
        self._core.call(lib.ring_info, ctypes.byref(info))
        return RingInfo(
            Engine(info.engine),
            Setup(info.flags),
            Feature(info.features),
            info.sq_entries,
            info.cq_entries,
            info.owner_thread,
        )

    @property
    def stats(self) -> Stats:
        """The ring's counters."""
        return self._core.stats()

    def request_stats(self, user_data: int = 0) -> Stats:
        """The counters of the requests with that ``user_data``, until their FINAL was reaped."""
        stats = _abi.Stats()
        self._core.call(lib.request_stats, integer("user_data", user_data, 64), ctypes.byref(stats))
        return Stats._make(getattr(stats, name) for name in Stats._fields)

    def fileno(self) -> int:
        """A descriptor that is readable when a reap would return something. Not to be read,
        written or closed."""
        return self._core.call(lib.ring_fd)

    def pool(
        self,
        sock: Any = None,
        *,
        buffers: int | None = None,
        payload_capacity: int | None = None,
        control_capacity: int | None = None,
    ) -> Pool:
        """Makes a pool: ``buffers`` (a power of two up to 32768) of ``payload_capacity`` bytes,
        sized for the options that are on for ``sock``. [owner]"""
        config = _abi.PoolConfig()
        lib.pool_config_init(ctypes.byref(config))
        if sock is not None:
            errors.check(lib.pool_config_for_socket(ctypes.byref(config), descriptor(sock)))
            # Room for every option the library decodes, should one be switched on later.
            config.control_capacity = max(config.control_capacity, 512)
        if buffers is not None:
            config.buffers = integer("buffers", buffers)
        if payload_capacity is not None:
            config.payload_capacity = integer("payload_capacity", payload_capacity)
        if control_capacity is not None:
            config.control_capacity = integer("control_capacity", control_capacity)
        handle = ctypes.c_void_p()
        self._core.call(lib.pool_new, ctypes.byref(config), ctypes.byref(handle))
        assert handle.value is not None
        number = lib.pool_id(handle)
        self._core.learn_pool(number)
        self._core.buffers += config.buffers
        return Pool(self, handle.value, number, config)

    # --- requests ----------------------------------------------------------------------------

    def recvmsg_once(
        self, pool: Pool, sock: Any, *, msg_flags: int = 0, flags: RecvFlag = RecvFlag(0), user_data: int = 0
    ) -> None:
        """Receives one message into a buffer of ``pool``, which should not serve a multishot as
        well: a busy one may have all its buffers (OSError: ENOBUFS). [owner]"""
        self._receive(lib.recvmsg_once, pool, sock, msg_flags, flags, user_data)

    def recvmsg_multishot(
        self, pool: Pool, sock: Any, *, msg_flags: int = 0, flags: RecvFlag = RecvFlag(0), user_data: int = 0
    ) -> None:
        """Receives into ``pool`` until cancelled. [owner]"""
        self._receive(lib.recvmsg_multishot, pool, sock, msg_flags, flags, user_data)

    def _receive(
        self, function: Any, pool: Pool, sock: Any, msg_flags: int, flags: RecvFlag, user_data: int
    ) -> None:
        if not isinstance(pool, Pool):
            raise TypeError(f"expected a pool of this ring, not {pool!r}")
        number = integer("user_data", user_data, 64)
        arguments = descriptor(sock), integer("msg_flags", msg_flags), integer("flags", flags, 32), number
        self._armed.add(number)
        self._core.call(function, pool._handle, *arguments)

    def cancel(self, user_data: int = 0) -> None:
        """Ends every request with that ``user_data``; each ends with a FINAL record. OSError:
        ENOENT if there is none. [owner]"""
        self._core.call(lib.cancel, integer("user_data", user_data, 64))

    def submit(self) -> None:
        """Submits queued single-shots to the kernel now. A reap does so, too. [owner]"""
        self._core.call(lib.submit)

    def wake(self) -> None:
        """Makes the current or, if there is none, the next reap return. Any thread."""
        self._core.call(lib.wake)

    # --- reaping -----------------------------------------------------------------------------

    def reap(self, timeout: float | None = None, linger: float | None = None, *, spin: float = 0) -> Batch:
        """Releases the last batch, unless ``keep()`` was called on it, and returns the next as
        soon as there are records. [owner]

        ``timeout``: seconds to wait for a first record; None: no limit; 0: do not block. After
        it, or a wake, the batch is empty. ``linger``: seconds to wait for more once there is one,
        at most 0.01; None: what saves CPU time (AUTO). ``spin``: seconds to poll before
        sleeping. Signal handlers run, and the wait continues; if one raises (Ctrl-C), records
        that had arrived come with the next reap.
        """
        wait = self._wait
        timeout_ns, spin_us = nanoseconds(timeout), int(min(seconds("spin", spin) * 1e6, 2**32 - 1))
        linger_us = _abi.LINGER_AUTO
        if linger is not None:
            linger_us = int(min(seconds("linger", linger) * 1e6, _abi.LINGER_MAX_US))
        wait.timeout_ns, wait.linger_us, wait.spin_us = timeout_ns, linger_us, spin_us
        return self._next(self._batch_size)

    def _next(self, capacity: int) -> Batch:
        """One call of ringmsg_next: releases the last batch, and takes the next.

        ``_current = batch`` is the moment from which the records are the caller's. Whatever
        interrupts before leaves a call behind that has begun and not ended; the next recovers
        what it brought.
        """
        self._check_thread()
        try:
            self._inside = threading.get_ident()
            if self._closing:
                raise errors.closed("the ring")
            if self._begun != self._current._number:
                lost = self._recover()
                if lost is not None:
                    return lost
            # Two references: the attribute and getrefcount's argument. The caller has none.
            if sys.getrefcount(self._current) <= 2 and self._current._was_lost():
                return self._current
            core, current = self._core, self._current
            if core.pins:
                core.warn_if_starved()
            done = current._begin_release()
            slab = self._open = core.take_slab(self._batch_size, self._with_metadata)
            self._begun = current._number + 1
            count = self._call(current._slab.records_address, done, slab, capacity)
            batch = self._batch(count)
            current._release_confirmed()
            self._current = batch  # nothing below can be interrupted: there is no call
            return batch
        finally:
            self._inside = 0
            if self._closing:
                self._finish()

    def _call(self, done_address: int, done: int, slab: Slab, capacity: int) -> int:
        """Calls ringmsg_next. After a signal the handlers run and the wait continues."""
        wait = self._wait
        deadline = time.monotonic_ns() + wait.timeout_ns if wait.timeout_ns > 0 else 0
        while True:
            count: int = lib.next(
                self._core.handle,
                done_address,
                done,
                slab.records_address,
                slab.metadata_address,
                capacity,
                self._wait_address,
            )
            if count >= 0:
                return count
            if count != -errno.EINTR:
                raise errors.error(count)
            if self._closing:
                return 0
            done = 0
            if deadline:
                wait.timeout_ns = max(0, deadline - time.monotonic_ns())

    def _recover(self) -> Batch | None:
        """Recovers a call whose result was discarded: Python raises KeyboardInterrupt as soon as a
        ctypes call returns, before its result is stored. The library's own counter gives the
        number of records in the arrays."""
        current = self._current
        lost = self._core.records_total() - current._total
        current._release_confirmed(again=True)
        if not lost:
            self._begun = current._number
            return None
        batch = self._batch(lost)
        self._current = batch
        return batch

    def _batch(self, count: int) -> Batch:
        """The batch of the last call."""
        total = self._current._total + count
        batch = Batch(self._core, self._open, self._begun, count, total, self._wanted, self._addresses)
        if count:
            self._inspect(batch)
        return batch

    def _inspect(self, batch: Batch) -> None:
        """A batch that is about to be handed out."""

    def _check_thread(self) -> None:
        """Refuses a wrong thread before anything is touched."""
        if self._owner and threading.get_ident() != self._owner:
            self._core.call(lib.submit)  # EPERM or EOWNERDEAD
        if self._inside == threading.get_ident():
            raise OSError(
                errno.EBUSY, "this thread is in reap already: a signal handler may call wake() or close()"
            )
        if self._inside:
            raise OSError(errno.EBUSY, "another thread is in reap on this ring")

    # --- the end -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._closing

    def close(self) -> None:
        """Ends all requests and frees the ring; a reap in another thread raises OSError. Any
        thread; from another than the owner it takes some 50 ms. Views of batches raise from then
        on. Memory that slices or arrays still show is freed when they are gone."""
        self._closing = True
        inside = self._inside
        if inside == threading.get_ident():
            return  # from a signal handler, under our own reap: that finishes
        while self._inside and not self._finished.is_set():
            # The thread that is in a reap frees the ring when it leaves.
            with self._core.lock:
                if self._core.handle is not None:
                    lib.wake(self._core.handle)
            self._finished.wait(0.05)
        self._finish()

    def _finish(self) -> None:
        with self._core.lock:
            if self._closed:
                return
            self._closed = True
        try:
            self._current._release_pending = False
            self._current.release()
            for batch in list(self._core.kept):
                batch.release()
            if self._core.pins:
                self._end_requests()
            self._core.free()
        finally:
            self._finished.set()
            if self._on_closed is not None:
                self._on_closed()

    def _end_requests(self) -> None:
        """Ends the requests, so that sockets are closed and nothing more arrives, although the
        memory has to stay. (Where only the owner could do that, it waits for the memory too.)"""
        core, wait = self._core, _abi.Wait(timeout_ns=10_000_000)
        for user_data in self._armed:
            lib.cancel(core.handle, user_data)
        slab = Slab(64, False)
        while (count := lib.reap(core.handle, slab.records_address, None, 64, ctypes.byref(wait))) > 0:
            lib.release(core.handle, slab.records_address, count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not hasattr(self, "_current") or self._closed:
            return
        try:
            if not self._core.in_child():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
        finally:  # the warning may be an error
            self.close()

    def __repr__(self) -> str:
        return f"<ringmsg.{type(self).__name__}{' closed' if self._closing else ''}>"

    def _forked(self) -> None:
        """In a forked child, where the pools are not mapped."""
        self._inside = 0
        self._core.forked()
        for batch in (self._current, *self._core.kept):
            batch._retire()


def _after_fork() -> None:
    for ring in list(_rings):
        ring._forked()


os.register_at_fork(after_in_child=_after_fork)
