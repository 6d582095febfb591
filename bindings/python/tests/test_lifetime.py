"""Threads, fork, garbage collection."""

from __future__ import annotations

import copy
import errno
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from conftest import Pair, eventually, needs_an_owner, take

import ringmsg


def in_thread(work: Any) -> Any:
    """What ``work`` returns or raises in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return outcome[0]


# --- threads -------------------------------------------------------------------------------


def test_made_in_one_thread_used_in_another(pair: Pair, mode: str) -> None:
    rx = ringmsg.Receiver(pair.receiver, mode=mode)
    pair.send(b"x")
    assert in_thread(lambda: take(rx, 1)) == [b"x"]
    rx.close()


def test_the_wrong_thread_gets_an_error_and_harms_nothing(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, mode="defer") as rx:
        needs_an_owner(rx)
        pair.send(b"x")
        batch = rx.reap(5)
        error = in_thread(lambda: rx.reap(0))
        assert isinstance(error, PermissionError) and str(error).count(" ") > 3
        assert batch.payloads() == [b"x"], "it was not released"
        pair.send(b"y")
        assert take(rx, 1) == [b"y"]


def test_the_owner_is_gone(pair: Pair) -> None:
    rx = ringmsg.Receiver(pair.receiver, mode="defer")
    needs_an_owner(rx)
    in_thread(lambda: rx.reap(0))
    with pytest.raises(OSError) as caught:
        rx.reap(0)
    assert caught.value.errno in (errno.EOWNERDEAD, errno.EPERM)
    rx.close()


def test_two_threads_at_once(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, mode="plain") as rx:
        thread = threading.Thread(target=lambda: rx.reap(5))
        thread.start()
        eventually(lambda: rx._inside)
        with pytest.raises(OSError) as caught:
            rx.reap(0)
        assert caught.value.errno == errno.EBUSY
        rx.wake()
        thread.join()


def test_the_gil_is_released_while_waiting(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        counted = 0
        stop = False

        def count() -> None:
            nonlocal counted
            while not stop:
                counted += 1

        thread = threading.Thread(target=count)
        thread.start()
        before = counted
        rx.reap(0.2)
        during = counted - before
        stop = True
        thread.join()
        assert during > 1000


def test_close_from_another_thread_ends_the_iteration(pair: Pair, mode: str) -> None:
    for _ in range(5):
        rx = ringmsg.Receiver(pair.receiver, mode=mode)
        thread = threading.Timer(0.02, rx.close)
        thread.start()
        assert list(rx) == []
        thread.join()
        assert rx.closed and rx._core.handle is None and repr(rx) == "<ringmsg.Receiver closed>"


def test_close_under_load(mode: str) -> None:
    """Closing at any moment neither crashes nor hangs, nor keeps the port."""
    for round_ in range(15):
        pair = Pair()
        rx = ringmsg.Receiver(pair.receiver, mode=mode)
        stop = threading.Event()

        def send(pair: Pair = pair, stop: threading.Event = stop) -> None:
            while not stop.is_set():
                pair.send(b"right")

        def loop(rx: ringmsg.Receiver = rx) -> int:
            seen = 0
            try:
                for batch in rx:
                    for datagram in batch:
                        seen += bytes(datagram.payload) == b"right"
            except ValueError:
                pass  # closed under our hands
            return seen

        sender = threading.Thread(target=send)
        receiver = threading.Thread(target=loop)
        sender.start()
        receiver.start()
        time.sleep(0.01 + round_ * 0.001)
        rx.close()
        receiver.join(10)
        assert not receiver.is_alive()
        stop.set()
        sender.join()
        pair.close()


# --- fork ----------------------------------------------------------------------------------


def test_fork(pair: Pair, mode: str) -> None:
    rx = ringmsg.Receiver(pair.receiver, mode=mode, metadata=ringmsg.Meta.TRAFFIC_CLASS)
    pair.send(b"x")
    batch = rx.reap(5)
    payload = batch[0].payload
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for call in (lambda: rx.reap(0), rx.wake):
                try:
                    call()
                except PermissionError:
                    pass
                else:
                    os._exit(2)
            try:
                bytes(payload)
            except ValueError:
                status = 0
            rx.close()
        except BaseException as error:
            print("in the child:", repr(error), file=sys.stderr)
            status = 3
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(payload) == b"x"
    assert pair.receiver.getsockopt(0, 13) == 1, "the child did not switch the parent's options off"
    pair.send(b"y")
    assert take(rx, 1) == [b"y"]
    rx.close()


def test_a_child_that_forgets(pair: Pair) -> None:
    """Garbage collection in the child, with pins, warns of nothing and harms nobody."""
    rx = ringmsg.Receiver(pair.receiver)
    pair.send(b"x", b"y")
    part = rx.reap(5)[0].payload[:1]
    rx.reap(0)
    child = os.fork()
    if child == 0:
        try:
            import warnings

            warnings.simplefilter("error")
            del rx, part
            gc.collect()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bytes(part) == b"x"
    pair.send(b"z")
    assert take(rx, 1) == [b"z"]
    del part
    rx.close()


# --- garbage -------------------------------------------------------------------------------


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_forgotten_receiver_is_freed_with_a_warning(pair: Pair, mode: str) -> None:
    before = descriptors()
    rx = ringmsg.Receiver(pair.receiver, mode=mode)
    pair.send(b"x")
    rx.reap(5)
    core = weakref.ref(rx._core)
    with pytest.warns(ResourceWarning, match="unclosed <ringmsg.Receiver"):
        del rx
        gc.collect()
    assert core() is None
    eventually(lambda: descriptors() == before)
    assert pair.receiver.getsockopt(17, 104) == 0


@pytest.mark.parametrize("made", ["ringmsg.Receiver(s)", "ringmsg.Sender(s)", "asyncio.run(endpoint())"])
def test_a_warning_that_is_an_error_frees_all_the_same(made: str) -> None:
    """With ``python -W error`` the warning about a forgotten object is an exception, which Python reports
    and ignores. What the object owned must go nevertheless."""
    code = (
        "import asyncio, gc, os, socket, sys, ringmsg, ringmsg.aio\n"
        "sys.unraisablehook = lambda what: print(what.exc_type.__name__)\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n"
        "async def endpoint():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    a = await ringmsg.aio.create_datagram_endpoint(asyncio.DatagramProtocol, sock=s.dup())\n"
        "    loop._remove_reader(a[0]._read_fd); await asyncio.sleep(0)\n"
        "asyncio.run(asyncio.sleep(0)); before = len(os.listdir('/proc/self/fd'))\n"
        f"{made}; gc.collect()\n"
        "print(len(os.listdir('/proc/self/fd')) - before); s.close()"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["ResourceWarning", "0"]


def test_a_closed_receiver_leaves_nothing(pair: Pair) -> None:
    before = descriptors()
    for _ in range(20):
        with ringmsg.Receiver(pair.receiver) as rx:
            pair.send(b"x")
            rx.fileno()
            take(rx, 1)
    del rx
    assert descriptors() == before


def test_at_exit(tmp_path: Any) -> None:
    """A receiver that lives until the interpreter ends."""
    code = (
        "import socket, ringmsg\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.1', 0))\n"
        "rx = ringmsg.Receiver(s); c = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "c.sendto(b'x', s.getsockname()); p = rx.reap(5)[0].payload; q = p[:]; r = rx.reap(0)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


# --- copies --------------------------------------------------------------------------------


def test_nothing_that_owns_something_is_copied(pair: Pair) -> None:
    """A copy would close the ring, or release buffers, a second time, while the original is in use."""
    with ringmsg.Receiver(pair.receiver) as rx, ringmsg.Sender(pair.sender) as sender:
        pair.send(b"x")
        batch = rx.reap(5)
        for each in (rx, sender, batch, batch[0]):
            for attempt in (copy.deepcopy, pickle.dumps, *([] if each == batch[0] else [copy.copy])):
                with pytest.raises(TypeError, match=r"ringmsg\.\w+ cannot be copied or pickled"):
                    attempt(each)
        kept = batch.keep()
        assert copy.copy(batch[0]).payload == b"x", "a tuple, which refers to the same"
        with pytest.raises(TypeError, match=r"ringmsg\.Batch .*: messages\(\) and to_numpy\(\) give data"):
            pickle.dumps(kept)
        gc.collect()
        assert bytes(batch[0].payload) == b"x"
        kept.release()
        pair.send(b"z")
        assert take(rx, 1) == [b"z"]


def test_messages_and_figures_travel_to_another_process(pair: Pair) -> None:
    """What is plain data can be pickled: for a queue of multiprocessing."""
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"x")
        messages = list(rx.reap(5).messages())
        for value in (messages, rx.stats, rx.info, ringmsg.Message(b"a", ecn=1), ringmsg.query_support()):
            assert pickle.loads(pickle.dumps(value)) == value
