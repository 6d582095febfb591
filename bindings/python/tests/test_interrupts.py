"""Signals and Ctrl-C: an exception at any place loses no datagram, no buffer and no descriptor."""

from __future__ import annotations

import contextlib
import errno
import gc
import linecache
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Pair, eventually, take
from endpoints import UDP_GRO
from room import make_room
from sending import bound

import ringmsg


def test_handlers_run_and_the_wait_goes_on(pair: Pair, mode: str) -> None:
    """They run while the wait lasts, not at its end; it lasts as long as it should, and no longer: signals
    that come faster than the timeout do not start it again."""
    ran: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ran.append(1))

    def strike() -> None:
        for count in range(1, 4):
            os.kill(os.getpid(), signal.SIGALRM)
            eventually(lambda count=count: len(ran) == count, 30)  # type: ignore[misc]
        pair.send(b"the end of the wait")

    try:
        with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
            striker = threading.Timer(0.05, strike)
            striker.start()
            assert rx.reap(60).payloads() == [b"the end of the wait"] and len(ran) == 3
            striker.join()
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            assert len(rx.reap(0.2)) == 0
            assert 0.19 < time.monotonic() - start < 60
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_ctrl_c_interrupts(pair: Pair, mode: str) -> None:
    # A shell starts background jobs with the signal ignored, and Python leaves it so.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
            rx.reap(0)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            start = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                for _ in rx:
                    pass
            assert time.monotonic() - start < 5
            pair.send(b"x")
            assert take(rx, 1) == [b"x"]
    finally:
        signal.signal(signal.SIGINT, before)


CTRL_C = """
import random, socket, struct, sys, threading, time, os, signal, ringmsg
mode, how, total = sys.argv[1], sys.argv[2], 20000
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try: sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
except PermissionError: pass
sock.bind(("127.0.0.1", 0))
rx = ringmsg.Receiver(sock, mode=mode, batch_size=16)
seen, interrupts, done = [], 0, False

def send():
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect(sock.getsockname())
    for number in range(total):
        sender.send(struct.pack("=I", number))
        if number % 20 == 0:
            time.sleep(random.random() * 0.0005)

def interrupt():
    # The whole process, as the terminal does.
    while not done:
        time.sleep(random.random() * 0.001)
        os.kill(os.getpid(), signal.SIGINT)

receiving = False
def handler(number, frame):
    # Ctrl-C strikes while the library works: what it had is not ours yet.
    global interrupts, receiving
    if receiving:
        receiving = False  # another one may come before this one is dealt with
        interrupts += 1
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, handler)
threading.Thread(target=send, daemon=True).start()
killer = threading.Thread(target=interrupt, daemon=True)
killer.start()
quiet = time.monotonic() + 5
while len(seen) < total and time.monotonic() < quiet:
    batch = None
    try:
        receiving = True
        if how == "reap":
            batch = rx.reap(1)
        elif how == "next":
            batch = next(rx)
        else:
            for batch in rx:
                break
        receiving = False
    except KeyboardInterrupt:
        pass
    finally:
        receiving = False
    # An interrupt after the return may find the batch assigned.
    if batch is not None and len(batch):
        seen += [struct.unpack("=I", payload)[0] for payload in batch.payloads()]
        quiet = time.monotonic() + 5
done = True
killer.join()
drops = rx.stats.socket_drops
assert rx.stats.buffers_held <= 16, rx.stats
print(len(seen), interrupts, drops, seen == sorted(set(seen)))
"""


@pytest.mark.parametrize("how", ["reap", "next", "for"])
def test_ctrl_c_loses_nothing(mode: str, how: str) -> None:
    """Thousands of interrupts at random moments; every datagram arrives, once, in order."""
    run = subprocess.run(
        [sys.executable, "-c", CTRL_C, mode, how], capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    seen, interrupts, drops, in_order = run.stdout.split()
    assert int(interrupts) > 100
    assert int(seen) == 20000 - int(drops)
    assert in_order == "True"


def test_a_handler_that_reaps_is_refused(pair: Pair) -> None:
    """The reap that it interrupts has its own records: the handler's would take their place."""
    refused: list[int | None] = []
    due: list[int] = []

    def reap(*_: Any) -> None:
        if not due:
            return
        due.clear()
        pair.send(b"%d" % len(refused))
        for nested in (lambda: rx.reap(0), lambda: next(rx), lambda: rx.recvmsg(0)):
            with pytest.raises(OSError, match="this thread is in reap already") as caught:
                nested()
            refused.append(caught.value.errno)

    def strike() -> None:
        eventually(lambda: rx._inside, 30)
        while due:  # one that comes just before the wait does not end it
            os.kill(os.getpid(), signal.SIGALRM)
            time.sleep(0.02)

    before = signal.signal(signal.SIGALRM, reap)
    try:
        with ringmsg.Receiver(pair.receiver) as rx:
            for expected in (b"0", b"3"):
                due.append(1)
                striker = threading.Thread(target=strike)
                striker.start()
                assert rx.reap(60).payloads() == [expected]
                striker.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert refused == [errno.EBUSY] * 6


CLOSING = """
import dis, os, socket, sys, ringmsg
package = os.path.dirname(ringmsg.__file__)
files = [os.path.join(package, name) for name in ("_owned.py", "batch.py")]
ways = {
    "messages": lambda batch: [payload for payload, _ in batch.messages()],
    "iteration": lambda batch: [bytes(datagram.payload) for datagram in batch],
    "to_numpy": lambda batch: [bytes(payload) for payload in batch.to_numpy("S1")],
    "names": lambda batch: [payload for payload, _ in batch.messages()],
}

def closing_at(point, rx, work):
    # Handlers run after calls and jumps: the ring is closed at the point-th such place.
    places, closed, last = 0, False, {}
    def trace(frame, event, _):
        nonlocal places, closed
        if closed or frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            name = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if any(kind in last.get(frame, "RESUME") for kind in ("CALL", "JUMP", "RESUME")):
                places += 1
                if places == point:
                    closed = True
                    rx.close()
            last[frame] = name
        return trace
    sys.settrace(trace)
    try:
        return work(), closed
    except ValueError:
        return None, closed
    finally:
        sys.settrace(None)
        last.clear()

way, point, closed = sys.argv[1], 0, True
while closed:
    point += 1
    if way == "names":
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        left, right = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        right.bind(("127.0.0.1", 0))
        left.connect(right.getsockname())
    with left, right, ringmsg.Receiver(right, engine="recvmmsg", buffers=16, payload_capacity=64) as rx:
        for payload in (b"a", b"b", b"c"):
            left.send(payload)
        batch = rx.reap(5)
        result, closed = closing_at(point, rx, lambda: ways[way](batch))
        assert result in (None, [b"a", b"b", b"c"]), (point, result)
        rx.close()
        assert rx._core.handle is None, point  # nothing keeps the memory longer
print(point)
"""


@pytest.mark.parametrize("way", ["messages", "iteration", "to_numpy", "names"])
def test_a_handler_that_closes_under_a_copy(way: str) -> None:
    """The memory stays until the copy is made, or the copy is refused: the lock keeps other threads out,
    but a signal handler runs in the thread that has it."""
    run = subprocess.run([sys.executable, "-c", CLOSING, way], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, (run.returncode, run.stderr)
    assert int(run.stdout) > 20


PACKAGE = os.path.dirname(ringmsg.__file__)
# os.dup() and the release of what a garbage object owns are single steps: an exception between them
# and the next line cannot be made good.
SPARED = {"duplicate", "free", "__del__", "_gone", "unpin"}


def interrupted_at(point: int, work: Callable[[], Any]) -> bool:
    """Does the work, with an exception at the line of the package that is reached as the ``point``-th one.
    Whether it was reached. (A line that begins a ``with`` is reached again at its end, before the exit: no
    signal handler runs there.)"""
    lines = 0
    struck = False

    def trace(frame: Any, event: str, _: Any) -> Any:
        nonlocal lines, struck
        code, caller = frame.f_code, frame
        while caller is not None:
            if caller.f_code.co_name in SPARED:
                return None
            caller = caller.f_back
        if not code.co_filename.startswith(PACKAGE):
            return None
        text = linecache.getline(code.co_filename, frame.f_lineno).lstrip()
        if event == "line" and not struck and not text.startswith("with "):
            lines += 1
            if lines == point:
                struck = True
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return struck


def test_every_point_of_interruption(pair: Pair) -> None:
    """An exception at each line of the reaping code in turn, as a signal handler might raise it."""
    with ringmsg.Receiver(pair.receiver, mode="defer") as rx:
        received: list[bytes] = []
        taken: list[ringmsg.Batch] = []
        sent, point, struck = 0, 1, True
        while struck:
            for _ in range(3):
                pair.send(struct.pack("=I", sent))
                sent += 1
            struck = interrupted_at(point, lambda: taken.append(next(rx)))
            while taken:
                received += taken.pop().payloads()
            point += struck
        while len(batch := rx.reap(0.05)):
            received += batch.payloads()
        assert point > 30
        assert received == [struct.pack("=I", number) for number in range(sent)]
        rx.reap(0)
        assert rx.stats.buffers_held == 0


@pytest.mark.filterwarnings("ignore:unclosed")
@pytest.mark.parametrize("what", ["receiver", "sender"])
def test_an_interrupted_construction_leaves_nothing(pair: Pair, what: str) -> None:
    """No descriptor, and no GRO on the user's socket."""

    def work() -> None:
        if what == "receiver":
            ringmsg.Receiver(pair.receiver, engine="recvmmsg").close()  # which is made fastest
        else:
            ringmsg.Sender(pair.receiver).close()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    work()
    gc.collect()
    before = descriptors()
    point = 1
    while interrupted_at(point, work):
        if descriptors() != before:
            gc.collect(1)  # of what was made just now
        assert descriptors() == before, point
        assert pair.receiver.getsockopt(UDP_GRO[0], UDP_GRO[1]) == 0, point
        point += 1
    assert point > 40


def test_interrupted_sends_leave_the_sender_usable() -> None:
    """The lock of a sender is given back, and what is asked of it next is done: ``resume()`` sends what was
    not sent, to where it was to go. (Each call has a new address, which earlier tables do not have.)"""
    with bound(host="0.0.0.0") as there, bound() as sock, ringmsg.Sender(sock) as sender:
        make_room(there, 1 << 20)
        port = there.getsockname()[1]
        sock.connect(("127.0.0.1", port))

        def work() -> None:
            to = f"127.1.{point >> 8}.{point & 255}", port
            sender.send([(b"a", to), ringmsg.Message(b"b", to, ecn=1)])
            sender.send([(b"c", (to[0].replace("127.1", "127.2"), port))])
            sender.send_columns(b"dd", 1, (to[0].replace("127.1", "127.3"), port))

        point, resumed = 1, 0
        while interrupted_at(point, work):
            pending = sender.pending
            assert sender.resume() == pending and not sender.errors, point
            assert sender.send([b"x"]) == 1 and not sender.errors, point
            resumed += pending
            point += 1
            if point % 16 == 0:
                drain(there)
        assert point > 100 and resumed > 3


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(16)


def test_an_interrupted_keep_loses_no_buffer(pair: Pair) -> None:
    """A batch is detached from its ring only when it releases itself."""
    with ringmsg.Receiver(pair.receiver) as rx:
        point = 1
        while True:
            pair.send(b"x")
            batch = rx.reap(5)
            struck = interrupted_at(point, batch.keep)
            del batch
            assert rx.reap(0) is not None and rx.reap(0) is not None
            assert rx.stats.buffers_held == 0, point
            if not struck:
                break
            point += 1
        assert point > 4
