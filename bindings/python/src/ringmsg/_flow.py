"""The sending half of the datagram transport, and its flow control: asyncio's rules."""

from __future__ import annotations

import asyncio
import asyncio.constants
import asyncio.selector_events
import collections
import itertools
import logging
import os
import socket
import threading
import time
from asyncio import _get_running_loop as _running_loop  # None, rather than an exception
from typing import Any

from ._gather import MOST, Gatherer
from ._outgoing import UNSENT
from ._replies import GONE, Replies

_HIGH_WATER = 64 * 1024
# What asyncio counts for each datagram that waits, so that empty ones count too; since 3.12.
_HEADER_SIZE: int = getattr(asyncio.selector_events._SelectorDatagramTransport, "_header_size", 0)  # type: ignore[attr-defined]
# Datagrams of one turn of the loop follow each other that fast. A turn that gathers ENOUGH of them
# was worth it. From PATIENCE_RARE reasons on the clock is read for every LOOK_EVERY datagrams.
_SOON_NS = 100_000
_ENOUGH = 4
_PATIENCE_MAX = 256
_PATIENCE_RARE = 16
_LOOK_EVERY = 4
_log = logging.getLogger("asyncio")
_clock = time.monotonic_ns
_this_thread = threading.get_ident


class Sending(asyncio.Transport):
    """What of a transport sends, waits for room in the socket, and ends."""

    _sock: Any
    _sock_fd: int
    _family: int
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
        # None: this kind of socket sends each datagram at once. Otherwise: whether datagrams are
        # being gathered, and in which thread: what others send goes at once; whether they are until
        # the turn of the loop ends; whether a callback of one datagram runs; when one was sent at
        # once outside a callback.
        self._gatherer: Gatherer | None = None
        self._replies: Replies | None = None
        self._gathers = self._turn_ends = self._in_callback = False
        self._gathering_thread = 0
        self._sent_at = 0
        self._send_reasons, self._send_patience = 0, 1
        # The clock is read for one in this many datagrams; how many of the others are left, and how
        # soon the last of them must have followed the first.
        self._look_every, self._plain_sends, self._soon_ns = 1, 0, _SOON_NS
        self._low_water, self._high_water = _HIGH_WATER // 4, _HIGH_WATER
        # Other loops are libuv's, which stops watching a descriptor that has an error.
        self._has_selector = hasattr(loop, "_add_reader")
        # sendto() need not look at the address; until the endpoint remembers what peers asked.
        self._sends_plainly = self._has_selector and not address and not self._connected
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
        """Sends now, or as soon as the socket takes it. While a burst is handed over, and from the
        second datagram on in one turn of the loop, datagrams are gathered: they leave together at
        the end of that."""
        if (
            self._plain_sends
            and data.__class__ is bytes
            and addr.__class__ is tuple
            and not (self._gathers or self._in_callback)
        ):
            self._plain_sends -= 1  # and as below: a method for both would cost a call
            try:
                self._sock.sendto(data, addr)
            except BaseException as error:
                if not self._send_failed(error, data, addr):
                    self._wait_for_room(data, addr)
            return
        gatherer = self._gatherer
        if gatherer is not None and data.__class__ is bytes and addr.__class__ is tuple and not self._buffer:
            # The usual cases of what follows, which ask all that the rest asks.
            if self._gathers:
                if self._gathering_thread == _this_thread():
                    try:
                        index = gatherer.known.get(addr)
                    except (TypeError, BytesWarning):  # not hashable; a host of bytes, with python -bb
                        index = None
                    if index is not None and not self._conn_lost:
                        gathered = gatherer.data
                        gathered.append(data)
                        gatherer.indices.append(index)
                        if len(gathered) >= MOST:
                            self._flush()
                        return
            elif self._sends_plainly and not self._in_callback:
                now = _clock()
                if now - self._sent_at <= self._soon_ns:
                    self._send_reasons += self._look_every
                self._sent_at, self._plain_sends = now, self._look_every - 1
                if self._send_reasons < self._send_patience:
                    try:
                        self._sock.sendto(data, addr)
                    except BaseException as error:
                        if not self._send_failed(error, data, addr):
                            self._wait_for_room(data, addr)
                    return
                self._gather_turn(gatherer)
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
            if addr is not None and self._family != socket.AF_UNIX:
                _check_numeric(self._family, addr)
        if self._conn_lost and self._address:
            if self._conn_lost >= asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                _log.warning("socket.send() raised exception.")
            self._conn_lost += 1
            return
        if self._buffer:
            self._wait_for_room(data, addr)
        elif gatherer is None or not (
            self._gathers_here() if self._gathers else self._follows_another(gatherer)
        ):
            self._send_now(data, addr)
        elif not gatherer.takes(addr):
            self._flush()
            self._send_now(data, addr)
        elif gatherer.add(data, addr):
            self._flush()

    def _send_now(self, data: Any, addr: Any) -> None:
        if self._buffer or not self._send(data, addr):
            self._wait_for_room(data, addr)

    def _wait_for_room(self, data: Any, addr: Any) -> None:
        if not self._buffer:
            self._add_writer(self._sock_fd, self._sendto_ready)
        self._plain_sends = 0
        self._buffer.append((bytes(data), addr))
        self._buffer_size += len(data) + _HEADER_SIZE
        self._maybe_pause_protocol()

    def _send(self, data: Any, addr: Any) -> bool:
        """Whether the datagram is dealt with: sent, or failed and reported. False: the socket has
        no room now."""
        try:
            if self._connected:
                self._sock.send(data)
            elif self._replies is None or (reply := self._replies.get(addr)) is None:
                self._sock.sendto(data, addr)
            else:
                self._sock.sendmsg([data], reply.control, 0, addr)
        except BaseException as error:
            return self._send_failed(error, data, addr)
        return True

    def _send_failed(self, error: BaseException, data: Any, addr: Any) -> bool:
        """What ``_send`` returns when the socket's call has raised."""
        if isinstance(error, (BlockingIOError, InterruptedError)):
            return False
        if isinstance(error, (SystemExit, KeyboardInterrupt)):
            raise error
        if not isinstance(error, OSError):
            self._fatal_error(error, "Fatal write error on datagram transport")
        elif self._is_without_source(addr, error.errno):
            return self._send(data, addr)
        else:
            self._protocol.error_received(error)
        return True

    def _is_without_source(self, addr: Any, number: int | None) -> bool:
        """Whether a send may have failed because the address that the peer asked is no longer ours:
        then it is forgotten, and the kernel chooses."""
        return number in GONE and self._gatherer is not None and self._gatherer.forget(addr)

    # --- gathering ---------------------------------------------------------------------------

    def _start_gathering(self) -> None:
        """Gathers what this thread sends from now on; it is the loop's."""
        self._gathering_thread = _this_thread()  # first: other threads may look now
        self._gathers = True

    def _gathers_here(self) -> bool:
        """Whether what this thread sends is being gathered."""
        return self._gathers and self._gathering_thread == _this_thread()

    def _follows_another(self, gatherer: Gatherer) -> bool:
        """Whether the datagram is to be gathered although the transport does not gather yet. What a
        callback sends first goes at once, and the rest is gathered until it returns. Elsewhere nothing
        shows where a turn of the loop begins but time: a datagram that comes within SOON_NS of the
        last has probably the same turn. Where that gathers too few, twice as many reasons are needed
        for the next try: a wrong guess costs a turn of the loop."""
        if self._in_callback:
            if _running_loop() is self._loop:
                self._start_gathering()
            return False
        now = _clock()
        if now - self._sent_at <= _SOON_NS:
            self._send_reasons += 1
        self._sent_at = now
        if self._send_reasons < self._send_patience:
            return False
        return self._gather_turn(gatherer)

    def _gather_turn(self, gatherer: Gatherer) -> bool:
        """Gathers until the turn of the loop ends. False: the loop stops, there is no other turn; or it
        runs in another thread, or does not run yet: nothing says when it will have a turn. (asyncio's
        endpoint sends at once there, and programs rely on it.)"""
        self._send_reasons = self._plain_sends = 0
        if _running_loop() is self._loop:
            self._turn_ends = gatherer.turns.at_end(self._loop, self._end_turn)
            if self._turn_ends:
                self._start_gathering()
            return self._turn_ends
        self._set_patience(2 * self._send_patience)
        return False

    def _end_turn(self) -> None:
        """The turn of the loop is over."""
        self._turn_ends = False
        gatherer = self._gatherer
        if gatherer is not None:
            gathered = len(gatherer.data)
            if gathered >= _ENOUGH:
                self._set_patience(1)
            elif gathered < 2:
                self._set_patience(2 * self._send_patience)
            self._stop_gathering()

    def _set_patience(self, reasons: int) -> None:
        """How many reasons the next try to gather needs, and so how often the clock is read."""
        self._send_patience = min(reasons, _PATIENCE_MAX)
        self._look_every = _LOOK_EVERY if self._send_patience >= _PATIENCE_RARE else 1
        self._soon_ns = self._look_every * _SOON_NS

    def _stop_gathering(self) -> None:
        """The callback, the hand-over or the turn is over: sends what was gathered."""
        self._gathers = self._turn_ends
        self._flush()

    def _flush(self) -> None:
        """Sends what was gathered, as one batch."""
        gatherer = self._gatherer
        if gatherer is None or not gatherer.data:
            return
        data, indices = gatherer.take()
        results = gatherer.send(data, indices) if len(data) > 1 else None
        if results is None:
            for one, index in zip(data, indices):
                self._send_now(one, gatherer.addresses[index])
            return
        if gatherer.replies is not None:
            self._send_without_source(gatherer, data, indices, results)
        self._report_errors(gatherer, results)
        if UNSENT in results:
            for one, index, result in zip(data, indices, results):
                if result == UNSENT and not self._conn_lost:
                    self._wait_for_room(one, gatherer.addresses[index])

    def _send_without_source(
        self, gatherer: Gatherer, data: list[bytes], indices: list[int], results: list[int]
    ) -> None:
        """Sends again what may have failed because the address that its peer asked is gone."""
        peers: set[Any] = set()
        for at, (one, index, result) in enumerate(zip(data, indices, results)):
            peer = gatherer.addresses[index]
            if -result in GONE and (peer in peers or gatherer.forget(peer)):
                peers.add(peer)
                results[at] = len(one)
                self._send_now(one, peer)

    def _report_errors(self, gatherer: Gatherer, results: list[int]) -> None:
        """Hands the errors of a batch to the protocol. What it raises goes to the loop's handler, so
        that it hears of the others."""
        numbers = (
            [-result for result in results if result < 0 and result != UNSENT] if min(results) < 0 else []
        )
        if number := gatherer.error_of_earlier():
            numbers.append(number)
        for number in numbers:
            try:
                self._protocol.error_received(OSError(number, os.strerror(number)))
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._report("protocol.error_received() failed", error)

    def _sendto_ready(self) -> None:
        """The socket has room again."""
        while self._buffer:
            if not self._send_waiting():
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

    def _send_waiting(self) -> bool:
        """Sends what waits, as much as can go in one call. False: the socket is full again."""
        gatherer, results = self._gatherer, None
        if gatherer is not None and len(self._buffer) > 1:
            pairs = list(itertools.islice(self._buffer, MOST))
            if all(gatherer.takes(addr) for _, addr in pairs):
                indices = [gatherer.known[addr] for _, addr in pairs]
                results = gatherer.send([data for data, _ in pairs], indices)
        if gatherer is not None and results is not None:
            left = [pair for pair, result in zip(pairs, results) if result == UNSENT]
            for data, _ in pairs:
                self._buffer_size -= len(data) + _HEADER_SIZE
                self._buffer.popleft()
            for pair in reversed(left):
                self._buffer_size += len(pair[0]) + _HEADER_SIZE
                self._buffer.appendleft(pair)
            self._report_errors(gatherer, results)
            return not left
        data, addr = self._buffer.popleft()
        self._buffer_size -= len(data) + _HEADER_SIZE
        if self._send(data, addr):
            return True
        self._buffer.appendleft((data, addr))
        self._buffer_size += len(data) + _HEADER_SIZE
        return False

    # --- flow control ------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent. What was gathered is sent first."""
        if self._gathers_here():
            self._flush()
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
        self._flush()
        self._stop_reading()
        if not self._buffer:
            self._conn_lost += 1
            self._remove_writer(self._sock_fd)
            self._loop.call_soon(self._call_connection_lost, None)

    def abort(self) -> None:
        """Closes at once; what waits for room in the socket is dropped."""
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
        self._flush()
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
    """uvloop refuses host names, which asyncio resolves while it blocks the loop."""
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
