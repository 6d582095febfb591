"""numpy's view of records and metadata. numpy is imported when first asked for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from . import _abi

if TYPE_CHECKING:
    import numpy

_RECORD = [
    (name, f"<{kind}")
    for name, kind in (
        ("user_data", "u8"),
        ("result", "i4"),
        ("flags", "u4"),
        ("payload_offset", "u4"),
        ("payload_length", "u4"),
        ("control_offset", "u4"),
        ("control_length", "u4"),
        ("name_offset", "u4"),
        ("name_length", "u4"),
        ("wire_length", "u4"),
        ("msg_flags", "u4"),
        ("segment_size", "u4"),
        ("pool", "u2"),
        ("buffer", "u2"),
        ("generation", "u4"),
        ("segment", "u2"),
        ("segments", "u2"),
    )
]
_METADATA: list[tuple[Any, ...]] = [
    ("valid", "<u4"),
    ("family", "<u2"),
    ("source_port", "<u2"),
    ("source", "u1", 16),
    ("source_scope", "<u4"),
    ("interface_index", "<u4"),
    ("destination", "u1", 16),
    ("destination_port", "<u2"),
    ("traffic_class", "u1"),
    ("hop_limit", "u1"),
    ("segment_size", "<u4"),
    ("dropped", "<u4"),
    ("socket_error", "<i4"),
    ("software_timestamp_ns", "<i8"),
    ("hardware_timestamp_ns", "<i8"),
    ("mark", "<u4"),
    ("flow_label", "<u4"),
    ("local_v4", "u1", 4),
    ("priority", "<u4"),
    ("error_info", "<u4"),
    ("error_data", "<u4"),
    ("error_origin", "u1"),
    ("error_type", "u1"),
    ("error_code", "u1"),
    ("reserved8", "u1"),
    ("offender", "u1", 16),
    ("reserved", "<u4"),
]


@functools.cache
def dtype(which: str) -> numpy.dtype[Any]:
    """The dtype of ``struct ringmsg_record`` or ``struct ringmsg_metadata``."""
    try:
        import numpy
    except ImportError:
        raise ImportError("ringmsg: columns need numpy: pip install numpy (or ringmsg[numpy])") from None
    fields, size = (_RECORD, _abi.RECORD_SIZE) if which == "record" else (_METADATA, _abi.METADATA_SIZE)
    # The library writes in the machine's byte order; so does "=".
    made: numpy.dtype[Any] = numpy.dtype(fields).newbyteorder("=")
    assert made.itemsize == size
    return made


def array(memory: Any, which: str, count: int) -> numpy.ndarray[Any, Any]:
    """The first elements of a record array, in place, read-only."""
    made = dtype(which)
    import numpy

    view = numpy.frombuffer(memory, dtype=made, count=count)
    view.flags.writeable = False
    return view
