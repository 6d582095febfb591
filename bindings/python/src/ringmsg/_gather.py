"""What an endpoint's ``sendto`` gathers, to be sent by one call of the library."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import weakref
from collections.abc import Callable
from typing import Any

from . import _paths
from ._outgoing import Columns, Handle, unsent, words
from ._replies import Replies, Reply

# The most datagrams that are gathered.
MOST = 512
# A sender has a descriptor of its own. The most endpoints of a loop that have one at a time.
_MOST_SENDERS = 64


class Gatherer:
    """The gathered datagrams of one endpoint, and the sender that takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int, family: int, connected: bool) -> None:
        self.turns = turns_of(loop)
        self.data: list[bytes] = []
        self.indices: list[int] = []
        """Where each goes: the place of its address in ``addresses``."""
        self.known: dict[Any, int] = {}
        """The latest place of each address."""
        self.addresses: list[Any] = []
        self.replies: Replies | None = None
        self._fd, self._family, self._connected = fd, family, connected
        self._paths: _paths.Table | None = None
        self._handle: Handle | None = None
        self._socket_errors = 0

    def remember(self, peer: Any, reply: Reply | None) -> None:
        """The peer has asked one of our addresses."""
        if self.replies is not None and self.replies.remember(peer, reply):
            self.known.pop(peer, None)

    def forget(self, peer: Any) -> bool:
        """Sending from the address that the peer asked has failed. Whether there was one."""
        if self.replies is None or not self.replies.forget(peer):
            return False
        self.known.pop(peer, None)
        return True

    def takes(self, address: Any) -> bool:
        """Whether datagrams to that address can be gathered: a numeric one of the right form."""
        try:
            return address in self.known or self._learn(address)
        except (TypeError, BytesWarning):  # not hashable; a host of bytes, with python -bb
            return False

    def _learn(self, address: Any) -> bool:
        if self._connected:
            # The socket's peer, whatever the address says: asyncio ignores it.
            if len(self.known) >= _paths.MOST:
                return False
            self._add(address)
            return True
        if not isinstance(address, tuple) or address[2:3] not in ((), (0,)):
            return False  # a flow label, which the socket's own call treats as the socket's options say
        reply = None if self.replies is None else self.replies.get(address)
        try:
            path = _paths.to(self._family, address) if reply is None else reply.path
        except (TypeError, ValueError, OSError):
            return False
        if self._paths is None:
            self._paths = _paths.Table()
        if self._paths.is_full():
            if self.data:
                return False
            for table in (self._paths, self.known, self.addresses):
                table.clear()
        self._paths.append(path)
        self._add(address)
        return True

    def _add(self, address: Any) -> None:
        self.known[address] = len(self.addresses)
        self.addresses.append(address)

    def add(self, data: Any, address: Any) -> bool:
        """Keeps a datagram that ``takes`` admits. True: it is time to send."""
        self.data.append(data if data.__class__ is bytes else bytes(data))
        self.indices.append(self.known[address])
        return len(self.data) >= MOST

    def take(self) -> tuple[list[bytes], list[int]]:
        """What was gathered; then there is nothing."""
        gathered = self.data, self.indices
        self.data, self.indices = [], []
        return gathered

    def send(self, data: list[bytes], indices: list[int]) -> list[int] | None:
        """Sends what ``takes`` has admitted; returns the results. None: this process has no sender to
        spare, send them one by one."""
        handle = self._handle
        if handle is None or not handle.is_open:
            try:
                handle = self._handle = self.turns.new_handle(self._fd)
            except OSError:
                return None
            self._socket_errors = 0
        joined, table = b"".join(data), self._paths
        path_index = None if table is None else words(indices)
        lengths = words(list(map(len, data)))
        batch = Columns(joined, len(joined), None, lengths, path_index, unsent(len(data)))
        paths, count = (0, 0) if table is None else (table.address, table.count)
        try:
            handle.send(batch, paths, count, wait=False, resume=False)
        except OSError:
            return None
        return batch.outcomes()

    def error_of_earlier(self) -> int:
        """The errno of an earlier datagram's error that the last ``send`` took off the socket, which
        the kernel would have reported to the next call; 0: none."""
        if self._handle is None or not self._handle.is_open:
            return 0
        before, self._socket_errors = self._socket_errors, self._handle.socket_errors()
        return self._handle.last_socket_error() if self._socket_errors != before else 0

    def close(self) -> None:
        """Gives the sender's descriptor back."""
        if self._handle is not None:
            self._handle.free()


class Turns:
    """What the endpoints of one loop share: the end of the loop's turn, and senders."""

    def __init__(self) -> None:
        self._flushes: list[Callable[[], None]] = []
        self._handles: collections.deque[weakref.ref[Handle]] = collections.deque()

    def at_end(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> bool:
        """Calls ``flush`` at the end of this turn. False: there is no next one in which to do it."""
        if getattr(loop, "_stopping", False):
            return False
        if not self._flushes:
            loop.call_soon(self.end)
        self._flushes.append(flush)
        return True

    def end(self) -> None:
        """The turn ends."""
        flushes, self._flushes = self._flushes, []
        try:
            while flushes:
                flushes.pop()()
        finally:
            if flushes:  # a KeyboardInterrupt: the others send all the same
                self._flushes = flushes
                self.end()

    def new_handle(self, fd: int) -> Handle:
        """A sender. The endpoint whose sender is the oldest may lose it, and gets another when it
        next needs one: many endpoints must not take two descriptors each."""
        while len(self._handles) >= _MOST_SENDERS:
            oldest = self._handles.popleft()()
            if oldest is not None:
                oldest.free()
        handle = Handle(fd)
        self._handles.append(weakref.ref(handle))
        return handle


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Those of a loop. They are an attribute of it, and go with it."""
    turns: Turns | None = getattr(loop, "_ringmsg_turns", None)
    if turns is None:
        turns = Turns()
        with contextlib.suppress(AttributeError):  # a loop that takes no attributes
            loop._ringmsg_turns = turns  # type: ignore[attr-defined]
            _end_turn_before(loop, "close", turns)
            if isinstance(loop, asyncio.BaseEventLoop):  # libuv's stops after the next turn
                _end_turn_before(loop, "stop", turns)
    return turns


def _end_turn_before(loop: asyncio.AbstractEventLoop, method: str, turns: Turns) -> None:
    """A loop that stops, or is closed, has no next turn: the method sends what was gathered first."""
    replaced = vars(loop).get(method)
    own, loop_again = getattr(type(loop), method), weakref.ref(loop)

    def end_turn_first() -> None:
        turns.end()
        if replaced is not None:
            replaced()
        elif (that := loop_again()) is not None:
            own(that)

    setattr(loop, method, end_turn_first)
