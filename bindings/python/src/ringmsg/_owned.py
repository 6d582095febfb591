"""What a batch holds, copied in one step: nothing here keeps a buffer of the ring.

The functions hold the ring's lock while they copy, so that no other thread unmaps the pool, and
the pools (``Batch._hold``), so that no signal handler does: it runs in this thread, which has the lock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _abi, _addresses, _layout, _pieces
from .flags import Meta

if TYPE_CHECKING:
    import numpy

    from ._core import Slab
    from .batch import Batch

_RESULT = _layout.record("result")
_NAMES = _layout.row(_abi.Record, "name_offset", "name_length", "pool")
_SPANS = _layout.row(_abi.Record, "payload_offset", "payload_length", "pool")
# Fewer payloads than that are sliced one by one.
_ENOUGH_NEIGHBOURS = 8

# The columns that a metadata field becomes: (bit, field, name, dtype).
_COLUMNS = (
    (Meta.DESTINATION_PORT, "destination_port", "destination_port"),
    (Meta.INTERFACE, "interface_index", "interface_index"),
    (Meta.TRAFFIC_CLASS, "traffic_class", "traffic_class"),
    (Meta.HOP_LIMIT, "hop_limit", "hop_limit"),
    (Meta.SEGMENT_SIZE, "segment_size", "segment_size"),
    (Meta.DROPPED, "dropped", "dropped"),
    (Meta.SOFTWARE_TIMESTAMP, "software_timestamp_ns", "timestamp_ns"),
    (Meta.HARDWARE_TIMESTAMP, "hardware_timestamp_ns", "hardware_timestamp_ns"),
    (Meta.MARK, "mark", "mark"),
    (Meta.FLOW_LABEL, "flow_label", "flow_label"),
    (Meta.PRIORITY, "priority", "priority"),
)


def payloads(batch: Batch) -> list[bytes]:
    """Copies of all payloads."""
    with batch._core.lock:
        return _payloads(batch, batch._hold())


def _payloads(batch: Batch, _held: Any) -> list[bytes]:
    """Copies of all payloads, while the caller holds the pools."""
    if len(batch._core.pools) != 1:
        return _parts(batch, _SPANS)
    slab, count = batch._slab, batch._count
    (memory,) = batch._core.pools.values()
    characters = memory.characters
    rows = _neighbours(characters, slab, count) if count >= _ENOUGH_NEIGHBOURS else None
    if rows is not None:
        return rows
    spans = zip(slab.payload_offsets[:count].tolist(), slab.payload_lengths[:count].tolist())
    return [characters[start : start + length] for start, length in spans]


def _neighbours(characters: Any, slab: Slab, count: int) -> list[bytes] | None:
    """The payloads, if they have one size and lie at equal distances; otherwise None. The datagrams of
    a train lie so, and neighbouring buffers, in rising or falling order: while batches are full, each
    gets those that an earlier one released."""
    offsets, lengths = slab.payload_offsets, slab.payload_lengths
    size, distance, last = lengths[0], offsets[1] - offsets[0], count - 1
    if not 0 < size == lengths[1] == lengths[last] or abs(distance) < size:
        return None
    # If the numbers that hold offset and length rise evenly, and the last one has the length of
    # the first two, then no carry from one to the other is possible, and all lengths are equal.
    spans = slab.spans[:count].tolist()
    step = spans[1] - spans[0]
    if spans != list(range(spans[0], spans[0] + step * count, step)):
        return None
    if distance > 0:
        return _pieces.copy(characters, offsets[0], distance, size, count)
    rows = _pieces.copy(characters, offsets[last], -distance, size, count)
    rows.reverse()
    return rows


def _parts(batch: Batch, fields: Any) -> list[bytes]:
    """A part of each message, whatever pool it lies in."""
    _held = batch._hold()  # until this returns
    pools = {number: memory.characters for number, memory in batch._core.pools.items()}
    records = batch._slab.records_view[: batch._count * _abi.RECORD_SIZE]
    return [
        pools[pool][start : start + length] if pool in pools else b""
        for start, length, pool in fields.iter_unpack(records)
    ]


def sources(batch: Batch) -> list[Any]:
    """The sources of all datagrams; None for those that have none."""
    if not batch._wanted & Meta.SOURCE:
        return [None] * batch._count
    if batch._addresses is not None:
        found: list[Any] = batch._addresses.all_of(batch._slab, batch._count)
        return found
    with batch._core.lock:
        return [_addresses.from_sockaddr(name) for name in _parts(batch, _NAMES)]


def messages(batch: Batch) -> Iterator[tuple[bytes, Any]]:
    """(payload, source) of all datagrams, without errors."""
    with batch._core.lock:
        held = batch._hold()  # to the end: payloads and sources are of the same datagrams
        data = _payloads(batch, held)
        pairs = zip(data, sources(batch))
        if all(data):  # an error has no payload
            return pairs
        view = batch._slab.records_view
        return iter([pair for at, pair in enumerate(pairs) if pair[0] or _RESULT.read(view, at) >= 0])


# --- numpy -----------------------------------------------------------------------------------


def _rows(batch: Batch, size: int, strict: bool) -> Any:
    """The positions of the datagrams that have ``size`` bytes: all, unless ``strict`` is False."""
    import numpy

    records = _layout.array(batch._slab.records, _abi.Record, batch._count)
    fits = (records["payload_length"] == size) & (records["result"] >= 0)
    if fits.all():
        return slice(None)
    if strict:
        at = int(numpy.argmin(fits))
        result = int(records["result"][at])
        found = f"is an error ({-result})" if result < 0 else f"has {result} bytes, not {size}"
        raise ValueError(f"datagram {at} of the batch {found}; strict=False leaves such out")
    return numpy.flatnonzero(fits)


def _gather(batch: Batch, rows: Any, size: int) -> numpy.ndarray[Any, Any]:
    """The payloads of these rows, ``size`` bytes each, in one array."""
    import numpy

    records = _layout.array(batch._slab.records, _abi.Record, batch._count)[rows]
    if len(batch._core.pools) != 1 or not len(records) or not size:
        parts = _parts(batch, _SPANS) if size else []
        chosen = numpy.arange(batch._count)[rows]
        joined = b"".join(parts[at] for at in chosen) if size else b""
        return numpy.frombuffer(bytearray(joined), numpy.uint8).reshape(len(records), size)
    exporter = batch._exporter(*batch._core.pools)
    # An element at every byte of the pool, of which indexing copies those that payloads begin with.
    at_every_byte = numpy.ndarray(len(exporter) - size + 1, f"V{size}", exporter, strides=(1,))
    rows_of_bytes: numpy.ndarray[Any, Any] = at_every_byte[records["payload_offset"]].view(numpy.uint8)
    return rows_of_bytes.reshape(-1, size)


def to_numpy(batch: Batch, dtype: Any, strict: bool) -> Any:
    """See ``Batch.to_numpy``."""
    _layout.dtype(_abi.Record)  # ImportError says what to install
    import numpy

    with batch._core.lock:
        batch._check()
        if dtype is not None:
            wanted = numpy.dtype(dtype)
            gathered = _gather(batch, _rows(batch, wanted.itemsize, strict), wanted.itemsize)
            if not gathered.size:
                return numpy.empty(len(gathered), wanted)
            return gathered.view(wanted.base).reshape(-1, *wanted.shape)
        lengths = _layout.array(batch._slab.records, _abi.Record, batch._count)["payload_length"].copy()
        longest = int(lengths.max(initial=0))
        if longest and (lengths == longest).all():
            return _gather(batch, slice(None), longest), lengths
        padded = numpy.zeros((batch._count, longest), numpy.uint8)
        for row, payload in zip(padded, payloads(batch)):
            row[: len(payload)] = numpy.frombuffer(payload, numpy.uint8)
        return padded, lengths


def _text_of(batch: Batch) -> Any:
    import numpy

    hosts = numpy.empty(batch._count, dtype=object)
    hosts[:] = [source[0] if isinstance(source, tuple) else source for source in sources(batch)]
    return hosts


def _integers_of(addresses: Any, is_v6: bool, name: str) -> dict[str, Any]:
    """An address as a number: 32 bits, or two of 64."""
    if not is_v6:
        return {name: addresses[:, :4].copy().view(">u4")[:, 0].astype("u4")}
    halves = addresses.copy().view(">u8").astype("u8")
    return {f"{name}_high": halves[:, 0], f"{name}_low": halves[:, 1]}


def columns(batch: Batch, dtype: Any, source: str, strict: bool) -> dict[str, Any]:
    """See ``Batch.columns``."""
    return _columns(batch, dtype, source, strict, one_dimensional=True)


def _columns(batch: Batch, dtype: Any, source: str, strict: bool, *, one_dimensional: bool) -> dict[str, Any]:
    if source not in ("text", "integer"):
        raise ValueError(f"source is 'text' or 'integer', not {source!r}")
    _layout.dtype(_abi.Record)
    import numpy

    with batch._core.lock:
        batch._check()
        wanted = None if dtype is None else numpy.dtype(dtype)
        rows = slice(None) if wanted is None else _rows(batch, wanted.itemsize, strict)
        table = _metadata_columns(batch, source) if batch._slab.metadata is not None else {}
        records = _layout.array(batch._slab.records, _abi.Record, batch._count)
        table["length"] = records["payload_length"].copy()
        table["error"] = numpy.maximum(-records["result"], 0)
        table = {name: column[rows] for name, column in table.items()}
        if wanted is not None:
            table |= _columns_of("", to_numpy(batch, wanted, strict), one_dimensional)
        return table


def _columns_of(name: str, values: Any, one_dimensional: bool) -> dict[str, Any]:
    """The columns that a field becomes: ``p_x`` for the field x of a field p; ``v_0``, ``v_1`` and so on
    for a field that is an array. In this machine's byte order, which pandas and pyarrow require."""
    import numpy

    if values.dtype.names:
        prefix = f"{name}_" if name else ""
        parts = {f"{prefix}{part}": values[part] for part in values.dtype.names}
    elif values.ndim > 1 and one_dimensional:
        parts = {f"{name or 'payload'}_{at}": values[:, at] for at in range(values.shape[1])}
    else:
        native = values.astype(values.dtype.newbyteorder("="), copy=False)
        return {name or "payload": numpy.ascontiguousarray(native)}
    table: dict[str, Any] = {}
    for part, of_part in parts.items():
        for column, array in _columns_of(part, of_part, one_dimensional).items():
            if column in table:
                raise ValueError(f"two fields of the dtype become a column {column!r}: rename one of them")
            table[column] = array
    return table


def _metadata_columns(batch: Batch, source: str) -> dict[str, Any]:
    """What was asked for, a column each."""
    metadata = _layout.array(batch._slab.metadata, _abi.Metadata, batch._count)
    wanted = batch._wanted
    is_v6 = bool((metadata["family"] == 10).any())
    table: dict[str, Any] = {}
    if wanted & Meta.SOURCE:
        if source == "text" or batch._addresses is None:
            table["source"] = _text_of(batch)
        else:
            table |= _integers_of(metadata["source"], is_v6, "source")
        table["source_port"] = metadata["source_port"].copy()
    if wanted & Meta.DESTINATION:
        if source == "text":
            table["destination"] = _texts(metadata["family"], metadata["destination"])
        else:
            table |= _integers_of(metadata["destination"], is_v6, "destination")
    for bit, field, name in _COLUMNS:
        if wanted & bit:
            table[name] = metadata[field].copy()
    if wanted & Meta.TRAFFIC_CLASS:
        table["ecn"] = table["traffic_class"] & 3
    table["valid"] = metadata["valid"] & (wanted & 0xFFFFFFFF)
    return table


def _texts(families: Any, addresses: Any) -> Any:
    import numpy

    known: dict[tuple[int, bytes], Any] = {}
    hosts = numpy.empty(len(addresses), dtype=object)
    for at, (family, address) in enumerate(zip(families.tolist(), addresses)):
        key = family, address.tobytes()
        if key not in known:
            known[key] = _addresses.text(family, key[1], 0)[0] if family else None
        hosts[at] = known[key]
    return hosts


# --- pyarrow ---------------------------------------------------------------------------------


def to_arrow(batch: Batch, dtype: Any, source: str, strict: bool) -> Any:
    """See ``Batch.to_arrow``."""
    try:
        import pyarrow
    except ImportError:
        raise ImportError("ringmsg: to_arrow() needs pyarrow: pip install pyarrow") from None
    with batch._core.lock:
        table = _columns(batch, dtype, source, strict, one_dimensional=False)
        arrays = {name: _arrow_column(column) for name, column in table.items()}
        if dtype is None:
            arrays = {"payload": _arrow_payloads(batch), **arrays}
    return pyarrow.table(arrays)


def _arrow_column(values: Any) -> Any:
    """Of one type whatever the batch holds, so that tables of several batches can be joined."""
    import pyarrow

    if values.ndim > 1:
        size = math.prod(values.shape[1:])
        return pyarrow.FixedSizeListArray.from_arrays(_arrow_column(values.reshape(-1)), size)
    if values.dtype.kind == "V":
        kind = pyarrow.binary(values.dtype.itemsize)
        return pyarrow.array(values.tolist(), kind)
    if values.dtype.kind == "O":
        # The name of an AF_UNIX socket that is in no file system is bytes; ss(8) shows it as here.
        texts = [
            f"@{text[1:].decode(errors='replace')}" if isinstance(text, bytes) else text for text in values
        ]
        return pyarrow.array(texts, pyarrow.string())
    return pyarrow.array(values)


def _arrow_payloads(batch: Batch) -> Any:
    """Payloads of one size lie in one slab; others have offsets."""
    import pyarrow

    lengths = set(batch._slab.payload_lengths[: batch._count].tolist())
    if len(lengths) == 1 and (size := lengths.pop()):
        slab = _gather(batch, slice(None), size)
        kind = pyarrow.binary(size)
        return pyarrow.FixedSizeBinaryArray.from_buffers(kind, batch._count, [None, pyarrow.py_buffer(slab)])
    return pyarrow.array(payloads(batch), pyarrow.binary())
