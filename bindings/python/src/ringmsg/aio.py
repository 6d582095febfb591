"""ringmsg under asyncio (and uvloop).

``AsyncReceiver`` gives batches: ``async for batch in AsyncReceiver(sock)``.

``create_datagram_endpoint`` is a stand-in for the event loop's own: the same protocols get the
same calls, at a fraction of the cost. ``install(loop)`` puts it in the loop's place, for code
that calls the loop's method itself.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ._endpoint import DatagramTransport, open_socket
from .batch import Batch
from .flags import Meta
from .receiver import Receiver

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["AsyncReceiver", "DatagramTransport", "create_datagram_endpoint", "install"]

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


class AsyncReceiver:
    """A ``Receiver`` for ``async for batch in ...``; takes the same arguments. Belongs to the
    event loop in which it is first used. Between two batches other tasks get their turn."""

    def __init__(self, sock: Any, **options: Any) -> None:
        self._receiver = Receiver(sock, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._watching = False

    @property
    def receiver(self) -> Receiver:
        """The receiver underneath: ``stats``, ``wake()``, ``recvmsg(0)``, ..."""
        return self._receiver

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        while True:
            if self._receiver.closed:
                raise StopAsyncIteration
            await self._readable()
            try:
                batch = self._receiver.reap(0)
            except EOFError:
                raise StopAsyncIteration from None
            except OSError:
                if self._receiver.closed:
                    raise StopAsyncIteration from None
                raise
            if batch._count:
                return batch

    async def reap(self, timeout: float | None = None) -> Batch:
        """The next batch; an empty one after ``timeout`` seconds. EOFError at the end of a
        stream, OSError (EBADF) after ``close()``."""
        try:
            return await asyncio.wait_for(self.__anext__(), timeout)
        except asyncio.TimeoutError:
            return self._receiver.reap(0)
        except StopAsyncIteration:
            return self._receiver.reap(0)  # raises

    async def _readable(self) -> None:
        """Waits until a reap would return something; one turn of the loop at least."""
        if self._waiter is not None:
            raise RuntimeError("another task is waiting for this receiver")
        loop = self._loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        if not self._watching:
            self._watching = True
            loop.add_reader(self._receiver.fileno(), self._wake_waiter)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake_waiter(self) -> None:
        if self._waiter is None:
            # Nobody waits: stop watching, or the loop would spin while the consumer is busy.
            self._stop_watching()
        elif not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_watching(self) -> None:
        if self._watching and self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._receiver.fileno())
        self._watching = False

    def close(self) -> None:
        """Ends the iteration, and closes the receiver. In the loop's thread."""
        if not self._receiver.closed:
            self._stop_watching()
            self._receiver.close()
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def aclose(self) -> None:
        """``close()``, for ``contextlib.aclosing``."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def create_datagram_endpoint(
    protocol_factory: Callable[[], _Protocol],
    local_addr: tuple[str, int] | str | None = None,
    remote_addr: tuple[str, int] | str | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: Any = None,
    loop: asyncio.AbstractEventLoop | None = None,
    mode: str = "auto",
    **receiver_options: Any,
) -> tuple[DatagramTransport, _Protocol]:
    """``loop.create_datagram_endpoint``, received through ringmsg.

    Protocols run unchanged: ``datagram_received`` gets ``bytes`` and the address, at most 64 times
    in one turn of the loop. ``mode``, ``buffers`` and other ``Receiver`` options are passed on.
    """
    loop = loop or asyncio.get_running_loop()
    chosen, address = await open_socket(
        loop,
        local_addr,
        remote_addr,
        family=family,
        proto=proto,
        flags=flags,
        reuse_port=reuse_port,
        allow_broadcast=allow_broadcast,
        sock=sock,
    )
    receiver_options.setdefault("metadata", Meta.SOURCE)
    try:
        protocol = protocol_factory()
        waiter = loop.create_future()
        transport = DatagramTransport(loop, chosen, protocol, address, waiter, mode=mode, **receiver_options)
    except BaseException:
        chosen.close()
        raise
    try:
        await waiter
    except BaseException:
        transport.close()
        raise
    return transport, protocol


def install(loop: asyncio.AbstractEventLoop | None = None, **receiver_options: Any) -> None:
    """From now on ``loop.create_datagram_endpoint`` is this module's."""
    loop = loop or asyncio.get_running_loop()
    stand_in = functools.partial(create_datagram_endpoint, loop=loop, **receiver_options)
    loop.create_datagram_endpoint = stand_in  # type: ignore[method-assign]
