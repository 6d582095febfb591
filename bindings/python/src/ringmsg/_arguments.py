"""Arguments in the library's terms; wrong ones get a sentence."""

from __future__ import annotations

import math
import operator
import os
import socket
from typing import Any

from .flags import Engine, Setup

MODES = {
    "auto": Setup.AUTO,
    "plain": Setup(0),
    "coop": Setup.COOP_TASKRUN | Setup.TASKRUN_FLAG,
    "defer": Setup.DEFER_TASKRUN,
    "sqpoll": Setup.SQPOLL,
}
ENGINES = {"auto": Engine.AUTO, "io_uring": Engine.IO_URING, "recvmmsg": Engine.RECVMMSG}
_NO_LIMIT = -1
_LONGEST = 2.0**32  # seconds


class NotCopied:
    """An object that owns a descriptor or memory of this process: a copy would release it a second
    time, and a pickle means nothing elsewhere."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        name = type(self).__name__.removeprefix("_Kept")
        raise TypeError(f"a ringmsg.{name} cannot be copied or pickled{self._instead()}")

    def _instead(self) -> str:
        return ""


def descriptor(sock: Any) -> int:
    """The descriptor of a socket, of anything with ``fileno()``, or itself."""
    number = sock.fileno() if hasattr(sock, "fileno") else sock
    try:
        return integer("a descriptor", number, 31, -1)
    except TypeError:
        raise TypeError(f"expected a socket or its descriptor, not {sock!r}") from None


def integer(name: str, value: Any, bits: int = 31, least: int = 0) -> int:
    """An argument that is a whole number; numpy's numbers are. Other values get a sentence: ctypes would
    cut the bits off that do not fit."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if not least <= number < 1 << bits:
        most = str((1 << bits) - 1) if bits <= 16 else f"2**{bits} - 1"
        raise ValueError(f"{name} must be {least} to {most}, not {number}")
    return number


def choice(name: str, value: Any, choices: dict[str, Any]) -> Any:
    """An argument that is one of these names."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    return choices[value]


def seconds(name: str, value: Any) -> float:
    """An argument that is a time, at most _LONGEST."""
    if (value.__class__ is float or value.__class__ is int) and value >= 0:
        return value if value < _LONGEST else _LONGEST
    try:
        time = float(value)
    except (TypeError, ValueError):
        time = math.nan
    if not time >= 0 or isinstance(value, (str, bytes)):
        raise (ValueError if isinstance(value, (int, float)) else TypeError)(
            f"{name} must be a number of seconds, at least 0, not {value!r}"
        )
    return min(time, _LONGEST)


def nanoseconds(timeout: Any) -> int:
    """A timeout in the library's unit; None: no limit."""
    if timeout is None:
        return _NO_LIMIT
    return int(seconds("timeout", timeout) * 1e9)


def duplicate(fd: int) -> socket.socket:
    """A socket object of its own for a descriptor. The file behind it stays blocking or non-blocking, as
    it was: with socket.setdefaulttimeout() a new socket object would make it non-blocking, for all who
    use it."""
    copy = os.dup(fd)
    try:
        was_blocking = os.get_blocking(copy)
        made = socket.socket(fileno=copy)
    except OSError:
        # After another exception (Ctrl-C) the socket object may have existed, and have closed it.
        os.close(copy)
        raise
    if was_blocking and not os.get_blocking(copy):
        made.settimeout(None)
    return made
