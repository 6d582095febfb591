"""The sending half of the datagram transport, and its flow control: asyncio's rules."""

from __future__ import annotations

import asyncio
import asyncio.constants
import asyncio.selector_events
import collections
import logging
import socket
from typing import Any

_HIGH_WATER = 64 * 1024
# What asyncio counts for each datagram that waits, so that empty ones count too; since 3.12.
_HEADER_SIZE: int = getattr(asyncio.selector_events._SelectorDatagramTransport, "_header_size", 0)  # type: ignore[attr-defined]
_log = logging.getLogger("asyncio")


class Sending(asyncio.Transport):
    """What of a transport sends, waits for room in the socket, and ends."""

    _sock: Any
    _sock_fd: int
    _protocol: Any

    def __init__(self, loop: asyncio.AbstractEventLoop, extra: dict[str, Any], address: Any) -> None:
        super().__init__(extra)
        self._loop = loop
        self._address = address
        # The name of a connected AF_UNIX peer may be empty.
        self._connected = extra["peername"] is not None
        self._buffer: collections.deque[tuple[bytes, Any]] = collections.deque()
        self._buffer_size = 0
        self._protocol_paused = self._closing = False
        self._conn_lost = 0
        self._low_water, self._high_water = _HIGH_WATER // 4, _HIGH_WATER
        # Other loops are libuv's, which stops watching a descriptor that has an error.
        self._has_selector = hasattr(loop, "_add_reader")
        self._add_writer = getattr(loop, "_add_writer", loop.add_writer)
        self._remove_writer = getattr(loop, "_remove_writer", loop.remove_writer)

    def _stop_reading(self) -> None:
        raise NotImplementedError

    def _call_connection_lost(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hands datagrams to another protocol from now on."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # --- sending -----------------------------------------------------------------------------

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Sends now, or as soon as the socket takes it."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if not self._has_selector:
            if self._sock is None:
                _log.warning("sendto() on a transport that was closed")
                return
            if addr is not None and self._sock.family != socket.AF_UNIX:
                _check_numeric(self._sock.family, addr)
        if self._conn_lost and self._address:
            if self._conn_lost >= asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                _log.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        if not self._buffer:
            if self._send(data, addr):
                return
            self._add_writer(self._sock_fd, self._sendto_ready)
        self._buffer.append((bytes(data), addr))
        self._buffer_size += len(data) + _HEADER_SIZE
        self._maybe_pause_protocol()

    def _send(self, data: Any, addr: Any) -> bool:
        """Whether the datagram is dealt with: sent, or failed and reported. False: the socket has
        no room now."""
        try:
            if self._connected:
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._protocol.error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal write error on datagram transport")
        return True

    def _sendto_ready(self) -> None:
        """The socket has room again."""
        while self._buffer:
            data, addr = self._buffer.popleft()
            self._buffer_size -= len(data) + _HEADER_SIZE
            if not self._send(data, addr):
                self._buffer.appendleft((data, addr))
                self._buffer_size += len(data) + _HEADER_SIZE
                break
            if self._conn_lost:
                return
        self._maybe_resume_protocol()  # may append to the buffer
        if not self._buffer:
            self._remove_writer(self._sock_fd)
            if self._closing:
                self._call_connection_lost(None)
        elif not self._has_selector:
            self._remove_writer(self._sock_fd)
            self._add_writer(self._sock_fd, self._sendto_ready)

    # --- flow control ------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._buffer_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high water mark, in bytes."""
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets those, in bytes."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water, self._low_water = high, low
        self._maybe_pause_protocol()

    def _maybe_pause_protocol(self) -> None:
        if self._buffer_size > self._high_water and not self._protocol_paused:
            self._protocol_paused = True
            self._tell_protocol("pause_writing")

    def _maybe_resume_protocol(self) -> None:
        if self._protocol_paused and self._buffer_size <= self._low_water:
            self._protocol_paused = False
            self._tell_protocol("resume_writing")

    def _tell_protocol(self, method: str) -> None:
        try:
            getattr(self._protocol, method)()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(f"protocol.{method}() failed", error)

    # --- the end -----------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether ``close()`` or ``abort()`` was called."""
        return self._closing

    def close(self) -> None:
        """Stops receiving; sends what waits; then calls connection_lost(None)."""
        if self._closing:
            return
        self._stop_reading()
        if not self._buffer:
            self._conn_lost += 1
            self._remove_writer(self._sock_fd)
            self._loop.call_soon(self._call_connection_lost, None)

    def abort(self) -> None:
        """Closes at once; what waits to be sent is thrown away."""
        self._force_close(None)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _fatal_error(self, error: BaseException, message: str) -> None:
        if not isinstance(error, OSError):
            self._report(message, error)
        elif self._loop.get_debug():
            _log.debug("%r: %s", self, message, exc_info=True)
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._conn_lost:
            return
        if self._buffer:
            self._buffer.clear()
            self._buffer_size = 0
            self._remove_writer(self._sock_fd)
        if not self._closing:
            self._stop_reading()
        self._conn_lost += 1
        self._loop.call_soon(self._call_connection_lost, error)


_numeric: set[tuple[int, Any]] = set()


def _check_numeric(family: int, addr: Any) -> None:
    """uvloop refuses host names, which asyncio resolves while the loop stands still."""
    host = addr[0] if isinstance(addr, tuple) and addr else None
    if not isinstance(host, str) or (family, host) in _numeric or host in ("", "<broadcast>"):
        return
    if not _is_literal(family, host):
        other = socket.AF_INET if family == socket.AF_INET6 else socket.AF_INET6
        if _is_literal(other, host):
            raise ValueError(f"{host}: socket family mismatch")
        raise ValueError(f"{host}: a DNS lookup is needed; give a numeric address")
    if len(_numeric) >= _MOST_REMEMBERED:
        _numeric.clear()
    _numeric.add((family, host))


_MOST_REMEMBERED = 4096


def _is_literal(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host.split("%")[0])
    except OSError:
        return False
    return True
