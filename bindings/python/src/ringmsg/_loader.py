"""Finds libringmsg.so.

In this order: the file that ``RINGMSG_LIBRARY`` names; the one bundled in the wheel; the one
that cargo built in the checkout this package lies in; the system's ``libringmsg.so.0``.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import re

SONAME = "libringmsg.so.0"
BUNDLED = "libringmsg.so"


def checkout() -> pathlib.Path | None:
    """The root of the ringmsg checkout that this file lies in, if it lies in one."""
    for folder in pathlib.Path(__file__).resolve().parents:
        try:
            manifest = (folder / "Cargo.toml").read_bytes()
        except OSError:  # there is none, or it is not readable
            continue
        # Another crate around a virtual environment is not this one.
        if re.search(rb'^name = "ringmsg"$', manifest, re.MULTILINE):
            return folder
    return None


def candidates() -> list[str]:
    """Where the library may be, best first. A path that ``RINGMSG_LIBRARY`` gives is the only
    one."""
    given = os.environ.get("RINGMSG_LIBRARY")
    if given:
        return [given]
    paths = [pathlib.Path(__file__).with_name(BUNDLED)]
    root = checkout()
    if root is not None:
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
        paths += [target / profile / BUNDLED for profile in ("release", "debug")]
    return [str(path) for path in paths if os.path.isfile(path)] + [SONAME]


def load() -> ctypes.CDLL:
    """The library. ImportError says where it was looked for."""
    problems = []
    for path in candidates():
        try:
            return ctypes.CDLL(path)
        except OSError as error:
            problems.append(str(error))
    raise ImportError(
        "ringmsg: the library could not be loaded: "
        + "; ".join(problems)
        + ". Build it with `make`, or name it in RINGMSG_LIBRARY."
    )
