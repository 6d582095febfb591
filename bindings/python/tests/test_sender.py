"""``Sender``: what arrives, and what is reported."""

from __future__ import annotations

import errno
import socket
from typing import Any

import numpy
import pytest
from conftest import eventually
from sending import FAMILIES, bound, received

import ringmsg
from ringmsg import Message, Meta, Sender

# --- what arrives ----------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "host"), FAMILIES)
def test_pairs_arrive_in_order_with_one_call(family: int, host: str) -> None:
    """Four peers, interleaved: each gets its messages in order; they leave as trains."""
    with bound(family, host) as sock:
        peers = [bound(family, host) for _ in range(4)]
        pairs = [(b"%03d" % number, peers[number % 4].getsockname()) for number in range(64)]
        with Sender(sock) as sender:
            assert sender.send(pairs) == 64
            assert sender.errors == {} and sender.pending == 0
            stats = sender.stats
        assert (stats.messages, stats.datagrams, stats.payload_bytes, stats.calls) == (64, 64, 192, 1)
        assert (stats.trains, stats.grouped, stats.errors) == (4, 64, 0)
        for number, peer in enumerate(peers):
            assert received(peer, 16) == [b"%03d" % at for at in range(number, 64, 4)]
            peer.close()


def test_every_kind_of_payload(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Buffers of every kind, also of elements of several bytes, and with gaps; and none at all."""
    to = peers[0].getsockname()
    wide = numpy.arange(4, dtype="<u4")
    payloads: list[Any] = [
        b"bytes",
        bytearray(b"array"),
        memoryview(b"abcdef")[::2],
        wide,
        b"",
        wide.tobytes(),
    ]
    with Sender(sock) as sender:
        assert sender.send((payload, to) for payload in payloads) == len(payloads)
    assert received(peers[0], 6) == [b"bytes", b"array", b"ace", wide.tobytes(), b"", wide.tobytes()]


def test_payloads_alone_go_to_the_connected_peer(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Also such as could be taken for pairs: of two bytes."""
    sock.connect(peers[0].getsockname())
    with Sender(sock) as sender:
        assert sender.send([b"ab", b"cd"]) == 2
        assert sender.send([b"", bytearray(b"efg"), (b"pair", None)]) == 3
        assert sender.send([]) == 0
        assert sender.send([(b"elsewhere", peers[1].getsockname())]) == 1
    assert received(peers[0], 5) == [b"ab", b"cd", b"", b"efg", b"pair"]
    assert received(peers[1], 1) == [b"elsewhere"]


def test_addresses_as_socket_takes_them() -> None:
    """The wildcard, IPv4 on an IPv6 socket, scopes."""
    with bound(socket.AF_INET6, "::") as sock, bound() as four, bound(socket.AF_INET6, "::1") as six:
        with Sender(sock) as sender:
            mapped = ("::ffff:127.0.0.1", four.getsockname()[1])
            assert sender.send(
                [(b"mapped", mapped), (b"six", six.getsockname()), (b"two", six.getsockname()[:2])]
            )
        assert received(four, 1) == [b"mapped"]
        assert received(six, 2) == [b"six", b"two"]
    with bound() as sock, bound(host="0.0.0.0") as any_address, Sender(sock) as sender:
        assert sender.send([(b"self", ("", any_address.getsockname()[1]))]) == 1
        assert received(any_address, 1) == [b"self"]


def test_numbers_of_numpy_and_hosts_of_bytes(sock: socket.socket, peers: list[socket.socket]) -> None:
    """As socket takes them: a column of ports is an array, and its elements are no int."""
    host, port = peers[0].getsockname()
    addresses = [(host, numpy.uint16(port)), (host.encode(), port), (bytearray(host, "ascii"), port)]
    with Sender(sock) as sender:
        assert sender.send([(b"%d" % at, address) for at, address in enumerate(addresses)]) == 3
        assert sender.send([(numpy.array(513, "<u2"), (host, port))]) == 1, "no dimension, and so no len()"
        assert sender.send([Message(b"3", addresses[2], source=b"127.0.0.1")]) == 1
        assert sender.send_columns(b"aabb", numpy.int64(2), addresses[1]) == 2
        assert sender.send_columns(b"aabb", 2, iter(addresses[:2])) == 2
    assert received(peers[0], 9) == [b"0", b"1", b"2", b"\1\2", b"3", b"aa", b"bb", b"aa", b"bb"]


def test_only_new_addresses_and_wrong_numbers_are_looked_into(
    sock: socket.socket, peers: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One new peer among many that are known costs what one costs; numbers are checked as they are packed."""
    converted: list[Any] = []
    known, new = (peer.getsockname() for peer in peers[:2])
    with Sender(sock) as sender:
        sender.send([(b"0", known)])
        whole = [Message(b"2", known, segment_size=1, timestamp_id=None)] * 20
        for name in ("sender.with_text", "_outgoing.integer"):
            monkeypatch.setattr(f"ringmsg.{name}", lambda *given: converted.append(given[0]) or given[0])
        assert sender.send([(b"1", known)] * 20 + [(b"new", new)]) == 21
        assert converted == [new]
        assert sender.send(whole) == 20
        assert converted == [new]
    assert received(peers[0], 41) == [b"0", *[b"1"] * 20, *[b"2"] * 20]
    assert received(peers[1], 1) == [b"new"]


def test_errors_are_those_of_socket(sock: socket.socket, peers: list[socket.socket]) -> None:
    """The same errno and the same text."""
    to = peers[0].getsockname()
    messages = [(bytes(66000), to), (b"x", ("127.0.0.1", 0)), (b"x", None)]
    with Sender(sock) as sender:
        assert sender.send(messages) == 0
        for at, error in sender.errors.items():
            with pytest.raises(OSError) as caught:
                sock.sendto(*messages[at]) if messages[at][1] else sock.send(b"x")
            assert (error.errno, str(error)) == (caught.value.errno, str(caught.value))


def test_messages_say_how_they_leave(sock: socket.socket) -> None:
    """ECN, traffic class, hop limit, source address and segment size, each seen by the receiver."""
    wanted = Meta.SOURCE | Meta.TRAFFIC_CLASS | Meta.HOP_LIMIT | Meta.SEGMENT_SIZE
    with bound(host="0.0.0.0") as anywhere, bound() as there:
        with ringmsg.Receiver(there, metadata=wanted) as rx, Sender(anywhere) as sender:
            to = there.getsockname()
            messages = [
                Message(b"plain", to),
                Message(b"ecn", to, ecn=1),
                Message(b"class", to, traffic_class=0xB8, ecn=2),
                Message(b"hops", to, hop_limit=7),
                Message(b"source", to, source="127.0.0.9"),
                Message(b"source", to, source=("127.0.0.9", 0)),
                (b"pair", to),
                Message(b"abcdefgh", to, segment_size=3),
            ]
            assert sender.send(messages) == 8
            got: list[tuple[Any, ...]] = []
            while len(got) < 10:
                got += [(bytes(d.payload), d.source[0], d.traffic_class, d.hop_limit) for d in rx.reap(5)]
    host = "127.0.0.1"
    assert got == [
        (b"plain", host, 0, 64),
        (b"ecn", host, 1, 64),
        (b"class", host, 0xBA, 64),
        (b"hops", host, 0, 7),
        (b"source", "127.0.0.9", 0, 64),
        (b"source", "127.0.0.9", 0, 64),
        (b"pair", host, 0, 64),
        *((part, host, 0, 64) for part in (b"abc", b"def", b"gh")),
    ]


def test_columns_in_one_buffer(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A numpy array, a row for each message; lengths and offsets; one address or one each. The
    buffer can be resized afterwards: nothing holds it."""
    rows = numpy.zeros(4, dtype=[("number", "<u4"), ("value", "<f8")])
    rows["number"] = range(4)
    addresses = [peer.getsockname() for peer in peers]
    with Sender(sock) as sender:
        assert sender.send_columns(rows, rows.itemsize, addresses) == 4
        for peer, row in zip(peers, rows):
            assert received(peer, 1) == [row.tobytes()]
        data = bytearray(b"aabbbc")
        assert sender.send_columns(data, [2, 3, 1], addresses[0]) == 3
        data += b"resized"
        assert received(peers[0], 3) == [b"aa", b"bbb", b"c"]
        assert sender.send_columns(b"abcdef", [2, 2], addresses[1], offsets=[4, 0]) == 2
        assert received(peers[1], 2) == [b"ef", b"ab"]
        assert sender.send_columns(b"ab", [1, 2], addresses[1]) == 1, "beyond the end"
        assert sender.errors[1].errno == errno.EFAULT
        sock.connect(addresses[2])
        assert sender.send_columns(b"xyxy", 2) == 2
        assert received(peers[2], 2) == [b"xy", b"xy"]


def test_more_peers_than_a_table_has(sock: socket.socket) -> None:
    """The table of paths is emptied and filled again; nobody gets another's message."""
    with bound() as there, Sender(sock) as sender:
        host, port = there.getsockname()
        sock.connect((host, port))
        others = [(f"127.1.{number >> 8}.{number & 255}", 9) for number in range(5000)]
        sender.send([(b"", other) for other in others])
        for number in range(3):
            sender.send([(b"", other) for other in others[:4000]])
            assert sender.send([(b"%d" % number, (host, port))]) == 1
            assert received(there, 1) == [b"%d" % number]


def test_what_waits_keeps_its_addresses(
    sock: socket.socket, peers: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that found no room go to their own peers also if a later call was refused, after it had
    filled the table of addresses."""
    with Sender(sock) as sender:
        with monkeypatch.context() as patch:
            patch.setattr(sender._handle, "send", lambda *_, **__: None)  # the socket has no room
            assert sender.send([(b"%d" % at, peer.getsockname()) for at, peer in enumerate(peers)]) == 0
        others = [(b"x", (f"127.1.{at >> 8}.{at & 255}", 9)) for at in range(5000)]
        with pytest.raises(TypeError, match="message 5000"):
            sender.send([*others, None])
        with pytest.raises(TypeError, match="message 4999"):
            sender.send_columns(b"x" * 5000, 1, [*(address for _, address in others[1:]), 7])
        assert sender.pending == 4 and sender.resume() == 4
    assert [received(peer, 1) for peer in peers] == [[b"0"], [b"1"], [b"2"], [b"3"]]


# --- what is reported ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([(b"x", ("127.0.0.1", 9)), b"y" * 2, 5], "message 2: expected .payload, address. or a Message"),
        ([("text", ("127.0.0.1", 9))], "message 0: the payload must be a bytes-like object, not str"),
        ([(b"x", ["127.0.0.1", 9])], "message 0: an address must be .host, port. or None"),
        ([(b"x", "127.0.0.1")], "message 0: an address must be"),
        ([(b"x", ("127.0.0.1", 9, 0, 0))], "message 0: an address must be"),
        ([(b"x", ("127.0.0.1", "9"))], "message 0: a port must be a whole number, not '9'"),
        ([(b"x", ("127.0.0.1", 70000))], "message 0: a port must be 0 to 65535, not 70000"),
        ([(b"x", ("localhost", 9))], "message 0: 'localhost' is not numeric: resolve names first"),
        ([(b"x", ("::1", 9))], "message 0: ::1: this socket's family takes an IPv4 address"),
        ([(b"x", (5, 9))], "message 0: a host must be a str"),
        ([Message(b"x", ("127.0.0.1", 9), ecn=4)], "message 0: ecn must be 0 to 3, not 4"),
        ([Message(b"x", ("127.0.0.1", 9), ecn="ce")], "message 0: ecn must be a whole number, not 'ce'"),
        ([(b"x", ("\ud800", 9))], "message 0: .* is not numeric"),
        ([(b"x", ("127.0.0.1\0", 9))], "message 0: .* is not numeric"),
        ([Message(b"x", ("127.0.0.1", 9), hop_limit=256)], "message 0: hop_limit must be 0 to 255, not 256"),
        (
            [Message(b"x", ("127.0.0.1", 9), segment_size=-1)],
            "message 0: segment_size must be 0 to .*, not -1",
        ),
        (
            [b"x", Message(b"x", ("127.0.0.1", 9), transmit_time_ns=1.5)],
            "message 1: transmit_time_ns must be a whole number, not 1.5",
        ),
        (
            [Message(b"x", ("127.0.0.1", 9), timestamp_id=1 << 32)],
            r"message 0: timestamp_id must be 0 to 2\*\*32 - 1, not 4294967296",
        ),
    ],
)
def test_wrong_messages_get_a_sentence(sock: socket.socket, messages: list[Any], sentence: str) -> None:
    """Before anything is sent."""
    with Sender(sock) as sender:
        with pytest.raises((TypeError, ValueError), match=sentence):
            sender.send(messages)
        assert sender.stats.calls == 0


def test_errors_by_index(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A message that is too long and one to a broadcast address; the others arrive."""
    to = peers[0].getsockname()
    with Sender(sock) as sender:
        sent = sender.send(
            [(b"a", to), (b"x" * 70000, to), (b"b", to), (b"", ("255.255.255.255", 9)), (b"c", to)]
        )
        assert sent == 3
        assert {at: (type(error), error.errno) for at, error in sender.errors.items()} == {
            1: (OSError, errno.EMSGSIZE),
            3: (PermissionError, errno.EACCES),
        }
        assert sender.stats.errors == 2
        assert sender.send([(b"d", to)]) == 1
        assert sender.errors == {}, "those of the last batch"
    assert received(peers[0], 4) == [b"a", b"b", b"c", b"d"]


def test_sockets_that_cannot(sock: socket.socket) -> None:
    """Streams, what is no socket, AF_UNIX addresses."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        with pytest.raises(OSError) as refused:
            Sender(left)
        assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(TypeError, match="expected a socket or its descriptor"):
        Sender(None)
    with pytest.raises(OSError):
        Sender(0xFFFF)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, Sender(left) as sender:
        with pytest.raises(ValueError, match="a path is for AF_INET and AF_INET6"):
            sender.send([(b"x", "/tmp/nowhere")])
        assert sender.send([b"connected"]) == 1
        assert right.recv(99) == b"connected"


def test_an_error_of_an_earlier_datagram_is_no_messages_own(
    sock: socket.socket, peers: list[socket.socket]
) -> None:
    """A refused datagram's ICMP error is counted, and takes no later message's place."""
    with bound() as gone:
        nowhere = gone.getsockname()
    sock.connect(nowhere)
    with Sender(sock) as sender:
        sender.send([b"refused"])
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
        sender.send([b"refused"])
        eventually(
            lambda: sender.send([(b"to another", peers[0].getsockname())]) and sender.stats.socket_errors
        )
        assert sender.errors == {}
        assert sender.stats.last_socket_error == errno.ECONNREFUSED
