"""Rings and pools, below a Receiver."""

from __future__ import annotations

import errno
import socket
import threading

import pytest
from conftest import SOL_UDP, UDP_GRO, Pair, needs_an_owner, take

import ringmsg
from ringmsg import Meta, RecordFlag, Ring


def test_a_ring_with_two_pools(pair: Pair, mode: str) -> None:
    other = Pair()
    with Ring(mode) as ring:
        pools = ring.pool(pair.receiver, buffers=16), ring.pool(other.receiver, buffers=16)
        for number, (pool, source) in enumerate(zip(pools, (pair, other))):
            ring.recvmsg_multishot(pool, source.receiver, user_data=number)
            source.send(b"from %d" % number)
        got = {}
        while len(got) < 2:
            for datagram in ring.reap(5):
                got[datagram.user_data] = (bytes(datagram.payload), datagram.source)
        assert got == {0: (b"from 0", pair.sender.getsockname()), 1: (b"from 1", other.sender.getsockname())}
        with pytest.raises(OSError) as caught:
            pools[0].free()
        assert caught.value.errno == errno.EBUSY
        ring.cancel(0)
        (final,) = ring.reap(5)
        assert final.flags & RecordFlag.FINAL and final.error == errno.ECANCELED
        with pytest.raises(OSError) as caught:
            ring.cancel(0)
        assert caught.value.errno == errno.ENOENT
        ring.reap(0)
        pools[0].free()
    other.close()


def test_recvmsg_once(pair: Pair, mode: str) -> None:
    with Ring(mode) as ring:
        pool = ring.pool(pair.receiver, buffers=4)
        for number in range(4):
            ring.recvmsg_once(pool, pair.receiver, user_data=number)
        with pytest.raises(OSError) as caught:
            ring.recvmsg_once(pool, pair.receiver)
        assert caught.value.errno == errno.ENOBUFS
        pair.send(b"a", b"b", b"c", b"d")
        got = []
        while len(got) < 4:
            got += [(bytes(d.payload), d.source, bool(d.flags & RecordFlag.FINAL)) for d in ring.reap(5)]
        assert sorted(got) == [(p, pair.sender.getsockname(), True) for p in (b"a", b"b", b"c", b"d")]


def test_info_and_stats(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, mode="defer") as rx:
        needs_an_owner(rx)
        assert rx.info.owner_thread == 0
        pair.send(b"abc")
        take(rx, 1)
        assert rx.info.owner_thread == threading.get_native_id()
        assert rx.info.flags & ringmsg.Setup.DEFER_TASKRUN and rx.info.engine == ringmsg.Engine.IO_URING
        assert (rx.stats.datagrams, rx.stats.payload_bytes) == (1, 3)
        assert rx.request_stats().datagrams == 1


def test_the_error_queue(pair: Pair, mode: str) -> None:
    """A refused datagram: its ICMP error, with who sent it."""
    sock = pair.sender
    ringmsg.socket_enable(sock, Meta.SOCKET_ERROR)
    pair.receiver.connect(pair.receiver.getsockname())  # hears nobody but itself
    with Ring(mode) as ring:
        pool = ring.pool(sock, buffers=4)
        ring.recvmsg_multishot(pool, sock, msg_flags=socket.MSG_ERRQUEUE)
        sock.send(b"to nobody")
        found = []
        while not found:
            found = [datagram.queued_error for datagram in ring.reap(5) if datagram.queued_error]
        (error,) = found
        assert (error.errno, error.origin, error.type, error.code) == (errno.ECONNREFUSED, 2, 3, 3)
        assert error.offender == "127.0.0.1"


def test_socket_disable(pair: Pair) -> None:
    """Exactly the named options; UDP_GRO only while nothing is queued."""
    ringmsg.socket_enable(pair.receiver, Meta.HOP_LIMIT | Meta.TRAFFIC_CLASS | Meta.SEGMENT_SIZE)
    ringmsg.socket_disable(pair.receiver, Meta.HOP_LIMIT)
    assert [pair.receiver.getsockopt(0, option) for option in (12, 13)] == [0, 1]
    pair.send_train(bytes(100), 50)
    with pytest.raises(BlockingIOError):
        ringmsg.socket_disable(pair.receiver, Meta.SEGMENT_SIZE)
    assert pair.receiver.getsockopt(SOL_UDP, UDP_GRO) == 1
    pair.receiver.recv(1000)
    ringmsg.socket_disable(pair.receiver, Meta.SEGMENT_SIZE)
    assert pair.receiver.getsockopt(SOL_UDP, UDP_GRO) == 0
    with pytest.raises(TypeError, match="a set of ringmsg.Meta flags"):
        ringmsg.socket_disable(pair.receiver, "all")  # type: ignore[arg-type]
