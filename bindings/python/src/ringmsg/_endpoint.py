"""The datagram endpoint: asyncio's transport, with a ring behind it."""

from __future__ import annotations

import asyncio
import collections
import ctypes
import itertools
import os
import socket
import stat
import struct
from asyncio.trsock import TransportSocket
from collections.abc import Iterator
from typing import Any

from . import _abi, errors
from .flags import RecordFlag
from .receiver import Receiver

# Datagrams handed to the protocol in one turn of the loop, so that others get theirs.
TURN = 64
_HIGH_WATER = 64 * 1024
# asyncio counts this for each datagram that waits, so that empty ones count too (since 3.12).
_HEADER_SIZE = 8
_RESULT = struct.Struct("=i")


async def open_socket(
    loop: asyncio.AbstractEventLoop,
    local_addr: Any,
    remote_addr: Any,
    *,
    family: int,
    proto: int,
    flags: int,
    reuse_port: bool | None,
    allow_broadcast: bool | None,
    sock: Any,
) -> tuple[socket.socket, Any]:
    """The socket that the loop's own method would open, and the peer it is connected to."""
    if sock is not None:
        if sock.type == socket.SOCK_STREAM:
            raise ValueError(f"A datagram socket was expected, got {sock!r}")
        if local_addr or remote_addr or family or proto or flags or reuse_port or allow_broadcast:
            raise ValueError("socket modifier keyword arguments can not be used when sock is specified.")
        sock.setblocking(False)
        return sock, None
    problem: OSError | None = None
    for chosen_family, chosen_proto, local, remote in await _candidates(
        loop, local_addr, remote_addr, family, proto, flags
    ):
        made = socket.socket(chosen_family, socket.SOCK_DGRAM, chosen_proto)
        try:
            made.setblocking(False)
            if reuse_port:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if allow_broadcast:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if local is not None:
                if chosen_family == socket.AF_UNIX:
                    _remove_stale(local)
                made.bind(local)
            if remote is not None and not allow_broadcast:
                await loop.sock_connect(made, remote)
            return made, remote
        except OSError as error:
            made.close()
            problem = problem or error
        except BaseException:
            made.close()
            raise
    assert problem is not None
    raise problem


async def _candidates(
    loop: asyncio.AbstractEventLoop, local_addr: Any, remote_addr: Any, family: int, proto: int, flags: int
) -> list[tuple[int, int, Any, Any]]:
    """(family, protocol, local, remote) worth trying, best first."""
    if family == socket.AF_UNIX:
        for address in (local_addr, remote_addr):
            if address is not None and not isinstance(address, (str, bytes)):
                raise TypeError("string is expected")
        return [(family, proto, local_addr, remote_addr)]
    if not (local_addr or remote_addr):
        if family == 0:
            raise ValueError("unexpected address family")
        return [(family, proto, None, None)]
    found: dict[tuple[int, int], list[Any]] = {}
    for index, address in enumerate((local_addr, remote_addr)):
        if address is None:
            continue
        if not (isinstance(address, tuple) and len(address) == 2):
            raise TypeError("2-tuple is expected")
        infos = await loop.getaddrinfo(
            *address, family=family, type=socket.SOCK_DGRAM, proto=proto, flags=flags
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        for info_family, _, info_proto, _, info_address in infos:
            found.setdefault((info_family, info_proto), [None, None])[index] = info_address
    usable = [
        (info_family, info_proto, local, remote)
        for (info_family, info_proto), (local, remote) in found.items()
        if not (local_addr and local is None) and not (remote_addr and remote is None)
    ]
    if not usable:
        raise ValueError("can not get address information")
    return usable


def _remove_stale(path: Any) -> None:
    """Unlinks the socket file that an earlier process left behind."""
    if path and path[0] not in (0, "\0"):
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                os.remove(path)
        except FileNotFoundError:
            pass


class DatagramTransport(asyncio.DatagramTransport):
    """What ``create_datagram_endpoint`` returns: as asyncio's own."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any,
        waiter: asyncio.Future[None],
        **receiver_options: Any,
    ) -> None:
        super().__init__()
        self._extra: dict[str, Any] = {"socket": TransportSocket(sock), "sockname": sock.getsockname()}
        self._loop, self._sock, self._address = loop, sock, address
        try:
            peer = sock.getpeername()
        except OSError:
            peer = None
        self._connected = peer is not None
        self._peer = peer
        self._extra["peername"] = peer
        self._waiting: collections.deque[tuple[bytes, Any]] = collections.deque()
        self._waiting_size = 0
        self._paused = self._closing = self._reading = self._lost = False
        self._conn_lost = 0
        self._rest: Iterator[tuple[Any, Any]] | None = None  # taken, but not handed over
        self._left = 0
        self._hand_on: Any = None
        self._high, self._low = _HIGH_WATER, _HIGH_WATER // 4
        # Copies are made straight from the pool, without a view in between.
        self._receiver = Receiver(sock, **receiver_options)
        self._receiver._start()
        memory = self._receiver._core.learn_pool(self._receiver._pool.id)
        self._memory = (ctypes.c_char * memory.size).from_address(memory.base)
        self._fd = self._receiver.fileno()
        self.set_protocol(protocol)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start_reading)
        loop.call_soon(_resolve, waiter)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else f"fd={self._sock.fileno()}"
        return f"<ringmsg.aio.DatagramTransport {state}>"

    def __del__(self) -> None:
        if not getattr(self, "_lost", True) and not self._closing:
            import warnings

            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1)
            self._receiver.close()
            self._sock.close()

    # --- receiving ---------------------------------------------------------------------------

    def _start_reading(self) -> None:
        if not self._closing:
            self._loop.add_reader(self._fd, self._receive)
            self._reading = True

    def _receive(self) -> None:
        """Takes what has arrived, and hands the first of it to the protocol."""
        if self._rest is not None:
            return  # its turn is coming
        try:
            batch = self._receiver.reap(0)
        except EOFError:
            return
        except OSError as error:
            self._fatal(error, "Fatal read error on datagram transport")
            return
        count, slab, memory = batch._count, batch._slab, self._memory
        if not count:
            return
        batch._seen = True
        lengths = slab.payload_lengths[:count].tolist()
        spans = zip(slab.payload_offsets[:count].tolist(), lengths)
        data: list[Any] = [memory[start : start + length] for start, length in spans]
        self._rest, self._left = zip(data, batch._sources()), count
        self._hand_on = self._datagram_received
        if 0 in lengths and self._mark_errors(batch, data):
            self._hand_on = self._datagram_or_error
        self._hand_over()

    def _hand_over(self) -> None:
        """One turn of the loop: the rest waits for the next, so that others get theirs."""
        assert self._rest is not None
        hand_on = self._hand_on
        for data, source in itertools.islice(self._rest, TURN):
            hand_on(data, source)
            if self._closing:
                return
        self._left -= TURN
        if self._left > 0:
            self._loop.call_soon(self._hand_over)
        else:
            self._rest = None

    def _datagram_or_error(self, data: Any, source: Any) -> None:
        if isinstance(data, OSError):
            self._error_received(data)
        else:
            self._datagram_received(data, source)

    def _mark_errors(self, batch: Any, data: list[Any]) -> bool:
        """An empty datagram may be an error, which goes to error_received."""
        found = False
        for position in range(len(data)):
            (result,) = _RESULT.unpack_from(batch._slab.records_view, position * _abi.RECORD_SIZE + 8)
            if result < 0:
                data[position] = OSError(-result, errors.strerror(result))
                found = True
        return found

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hands datagrams to another protocol from now on."""
        self._protocol: Any = protocol
        self._datagram_received = getattr(protocol, "datagram_received", None) or _no_receiver
        self._hand_on = self._datagram_received if getattr(self, "_hand_on", None) is None else self._datagram_or_error
        self._error_received = getattr(protocol, "error_received", None) or _no_receiver

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """"socket", "sockname", "peername"."""
        return self._extra.get(name, default)

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
        if self._conn_lost and self._address:
            self._conn_lost += 1
            return
        if not self._waiting:
            if self._send(data, addr) is not None:
                return
            self._loop.add_writer(self._sock.fileno(), self._write_waiting)
        self._waiting.append((bytes(data), addr))
        self._waiting_size += len(data) + _HEADER_SIZE
        self._pause_if_full()

    def _send(self, data: Any, addr: Any) -> bool | None:
        """True: sent. False: it failed, which was reported. None: the socket has no room now."""
        try:
            if self._connected or addr is None:
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
            return True
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            self._error_received(error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal(error, "Fatal write error on datagram transport")
        return False

    def _write_waiting(self) -> None:
        while self._waiting:
            data, addr = self._waiting.popleft()
            self._waiting_size -= len(data) + _HEADER_SIZE
            sent = self._send(data, addr)
            if sent is None:
                self._waiting.appendleft((data, addr))
                self._waiting_size += len(data) + _HEADER_SIZE
                break
            if not sent:
                return
        if self._paused and self._waiting_size <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if not self._waiting:
            self._loop.remove_writer(self._sock.fileno())
            if self._closing:
                self._loop.call_soon(self._connection_lost, None)

    def _pause_if_full(self) -> None:
        if not self._paused and self._waiting_size > self._high:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._waiting_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high): when the protocol's resume_writing and pause_writing are called."""
        return (self._low, self._high)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Sets those, in bytes."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_if_full()

    # --- the end -----------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether ``close()`` or ``abort()`` was called."""
        return self._closing

    def close(self) -> None:
        """Stops receiving; sends what waits; then calls connection_lost(None)."""
        if self._closing:
            return
        self._stop_reading()
        if not self._waiting:
            self._conn_lost += 1
            self._loop.call_soon(self._connection_lost, None)

    def abort(self) -> None:
        """Closes at once; what waits to be sent is thrown away."""
        self._force_close(None)

    def _stop_reading(self) -> None:
        self._closing = True
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def _fatal(self, error: BaseException, message: str) -> None:
        if not isinstance(error, OSError):
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._conn_lost:
            return
        if self._waiting:
            self._waiting.clear()
            self._waiting_size = 0
            self._loop.remove_writer(self._sock.fileno())
        if not self._closing:
            self._stop_reading()
        self._conn_lost += 1
        self._loop.call_soon(self._connection_lost, error)

    def _connection_lost(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._lost = True
        try:
            self._protocol.connection_lost(error)
        finally:
            self._receiver.close()
            self._sock.close()


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _no_receiver(*_: Any) -> None:
    pass
