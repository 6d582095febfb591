"""Arguments in the library's terms; wrong ones get a sentence."""

from __future__ import annotations

import math
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


def descriptor(sock: Any) -> int:
    """The descriptor of a socket, of anything with ``fileno()``, or itself."""
    if isinstance(sock, int) and not isinstance(sock, bool):
        return sock
    if not hasattr(sock, "fileno"):
        raise TypeError(f"expected a socket or its descriptor, not {sock!r}")
    return int(sock.fileno())


def unsigned(name: str, value: Any) -> int:
    """An argument that is a number of bytes or buffers."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= value < 2**31:
        raise ValueError(f"{name} must be 0 to 2**31 - 1, not {value}")
    return value


def nanoseconds(seconds: float | None) -> int:
    """A timeout in the library's unit; None and infinity: no limit."""
    if seconds is None or seconds == math.inf:
        return _NO_LIMIT
    if seconds != seconds or seconds < 0:
        raise ValueError("a timeout must be None or a number of seconds, at least 0")
    return min(int(seconds * 1e9), 2**62)
