"""The datagram endpoint: asyncio's transport, which receives bursts in one call."""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import os
import select
import socket
import sys
import time
import warnings
import weakref
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from . import _options
from ._addresses import FAMILIES
from ._burst import MESSAGES, PAYLOAD, PAYLOAD_UNIX, Burst, burst_of, split
from ._flow import Sending
from ._gather import Gatherer
from ._replies import Replies, is_wildcard, remembered
from .flags import Meta

# Datagrams handed to the protocol in one turn of the loop, so that others get theirs.
TURN = 64
# When to try whether there is a burst. The clock is read after every LOOK_EVERY datagrams; that
# many within LOOK_NS are a reason to try. ENOUGH datagrams in one call are a burst, and the next
# call is made the same way. After a call that brought fewer, twice as many reasons are needed for
# the next try, up to PATIENCE_MAX: then tries cost less than a hundredth of what lone datagrams do.
_LOOK_EVERY = 4
_LOOK_NS = 160_000
_ENOUGH = 4
_PATIENCE_MAX = 64
# How long a hand-over keeps what its callbacks send, if they take long.
_GATHER_NS = 500_000
_UDP_GRO = (17, 104)
_CONTROL = 512  # room for the segment size of a train behind everything that may precede it


class DatagramTransport(Sending, asyncio.DatagramTransport):
    """What ``create_datagram_endpoint`` returns: as asyncio's own.

    While datagrams come alone, each is read by ``recvfrom``, as asyncio does it. When they come in
    bursts, ``ringmsg_receive`` takes all that is there. UDP_GRO is switched on when a burst shows
    that one peer sends many datagrams of one size.
    """

    max_size: int = PAYLOAD

    _sock: Any = None

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        address: Any,
        waiter: asyncio.Future[None],
        *,
        shared: bool = False,
        gro: bool = True,
        reply_from_destination: bool = False,
    ) -> None:
        extra: dict[str, Any] = {"socket": TransportSocket(sock), "peername": None}
        for name, ask in (("sockname", sock.getsockname), ("peername", sock.getpeername)):
            try:
                extra[name] = ask()
            except OSError:
                extra[name] = None
        super().__init__(loop, extra, address)
        self._sock_fd = sock.fileno()
        self._family = sock.family
        is_udp = self._family in (socket.AF_INET, socket.AF_INET6) and sock.proto in (0, socket.IPPROTO_UDP)
        if self._family == socket.AF_UNIX:
            self.max_size = PAYLOAD_UNIX
        if is_udp:
            self._gatherer = Gatherer(loop, self._sock_fd, self._family, self._connected)
        self._paused = False
        self._burst: Burst | None = None
        self._looked_at = 0
        self._until_look = _LOOK_EVERY
        self._reasons, self._patience = 0, 1
        if self._family not in FAMILIES:  # their addresses only the socket's own call can give
            self._patience = sys.maxsize
        self._may_use_gro = gro and is_udp
        self._gro_is_ours = False
        # Who else has the socket may have switched GRO on; then the size of a train must be seen.
        self._read_alone = _READ_FROM
        if not is_udp:
            self._read_alone = _READ_INTO
        elif shared:
            self._read_alone = _READ_MESSAGE
        if reply_from_destination and self._gatherer is not None and is_wildcard(extra["sockname"]):
            # Which address was asked is in the metadata, which only the burst's call reads.
            _options.socket_enable(sock, Meta.DESTINATION)
            self._replies = self._gatherer.replies = Replies()
            self._sends_plainly = False
            self._read_alone = DatagramTransport._read_burst
        self._read_other: Callable[[DatagramTransport], None] | None = self._read_alone
        # Datagrams that were received and not handed over; whether _hand_over is scheduled or runs.
        self._pending: Any = None
        self._pending_data: Any = None
        self._handing_over = False
        # _deliver stops and looks why: closed, paused, another protocol.
        self._interrupted = False
        self._epoll: select.epoll | None = None
        self._read_fd = self._sock_fd
        self._add_reader = getattr(loop, "_add_reader", loop.add_reader)
        self._remove_reader = getattr(loop, "_remove_reader", loop.remove_reader)
        self._recvfrom = sock.recvfrom
        self.set_protocol(protocol)
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start_reading)
        _claim_descriptor(loop, self._sock_fd, self)
        self._sock = sock  # nothing can fail from here on: __del__ has something to close
        _transports.add(self)
        loop.call_soon(_resolve, waiter)

    def __repr__(self) -> str:
        name = type(self).__name__
        if self._sock is None:
            return f"<{name} closed>"
        state = " closing" if self._closing else ""
        reading = "polling" if self.is_reading() else "idle"
        writing = "polling" if self._buffer else "idle"
        write = f"<{writing}, bufsize={self._buffer_size}>"
        return f"<{name}{state} fd={self._sock_fd} read={reading} write={write}>"

    def __del__(self) -> None:
        if self._sock is not None:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                self._sock.close()

    # --- reading: alone ----------------------------------------------------------------------

    def _start_reading(self) -> None:
        if self.is_reading():
            self._add_reader(self._read_fd, self._read_ready)

    def _read_ready(self) -> None:
        """The socket is readable."""
        if self._read_other is not None:
            self._read_other(self)
            return
        try:
            data, addr = self._recvfrom(self.max_size)
        except OSError as error:
            self._read_failed(error)
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal read error on datagram transport")
            return
        self._until_look -= 1
        if not self._until_look:
            self._look_at_clock()
        # As _hand_one() does it, which would be a call more.
        self._in_callback = True
        try:
            self._protocol.datagram_received(data, addr)
        finally:
            self._in_callback = False
            if self._gathers:
                self._stop_gathering()

    def _read_failed(self, error: OSError) -> None:
        """recv failed: the socket had an error, or another process had taken the datagram."""
        if not self._has_selector:
            self._watch_through_epoll()
        if not isinstance(error, (BlockingIOError, InterruptedError)):
            self._protocol.error_received(error)

    def _watch_through_epoll(self) -> None:
        """Watches an epoll instance that holds the socket. libuv stops watching a descriptor once
        poll(2) reports POLLERR, as it does after an ICMP error and while the error queue has an
        entry; an epoll instance only becomes readable."""
        if self._epoll is None and self.is_reading():
            self._remove_reader(self._read_fd)
            self._epoll = select.epoll()
            self._epoll.register(self._sock_fd, select.EPOLLIN)
            self._read_fd = self._epoll.fileno()
            self._add_reader(self._read_fd, self._read_ready)

    def _look_at_clock(self) -> None:
        """Changes over to bursts if the last datagrams came fast."""
        now = time.monotonic_ns()
        self._reasons += now - self._looked_at < _LOOK_NS
        self._looked_at, self._until_look = now, _LOOK_EVERY
        if self._reasons >= self._patience:
            self._reasons = 0
            self._read_other = DatagramTransport._read_burst

    def _receive_alone(self, receive: Callable[[], tuple[bytes, Any, int]]) -> None:
        """One message, and the size of its datagrams if it is a train."""
        try:
            data, addr, size = receive()
        except OSError as error:
            self._read_failed(error)
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fatal_error(error, "Fatal read error on datagram transport")
            return
        if 0 < size < len(data):
            self._read_other = DatagramTransport._read_burst
            self._take(*split(data, size, addr))
            return
        self._until_look -= 1
        if not self._until_look:
            self._look_at_clock()
        self._in_callback = True
        try:
            self._protocol.datagram_received(data, addr)
        finally:
            self._in_callback = False
            if self._gathers:
                self._stop_gathering()

    def _read_message(self) -> None:
        self._receive_alone(self._recvmsg)

    def _recvmsg(self) -> tuple[bytes, Any, int]:
        data, control, _, addr = self._sock.recvmsg(self.max_size, _CONTROL)
        for level, kind, value in control:
            if (level, kind) == _UDP_GRO:
                return data, addr, int.from_bytes(value, sys.byteorder)
        return data, addr, 0

    def _read_into(self) -> None:
        self._receive_alone(self._recvfrom_into)

    def _recvfrom_into(self) -> tuple[bytes, Any, int]:
        """Into the loop's slab: an allocation of 256 KiB for each datagram costs more than it
        does."""
        if self._burst is None:
            self._burst = burst_of(self._loop)
        memory = self._burst.memory
        length, addr = self._sock.recvfrom_into(memory, min(self.max_size, len(memory)))
        return memory[:length], addr, 0

    # --- reading: bursts ---------------------------------------------------------------------

    def _read_burst(self) -> None:
        """Receives all that the socket holds."""
        if self._pending is not None:
            return  # _hand_over is scheduled
        if self._burst is None:
            self._burst = burst_of(self._loop)
        replies = self._replies
        slab = None if replies is None else self._burst.with_metadata()
        try:
            data, sources = self._burst.receive(self._sock_fd, self._family, slab)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                self._end_bursts()
            self._read_failed(error)
            return
        count = len(data)
        if count < _ENOUGH:
            self._end_bursts()
        else:
            self._patience = 1
            if self._may_use_gro and count >= MESSAGES // 8 and _is_from_one_peer(data, sources):
                self._switch_gro_on()
        if replies is None or slab is None or self._gatherer is None:
            self._take(data, sources)
            return
        answers = replies.of_metadata(slab, count)
        self._take(
            data, sources, functools.partial(remembered, replies=answers, remember=self._gatherer.remember)
        )

    def _end_bursts(self) -> None:
        self._patience = min(2 * self._patience, _PATIENCE_MAX)
        self._read_other = self._read_alone

    def _switch_gro_on(self) -> None:
        self._may_use_gro = False
        if _options.switch_gro_on(self._sock):
            self._gro_is_ours = True
            if self._replies is None:
                self._read_alone = _READ_MESSAGE

    def _take(self, data: list[Any], sources: list[Any], wrap: Callable[[Any], Any] | None = None) -> None:
        # How many are left only a list's own iterator knows.
        self._pending_data = iter(data)
        pairs = zip(self._pending_data, sources)
        self._pending = pairs if wrap is None else wrap(pairs)
        self._hand_over()

    def _hand_over(self) -> None:
        """Hands datagrams to the protocol, at most TURN in one turn of the loop, until it closes or
        pauses. An exception propagates to the loop's handler, as if each datagram had its own
        callback; the remaining datagrams follow in the next turn."""
        pairs = self._pending
        if pairs is None or self._paused:
            self._handing_over = False
            return
        self._handing_over = True
        if self._pending_data.__length_hint__() > 1:
            self._start_gathering()
        else:
            self._in_callback = True
        try:
            turn = itertools.islice(pairs, TURN)
            while self._deliver(turn):
                pass
        finally:
            self._handing_over = self._in_callback = False
            if self._gathers:
                self._stop_gathering()
            if self._pending is not None and self._pending_data.__length_hint__() == 0:
                self._pending = None
            elif self._pending is not None and not self._paused:
                self._schedule_hand_over()

    def _deliver(self, pairs: Any) -> bool:
        """Hands datagrams to the protocol that is set now. True: another was set."""
        self._interrupted = False
        protocol, gatherer = self._protocol, self._gatherer
        flush_after = 0
        for data, addr in pairs:
            if data.__class__ is bytes:
                protocol.datagram_received(data, addr)
            else:
                protocol.error_received(data)
            if gatherer is not None and gatherer.data:
                # Callbacks that take long do not keep what the earlier ones sent.
                now = time.monotonic_ns()
                flush_after = flush_after or now + _GATHER_NS
                if now > flush_after:
                    self._flush()
                    flush_after = 0
            if self._interrupted:
                return not (self._closing or self._paused)
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hands datagrams to another protocol from now on."""
        super().set_protocol(protocol)
        self._interrupted = True

    def _forked(self) -> None:
        """In a forked child: what was received and gathered is the parent's to hand over and to send."""
        if self._pending_data is not None:
            collections.deque(self._pending_data, maxlen=0)
        if self._gatherer is not None:
            self._gatherer.take()

    def _schedule_hand_over(self) -> None:
        if not self._handing_over:
            self._handing_over = True
            self._loop.call_soon(self._hand_over)

    # --- pausing, protocols ------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether datagrams are handed to the protocol."""
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        """Hands nothing more to the protocol until ``resume_reading()``."""
        if self.is_reading():
            self._paused = self._interrupted = True
            self._remove_reader(self._read_fd)

    def resume_reading(self) -> None:
        """Goes on after ``pause_reading()``."""
        if self._closing or not self._paused:
            return
        self._paused = False
        if self._pending is not None:
            self._schedule_hand_over()
        self._add_reader(self._read_fd, self._read_ready)

    # --- the end -----------------------------------------------------------------------------

    def _stop_reading(self) -> None:
        self._closing = self._interrupted = True
        self._read_other = _ignore
        self._pending = None
        self._remove_reader(self._read_fd)

    def _call_connection_lost(self, error: BaseException | None) -> None:
        self._stop_gathering()
        try:
            self._protocol.connection_lost(error)
        finally:
            if self._gatherer is not None:
                self._flush()
                self._gatherer.close()
                self._gatherer = None
            if self._gro_is_ours:
                _options.switch_gro_off(self._sock)
            if self._epoll is not None:
                self._epoll.close()
            self._sock.close()
            self._sock = self._protocol = self._loop = None  # type: ignore[assignment]


_READ_FROM: Callable[[DatagramTransport], None] | None = None
_READ_MESSAGE: Callable[[DatagramTransport], None] = DatagramTransport._read_message
_READ_INTO: Callable[[DatagramTransport], None] = DatagramTransport._read_into


def _ignore(transport: DatagramTransport) -> None:
    """For an event that was on its way when the transport was closed."""


def _is_from_one_peer(data: list[Any], sources: list[Any]) -> bool:
    """The burst begins as a train does: with datagrams of one size from one source."""
    first = data[:_ENOUGH]
    if sources[:_ENOUGH] != [sources[0]] * _ENOUGH:
        return False
    return all(payload.__class__ is bytes and len(payload) == len(first[0]) for payload in first)


def _claim_descriptor(loop: asyncio.AbstractEventLoop, fd: int, transport: DatagramTransport) -> None:
    """asyncio refuses ``add_reader()`` and ``sock_recv()`` on the descriptor of a transport, whose
    reader they would replace."""
    transports = getattr(loop, "_transports", None)
    if isinstance(transports, weakref.WeakValueDictionary):
        transports[fd] = transport


_transports: weakref.WeakSet[DatagramTransport] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport._forked()


os.register_at_fork(after_in_child=_after_fork)


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
