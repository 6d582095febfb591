"""``AsyncReceiver``: batches for ``async for``."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from .batch import Batch
from .receiver import Receiver

if TYPE_CHECKING:
    from typing_extensions import Self


class AsyncReceiver:
    """A ``Receiver`` for ``async for batch in ...``; takes the same arguments. Between two batches
    other tasks get their turn. One task waits at a time.

    The ring's mode is "plain" unless you say otherwise: such a ring is not bound to a thread, so
    the event loop may be continued in another one, and the receiver in another loop. ``close()`` is
    for any thread.
    """

    def __init__(self, sock: Any, *, mode: str = "plain", **options: Any) -> None:
        self._receiver = Receiver(sock, mode=mode, **options)
        self._receiver._on_closed = self._receiver_closed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        # Our own duplicate of the ring's descriptor is what the loop watches: the receiver may be
        # closed, by any thread, while a selector holds it.
        self._fd = -1
        self._is_watching = False

    @property
    def receiver(self) -> Receiver:
        """The receiver underneath: ``stats``, ``wake()``, ``recvmsg(0)``, ..."""
        return self._receiver

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        try:
            return await self._next(None)
        except EOFError:
            raise StopAsyncIteration from None
        except OSError:
            if self._receiver.closed:
                raise StopAsyncIteration from None
            raise

    async def reap(self, timeout: float | None = None) -> Batch:
        """The next batch; an empty one after ``timeout`` seconds. EOFError at the end of a
        stream, OSError (EBADF) after ``close()``."""
        return await self._next(timeout)

    async def _next(self, timeout: float | None) -> Batch:
        """No datagram is lost when the task is cancelled: nothing is taken before the last
        await."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while True:
            left = None if deadline is None else deadline - loop.time()
            if not self._receiver.closed:
                await self._readable(loop, left)
            batch = self._receiver.reap(0)
            if batch._count or (deadline is not None and loop.time() >= deadline):
                return batch

    async def _readable(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        """Waits until a reap would return something, or until the timeout; at least one turn of the loop."""
        if self._waiter is not None and not self._waiter.get_loop().is_closed():
            raise RuntimeError("another task is waiting for this receiver")
        self._watch(loop)
        waiter = self._waiter = loop.create_future()
        timer = None if timeout is None else loop.call_later(max(timeout, 0), _finish, waiter)
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            self._waiter = None

    # --- watching ----------------------------------------------------------------------------

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            self._forget_loop()
            self._loop = loop
        if self._fd < 0:
            self._fd = os.dup(self._receiver.fileno())
        if not self._is_watching:
            loop.add_reader(self._fd, self._on_readable)
            self._is_watching = True

    def _on_readable(self) -> None:
        if self._waiter is None:
            # No task waits: the loop would spin while the consumer is busy.
            self._stop_watching()
        else:
            _finish(self._waiter)

    def _stop_watching(self) -> None:
        if self._is_watching and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._is_watching = False

    def _forget_loop(self) -> None:
        """Leaves the loop that watched until now, and the duplicate that its selector may hold."""
        loop, fd, was_watching = self._loop, self._fd, self._is_watching
        self._loop, self._fd, self._is_watching = None, -1, False
        if fd < 0:
            return
        if loop is None or loop.is_closed() or not was_watching:
            os.close(fd)
        elif loop.is_running() and loop is not _running_loop():
            # Another thread is in it.
            loop.call_soon_threadsafe(_leave, loop, fd)
        else:
            _leave(loop, fd)

    # --- the end -----------------------------------------------------------------------------

    def _receiver_closed(self) -> None:
        """The receiver was closed, by any thread."""
        loop, waiter = self._loop, self._waiter
        self._forget_loop()
        if loop is None or waiter is None or loop.is_closed():
            return
        if loop is _running_loop():
            _finish(waiter)
        else:
            loop.call_soon_threadsafe(_finish, waiter)

    def close(self) -> None:
        """Ends the iteration, and closes the receiver. Any thread."""
        self._receiver.close()

    async def aclose(self) -> None:
        """``close()``, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # The receiver warns if it was not closed. It must not call back by then.
        if hasattr(self, "_fd"):
            self._receiver._on_closed = None
            self._forget_loop()


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _leave(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    if not loop.is_closed():
        loop.remove_reader(fd)
    os.close(fd)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that runs in this thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
