"""Owned data: what a batch copies in one step, and that none of it keeps a buffer."""

from __future__ import annotations

import collections.abc
import gc
import socket
import struct
import threading
from typing import Any

import numpy
import pandas
import pyarrow
import pytest
from conftest import Pair

import ringmsg
from ringmsg import Meta

_IP_PKTINFO, _IP_RECVERR = 8, 11
ROW = numpy.dtype([("id", "<u4"), ("value", "<f8")])


def rows(*values: float) -> list[bytes]:
    """Payloads of one telemetry row each."""
    return [numpy.array([(number, value)], ROW).tobytes() for number, value in enumerate(values)]


def all_at_once(rx: ringmsg.Receiver, count: int) -> ringmsg.Batch:
    """The batch that has them all: they lie in the socket before it is taken."""
    batch = rx.reap(5)
    assert len(batch) == count
    return batch


def test_a_field_takes_the_place_of_a_column(pair: Pair) -> None:
    """Telemetry has fields called length and source, too: the program's own data is what it gets."""
    with ringmsg.Receiver(pair.receiver) as rx:
        row = numpy.array([(77, 88)], [("length", "<u4"), ("source", "<u2")])
        pair.send(row.tobytes())
        batch = rx.reap(5)
        for table in (batch.columns(row.dtype), batch.to_arrow(row.dtype).to_pydict()):
            assert (list(table["length"]), list(table["source"])) == ([77], [88])
            assert list(table["source_port"]) == [pair.sender.getsockname()[1]]


def test_messages(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"one", b"two", b"")
        messages = all_at_once(rx, 3).messages()
        rx.reap(0)  # releases the batch: what was made before is ours
        address = pair.sender.getsockname()
        assert list(messages) == [(b"one", address), (b"two", address), (b"", address)]
        assert rx.stats.buffers_held == 0


def offsets_of(batch: ringmsg.Batch) -> list[int]:
    return batch._slab.payload_offsets[: len(batch)].tolist()


def test_payloads_of_one_size_keep_their_order(pair: Pair) -> None:
    """Payloads of one size in neighbouring buffers are copied by one call. What was sent comes in its
    order, whether the buffers lie in rising, falling or mixed order."""
    seen = set()
    with ringmsg.Receiver(pair.receiver, buffers=64, batch_size=64) as rx:
        for round_, count in enumerate((64, 64, 5, 64, 9, 64)):
            sent = [bytes([round_, number]) * 8 for number in range(count)]
            pair.send(*sent)
            batch = all_at_once(rx, count)
            offsets = offsets_of(batch)
            seen.add((offsets == sorted(offsets), offsets == sorted(offsets, reverse=True)))
            copies = batch.payloads()
            assert copies == sent == [payload for payload, _ in batch.messages()]
            assert copies == [bytes(datagram.payload) for datagram in batch]
    assert seen == {(True, False), (False, True), (False, False)}, "an order did not occur"


@pytest.mark.parametrize("odd", [0, 1, 10, 31])
@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_one_payload_of_another_size(pair: Pair, odd: int, size: int) -> None:
    """Wherever it is among payloads of one size, nothing is added to it or cut."""
    sent = [bytes([number]) * 16 for number in range(32)]
    sent[odd] = b"z" * size
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*sent)
        assert all_at_once(rx, 32).payloads() == sent


def test_payloads_of_a_train_keep_their_order(pair: Pair) -> None:
    train = b"".join(bytes([number]) * 10 for number in range(40))
    with ringmsg.Receiver(pair.receiver) as rx:
        for tail in (b"", b"end"):
            pair.send_train(train + tail, 10)
            got = all_at_once(rx, 40 + bool(tail)).payloads()
            assert b"".join(got) == train + tail and {len(part) for part in got[:40]} == {10}


def test_sources_of_a_batch(pair: Pair) -> None:
    """One sender, a new one, several, and again the first: each datagram has its own source."""
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
    for sock in others:
        sock.connect(pair.receiver.getsockname())
    with ringmsg.Receiver(pair.receiver) as rx:
        for senders in ([pair.sender] * 9, others[:1] * 9, [*others, pair.sender] * 3, others[1:2], others):
            for sock in senders:
                sock.send(b"x")
            names = [sock.getsockname() for sock in senders]
            seen: list[Any] = []
            while len(seen) < len(names):
                batch = rx.reap(5)
                seen += [source for _, source in batch.messages()]
                assert [datagram.source for datagram in batch] == seen[-len(batch) :]
            assert seen == names
    for sock in others:
        sock.close()


def test_new_sources_and_known_ones(pair: Pair) -> None:
    """Batches of new addresses only, which are not all looked up; then one with addresses of before
    between new ones, the same again, and an error among new ones: each datagram has its own source,
    the error none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, ringmsg.Receiver(pair.receiver) as rx:
        sender.bind(("0.0.0.0", 0))
        port = sender.getsockname()[1]

        def receive(numbers: list[int], *, error: bool = False) -> None:
            for number in numbers:
                source = f"127.{number % 251 + 1}.{number // 251}.{number % 256}"
                info = struct.pack("=i4s4x", 0, socket.inet_aton(source))
                to = pair.receiver.getsockname()
                sender.sendmsg([source.encode()], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, to)
            if error:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
                    closed.bind(("127.0.0.1", 0))
                    nobody = closed.getsockname()
                pair.receiver.sendto(b"to nobody", nobody)
            left, errors = len(numbers), []
            while left or len(errors) < error:
                batch = rx.reap(5)
                assert len(batch)
                datagrams = [datagram for datagram in batch if not datagram.error]
                left -= len(datagrams)
                errors += [datagram.source for datagram in batch if datagram.error]
                assert [source for _, source in batch.messages()] == [
                    (bytes(datagram.payload).decode(), port) for datagram in datagrams
                ]
                assert [datagram.source for datagram in datagrams] == [
                    (bytes(datagram.payload).decode(), port) for datagram in datagrams
                ]
            assert errors == [None] * error

        for first in (0, 100, 200, 300):
            receive(list(range(first, first + 40)))
        receive([400, 200, 401, 240, 208, 300, *range(402, 430), 308])
        receive([400, 200, 401, 240, 208, 300, *range(402, 430), 308])
        pair.receiver.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        for first in (500, 600, 700):
            receive(list(range(first, first + 40)), error=True)


@pytest.mark.parametrize("family", [socket.AF_INET6, socket.AF_UNIX])
def test_messages_of_other_families(family: int, tmp_path: Any) -> None:
    with (
        socket.socket(family, socket.SOCK_DGRAM) as receiver,
        socket.socket(family, socket.SOCK_DGRAM) as sender,
    ):
        for sock, name in ((receiver, "a"), (sender, "b")):
            sock.bind(("::1", 0) if family == socket.AF_INET6 else f"{tmp_path}/{name}")
        with ringmsg.Receiver(receiver) as rx:
            sender.sendto(b"x", receiver.getsockname())
            assert list(rx.reap(5).messages()) == [(b"x", sender.getsockname())]


def test_messages_leave_errors_out(pair: Pair) -> None:
    pair.receiver.connect(pair.sender.getsockname())
    with ringmsg.Receiver(pair.receiver) as rx:
        rx.reap(0)
        pair.send(b"data")
        pair.sender.connect(pair.sender.getsockname())  # hears nobody but itself
        pair.receiver.send(b"to nobody")
        seen, errors = [], 0
        while len(seen) + errors < 2:
            batch = rx.reap(5)
            seen += batch.messages()
            errors += sum(datagram.error != 0 for datagram in batch)
            assert len(batch.payloads()) == len(batch)
        assert (seen, errors) == ([(b"data", pair.sender.getsockname())], 1)


def test_copies_of_a_released_batch_are_refused(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"x")
        batch = rx.reap(5)
        rx.reap(0)
        for copy in (batch.messages, batch.payloads, batch.to_numpy, batch.columns, batch.to_arrow):
            with pytest.raises(ValueError, match="released"):
                copy()


def test_copying_while_another_thread_closes(pair: Pair) -> None:
    """The pool is not unmapped under a copy: it is right, or refused."""
    for _ in range(30):
        rx = ringmsg.Receiver(pair.receiver)
        pair.send(*[b"right" * 200] * 50)
        batch = rx.reap(5)
        thread = threading.Thread(target=rx.close)
        thread.start()
        try:
            while True:
                assert all(payload == b"right" * 200 for payload, _ in batch.messages())
                assert (batch.to_numpy()[0][:, ::5] == ord("r")).all()
        except ValueError as error:
            assert "released" in str(error)
        thread.join()
        pair.receiver.setblocking(False)
        while True:
            try:
                pair.receiver.recv(10)
            except BlockingIOError:
                break


def test_the_obvious_telemetry_loop_holds_no_buffers(pair: Pair) -> None:
    kept: list[Any] = []
    with ringmsg.Receiver(pair.receiver, buffers=8) as rx:
        for round_ in range(20):
            pair.send(*rows(*range(5)))
            done = 0
            while done < 5:
                batch = rx.reap(5)
                kept += [batch.to_numpy(ROW), batch.columns(ROW), batch.to_arrow(ROW), list(batch.messages())]
                done += len(batch)
            assert rx.reap(0) is not None and rx.stats.buffers_held == 0
        assert rx.stats.starvations == 0
    del rx
    gc.collect()
    assert numpy.concatenate(kept[::4])["value"].tolist() == list(range(5)) * 20


def test_to_numpy_with_a_dtype(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*rows(0.5, 1.5, 2.5))
        array = all_at_once(rx, 3).to_numpy(ROW)
        assert array.dtype == ROW and array.flags.c_contiguous
        assert array.tolist() == [(0, 0.5), (1, 1.5), (2, 2.5)]
        pair.send(b"\x01\x00\x00\x00", b"\x02\x00\x00\x00")
        assert all_at_once(rx, 2).to_numpy("<i4").tolist() == [1, 2]
        assert rx.reap(0).to_numpy(ROW).shape == (0,)


def test_to_numpy_of_a_wrong_size(pair: Pair) -> None:
    """Anybody can send a short datagram: an error says which, or it is left out."""
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*rows(0.5), b"short", *rows(1.5))
        batch = all_at_once(rx, 3)
        with pytest.raises(ValueError, match="datagram 1 of the batch has 5 bytes, not 12"):
            batch.to_numpy(ROW)
        assert batch.to_numpy(ROW, strict=False)["value"].tolist() == [0.5, 1.5]
        table = batch.columns(ROW, strict=False)
        assert table["value"].tolist() == [0.5, 1.5] and len(table["source"]) == 2


def test_to_numpy_as_bytes(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"abc", b"de", b"")
        array, lengths = all_at_once(rx, 3).to_numpy()
        assert lengths.tolist() == [3, 2, 0]
        assert [bytes(row) for row in array] == [b"abc", b"de\0", b"\0\0\0"]
        pair.send(b"abc", b"def")
        array, lengths = all_at_once(rx, 2).to_numpy()
        assert [bytes(row) for row in array] == [b"abc", b"def"] and lengths.tolist() == [3, 3]


def test_columns_go_into_pandas(pair: Pair) -> None:
    wanted = Meta.SOURCE | Meta.DESTINATION | Meta.TRAFFIC_CLASS | Meta.INTERFACE
    pair.sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
    with ringmsg.Receiver(pair.receiver, metadata=wanted) as rx:
        pair.send(*rows(0.5, 1.5))
        batch = all_at_once(rx, 2)
        frame = pandas.DataFrame(batch.columns(ROW))
        assert frame["value"].tolist() == [0.5, 1.5] and frame["id"].tolist() == [0, 1]
        assert set(frame["source"]) == {"127.0.0.1"} == set(frame["destination"])
        assert set(frame["source_port"]) == {pair.sender.getsockname()[1]}
        assert set(frame["ecn"]) == {3} and set(frame["length"]) == {12} and set(frame["error"]) == {0}
        numbers = batch.columns(source="integer")
        assert numbers["source"].tolist() == [0x7F000001] * 2 == numbers["destination"].tolist()
        with pytest.raises(ValueError, match="'text' or 'integer'"):
            batch.columns(source="name")


def test_ipv6_columns(pair6: Pair) -> None:
    with ringmsg.Receiver(pair6.receiver) as rx:
        pair6.send(b"x")
        batch = all_at_once(rx, 1)
        assert batch.columns()["source"].tolist() == ["::1"]
        numbers = batch.columns(source="integer")
        assert (numbers["source_high"].tolist(), numbers["source_low"].tolist()) == ([0], [1])


def test_to_arrow(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"abc", b"def")
        table = all_at_once(rx, 2).to_arrow()
        assert table["payload"].to_pylist() == [b"abc", b"def"]
        assert table["payload"].type == pyarrow.binary(3)
        assert table["source"].to_pylist() == ["127.0.0.1"] * 2
        pair.send(b"abc", b"d", b"")
        mixed = all_at_once(rx, 3).to_arrow()["payload"]
        assert mixed.type == pyarrow.binary() and mixed.to_pylist() == [b"abc", b"d", b""]
        pair.send(*rows(0.5))
        typed = all_at_once(rx, 1).to_arrow(ROW, source="integer")
        assert typed["value"].to_pylist() == [0.5] and typed["source"].to_pylist() == [0x7F000001]
        table.validate(full=True)


def test_several_pools(pair: Pair) -> None:
    other = Pair()
    with ringmsg.Ring() as ring:
        for number, source in enumerate((pair, other)):
            pool = ring.pool(source.receiver, buffers=16)
            ring.recvmsg_multishot(pool, source.receiver, user_data=number)
        seen: list[Any] = []
        for round_ in range(5):
            pair.send(b"abc")
            other.send(b"def")
            while len(seen) < 2 * round_ + 2:
                batch = ring.reap(5)
                seen += batch.messages()
                assert [bytes(row) for row in batch.to_numpy()[0]] == batch.payloads()
        assert sorted(seen) == sorted(
            [(b"abc", pair.sender.getsockname()), (b"def", other.sender.getsockname())] * 5
        )
    other.close()


# --- a sequence ------------------------------------------------------------------------------


def test_a_batch_is_a_sequence(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"a", b"b", b"c", b"d")
        batch = all_at_once(rx, 4)
        assert isinstance(batch, collections.abc.Sequence)
        assert [bytes(datagram.payload) for datagram in batch[1:3]] == [b"b", b"c"]
        assert [bytes(datagram.payload) for datagram in batch[::-2]] == [b"d", b"b"]
        assert [bytes(datagram.payload) for datagram in reversed(batch)] == [b"d", b"c", b"b", b"a"]
        assert batch[-1] in batch and batch.index(batch[2]) == 2 and batch[5:] == []
        with pytest.raises(IndexError, match="datagram 4 of a batch of 4"):
            batch[4]
        with pytest.raises(TypeError):
            batch["a"]  # type: ignore[call-overload]
        view = batch[0:1][0].payload
        rx.reap(0)
        with pytest.raises(ValueError, match="released"):
            view[0]
