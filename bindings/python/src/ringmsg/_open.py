"""Opening the socket of a datagram endpoint: by asyncio's own method."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ._endpoint import DatagramTransport


class Opener:
    """Takes the loop's place in asyncio's ``create_datagram_endpoint``. What that makes of
    addresses, families, arguments and errors is asyncio's own, under every loop; the transport is
    ours."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, has_socket: bool, gro: bool, reply_from_destination: bool
    ) -> None:
        self._loop, self._has_socket, self._gro = loop, has_socket, gro
        self._reply_from_destination = reply_from_destination
        self._debug = loop.get_debug()
        self.getaddrinfo = loop.getaddrinfo
        self.sock_connect = loop.sock_connect
        self.create_future = loop.create_future

    # A literal address needs no resolver, and so no thread.
    _ensure_resolved = asyncio.BaseEventLoop._ensure_resolved  # type: ignore[attr-defined]

    async def open(self, *arguments: Any, **options: Any) -> Any:
        """Looked up when it is called: tests replace it."""
        return await asyncio.BaseEventLoop.create_datagram_endpoint(self, *arguments, **options)  # type: ignore[arg-type]

    def _make_datagram_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any = None,
        waiter: Any = None,
        extra: Any = None,
    ) -> DatagramTransport:
        try:
            return DatagramTransport(
                self._loop,
                sock,
                protocol,
                address,
                waiter,
                shared=self._has_socket,
                gro=self._gro,
                reply_from_destination=self._reply_from_destination,
            )
        except BaseException:
            if not self._has_socket:
                sock.close()
            raise
