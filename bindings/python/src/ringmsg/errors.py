"""Values of the library that mean failure become ``OSError`` with errno and its sentence."""

from __future__ import annotations

import ctypes
import errno
import os

from ._abi import lib

__all__ = ["check", "error", "strerror"]


def strerror(number: int) -> str:
    """The text of an errno; its sign does not matter."""
    text: bytes = lib.strerror(number)
    return text.decode()


def error(value: int) -> OSError:
    """The exception for a negative value, with the sentence of this thread's last failure."""
    text = ctypes.create_string_buffer(512)
    lib.last_error(text, len(text))
    return OSError(-value, text.value.decode(errors="replace") or strerror(value))


def check(value: int) -> int:
    """A value of the library; raises OSError if it is negative."""
    if value < 0:
        raise error(value)
    return value


def of_socket(number: int) -> OSError:
    """What the socket's own call would raise: an error that belongs to one datagram."""
    return OSError(number, os.strerror(number))


def closed(what: str) -> OSError:
    """What using a closed object raises."""
    return OSError(errno.EBADF, f"{what} is closed")
