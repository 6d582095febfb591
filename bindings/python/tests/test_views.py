"""Views raise after release; what was derived from them never shows other data."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
from typing import Any

import numpy
import pytest
from conftest import Pair, eventually, take

import ringmsg


def refill(pair: Pair, rx: ringmsg.Receiver, rounds: int = 40) -> None:
    """Sends enough that every free buffer gets other data."""
    for _ in range(rounds):
        pair.send(*[b"z" * 64] * 20)
        take(rx, 20)


def test_views_raise_after_release(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"one", b"two")
        batch = rx.reap(5)
        datagrams, untouched = list(batch), batch[0]
        views = [datagram.payload for datagram in datagrams] + [batch.buffer]
        rx.reap(0)
        for view in views:
            with pytest.raises(ValueError, match="released"):
                view[0]
        with pytest.raises(ValueError):
            bytes(untouched.payload)
        for attribute in ("control", "error", "segments"):
            with pytest.raises(ValueError, match="released"):
                getattr(untouched, attribute)
        for attribute in ("records", "metadata", "buffer", "buffers"):
            with pytest.raises(ValueError, match="released"):
                getattr(batch, attribute)
        assert untouched.source == pair.sender.getsockname()
        assert "released" in repr(untouched) and "released" in repr(batch)
        assert rx.stats.buffers_held == 0


@pytest.mark.parametrize("how", ["with", "release", "del", "next"])
def test_ways_to_release(pair: Pair, how: str) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"one")
        batch = rx.reap(5)
        assert rx.stats.buffers_held == 1
        if how == "with":
            with batch:
                pass
        elif how == "release":
            batch.release()
            batch.release()
        elif how == "next":
            rx.reap(0)
        else:
            batch.keep()
            rx.reap(0)
            assert rx.stats.buffers_held == 1
            del batch
        assert rx.stats.buffers_held == 0


def derive_slice(batch: ringmsg.Batch) -> Any:
    return batch[0].payload[1:]


def derive_slice_of_iterated(batch: ringmsg.Batch) -> Any:
    (datagram,) = batch
    return datagram.payload[1:]


def derive_array(batch: ringmsg.Batch) -> Any:
    return numpy.frombuffer(batch[0].payload, numpy.uint8)[1:]


def derive_array_of_buffer(batch: ringmsg.Batch) -> Any:
    start = int(batch.records["payload_offset"][0])
    return numpy.frombuffer(batch.buffer, numpy.uint8)[start + 1 : start + 8]


def derive_view_of_array(batch: ringmsg.Batch) -> Any:
    return memoryview(derive_array(batch))


DERIVED = [derive_slice, derive_slice_of_iterated, derive_array, derive_array_of_buffer, derive_view_of_array]


@pytest.mark.parametrize("derive", DERIVED)
def test_what_is_derived_pins(pair: Pair, derive: Any) -> None:
    with ringmsg.Receiver(pair.receiver, buffers=8) as rx:
        pair.send(b"precious")
        derived = derive(rx.reap(5))
        refill(pair, rx)
        assert bytes(derived) == b"recious"
        rx.reap(0)
        assert rx.stats.buffers_held == 1
        del derived
        gc.collect()
        assert rx.stats.buffers_held == 0
        refill(pair, rx, 2)


@pytest.mark.parametrize("derive", DERIVED)
def test_what_is_derived_outlives_the_receiver(pair: Pair, derive: Any) -> None:
    rx = ringmsg.Receiver(pair.receiver, buffers=8)
    pair.send(b"precious")
    derived = derive(rx.reap(5))
    rx.close()
    assert bytes(derived) == b"recious"
    name = pair.receiver.getsockname()
    pair.receiver.close()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(name)  # the port is free although the memory is not
    assert bytes(derived) == b"recious"
    core = rx._core
    assert core.handle is not None
    del derived
    gc.collect()
    assert core.handle is None, "the last pin frees the ring"


def test_derived_and_closed_by_another_thread(pair: Pair, mode: str) -> None:
    rx = ringmsg.Receiver(pair.receiver, mode=mode)
    pair.send(b"precious")
    derived = derive_array(rx.reap(5))
    thread = threading.Thread(target=rx.close)
    thread.start()
    thread.join()
    assert bytes(derived) == b"recious"
    del derived
    gc.collect()
    eventually(lambda: rx._core.handle is None)


def test_arrays_of_records_keep_their_own(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"a" * 11, b"b" * 12)
        batch = rx.reap(5)
        records, metadata = batch.records, batch.metadata
        assert records["payload_length"].tolist() == [11, 12]
        refill(pair, rx, 5)
        assert records["payload_length"].tolist() == [11, 12]
        assert metadata["source_port"].tolist() == [pair.sender.getsockname()[1]] * 2
        with pytest.raises(ValueError, match="read-only"):
            records["payload_length"] = 0


def test_columns(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*[bytes([number]) * (number + 1) for number in range(20)])
        batch = rx.reap(5)
        count = len(batch)
        memory = numpy.frombuffer(batch.buffer, numpy.uint8)
        assert memory[batch.records["payload_offset"]].tolist() == list(range(count))
        assert list(batch.buffers) == [0]


def test_pins_that_starve_warn(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, buffers=4) as rx:
        pinned = []
        with pytest.warns(
            RuntimeWarning, match=r"keep [34] of the ring's 4 buffers.*batch.messages\(\)"
        ) as caught:
            for _ in range(4):
                pair.send(b"x")
                pinned.append(rx.reap(5)[0].payload[:])
            pair.send(b"held up")
            rx.reap(0)  # finds no buffer
            rx.reap(0)  # says why
        assert [warning.filename for warning in caught] == [__file__], "once, and it names this file"
        pinned.clear()
        assert take(rx, 1) == [b"held up"]


def test_an_old_iterator_does_not_show_new_data(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"old", b"old")
        iterator = iter(rx.reap(5))
        refill(pair, rx)
        for datagram in iterator:
            with pytest.raises(ValueError):
                bytes(datagram.payload)


def test_kept_batches_are_released_once_by_any_thread(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"keep")
        batch = rx.reap(5).keep()
        refill(pair, rx)
        assert batch.payloads() == [b"keep"]
        threads = [threading.Thread(target=batch.release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rx.reap(0)
        assert rx.stats.buffers_held == 0 and batch.released
        refill(pair, rx, 2)


def test_kept_batches_end_with_their_ring(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"keep")
        batch = rx.reap(5).keep()
        payload = batch[0].payload
    with pytest.raises(ValueError):
        bytes(payload)
    batch.release()


def test_reading_while_another_thread_closes(pair: Pair) -> None:
    """Whatever the race, a view shows its data or raises."""
    for _ in range(20):
        rx = ringmsg.Receiver(pair.receiver)
        pair.send(*[b"right"] * 50)
        batch = rx.reap(5)
        thread = threading.Thread(target=rx.close)
        thread.start()
        try:
            for _ in range(1000):
                for datagram in batch:
                    assert bytes(datagram.payload) == b"right"
        except ValueError:
            pass
        thread.join()
        while True:
            try:
                pair.receiver.setblocking(False)
                pair.receiver.recv(10)
            except BlockingIOError:
                break


SHOWS = """
import gc, socket, weakref, ringmsg
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("127.0.0.1", 0))
def derived():
    rx = ringmsg.Receiver(sock)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", sock.getsockname())
    slice = rx.reap(5)[0].payload[1:]
    rx.close()
    return slice, weakref.ref(rx._core)
slice, core = derived()
gc.collect()
print(bytes(slice), core() is not None)
del slice
gc.collect()
print(core(), [line for line in open("/proc/self/maps") if "io_uring" in line])
"""


def test_a_slice_outlives_a_receiver_that_is_garbage() -> None:
    """Nothing but the slice is left of it. The memory goes with the slice, not before and not never."""
    run = subprocess.run([sys.executable, "-c", SHOWS], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "b'ello' True\nNone []\n"


CLOSES = """
import socket, sys, threading, ringmsg
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("127.0.0.1", 0))
rx = ringmsg.Receiver(sock, mode="plain")
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"right", sock.getsockname())
batch = rx.reap(5)
learn = rx._core.learn_pool
def pause(number):
    closing.start()
    closing.join(0.3)  # as if this thread had to give way
    return learn(number)
closing = threading.Thread(target=rx.close)
rx._core.learn_pool = pause
view = {"iterate": lambda: next(iter(batch)).payload, "index": lambda: batch[0].payload,
        "buffer": lambda: batch.buffer}[sys.argv[1]]()
closing.join(10)
try:
    print(bytes(view))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["iterate", "index", "buffer"])
def test_a_ring_that_is_closed_while_a_view_is_made(how: str) -> None:
    """The view is revoked, too. It was made after the others were, over memory that was gone."""
    run = subprocess.run([sys.executable, "-c", CLOSES, how], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "operation forbidden on released memoryview object\n"


def test_a_batch_that_next_lost_comes_again(pair: Pair) -> None:
    """As when a Ctrl-C strikes between the return of next() and the assignment."""
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"x")
        next(rx)
        batch = rx.reap(0)
        assert batch.payloads() == [b"x"]
        assert len(rx.reap(0)) == 0
        pair.send(b"y")
        held = next(rx)  # not looked at, but not lost either
        assert len(rx.reap(0)) == 0
        assert held.released
        pair.send(b"z")
        rx.reap(5)  # thrown away
        assert len(rx.reap(0)) == 0
