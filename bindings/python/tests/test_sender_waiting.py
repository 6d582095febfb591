"""``Sender``: full buffers, threads, forks, the end."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import threading
import time
import weakref
from typing import Any

import pytest
from conftest import eventually
from sending import received

import ringmsg
from ringmsg import Message, Sender

# --- full buffers ----------------------------------------------------------------------------


def test_resume_gives_again_what_found_no_room(narrow: tuple[socket.socket, socket.socket]) -> None:
    """No message twice, none lost, in order, though there is room for a few at a time."""
    left, right = narrow
    with Sender(left) as sender:
        sent = sender.send([b"%02d" % number for number in range(50)])
        assert 0 < sent < 50 and sender.pending == 50 - sent
        assert all(isinstance(error, BlockingIOError) for error in sender.errors.values())
        assert list(sender.errors) == list(range(sent, 50))
        assert sender.resume() == 0, "there is no room yet"
        got = []
        while sender.pending:
            got.append(right.recv(9))
            sent += sender.resume()
        assert sent == 50 and sender.errors == {}
        assert sender.resume() == 0, "all went"
        got += received(right, 50 - len(got))
    assert got == [b"%02d" % number for number in range(50)]


def test_waiting_for_room(narrow: tuple[socket.socket, socket.socket]) -> None:
    """``wait=True`` returns when all went; the GIL is free meanwhile."""
    left, right = narrow
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.extend(right.recv(9) for _ in range(50)))
    with Sender(left) as sender:
        reader.start()
        assert sender.send([b"%02d" % number for number in range(50)], wait=True) == 50
    reader.join()
    assert got == [b"%02d" % number for number in range(50)]


def test_a_signal_during_the_wait(narrow: tuple[socket.socket, socket.socket]) -> None:
    """A handler that returns lets the wait go on; one that raises (Ctrl-C) ends it, and ``errors``
    and ``resume()`` know how far it came."""
    left, right = narrow
    got: list[bytes] = []
    handled = []

    def handler(number: int, _: Any) -> None:
        handled.append(number)
        if len(handled) == 2:
            raise KeyboardInterrupt

    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        for count in (1, 2):
            while len(handled) < count:
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0.01)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        with Sender(left) as sender:
            with pytest.raises(KeyboardInterrupt):
                thread.start()
                sender.send([b"%02d" % number for number in range(50)], wait=True)
            thread.join()
            assert len(handled) == 2 and 0 < sender.pending < 50
            while sender.pending:
                got.append(right.recv(9))
                sender.resume()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    got += received(right, 50 - len(got))
    assert got == [b"%02d" % number for number in range(50)]


# --- threads, forks, the end -----------------------------------------------------------------


def test_another_thread_is_refused_while_one_is_inside(narrow: tuple[socket.socket, socket.socket]) -> None:
    """EBUSY with a sentence. close() does not wait: the call inside goes on, and closes."""
    left, right = narrow
    sender = Sender(left)
    sent: list[int] = []
    inside = threading.Thread(target=lambda: sent.append(sender.send([b"x"] * 50, wait=True)))
    inside.start()
    eventually(sender._lock.locked)
    with pytest.raises(OSError, match="another call is in progress on this sender") as busy:
        sender.send([b"y"])
    assert busy.value.errno == errno.EBUSY
    with pytest.raises(OSError, match="another call"):
        sender.resume()
    sender.close()
    assert sender.closed and inside.is_alive(), "the call goes on"
    assert [right.recv(9) for _ in range(50)] == [b"x"] * 50
    inside.join()
    assert sent == [50]
    with pytest.raises(OSError, match="the sender is closed"):
        _ = sender.stats


def test_closed_means_closed(sock: socket.socket) -> None:
    """Every call raises EBADF; a second close does nothing; the descriptor is given back."""
    before = len(os.listdir("/proc/self/fd"))
    sender = Sender(sock)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    sender.close()
    sender.close()
    assert len(os.listdir("/proc/self/fd")) == before
    for call in (lambda: sender.send([]), sender.resume, lambda: sender.stats):
        with pytest.raises(OSError) as closed:
            call()
        assert closed.value.errno == errno.EBADF
    assert repr(sender) == "<ringmsg.Sender closed>"


def test_the_socket_may_be_closed_first(sock: socket.socket, peers: list[socket.socket]) -> None:
    """The sender has its own reference."""
    with Sender(sock) as sender:
        sock.close()
        assert sender.send([(b"still", peers[0].getsockname())]) == 1
    assert received(peers[0], 1) == [b"still"]


def test_a_forgotten_sender_warns(sock: socket.socket) -> None:
    """And gives its descriptor back."""
    before = len(os.listdir("/proc/self/fd"))
    sender = Sender(sock)
    with pytest.warns(ResourceWarning, match="unclosed <ringmsg.Sender>"):
        del sender
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_uses_its_copy(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Also if another thread of the parent was inside when it forked."""
    with Sender(sock) as sender, sender._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if sender.send([(b"child", peers[0].getsockname())]) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert received(peers[0], 1) == [b"child"]


def test_payloads_are_not_kept(sock: socket.socket, peers: list[socket.socket]) -> None:
    """What was sent is the caller's: no reference is left."""

    class Payload(bytearray):
        pass

    payload = Payload(b"x" * 100)
    gone = weakref.ref(payload)
    with Sender(sock) as sender:
        sender.send([(payload, peers[0].getsockname())])
        payload.clear()  # nothing exports it
        del payload
        assert gone() is None


def test_pacing_and_timestamps(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A transmit time needs a clock; the id of a timestamp comes back through the error queue."""
    to = peers[0].getsockname()
    with Sender(sock) as sender:
        assert sender.send([Message(b"when?", to, transmit_time_ns=1)]) == 0
        assert sender.errors[0].errno == errno.EINVAL
    with Sender(sock, transmit_clock=time.CLOCK_MONOTONIC, timestamps=True, grouping=False) as sender:
        now = time.monotonic_ns()
        assert (
            sender.send([Message(b"now", to, transmit_time_ns=now, timestamp_id=77), Message(b"now", to)])
            == 2
        )
        assert sender.stats.trains == 0
        with ringmsg.Ring() as ring:
            pool = ring.pool(sock, buffers=8, payload_capacity=64)
            ring.recvmsg_once(pool, sock, msg_flags=socket.MSG_ERRQUEUE)
            (datagram,) = ring.reap(5)
            stamp = datagram.queued_error
            assert stamp is not None and stamp.origin == 4
            kernel = ringmsg.query_support().kernel_version
            assert stamp.data == (77 if kernel >= (6, 13, 0) else 0)
            assert datagram.timestamp_ns
    assert received(peers[0], 2) == [b"now", b"now"]
