"""``to_numpy``, ``columns`` and ``to_arrow``: dtypes as telemetry has them, which pandas and pyarrow do not
take as they are."""

from __future__ import annotations

import os
import socket
import struct
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from conftest import Pair, take

import ringmsg
from ringmsg import Receiver

# As on the wire: big-endian, with a nested field and an array.
WIRE = numpy.dtype([("seq", ">u4"), ("at", [("x", ">i2"), ("y", ">i2")]), ("samples", ">u2", 2)])


def of_wire(*numbers: int) -> list[bytes]:
    return [struct.pack(">IhhHH", number, -number, 2 * number, 1, number) for number in numbers]


def test_big_endian_fields_can_be_sorted_and_grouped(pair: Pair) -> None:
    """pandas refuses to do that with columns that are not in this machine's byte order."""
    with Receiver(pair.receiver) as rx:
        pair.send(*of_wire(9, 2, 5))
        batch = rx.reap(5)
        assert batch.to_numpy(WIRE).dtype == WIRE, "the array has the dtype that was asked for"
        frame = pandas.DataFrame(batch.columns(WIRE))
        assert frame.sort_values("seq")["seq"].tolist() == [2, 5, 9]
        assert frame.groupby("seq")["at_y"].sum().tolist() == [4, 10, 18]
        assert frame.merge(frame, on="seq").shape[0] == 3
        alone = batch.columns(">M8[ns]", strict=False)["payload"]
        assert alone.dtype == numpy.dtype("=M8[ns]") and len(alone) == 0


def test_nested_fields_and_arrays_are_columns(pair: Pair) -> None:
    with Receiver(pair.receiver) as rx:
        pair.send(*of_wire(7, 8))
        table = rx.reap(5).columns(WIRE)
        found = {name: table[name].tolist() for name in ("seq", "at_x", "at_y", "samples_0", "samples_1")}
        assert found == {
            "seq": [7, 8],
            "at_x": [-7, -8],
            "at_y": [14, 16],
            "samples_0": [1, 1],
            "samples_1": [7, 8],
        }
        assert all(column.ndim == 1 and column.flags.c_contiguous for column in table.values())
        assert pandas.DataFrame(table).shape[0] == 2


@pytest.mark.parametrize(
    "fields",
    [
        [("v", "u1", 2), ("v_1", "u1")],
        [("v_1", "u1"), ("v", "u1", 2)],
        [("at_x", "u1"), ("at", [("x", "u1"), ("y", "u1")])],
        [("a", [("b", "u1", 2), ("b_0", "u1")])],
    ],
)
def test_two_fields_that_become_one_column(pair: Pair, fields: Any) -> None:
    """They are refused: the values of one would be lost."""
    with Receiver(pair.receiver) as rx:
        pair.send(bytes(3))
        batch = rx.reap(5)
        with pytest.raises(ValueError, match="two fields of the dtype become a column '(v_1|at_x|a_b_0)'"):
            batch.columns(fields)
        if "at_x" in dict(field[:2] for field in fields):
            with pytest.raises(ValueError, match="'at_x'"):
                batch.to_arrow(fields)


def test_arrow_has_arrays_as_lists(pair: Pair) -> None:
    with Receiver(pair.receiver) as rx:
        pair.send(*of_wire(7, 8))
        table = rx.reap(5).to_arrow(WIRE)
        assert table["samples"].type == pyarrow.list_(pyarrow.uint16(), 2)
        assert table["samples"].to_pylist() == [[1, 7], [1, 8]]
        assert table["at_x"].to_pylist() == [-7, -8] and table["seq"].type == pyarrow.uint32()
        pair.send(b"opaque")
        assert rx.reap(5).to_arrow("V6")["payload"].to_pylist() == [b"opaque"]
        table.validate(full=True)


@pytest.mark.parametrize("dtype", [WIRE, "<u4", "V3", (">i2", (2, 3))])
def test_tables_of_several_batches_can_be_joined(pair: Pair, dtype: Any) -> None:
    """Their schemas are equal, whatever a batch holds: also when it holds nothing."""
    with Receiver(pair.receiver, metadata=ringmsg.Meta.SOURCE | ringmsg.Meta.DESTINATION) as rx:
        nothing = rx.reap(0).to_arrow(dtype)
        pair.send(bytes(numpy.dtype(dtype).itemsize))
        one = rx.reap(5).to_arrow(dtype)
    assert pyarrow.concat_tables([nothing, one]).num_rows == 1


def test_payloads_that_are_arrays(pair: Pair) -> None:
    """A dtype with a shape, as sound has it."""
    with Receiver(pair.receiver) as rx:
        frame = numpy.dtype((">i2", (2, 3)))
        pair.send(struct.pack(">6h", 1, 2, 3, 4, 5, 6))
        batch = rx.reap(5)
        array = batch.to_numpy(frame)
        assert array.shape == (1, 2, 3) and array.tolist() == [[[1, 2, 3], [4, 5, 6]]]
        names = [name for name in batch.columns(frame) if name.startswith("payload")]
        assert names == [f"payload_{row}_{column}" for row in range(2) for column in range(3)]
        assert rx.reap(0).to_numpy(frame).shape == (0, 2, 3)


def test_empty_payloads_count(pair: Pair) -> None:
    with Receiver(pair.receiver) as rx:
        pair.send(b"", b"")
        assert len(rx.reap(5).to_numpy("V0")) == 2


def test_python_objects_are_refused(pair: Pair) -> None:
    """Bytes that somebody sends must not become a pointer."""
    with Receiver(pair.receiver) as rx:
        pair.send(bytes(8))
        batch = rx.reap(5)
        for copy in (batch.to_numpy, batch.columns, batch.to_arrow):
            for dtype in ("O", [("a", "O")]):
                with pytest.raises(TypeError):
                    copy(dtype)


def test_names_of_unix_sockets_in_arrow() -> None:
    """Those in no file system are bytes, which arrow does not mix with text."""
    kind = socket.AF_UNIX, socket.SOCK_DGRAM
    with socket.socket(*kind) as sock, socket.socket(*kind) as unnamed, socket.socket(*kind) as named:
        sock.bind(f"\0ringmsg-{os.getpid()}")
        named.bind(f"\0ringmsg-sender-{os.getpid()}")
        with Receiver(sock) as rx:
            for sender in (unnamed, named):
                sender.sendto(b"x", sock.getsockname())
            batch = rx.reap(5)
            assert batch.to_arrow()["source"].to_pylist() == [None, f"@ringmsg-sender-{os.getpid()}"]
            assert batch.columns()["source"].tolist() == [None, named.getsockname()]


def test_large_datagrams_of_unix_sockets() -> None:
    """As large as asyncio's own endpoint takes them."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, Receiver(right) as rx:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        size = min(left.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2, 256 * 1024)
        assert size > 65536
        left.send(bytes(size - 1024))
        assert take(rx, 1) == [bytes(size - 1024)]
