"""Where the fields of records and metadata lie.

The structs are declared once, in ``_abi``. Offsets, formats and numpy's dtypes are derived from
that declaration here, so that no other module counts bytes.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from typing import TYPE_CHECKING, Any

from . import _abi
from ._abi import Metadata, Record

if TYPE_CHECKING:
    import numpy

_CODES = {
    ctypes.c_uint8: "B",
    ctypes.c_uint16: "H",
    ctypes.c_int32: "i",
    ctypes.c_uint32: "I",
    ctypes.c_int64: "q",
    ctypes.c_uint64: "Q",
}


def _code(kind: Any) -> str:
    """The struct code of a field's type; arrays are bytes."""
    return _CODES[kind] if kind in _CODES else f"{ctypes.sizeof(kind)}s"


class Field:
    """One field of the elements of an array of structs."""

    __slots__ = ("_unpack", "code", "offset", "step")

    def __init__(self, owner: type[ctypes.Structure], name: str) -> None:
        self.code = _code(dict(field[:2] for field in owner._fields_)[name])
        self.offset: int = getattr(owner, name).offset
        self.step = ctypes.sizeof(owner)
        self._unpack = struct.Struct(f"={self.code}").unpack_from

    def read(self, array: memoryview, position: int) -> Any:
        """The field of the element at ``position``."""
        return self._unpack(array, position * self.step + self.offset)[0]

    def column(self, array: memoryview) -> memoryview:
        """The field of all elements, as a view of the array. For integers."""
        size = struct.calcsize(f"={self.code}")
        return array.cast(self.code)[self.offset // size :: self.step // size]  # type: ignore[call-overload, no-any-return]


def row(owner: type[ctypes.Structure], *names: str) -> struct.Struct:
    """Reads these fields, in the order in which they lie, of each element: for ``iter_unpack``."""
    wanted = set(names)
    assert wanted <= {field[0] for field in owner._fields_}
    parts = [
        _code(kind) if name in wanted else f"{ctypes.sizeof(kind)}x" for name, kind, *_ in owner._fields_
    ]
    made = struct.Struct("=" + "".join(parts))
    assert made.size == ctypes.sizeof(owner)
    return made


def until(owner: type[ctypes.Structure], last: str) -> tuple[struct.Struct, struct.Struct]:
    """The fields up to ``last``: as they are read, and as one key of bytes of each element."""
    names = [field[0] for field in owner._fields_]
    codes = [_code(kind) for _, kind, *_ in owner._fields_[: names.index(last) + 1]]
    fields = struct.Struct("=" + "".join(codes))
    return fields, struct.Struct(f"={fields.size}s{ctypes.sizeof(owner) - fields.size}x")


def record(name: str) -> Field:
    """A field of ``struct ringmsg_record``."""
    return Field(Record, name)


def metadata(name: str) -> Field:
    """A field of ``struct ringmsg_metadata``."""
    return Field(Metadata, name)


@functools.cache
def dtype(owner: type[ctypes.Structure]) -> numpy.dtype[Any]:
    """numpy's dtype of a struct. numpy is imported when first asked for."""
    try:
        import numpy
    except ImportError:
        raise ImportError("ringmsg: columns need numpy: pip install numpy (or ringmsg[numpy])") from None
    return numpy.dtype(owner)


def array(memory: Any, owner: type[ctypes.Structure], count: int) -> numpy.ndarray[Any, Any]:
    """The first elements of an array of structs, in place, read-only."""
    made = dtype(owner)
    import numpy

    view = numpy.frombuffer(memory, dtype=made, count=count)
    view.flags.writeable = False
    return view


RECORD_SIZE = _abi.RECORD_SIZE
METADATA_SIZE = _abi.METADATA_SIZE
