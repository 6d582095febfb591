"""Arguments: what is no number, or does not fit, gets a sentence; ctypes would cut its upper bits off."""

from __future__ import annotations

import fractions
import math
import os
import re
import socket
from typing import Any

import numpy
import pytest
from conftest import Pair

import ringmsg
from ringmsg import Meta, Receiver, Ring, Sender

RANGE = "must be 0 to 2**31 - 1"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"flags": 1 << 40}, "flags must be 0 to 2**32 - 1, not 1099511627776"),
        ({"flags": "defer"}, "flags must be a whole number, not 'defer'"),
        ({"sq_entries": 1 << 33}, f"sq_entries {RANGE}"),
        ({"cq_entries": -5}, f"cq_entries {RANGE}, not -5"),
        ({"cq_entries": 3.5}, "cq_entries must be a whole number, not 3.5"),
        ({"mode": ["defer"]}, "mode must be one of auto, plain, coop, defer, sqpoll, not ['defer']"),
        ({"engine": None}, "engine must be one of auto, io_uring, recvmmsg, not None"),
    ],
)
def test_a_rings_arguments(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
        Ring(**arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"user_data": 1 << 64}, "user_data must be 0 to 2**64 - 1"),
        ({"user_data": -1}, "user_data must be 0 to 2**64 - 1, not -1"),
        ({"user_data": None}, "user_data must be a whole number, not None"),
        ({"msg_flags": 1 << 33}, f"msg_flags {RANGE}"),
        ({"flags": 1 << 33}, "flags must be 0 to 2**32 - 1"),
        ({"sock": 1 << 33}, "a descriptor must be -1 to 2**31 - 1"),
        ({"pool": None}, "expected a pool of this ring, not None"),
    ],
)
def test_a_requests_arguments(pair: Pair, arguments: dict[str, Any], sentence: str) -> None:
    """They are refused before the request is armed."""
    with Ring() as ring:
        given = {"pool": ring.pool(pair.receiver, buffers=8), "sock": pair.receiver, **arguments}
        for method in (ring.recvmsg_once, ring.recvmsg_multishot):
            with pytest.raises((TypeError, ValueError), match=re.escape(sentence)):
                method(**given)
        pair.send(b"not received")
        assert len(ring.reap(0)) == 0
        for number in (1 << 64, "all"):
            with pytest.raises((TypeError, ValueError), match="user_data must be"):
                ring.cancel(number)  # type: ignore[arg-type]
            with pytest.raises((TypeError, ValueError), match="user_data must be"):
                ring.request_stats(number)  # type: ignore[arg-type]


@pytest.mark.parametrize("metadata", [1 << 40, True, 1.0])
def test_metadata_that_is_no_set_of_flags(pair: Pair, metadata: Any) -> None:
    for refuse in (
        lambda: Receiver(pair.receiver, metadata=metadata),
        lambda: ringmsg.socket_enable(pair.receiver, metadata),
        lambda: ringmsg.socket_disable(pair.receiver, metadata),
    ):
        with pytest.raises((TypeError, ValueError), match="metadata (is a set of|has 32 bits)"):
            refuse()


@pytest.mark.parametrize("sock", [None, "127.0.0.1:9", 3.0, True])
def test_what_is_no_socket(sock: Any) -> None:
    for refuse in (
        lambda: Receiver(sock),
        lambda: Sender(sock),
        lambda: ringmsg.socket_enable(sock, Meta.DROPPED),
    ):
        with pytest.raises(TypeError, match="expected a socket or its descriptor, not"):
            refuse()


def test_numbers_of_numpy(pair: Pair) -> None:
    """They are whole numbers, as the values of a column are."""
    number = numpy.int64
    fd = number(pair.receiver.fileno())
    with Receiver(fd, buffers=number(64), batch_size=number(4), payload_capacity=number(2048)) as rx:
        pair.send(b"0", b"1")
        batch = rx.reap(numpy.float32(5))
        assert batch[number(1)].payload == b"1"
        assert rx.reap(fractions.Fraction(0), numpy.float64(0)).payloads() == []


@pytest.mark.parametrize("time", [-1, -0.5, math.nan, -math.inf, "1", b"1", [], None])
def test_what_is_no_time(pair: Pair, time: Any) -> None:
    """As socket.settimeout() has it; and a refused call leaves the wait of the next one alone."""
    with Receiver(pair.receiver) as rx:
        kind = ValueError if isinstance(time, (int, float)) else TypeError
        if time is not None:  # no limit
            for wait in (rx.reap, rx.recvmsg):
                with pytest.raises(kind, match="timeout must be a number of seconds, at least 0, not"):
                    wait(time)
            with pytest.raises(kind, match="linger must be a number of seconds"):
                rx.reap(0, time)
        with pytest.raises(kind, match="spin must be a number of seconds"):
            rx.reap(0, spin=time)


@pytest.mark.parametrize(
    "time", [math.inf, 1e300, 10**30, 10**400], ids=["inf", "1e300", "10**30", "10**400"]
)
def test_very_long_times(pair: Pair, time: Any) -> None:
    with Receiver(pair.receiver) as rx:
        pair.send(b"x")
        assert rx.reap(time).payloads() == [b"x"]
        assert rx.reap(0, linger=time, spin=0).payloads() == []
        pair.send(b"y")
        assert rx.reap(0, spin=time).payloads() == [b"y"]


@pytest.mark.parametrize("index", [1.0, "0", None, (0,)])
def test_what_is_no_index(pair: Pair, index: Any) -> None:
    """As a list has it."""
    with Receiver(pair.receiver) as rx:
        pair.send(b"x", b"y")
        batch = rx.reap(5)
        with pytest.raises(TypeError):
            batch[index]
        for beyond in (len(batch), -len(batch) - 1):
            with pytest.raises(IndexError, match=f"datagram {beyond} of a batch of"):
                batch[beyond]


def test_a_default_timeout_leaves_the_socket_blocking(pair: Pair) -> None:
    """With it, Python makes every new socket object non-blocking, and with that the file that the user's
    socket shares with ours."""
    socket.setdefaulttimeout(5)
    try:
        with Receiver(pair.receiver), Sender(pair.receiver):
            assert os.get_blocking(pair.receiver.fileno())
        pair.receiver.setblocking(False)
        with Receiver(pair.receiver), Sender(pair.receiver):
            assert not os.get_blocking(pair.receiver.fileno())
    finally:
        socket.setdefaulttimeout(None)


def test_an_interrupted_duplicate_closes_nothing_twice(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come when the socket object exists and is not stored yet: it has closed the descriptor,
    whose number may be another thread's now."""
    others: list[int] = []

    def made_and_lost(fileno: int) -> socket.socket:
        made(fileno=fileno).close()
        others.append(os.dup(0))
        assert others == [fileno]
        raise KeyboardInterrupt

    made = socket.socket
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("ringmsg._arguments.socket.socket", made_and_lost)
        ringmsg.Receiver(pair.receiver)
    os.close(others[0])
