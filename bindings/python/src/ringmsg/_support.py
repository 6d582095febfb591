"""What this machine offers."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from . import _abi, errors
from ._abi import lib
from .flags import Engine, Feature, Setup

__all__ = ["Support", "describe_support", "query_support", "version"]


class Support(NamedTuple):
    """What this kernel and this sandbox offer."""

    engines: frozenset[Engine]
    setup_flags: Setup
    """What a ring can be made with here."""
    features: Feature
    create_error: int
    """0, or the errno with which io_uring_setup(2) refuses."""
    io_uring_disabled: int
    """The sysctl kernel.io_uring_disabled; -1: unknown."""
    kernel_version: tuple[int, int, int]


def version() -> str:
    """The library's version."""
    text: bytes = lib.version()
    return text.decode()


def query_support() -> Support:
    """Finds out by trying; about a millisecond."""
    support = _abi.Support()
    errors.check(lib.query_support(ctypes.byref(support)))
    kernel = support.kernel_version
    return Support(
        frozenset(engine for engine in Engine if engine and support.engines >> engine & 1),
        Setup(support.setup_flags),
        Feature(support.features),
        -support.create_error,
        support.io_uring_disabled,
        (kernel >> 16, kernel >> 8 & 0xFF, kernel & 0xFF),
    )


def describe_support() -> str:
    """The same for a person: which engine and mode "auto" takes, and why not a better one."""
    text = ctypes.create_string_buffer(errors.check(lib.describe_support(None, 0)) + 1)
    errors.check(lib.describe_support(text, len(text)))
    return text.value.decode()
