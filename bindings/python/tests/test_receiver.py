"""Datagrams arrive with what was asked for."""

from __future__ import annotations

import errno
import gc
import os
import re
import resource
import selectors
import socket
import struct
import threading
import time
from typing import Any

import pytest
from conftest import SOL_UDP, UDP_GRO, Pair, eventually, take

import ringmsg
from ringmsg import Meta, RecordFlag, Ring, _options


def test_payload_and_source(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        pair.send(b"one", b"two")
        batch = rx.reap(5)
        while len(batch) < 2:
            batch = rx.reap(5) if len(batch) == 0 else batch
            break
        for datagram in batch:
            assert bytes(datagram.payload) in (b"one", b"two")
            assert datagram.source == pair.sender.getsockname()
            assert datagram.error == 0 and not datagram.truncated
            assert datagram.wire_length == 3 and datagram.segments == 1
        assert bytes(batch[0].payload) == b"one"
        assert batch[-1].source == pair.sender.getsockname()
        with pytest.raises(IndexError):
            batch[len(batch)]


def test_what_was_not_asked_for_is_none(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, metadata=Meta(0)) as rx:
        pair.send(b"x")
        (datagram,) = rx.reap(5)
        assert bytes(datagram.payload) == b"x"
        names = "source destination interface_index traffic_class ecn hop_limit timestamp_ns dropped"
        for name in names.split():
            assert getattr(datagram, name) is None, name
        assert datagram.segment_size is None
        with pytest.raises(ValueError, match="without metadata"):
            datagram.batch.metadata


def test_all_metadata(pair: Pair, mode: str) -> None:
    pair.sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 0x0B)
    pair.sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
    wanted = Meta.SOURCE | Meta.DESTINATION | Meta.DESTINATION_PORT | Meta.INTERFACE | Meta.TRAFFIC_CLASS
    wanted |= Meta.HOP_LIMIT | Meta.LOCAL_V4
    with ringmsg.Receiver(pair.receiver, metadata=wanted, mode=mode) as rx:
        pair.send(b"x")
        (datagram,) = rx.reap(5)
        assert datagram.destination == pair.receiver.getsockname()
        assert datagram.interface_index == socket.if_nametoindex("lo")
        assert datagram.traffic_class == 0x0B and datagram.ecn == 3
        assert datagram.hop_limit == 9
        assert datagram.local_address == "127.0.0.1"
        assert {(0, 1), (0, 2), (0, 8)} <= {message[:2] for message in datagram.control}


def test_timestamps(pair: Pair) -> None:
    before = time.time_ns()
    with ringmsg.Receiver(pair.receiver, metadata=Meta.SOFTWARE_TIMESTAMP) as rx:
        stamp = None
        while stamp is None:  # the kernel switches stamping on in the background
            assert time.time_ns() - before < 5e9
            pair.send(b"x")
            (datagram,) = rx.reap(5)
            stamp = datagram.timestamp_ns
        assert before <= stamp <= time.time_ns()


def test_ipv6_metadata(pair6: Pair) -> None:
    pair6.sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, 2)
    pair6.sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 77)
    wanted = Meta.SOURCE | Meta.DESTINATION | Meta.TRAFFIC_CLASS | Meta.HOP_LIMIT
    with ringmsg.Receiver(pair6.receiver, metadata=wanted) as rx:
        pair6.send(b"x", b"y")
        for datagram in rx.reap(5):
            assert datagram.source == pair6.sender.getsockname()
            assert datagram.destination == ("::1", 0, 0, 0)
            assert (datagram.ecn, datagram.hop_limit) == (2, 77)


def test_mapped_ipv4() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock, socket.socket() as _:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        with ringmsg.Receiver(sock) as rx, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.connect(("127.0.0.1", sock.getsockname()[1]))
            sender.send(b"x")
            (datagram,) = rx.reap(5)
            assert datagram.source == ("::ffff:127.0.0.1", sender.getsockname()[1], 0, 0)


@pytest.mark.parametrize("size", [0, 1, 1472, 65507])
def test_sizes(pair: Pair, mode: str, size: int) -> None:
    payload = os.urandom(size)
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        pair.send(payload, payload)
        assert take(rx, 2) == [payload, payload]


def test_many_zero_length(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        for _ in range(300):
            pair.send(b"", b"x")
        assert take(rx, 600) == [b"", b"x"] * 300
        assert rx.stats.zero_length == 300


def test_truncation(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, payload_capacity=64) as rx:
        pair.send(bytes(range(200)))
        (datagram,) = rx.reap(5)
        assert bytes(datagram.payload) == bytes(range(64))
        assert datagram.truncated and datagram.wire_length == 200
        assert datagram.flags & RecordFlag.TRUNCATED and datagram.msg_flags & socket.MSG_TRUNC


def test_trains_are_split(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        pair.send_train(bytes(range(100)), 30)
        parts = take(rx, 4)
        assert parts == [bytes(range(100))[at : at + 30] for at in (0, 30, 60, 90)]


def test_whole_trains(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, split=False) as rx:
        pair.send_train(bytes(range(100)), 30)
        (datagram,) = rx.reap(5)
        assert bytes(datagram.payload) == bytes(range(100))
        assert datagram.segment_size == 30
        assert datagram.source == pair.sender.getsockname()
        pair.send(b"alone")
        (datagram,) = rx.reap(5)
        assert datagram.segment_size is None


def test_a_train_longer_than_a_batch(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver, batch_size=7) as rx:
        pair.send_train(bytes(60), 1)
        assert take(rx, 60) == [b"\0"] * 60


def test_errors_are_items(pair: Pair, mode: str) -> None:
    there = pair.sender.getsockname()
    pair.receiver.connect(there)
    pair.sender.connect(there)  # hears nobody but itself
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        pair.receiver.send(b"nobody there")
        (datagram,) = rx.reap(5)
        assert datagram.error == errno.ECONNREFUSED
        assert bytes(datagram.payload) == b"" and datagram.source is None
        assert len(rx.reap(0.01)) == 0


def test_timeouts_and_wake(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx:
        assert len(rx.reap(0)) == 0
        start = time.monotonic()
        assert len(rx.reap(0.05)) == 0
        assert 0.045 <= time.monotonic() - start < 2
        rx.wake()
        rx.wake()
        assert len(rx.reap()) == 0
        timer = threading.Timer(0.05, rx.wake)
        timer.start()
        assert len(rx.reap()) == 0
        timer.join()
        for bad in (-1, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                rx.reap(bad)
            with pytest.raises(ValueError, match="linger"):
                rx.reap(0, bad)
            with pytest.raises(ValueError, match="spin"):
                rx.reap(0, spin=bad)
        assert len(rx.reap(0, 99.0)) == 0
        assert len(rx.reap(0.01, spin=0.001)) == 0


def test_selectors(pair: Pair, mode: str) -> None:
    with ringmsg.Receiver(pair.receiver, mode=mode) as rx, selectors.DefaultSelector() as selector:
        selector.register(rx, selectors.EVENT_READ)
        got = []
        for payload in (b"one", b"two", b"three"):
            pair.send(payload)
            end = time.monotonic() + 5
            while payload not in got and time.monotonic() < end:
                assert selector.select(5)
                got += rx.reap(0).payloads()
        assert got == [b"one", b"two", b"three"]
        eventually(lambda: not selector.select(0) or rx.reap(0) is None)


def test_close_switches_gro_off_and_leaves_the_other_options(pair: Pair) -> None:
    """GRO changes what a plain recv returns. The others add control messages, which another process
    that shares the socket may want."""
    sock = pair.receiver
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
    options = [(SOL_UDP, UDP_GRO), (socket.SOL_SOCKET, 40), (0, 8), (0, 12), (0, 13), (0, 20), (1, 37)]
    wanted = ringmsg.DEFAULT_METADATA | Meta.DESTINATION | Meta.HOP_LIMIT | Meta.TRAFFIC_CLASS
    wanted |= Meta.DESTINATION_PORT | Meta.SOFTWARE_TIMESTAMP
    rx = ringmsg.Receiver(sock, metadata=wanted)
    before = [sock.getsockopt(*option) for option in options]
    assert all(before)
    rx.close()
    assert [sock.getsockopt(*option) for option in options] == [0, *before[1:]]
    pair.send_train(bytes(100), 50)
    assert len(sock.recv(1000)) == 50, "GRO is off again"


def test_close_leaves_gro_on_over_queued_trains(pair: Pair) -> None:
    """Another receiver on the same socket could not split what is queued."""
    rx = ringmsg.Receiver(pair.receiver)  # never reaps
    pair.send_train(bytes(1000), 100)
    rx.close()
    with ringmsg.Receiver(pair.receiver) as other:
        assert [len(payload) for payload in take(other, 10)] == [100] * 10


def test_closing_the_socket_first(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        address = pair.receiver.getsockname()
        pair.receiver.close()
        pair.send(b"x")
        assert take(rx, 1) == [b"x"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)


# --- recvmsg -------------------------------------------------------------------------------


def both(family: int, host: str, options: list[tuple[int, int]]) -> tuple[Pair, Pair]:
    pairs = Pair(family, host), Pair(family, host)
    for pair in pairs:
        for level, option in options:
            pair.receiver.setsockopt(level, option, 1)
    # The same sender, so that the addresses are equal.
    pairs[1].sender.close()
    pairs[1].sender = pairs[0].sender
    return pairs


@pytest.mark.parametrize(
    ("family", "host", "options"),
    [
        (socket.AF_INET, "127.0.0.1", []),
        (socket.AF_INET, "127.0.0.1", [(0, 8), (0, 12), (0, 13), (0, 20)]),
        (socket.AF_INET6, "::1", [(41, 49), (41, 51), (41, 66)]),
    ],
)
def test_recvmsg_is_sockets_recvmsg(family: int, host: str, options: list[tuple[int, int]]) -> None:
    ours, theirs = both(family, host, options)
    theirs.receiver.settimeout(5)
    with socket.socket(family, socket.SOCK_DGRAM) as sender, ringmsg.Receiver(ours.receiver) as rx:
        sender.bind((host, 0))
        for payload in (b"", b"hello", bytes(65507 if family == socket.AF_INET else 60000)):
            for pair in (ours, theirs):
                sender.sendto(payload, pair.receiver.getsockname())
            got = rx.recvmsg(5)
            wanted = theirs.receiver.recvmsg(70000, 1000)
            address = {20: 4}  # the original destination's port differs
            assert got[0] == wanted[0] and got[2] == wanted[2] and got[3] == wanted[3]
            assert [m[:2] for m in got[1]] == [m[:2] for m in wanted[1]]
            for mine, other in zip(got[1], wanted[1]):
                assert mine[2][address.get(mine[1], 0) :] == other[2][address.get(mine[1], 0) :]
        with pytest.raises(TimeoutError):
            rx.recvmsg(0.01)
    ours.close()
    theirs.close()


def test_recvmsg_takes_trains_apart_without_trace(pair: Pair) -> None:
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send_train(b"aabbc", 2)
        got = [rx.recvmsg(5) for _ in range(3)]
        assert [message[0] for message in got] == [b"aa", b"bb", b"c"]
        assert all(message[1:] == ([], 0, pair.sender.getsockname()) for message in got)


def test_recvmsg_unix_descriptors() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, ringmsg.Receiver(right) as rx:
        readable, writable = os.pipe()
        socket.send_fds(left, [b"take"], [writable])
        data, control, _, address = rx.recvmsg(5)
        assert data == b"take" and address is None
        ((level, kind, fds),) = control
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        (received,) = struct.unpack("i", fds)
        os.close(writable)
        os.write(received, b"x")
        assert os.read(readable, 1) == b"x"
        os.close(received)
        os.close(readable)


def test_unix_names(tmp_path: os.PathLike[str]) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sock.bind(f"{tmp_path}/receiver")
        sender.bind(f"{tmp_path}/sender")
        with ringmsg.Receiver(sock) as rx:
            sender.sendto(b"x", sock.getsockname())
            (datagram,) = rx.reap(5)
            assert datagram.source == f"{tmp_path}/sender"


@pytest.mark.parametrize(
    ("buffers", "payload_capacity"), [(8192, 1 << 18), (16384, 1 << 16), (32768, 1 << 16)]
)
def test_many_buffers_for_a_unix_socket(buffers: int, payload_capacity: int) -> None:
    """As many as for any socket: with those of 256 KiB a pool would exceed its 4 GiB."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, ringmsg.Receiver(right, buffers=buffers, engine="recvmmsg") as rx:
        assert rx._pool.buffers == buffers and rx._pool.payload_capacity >= payload_capacity - 1
        left.send(b"x" * 65000)
        assert take(rx, 1) == [b"x" * 65000]


def test_a_stream_ends(mode: str) -> None:
    left, right = socket.socketpair()
    with right, ringmsg.Receiver(right, mode=mode) as rx:
        left.send(b"some")
        assert take(rx, 1) == [b"some"]
        left.send(b"more")
        left.close()
        assert [payload for batch in rx for payload in batch.payloads()] == [b"more"]
        with pytest.raises(EOFError):
            rx.reap(0)
        assert rx.recvmsg() == (b"", [], 0, None)


# --- misuse --------------------------------------------------------------------------------


def test_misuse_raises(pair: Pair) -> None:
    with pytest.raises(ValueError, match="mode must be one of"):
        ringmsg.Receiver(pair.receiver, mode="fast")
    with pytest.raises(OSError, match="power of two"):
        ringmsg.Receiver(pair.receiver, buffers=300)
    assert pair.receiver.getsockopt(SOL_UDP, UDP_GRO) == 0, "a failed receiver leaves nothing on"
    with pytest.raises(OSError):
        ringmsg.Receiver(99999)
    with open("/dev/null") as file, pytest.raises(OSError):
        ringmsg.Receiver(file)
    with pytest.raises(OSError, match="contradict|exclude|SQPOLL") as caught:
        Ring(flags=ringmsg.Setup.SQPOLL | ringmsg.Setup.DEFER_TASKRUN)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError) as caught:
        ringmsg.socket_enable(pair.receiver, Meta(1 << 20))
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(ValueError):
        ringmsg.Receiver(pair.receiver, batch_size=0)


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"sock": None}, TypeError, "expected a socket or its descriptor, not None"),
        ({"sock": "127.0.0.1:9"}, TypeError, "expected a socket or its descriptor"),
        (
            {"metadata": "all"},
            TypeError,
            "a set of ringmsg.Meta flags, as in Meta.SOURCE | Meta.DROPPED, not 'all'",
        ),
        ({"payload_capacity": -1}, ValueError, "payload_capacity must be 0 to 2**31 - 1, not -1"),
        ({"payload_capacity": "64k"}, TypeError, "payload_capacity must be a whole number, not '64k'"),
        ({"buffers": 2.5}, TypeError, "buffers must be a whole number, not 2.5"),
        ({"batch_size": 70000}, ValueError, "batch_size must be 1 to 65536, not 70000"),
    ],
)
def test_wrong_arguments_get_a_sentence(
    pair: Pair, arguments: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=re.escape(sentence)):
        ringmsg.Receiver(**{"sock": pair.receiver, **arguments})
    assert pair.receiver.getsockopt(SOL_UDP, UDP_GRO) == 0, "nothing was left on"


def test_an_emulator_without_the_options(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """qemu-user refuses SO_RXQ_OVFL, which the default asks for: that is left out. What the caller
    asked for by name is not."""
    enable = _options.socket_enable

    def emulated(sock: socket.socket, metadata: Meta) -> None:
        if metadata & Meta.DROPPED:
            raise OSError(errno.ENOPROTOOPT, "socket: RINGMSG_META_DROPPED: protocol not available")
        enable(sock, metadata)

    monkeypatch.setattr(_options, "socket_enable", emulated)
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"x")
        (datagram,) = rx.reap(5)
        assert datagram.source == pair.sender.getsockname() and datagram.dropped is None
    with pytest.raises(OSError, match="RINGMSG_META_DROPPED"):
        ringmsg.Receiver(pair.receiver, metadata=Meta.SOURCE | Meta.DROPPED)


def test_after_close(pair: Pair) -> None:
    rx = ringmsg.Receiver(pair.receiver)
    pair.send(b"x")
    batch = rx.reap(5)
    datagram = batch[0]
    rx.close()
    rx.close()
    for call in (rx.reap, rx.wake, rx.fileno, rx.recvmsg, lambda: rx.stats, lambda: rx.info, rx.cancel):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.EBADF
    assert list(rx) == []
    with pytest.raises(ValueError):
        bytes(datagram.payload)
    with pytest.raises(ValueError):
        list(batch)
    with pytest.raises(ValueError):
        datagram.error
    batch.release()


# --- endurance -----------------------------------------------------------------------------


def test_a_million_datagrams_without_growth(pair: Pair) -> None:
    """Mixed sizes, some kept for a while; what is resident afterwards is what was before."""
    total, burst = 1_000_000, 500
    with ringmsg.Receiver(pair.receiver) as rx:

        def run(count: int) -> None:
            done = 0
            while done < count:
                pair.send_train(bytes(50 * 60), 60)
                pair.send(b"x" * (done % 100))
                for _ in range(burst // 50):
                    pair.send_train(bytes(50 * 60), 60)
                while len(batch := rx.reap(0)):
                    for payload, source, *_ in batch:
                        done += 1
            assert rx.stats.buffers_held <= 256

        run(50_000)
        gc.collect()
        before = resident()
        run(total - 50_000)
        gc.collect()
        assert resident() - before < 4 << 20
        assert rx.stats.socket_drops == 0


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
