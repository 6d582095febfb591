"""ringmsg under asyncio (and uvloop).

``AsyncReceiver`` gives batches: ``async for batch in AsyncReceiver(sock)``.

``create_datagram_endpoint`` is a stand-in for the event loop's own: the same protocols get the
same calls, at a fraction of the cost. ``install(loop)`` puts it in the loop's place, for code
that calls the loop's method itself.
"""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from ._async_receiver import AsyncReceiver
from ._endpoint import DatagramTransport
from ._open import Opener

__all__ = ["AsyncReceiver", "DatagramTransport", "create_datagram_endpoint", "install", "uninstall"]

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)
_UNSET: Any = object()


async def create_datagram_endpoint(
    protocol_factory: Callable[[], _Protocol],
    local_addr: tuple[str, int] | str | None = None,
    remote_addr: tuple[str, int] | str | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_address: bool | None = _UNSET,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: Any = None,
    loop: asyncio.AbstractEventLoop | None = None,
    gro: bool = True,
    reply_from_destination: bool = False,
) -> tuple[DatagramTransport, _Protocol]:
    """``loop.create_datagram_endpoint``, with a transport that receives bursts in one call.

    Protocols run unchanged: ``datagram_received`` gets ``bytes`` and the address, at most 64 times
    in one turn of the loop. ``gro=False`` leaves UDP_GRO as it is: for sockets that are shared with
    programs that read them by a plain ``recv``, which cannot distinguish a train from a datagram.

    ``reply_from_destination=True``: on a socket that is bound to the wildcard address, what is sent to
    a peer leaves from the address that this peer last asked, as its firewall and connected sockets
    require. Elsewhere it changes nothing.
    """
    loop = loop or asyncio.get_running_loop()
    more: dict[str, Any] = {}
    if reuse_address is not _UNSET:
        if isinstance(loop, asyncio.BaseEventLoop):
            more["reuse_address"] = reuse_address  # which some versions of asyncio know
        else:
            _check_reuse_address(reuse_address)
    opener = Opener(loop, sock is not None, gro, reply_from_destination)
    transport: DatagramTransport
    protocol: _Protocol
    transport, protocol = await opener.open(
        protocol_factory,
        local_addr,
        remote_addr,
        family=family,
        proto=proto,
        flags=flags,
        reuse_port=reuse_port,
        allow_broadcast=allow_broadcast,
        sock=sock,
        **more,
    )
    return transport, protocol


def _check_reuse_address(value: bool | None) -> None:
    """As uvloop has it."""
    if value:
        raise ValueError(
            "Passing `reuse_address=True` is no longer supported, as the usage of SO_REUSEPORT in UDP "
            "poses a significant security concern."
        )
    warnings.warn(
        "The *reuse_address* parameter has been deprecated as of 3.5.10 and is scheduled for removal "
        "in 3.11.",
        DeprecationWarning,
        stacklevel=3,
    )


def install(
    loop: asyncio.AbstractEventLoop | None = None, *, gro: bool = True, reply_from_destination: bool = False
) -> None:
    """From now on ``loop.create_datagram_endpoint`` is this module's, for code that calls the
    loop's method. ``uninstall()`` undoes it."""
    loop = loop or asyncio.get_running_loop()
    stand_in = functools.partial(
        create_datagram_endpoint, loop=loop, gro=gro, reply_from_destination=reply_from_destination
    )
    loop.create_datagram_endpoint = stand_in  # type: ignore[method-assign]


def uninstall(loop: asyncio.AbstractEventLoop | None = None) -> None:
    """Gives the loop its own ``create_datagram_endpoint`` back. Endpoints that were made stay as
    they are. Does nothing where ``install()`` was not called."""
    loop = loop or asyncio.get_running_loop()
    installed = vars(loop).get("create_datagram_endpoint")
    if getattr(installed, "func", None) is create_datagram_endpoint:
        del loop.create_datagram_endpoint
